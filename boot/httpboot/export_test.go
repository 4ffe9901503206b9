package httpboot

import (
	"net/netip"
	"testing"
	"time"
)

// CheckSessionEnd begins a session, and looks at it before and at its end.
func CheckSessionEnd(t *testing.T) {
	t.Helper()
	s, err := NewSessions([]byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	m, end := Machine{Address: netip.MustParseAddr("10.0.0.51")}, time.Unix(1e9, 0)
	token, err := s.begin(m, end)
	if err != nil {
		t.Fatal(err)
	}
	if !s.holds(token, m, end.Add(-time.Second)) || s.holds(token, m, end) {
		t.Error("a session does not end at its end")
	}
	other := m
	other.Address = netip.MustParseAddr("10.0.0.52")
	moved := m
	moved.Identity.MAC[5] = 7
	if before := end.Add(-time.Second); s.holds(token, other, before) || s.holds(token, moved, before) {
		t.Error("a session is of use at another address, or to another machine")
	}
	if (*Sessions)(nil).holds(token, m, end) {
		t.Error("no sessions know a session")
	}
}
