package main

import (
	"cmp"
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/ignition"
)

// verifier finds what cluster.Check cannot know: whether what hosts are told can
// be made for each of them.
type verifier struct {
	compile func(next *cluster.Snapshot, h *cluster.Host, installer bool) error
	at      func(*cluster.Network) boot.Server
	known   *verified
	workers int // 0: as many as there are processors
}

// verified are the hosts with which nothing was wrong when they were looked at last,
// with the documents that they were made of then. Documents never change, so there is
// nothing new to find in the same ones.
type verified struct {
	mu    sync.Mutex
	hosts map[*cluster.Host]madeOf
}

type madeOf struct {
	group   *cluster.Group
	profile *cluster.Profile
	image   *cluster.Image
	network *cluster.Network
}

// look returns a function that reports whether a host is as it was, and one that
// says which hosts are right.
func (v *verified) look() (same func(cluster.Target) bool, note func([]cluster.Target)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	before := v.hosts // which is replaced as a whole
	same = func(t cluster.Target) bool {
		was, ok := before[t.Host]
		return ok && was == madeOf{t.Group, t.Profile, t.Image, t.Network}
	}
	return same, func(right []cluster.Target) {
		now := make(map[*cluster.Host]madeOf, len(right))
		for _, t := range right {
			now[t.Host] = madeOf{t.Group, t.Profile, t.Image, t.Network}
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		v.hosts = now
	}
}

// verifier is with what this server tells hosts. Package ignition keeps what it
// has compiled, so a change costs what it touches.
func (b *bootServices) verifier() verifier {
	return verifier{at: b.at, known: b.s.known, compile: func(next *cluster.Snapshot, h *cluster.Host, installer bool) error {
		_, _, err := b.compile(next, h, installer)
		return err
	}}
}

// draftVerifier is for manifests of a server that is not there yet: its address
// and its agent are made up.
func draftVerifier() verifier {
	at := boot.ServerAt(netip.AddrFrom4([4]byte{192, 0, 2, 1}), 8080, 8443)
	configs := new(ignition.Cache)
	return verifier{
		at:    func(*cluster.Network) boot.Server { return at },
		known: new(verified),
		compile: func(next *cluster.Snapshot, h *cluster.Host, installer bool) error {
			t, err := next.Target(h, bootsOn(next, h.Address))
			if err != nil {
				return err
			}
			_, err = configs.Compile(draftInput(t, at, installer))
			return err
		},
	}
}

func draftInput(t cluster.Target, at boot.Server, installer bool) ignition.Input {
	in := ignition.Input{
		Target: t,
		Agent: ignition.Agent{
			URL: at.URL + "/agent", SHA256: strings.Repeat("0", 64), SHA512: strings.Repeat("0", 128),
			Config: cluster.AgentConfig{Host: t.Host.HostName()},
		},
		Server:   ignition.Server{URL: at.URL, Secure: at.Secure},
		SetupURL: factsOf(t, identityOf(t.Host), at).SetupURL,
	}
	if installer {
		in.Installer = installerOf(t, identityOf(t.Host), at)
	}
	return in
}

// verify looks at every host and every profile in whose documents nothing is
// wrong yet, but for the hosts with which nothing was wrong and has changed.
func (v verifier) verify(next *cluster.Snapshot, wrong map[cluster.Ref]bool) []cluster.Problem {
	var (
		mu       sync.Mutex
		problems []cluster.Problem
		right    []cluster.Target
		wg       sync.WaitGroup
	)
	used := map[cluster.Ref]bool{}
	same, note := v.known.look()
	hosts := next.Documents(cluster.KindHost)
	workers := cmp.Or(v.workers, runtime.GOMAXPROCS(0))
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(hosts); i += workers {
				h := hosts[i].(*cluster.Host)
				t, err := next.Parts(h, bootsOn(next, h.Address))
				if err != nil || touches(t, wrong) {
					continue // it has been said
				}
				var found []cluster.Problem
				if !same(t) {
					found = v.verifyHost(next, h)
				}
				mu.Lock()
				used[t.Profile.Ref()] = true
				if t.Image != nil {
					used[t.Image.Ref()] = true
				}
				if problems = append(problems, found...); len(found) == 0 {
					right = append(right, t)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	note(right)
	for _, d := range next.Documents(cluster.KindProfile) {
		if p := d.(*cluster.Profile); !used[p.Ref()] && !wrong[p.Ref()] {
			problems = append(problems, v.verifyUnused(next, p)...)
		}
	}
	for _, d := range next.Documents(cluster.KindImage) {
		if i := d.(*cluster.Image); !used[i.Ref()] && !wrong[i.Ref()] {
			problems = append(problems, boot.CheckArgs(i.Ref(), "args", i.Args)...)
		}
	}
	slices.SortFunc(problems, func(a, c cluster.Problem) int { return cmp.Compare(a.String(), c.String()) })
	return slices.Compact(problems)
}

// verifyHost returns what is wrong with a host.
func (v verifier) verifyHost(next *cluster.Snapshot, h *cluster.Host) (problems []cluster.Problem) {
	t, err := next.Target(h, bootsOn(next, h.Address))
	if err != nil {
		return hostProblems(h, err)
	}
	visit := boot.Visit{Server: v.at(t.Network), Address: h.Address, Identity: identityOf(h)}
	if _, err := boot.Args(t.Profile.Boot, t, visit); err != nil {
		problems = append(problems, hostProblems(h, err)...)
	}
	problems = append(problems, hostProblems(h, v.compile(next, h, false))...)
	if t.Profile.Boot == cluster.BootInstall {
		problems = append(problems, hostProblems(h, v.compile(next, h, true))...)
	}
	return problems
}

// touches reports whether a host is made of a document in which something is wrong.
func touches(t cluster.Target, wrong map[cluster.Ref]bool) bool {
	return wrong[t.Host.Ref()] || wrong[t.Profile.Ref()] || t.Group != nil && wrong[t.Group.Ref()] ||
		t.Image != nil && wrong[t.Image.Ref()] || t.Network != nil && wrong[t.Network.Ref()]
}

// verifyUnused looks at a profile that no host has: at its templates, and at what
// they become when they are the same for every host.
func (v verifier) verifyUnused(next *cluster.Snapshot, p *cluster.Profile) []cluster.Problem {
	problems := boot.CheckArgs(p.Ref(), "args", p.Args)
	if p.Install != nil {
		problems = append(problems, boot.CheckArgs(p.Ref(), "install.args", p.Install.Args)...)
	}
	found, whole := ignition.CheckTemplates(p)
	if len(found) > 0 || !whole {
		return append(problems, configProblems(found)...)
	}
	h := &cluster.Host{Meta: cluster.Meta{Name: "made-up"}, Profile: cluster.ProfileName(p.Name)}
	made := next.With(next.Revision(), []cluster.Document{h}, nil)
	for _, installer := range []bool{false, true} {
		if installer && p.Boot != cluster.BootInstall {
			continue
		}
		if bad := new(ignition.Error); errors.As(v.compile(made, h, installer), &bad) {
			problems = append(problems, configProblems(bad.Problems)...)
		}
	}
	return problems
}

// hostProblems are the mistakes for which what a host is told cannot be made.
func hostProblems(h *cluster.Host, err error) (out []cluster.Problem) {
	var config *ignition.Error
	var args *boot.ArgsError
	switch {
	case err == nil:
	case errors.As(err, &config):
		out = configProblems(config.Problems)
	case errors.As(err, &args):
		out = slices.Clone(args.Problems)
	default:
		out = []cluster.Problem{{Ref: h.Ref(), Message: err.Error()}}
	}
	for i := range out {
		out[i].For = h.Ref()
	}
	return out
}

func configProblems(found []ignition.Problem) []cluster.Problem {
	out := make([]cluster.Problem, len(found))
	for i, p := range found {
		out[i] = p.Problem
		out[i].Line = p.Line
		if p.Path != "" {
			out[i].Message = p.Path + ": " + p.Message
		}
	}
	return out
}
