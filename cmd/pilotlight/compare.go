package main

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/api"
	"github.com/pilotlight/pilotlight/ignition"
)

// What a machine is told beside what its system is: its iPXE, and Ignition at first.
const (
	toldScript  = "script"
	toldPointer = "pointer"
)

// mostDiffs is how much text about the hosts' configs a diff says; of the rest it
// names the hosts.
const mostDiffs = 128 << 10

// compareConfigs says how what hosts are told changes from one state of the
// documents to another: of hosts with the same change once, as it is for the first. Those that are named are
// told of alone, and whole.
func (b *bootServices) compareConfigs(base, next *cluster.Snapshot, named []cluster.HostName) []api.ConfigChange {
	var out []api.ConfigChange
	where := map[string]int{} // in out, by all but the hosts
	said := 0
	for _, d := range next.Documents(cluster.KindHost) {
		h := d.(*cluster.Host)
		if len(named) > 0 && !slices.Contains(named, h.HostName()) {
			continue
		}
		for _, c := range b.compareHost(base, next, h, len(named) > 0) {
			if said += len(c.Diff); said > mostDiffs && len(named) == 0 {
				c.Diff = ""
			}
			key := fmt.Sprintf("%s %s %d %s", c.What, c.Action, c.Lines, changedLines(c.Diff))
			i, there := where[key]
			if !there {
				i = len(out)
				where[key] = i
				out = append(out, c)
			}
			out[i].Hosts = append(out[i].Hosts, h.HostName())
		}
	}
	return out
}

// compareHost says how what one host is told changes. What is new is said by how
// long it is, unless the whole is asked for.
func (b *bootServices) compareHost(base, next *cluster.Snapshot, h *cluster.Host, whole bool) (out []api.ConfigChange) {
	before := map[string]string{}
	if old, ok := base.Host(h.HostName()); ok {
		if sameParts(base, next, old, h) {
			return nil
		}
		for _, t := range b.told(base, old) {
			before[t.What] = string(t.Body)
		}
	}
	for _, t := range b.told(next, h) {
		was, there := before[t.What]
		delete(before, t.What)
		switch c := (api.ConfigChange{What: t.What, Action: api.Update}); {
		case was == string(t.Body):
		case there || whole:
			if !there {
				c.Action = api.Create
			}
			c.Diff = textDiff(readable(t.What, was), readable(t.What, string(t.Body)))
			out = append(out, c)
		default:
			c.Action, c.Lines = api.Create, bytes.Count(t.Body, []byte("\n"))
			out = append(out, c)
		}
	}
	for what, was := range before {
		out = append(out, api.ConfigChange{What: what, Action: api.Delete, Lines: strings.Count(was, "\n")})
	}
	slices.SortFunc(out, func(x, y api.ConfigChange) int { return cmp.Compare(x.What, y.What) })
	return out
}

// sameParts reports whether a host is made of the very same documents.
func sameParts(base, next *cluster.Snapshot, old, h *cluster.Host) bool {
	was, err := base.Parts(old, bootsOn(base, old.Address))
	is, err2 := next.Parts(h, bootsOn(next, h.Address))
	return err == nil && err2 == nil && old == h &&
		madeOf{was.Group, was.Profile, was.Image, was.Network} == madeOf{is.Group, is.Profile, is.Image, is.Network}
}

// told is all that a host is told, its script too. Of what cannot be made nothing is
// said: it is a mistake, which stands elsewhere, or was one before.
func (b *bootServices) told(snap *cluster.Snapshot, h *cluster.Host) (out []ignition.Told) {
	t, c, err := b.compile(snap, h, false)
	if err != nil {
		return nil
	}
	out = c.Told()
	if t.Profile.Boot == cluster.BootInstall {
		if _, c, err := b.compile(snap, h, true); err == nil {
			for _, one := range c.Told() {
				one.What = "installer's " + one.What
				out = append(out, one)
			}
		}
	}
	if script, err := b.scriptOf(t, h); err == nil {
		out = append(out, ignition.Told{What: toldScript, Body: script, ContentType: ignition.TextType})
	}
	return out
}

// scriptOf is the script that a host's machine boots by.
func (b *bootServices) scriptOf(t cluster.Target, h *cluster.Host) ([]byte, error) {
	mode, _ := boot.CourseOf(t)
	return boot.Script(mode, t, boot.Visit{Identity: identityOf(h), Address: h.Address, Server: b.at(t.Network)})
}

func readable(what, body string) string {
	if strings.HasSuffix(what, ignition.ToldIgnition) {
		return string(ignition.Readable([]byte(body)))
	}
	return body
}

// textDiff is a unified diff without its head.
func textDiff(before, after string) string {
	text := string(diff.Diff("a", []byte(before), "b", []byte(after)))
	_, text, _ = strings.Cut(text, "\n+++ b\n")
	return text
}

// changedLines is a diff without what stays as it is.
func changedLines(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line[0] == '+' || line[0] == '-' {
			b.WriteString(line)
		}
	}
	return b.String()
}
