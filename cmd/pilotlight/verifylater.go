package main

import (
	"context"

	"github.com/pilotlight/pilotlight/cluster"
)

// noteManifests notes that the manifests are right, at once or, where a version of the
// program before this one found it, when this one has.
func (s *server) noteManifests(docs []cluster.Document, later bool) {
	note := func() {
		if err := noteChecked(docs, s.o.data); err != nil {
			s.log.Warn("the next start checks the manifests again", "err", err)
		}
	}
	if !later {
		note()
		return
	}
	s.group.Go(func() error {
		problems := verifyLater(s.running, s.verifier, s.Snapshot())
		if s.running.Err() != nil {
			return nil
		}
		for _, p := range problems {
			s.log.Error("a config is not right for this version of pilotlight: its machines are not served it", "problem", p.String(), "try", "pilotlight apply, when it is mended")
		}
		if len(problems) == 0 {
			note()
		}
		return nil
	})
}

// verifyLater verifies all that was applied beside a server's work, for which it
// leaves the other processors.
func verifyLater(ctx context.Context, v verifier, snap *cluster.Snapshot) []cluster.Problem {
	compile := v.compile
	v.workers = 1
	v.compile = func(next *cluster.Snapshot, h *cluster.Host, installer bool) error {
		if ctx.Err() != nil {
			return ctx.Err() // what is found is not looked at
		}
		return compile(next, h, installer)
	}
	return v.verify(snap, cluster.Refs(cluster.CheckSnapshot(snap)))
}
