package agent

import (
	"fmt"
	"slices"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// say notes how a service is. What runs decides, except that a version which
// failed is always said.
func (p *planner) say(t turn, progress string) {
	st := cluster.ContainerStatus{
		Site: t.slot.Site, Service: t.slot.Service,
		Health: cluster.HealthPending, Message: progress, Secrets: t.want.Secrets,
	}
	shown := t.old
	if t.cur != nil && (shown == nil || !shown.up()) && t.cur.Phase != PhaseCreated {
		shown = t.cur
	}
	if shown != nil {
		st.Health, st.Current = p.health(shown), shown == t.cur
		if st.Current && t.trial && st.Health == cluster.HealthHealthy && p.young(shown) {
			st.Health = cluster.HealthStarting
		}
		if shown.up() {
			st.Image = shown.Image
		}
		if st.Message == "" {
			st.Message = ailment(shown, st.Health)
		}
	}
	if !st.Current && t.failed.Count > 0 {
		st.Health, st.Message = cluster.HealthFailed, p.failure(t)
	} else if t.failed.Count > 0 && st.Health != cluster.HealthHealthy {
		st.Message = p.failure(t)
	}
	p.status[t.slot.Key] = st
}

func ailment(f *Found, h cluster.Health) string {
	switch {
	case f.Phase == PhaseRestarting:
		return fmt.Sprintf("keeps exiting, last with code %d, restarted %d times; see docker logs %s", f.ExitCode, f.Restarts, short(f.ID))
	case f.Phase == PhasePaused:
		return fmt.Sprintf("is paused; docker unpause %s", short(f.ID))
	case h == cluster.HealthFailed:
		return fmt.Sprintf("exited with code %d; see docker logs %s", f.ExitCode, short(f.ID))
	case h == cluster.HealthUnhealthy:
		return fmt.Sprintf("its health check fails; see docker inspect %s", short(f.ID))
	}
	return ""
}

func (p *planner) failure(t turn) string {
	m := t.failed.Message
	if t.old != nil && t.old.up() {
		m += "; the version before runs"
	}
	if t.held {
		m += fmt.Sprintf("; tried again at %s, or at once when the site changes", t.failed.Until.UTC().Format(time.TimeOnly+" MST"))
	}
	return m
}

func short(id string) string { return id[:min(12, len(id))] }

// imageKept is how long an image stays that nothing needs any more.
const imageKept = 10 * time.Minute

// tidy removes what sites left behind that are gone.
func (p *planner) tidy() {
	for _, site := range p.Networks {
		ours := func(k Key) bool { return k.Site == site }
		used := slices.ContainsFunc(p.Found, func(f Found) bool { return ours(f.Key) }) ||
			slices.ContainsFunc(p.Desired.Containers, func(c cluster.Container) bool { return c.Site == site })
		for k := range p.Busy {
			used = used || ours(k)
		}
		if !used {
			p.act(Action{Verb: RemoveNetwork, Slot: Slot{Key: Key{Site: site}}, Why: "the site is gone"})
		}
	}
	for _, slot := range p.Stored {
		want, wanted := p.wanted[slot.Key]
		used := wanted && Hash(want) == slot.Hash || p.Busy[slot.Key] ||
			slices.ContainsFunc(p.Found, func(f Found) bool { return f.Slot == slot })
		if !used {
			p.act(Action{Verb: RemoveSecrets, Slot: slot, Why: "its container is gone"})
		}
	}
	p.tidyImages()
}

func (p *planner) tidyImages() {
	p.Decision.Images = p.neededImages()
	if len(p.Actions) > 0 || len(p.Busy) > 0 {
		return // only when all is quiet
	}
	for image, last := range p.Memory.Images {
		if p.Decision.Images[image] {
			continue
		}
		if at := last.Add(imageKept); at.After(p.Now) {
			p.wake(at)
			continue
		}
		p.act(Action{Verb: RemoveImage, Slot: Slot{Key: Key{Service: cluster.ServiceName(image)}}, Image: image, Why: "nothing needs it any more"})
		return
	}
}

// neededImages returns the images that run, are to run, or are a way back.
func (p *planner) neededImages() map[string]bool {
	needed := map[string]bool{}
	for _, f := range p.Found {
		needed[f.Image] = true
	}
	for _, c := range p.wanted {
		needed[c.Service.Image] = true
	}
	for slot, proven := range p.Memory.Proven {
		if _, wanted := p.wanted[slot.Key]; wanted {
			needed[proven.Container.Service.Image] = true
			needed[proven.Before] = true
		}
	}
	return needed
}
