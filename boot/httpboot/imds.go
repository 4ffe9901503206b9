package httpboot

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// The instance metadata service, as Amazon's EC2 has it: cloud-init, coreos-cloudinit,
// Ignition and curl find it. Who asks is known by the address, and by nothing that is
// said.

// The headers of sessions, which EC2 calls IMDSv2.
const (
	tokenHeader     = "X-aws-ec2-metadata-token"
	lifeHeader      = "X-aws-ec2-metadata-token-ttl-seconds"
	forwardedHeader = "X-Forwarded-For"
	tokenPath       = "api/token"
	longestSession  = 21600 // seconds
)

// metadataVersions are those of EC2; all are one here.
var metadataVersions = []string{
	"1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01", "2009-04-04",
	"2011-01-01", "2011-05-01", "2012-01-12", "2014-02-25", "2014-11-05", "2015-10-20", "2016-04-19", "2016-06-30", "2016-09-02",
	"2018-03-28", "2018-08-17", "2018-09-24", "2019-10-01", "2020-10-27", "2021-01-03", "2021-03-23", "2021-07-15", "2022-09-24",
	"2024-04-11", "latest",
}

// handleMetadata adds the metadata service to a mux.
func (h *Handler) handleMetadata(mux *http.ServeMux) {
	add := func(pattern string, f func(http.ResponseWriter, *http.Request) error) {
		mux.Handle(pattern, h.wrap("imds", h.configs, f))
	}
	add("GET /{$}", h.versions)
	for _, v := range metadataVersions {
		add("GET /"+v, h.instanceData)
		add("GET /"+v+"/{path...}", h.instanceData)
		add("PUT /"+v+"/"+tokenPath, h.session)
	}
}

// Metadata is the metadata service alone, for boot.MetadataAddress.
func (h *Handler) Metadata() http.Handler {
	h.setUp.Do(h.init)
	mux := http.NewServeMux()
	h.handleMetadata(mux)
	return mux
}

// asker finds the machine that has the address from which a request came. Where there
// is no such service it is told so; a machine that may become a host, or be lent that
// address, is told to ask again: to Ignition a 404 is an empty config.
func (h *Handler) asker(r *http.Request) (Machine, cluster.MetadataMode, error) {
	from := client(r)
	nothing := func(why string) (Machine, cluster.MetadataMode, error) {
		return Machine{}, "", status(http.StatusNotFound, "there is no metadata for %s: %s", from, why)
	}
	n, ok := h.Snapshot().NetworkOf(from)
	switch {
	case !ok:
		return nothing("it is on no network that is applied")
	case !n.ServesMetadata():
		return nothing("network " + n.Name + " has metadata: off")
	}
	lent, ok := h.Owner(from)
	if !ok && n.DHCP != cluster.DHCPAuthoritative && h.Neighbour != nil {
		lent.MAC, ok = h.Neighbour(from)
	}
	if !ok {
		return Machine{}, "", notReady("there is no metadata for %s: it is lent to nobody", from)
	}
	at := h.server(r)
	if at.Addr == boot.MetadataAddress && h.At != nil {
		at = h.At(n) // where the agent finds the server at any time
	}
	m, err := h.find(lent, from, at)
	m.Running = true
	if err == nil && h.Wait != nil {
		err = h.Wait(r.Context(), m)
	}
	return m, n.Metadata, err
}

// versions lists the versions that there are.
func (h *Handler) versions(w http.ResponseWriter, r *http.Request) error {
	if _, err := h.admitted(r); err != nil {
		return err
	}
	return sendLines(w, r, metadataVersions)
}

// admitted finds the machine that asks, and checks its session.
func (h *Handler) admitted(r *http.Request) (Machine, error) {
	m, mode, err := h.asker(r)
	if err != nil {
		return m, err
	}
	token := r.Header.Get(tokenHeader)
	switch {
	case token == "" && mode == cluster.MetadataRequired:
		return m, status(http.StatusUnauthorized, "network %s has metadata: required, and the request has no token: PUT /latest/api/token first", m.Target.Network.Name)
	case token != "" && !h.Sessions.holds(token, m, time.Now()):
		return m, status(http.StatusUnauthorized, "the session token is over, or another machine's: PUT /latest/api/token again")
	}
	return m, nil
}

// session begins a session. The answer goes no further than to the next machine:
// what a host only forwards, as to its containers, does not arrive.
func (h *Handler) session(w http.ResponseWriter, r *http.Request) error {
	if r.Header.Values(forwardedHeader) != nil {
		return status(http.StatusForbidden, "a proxy asks for a session, which is the machine's own")
	}
	m, _, err := h.asker(r)
	if err != nil {
		return err
	}
	life, err := strconv.Atoi(r.Header.Get(lifeHeader))
	if err != nil || life < 1 || life > longestSession {
		return status(http.StatusBadRequest, "%s is no number of 1 to %d", lifeHeader, longestSession)
	}
	token, err := h.Sessions.begin(m, time.Now().Add(time.Duration(life)*time.Second))
	if err != nil {
		return err
	}
	if h.Neighbour != nil {
		if _, near := h.Neighbour(m.Address); near { // else there are routers between
			if err := oneHop(r.Context()); err != nil {
				return err
			}
		}
	}
	w.Header().Set("Connection", "close") // the hop limit stays with the connection
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set(lifeHeader, strconv.Itoa(life))
	return send(w, r, Body{Data: []byte(token), ContentType: scriptType})
}

// instanceData serves what is below a version.
func (h *Handler) instanceData(w http.ResponseWriter, r *http.Request) error {
	where := r.PathValue("path")
	if where == tokenPath {
		w.Header().Set("Allow", http.MethodPut)
		return status(http.StatusMethodNotAllowed, "a session is begun with PUT")
	}
	m, err := h.admitted(r)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	if where == "user-data" {
		return h.userData(w, r, m)
	}
	body, ok := metadataOf(&m).get(where)
	if !ok {
		return status(http.StatusNotFound, "there is no %q", printable(where))
	}
	return send(w, r, Body{Data: []byte(body), ContentType: scriptType})
}

// userData serves the machine's config.
func (h *Handler) userData(w http.ResponseWriter, r *http.Request, m Machine) error {
	if r.Method != http.MethodGet { // a call may mint a token
		w.WriteHeader(http.StatusOK)
		return nil
	}
	body, err := h.Configs.UserData(r.Context(), m, r.Header.Get("Accept"))
	if err != nil {
		return err
	}
	h.record(r, cluster.StepConfig, r.URL.Path)
	return send(w, r, body)
}

func sendLines(w http.ResponseWriter, r *http.Request, lines []string) error {
	return send(w, r, Body{Data: []byte(strings.Join(lines, "\n")), ContentType: scriptType})
}
