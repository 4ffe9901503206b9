package cluster

import (
	"iter"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// AuditEntry is one line of the audit: who did what to what, and how it ended.
type AuditEntry struct {
	At      time.Time `json:"at"`
	Actor   string    `json:"actor"`  // operator:NAME, node:NAME, server:NAME, group:NAME, or the address of a stranger
	Action  string    `json:"action"` // create, delete, token.mint, token.redeem, secret.put ...
	Subject string    `json:"subject,omitempty"`
	OK      bool      `json:"ok"`
	Alarm   bool      `json:"alarm,omitempty"`
	Detail  string    `json:"detail,omitempty"`
}

// AuditQuery asks for a part of the audit.
type AuditQuery struct {
	About  string // a host, a site, a person: web1 is host web1 and node:web1, and never web10; "" is everything
	Alarms bool   // only alarms
	Last   int    // so many of the newest; 0 is all
}

// AuditPage is what was asked for, oldest first, and how much more there is.
type AuditPage struct {
	Entries       []AuditEntry `json:"entries"`
	Older         int          `json:"older,omitempty"`          // entries that AuditQuery.Last left out
	OlderRefusals int          `json:"older_refusals,omitempty"` // of strangers; not in Older
}

// Page picks what is asked for from entries, oldest first, and holds no more of
// them than it returns. What strangers were refused has room of its own: anybody
// on the network can bring it about as often as they like, and it is not to push
// out what others did.
func (q AuditQuery) Page(oldestFirst iter.Seq[AuditEntry]) AuditPage {
	var p AuditPage
	var acts, refusals []AuditEntry
	for e := range oldestFirst {
		if !q.takes(e) {
			continue
		}
		kept, older := &acts, &p.Older
		if e.refusedStranger() && !q.Alarms {
			kept, older = &refusals, &p.OlderRefusals
		}
		if *kept = append(*kept, e); q.Last > 0 && len(*kept) > q.Last {
			*kept = (*kept)[1:]
			*older++
		}
	}
	p.Entries = append(append([]AuditEntry{}, acts...), refusals...) // [] in JSON, never null
	slices.SortStableFunc(p.Entries, func(a, b AuditEntry) int { return a.At.Compare(b.At) })
	return p
}

func (q AuditQuery) takes(e AuditEntry) bool {
	return (e.Alarm || !q.Alarms) && (q.About == "" || names(e.Subject, " ", q.About) || names(e.Actor, ":", q.About))
}

// names reports whether a text like "host web1" is name, or ends in it after
// its kind.
func names(text, separator, name string) bool {
	_, after, _ := strings.Cut(text, separator)
	return text == name || after == name
}

func (e AuditEntry) refusedStranger() bool {
	_, err := netip.ParseAddr(e.Actor)
	return err == nil && !e.OK
}
