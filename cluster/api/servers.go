package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/pilotlight/pilotlight/cluster"
)

// Servers is those that share one etcd.
type Servers interface {
	// Invite returns an invitation for one more server, and what is to be said of it.
	Invite(ctx context.Context, by string) (Invitation, error)
	Members(ctx context.Context) ([]cluster.Member, error)
	// RemoveMember fails with cluster.ErrNotFound when there is no such server, and
	// with cluster.ErrConflict when the others cannot do without it.
	RemoveMember(ctx context.Context, name cluster.ServerName) error
}

// Invitation is what lets one server join.
type Invitation struct {
	Token string `json:"token"` // as secret as the keys that it leads to
	Note  string `json:"note,omitempty"`

	Servers []string `json:"servers"` // https://ADDRESS:PORT, where the token is redeemed
}

func (s *Server) routeServers(route func(string, func(*http.Request, string) (any, error))) {
	route("POST /v1/servers", func(r *http.Request, actor string) (any, error) { return s.Servers.Invite(r.Context(), actor) })
	route("GET /v1/servers", func(r *http.Request, _ string) (any, error) { return s.Servers.Members(r.Context()) })
	route("DELETE /v1/servers/{name}", s.removeServer)
}

func (s *Server) removeServer(r *http.Request, actor string) (any, error) {
	name := cluster.ServerName(r.PathValue("name"))
	err := s.Servers.RemoveMember(r.Context(), name)
	switch {
	case errors.Is(err, cluster.ErrNotFound):
		return nil, fail(http.StatusNotFound, "there is no server %q; `pilotlight server members` lists them", name)
	case err != nil:
		return nil, err
	}
	s.audit(r.Context(), actor, "server.remove", "server "+string(name), "")
	return struct{}{}, nil
}

// Invite returns an invitation for one more server.
func (c *Client) Invite(ctx context.Context) (out Invitation, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/servers", nil, &out)
}

// Members returns the servers, and how their etcd is.
func (c *Client) Members(ctx context.Context) (out []cluster.Member, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/servers", nil, &out)
}

// RemoveServer takes a server out.
func (c *Client) RemoveServer(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, "/v1/servers/"+url.PathEscape(name), nil, &struct{}{})
}
