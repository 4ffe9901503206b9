package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// UserdataRequest asks for what a machine is given that pilotlight does not boot.
type UserdataRequest struct {
	For  string        `json:"for"`            // whose machine it is: ec2, ...
	URL  string        `json:"url,omitempty"`  // where the machine finds the server; default: where hosts do
	Life time.Duration `json:"life,omitempty"` // of its token
}

// Userdata is a pointer to a host's config, and what else its machine is told. The
// pointer holds a token: whoever has it may become the host.
type Userdata struct {
	Host          cluster.HostName `json:"host"`
	InstanceID    string           `json:"instance_id"`
	Language      string           `json:"language"` // who reads it on the machine
	Pointer       []byte           `json:"pointer"`
	NetworkConfig []byte           `json:"network_config,omitempty"`
	URL           string           `json:"url"` // of the server
	Expires       time.Time        `json:"expires"`
}

// userdata makes a token, so it is no GET.
func (s *Server) userdata(r *http.Request, actor string) (any, error) {
	var in UserdataRequest
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxSmall)).Decode(&in); err != nil {
		return nil, fail(http.StatusBadRequest, "the request says not whose userdata is asked for: %w", err)
	}
	return s.Machines.Userdata(r.Context(), actor, cluster.HostName(r.PathValue("name")), in) // which audits it
}

// Revoked says how much userdata was revoked.
type Revoked struct {
	Revoked int `json:"revoked"`
}

func (s *Server) revokeUserdata(r *http.Request, actor string) (any, error) {
	n, err := s.Machines.RevokeUserdata(r.Context(), actor, cluster.HostName(r.PathValue("name"))) // which audits it
	return Revoked{n}, err
}

// RevokeUserdata ends the userdata of a host that is still good for something, and
// says how many there were.
func (c *Client) RevokeUserdata(ctx context.Context, host string) (int, error) {
	var out Revoked
	err := c.call(ctx, http.MethodDelete, "/v1/hosts/"+url.PathEscape(host)+"/userdata", nil, &out)
	return out.Revoked, err
}

const maxSmall = 64 << 10

// Userdata makes the userdata of a host.
func (c *Client) Userdata(ctx context.Context, host string, in UserdataRequest) (out Userdata, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return out, err
	}
	return out, c.call(ctx, http.MethodPost, "/v1/hosts/"+url.PathEscape(host)+"/userdata", bytes.NewReader(body), &out)
}
