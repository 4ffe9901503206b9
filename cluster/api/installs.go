package api

import (
	"net/http"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// reinstall has a host's next network boot run its installer, as often as one
// may try.
func (s *Server) reinstall(r *http.Request, actor string) (any, error) {
	return s.changeInstall(r, actor, "host.reinstall", cluster.InstallWanted)
}

// installed has a host boot from its disk: it was installed by other means.
func (s *Server) installed(r *http.Request, actor string) (any, error) {
	return s.changeInstall(r, actor, "host.installed", cluster.InstallDone)
}

func (s *Server) changeInstall(r *http.Request, actor, action string, phase cluster.InstallPhase) (any, error) {
	snap := s.Snapshot()
	h, ok := snap.Host(cluster.HostName(r.PathValue("name")))
	if !ok {
		return nil, fail(http.StatusNotFound, "there is no host %q; `pilotlight host list` shows the hosts", r.PathValue("name"))
	}
	t, err := snap.Target(h, nil)
	if err != nil {
		return nil, fail(http.StatusConflict, "%w", err)
	}
	if t.Profile.Boot != cluster.BootInstall {
		return nil, fail(http.StatusConflict, "host %s is not one that is installed: its profile %s boots %s; set boot: install and install: {device: ...} in that, or give the host another profile",
			h.Name, t.Profile.Name, modeOf(t.Profile))
	}
	now := time.Now()
	i, err := s.Machines.ChangeInstall(r.Context(), h.HostName(), func(cluster.Install) cluster.Install {
		return cluster.Install{Phase: phase, At: now, By: actor}
	})
	if err != nil {
		return nil, err
	}
	s.audit(r.Context(), actor, action, h.Ref().String(), "")
	return i, nil
}

func modeOf(p *cluster.Profile) cluster.BootMode {
	if p.Boot == "" {
		return cluster.BootLive
	}
	return p.Boot
}
