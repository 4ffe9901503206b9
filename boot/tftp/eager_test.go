package tftp

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"
)

// A client that does not answer in a moment is looked for once in a while.
func TestEager(t *testing.T) {
	var e eager
	looks := 0
	for range 10 * (asleep + 1) {
		if e.due() {
			looks++
			e.missed()
		}
	}
	if looks != 10 {
		t.Errorf("a slow client was looked for %d times", looks)
	}
	e = eager{}
	for i := range 1000 {
		if !e.due() {
			t.Fatalf("a quick client was not looked for, at answer %d", i)
		}
	}
}

// An eager socket reads what any other does: what is there, what comes while it
// sleeps, that the client is gone, and that it is time.
func TestEagerRead(t *testing.T) {
	client, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	s, err := dial(netip.Addr{}, client.LocalAddr().(*net.UDPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	few := true
	s.beEager(func() bool { return few })
	says := func(what string) {
		if _, err := client.WriteTo([]byte(what), s.LocalAddr()); err != nil {
			t.Error(err)
		}
	}
	hears := func(want string) {
		t.Helper()
		s.SetDeadline(time.Now().Add(30 * time.Second))
		b := make([]byte, 10)
		if n, err := s.Read(b); err != nil || string(b[:n]) != want {
			t.Fatalf("%q came: %v", b[:n], err)
		}
	}
	says("there")
	hears("there")
	says("")
	hears("")
	if s.eager.asleep != 0 {
		t.Error("what was there was slept for")
	}
	for s.eager.asleep == 0 { // unless it is time before it looks
		s.SetDeadline(time.Now().Add(100 * moment))
		if _, err := s.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("nothing came: %v", err)
		}
	}
	says("slept")
	hears("slept")
	s.eager = eager{}
	if _, err := s.look(make([]byte, 10)); !errors.Is(err, syscall.EAGAIN) {
		t.Fatalf("nothing came: %v", err)
	}
	few = false
	says("many")
	hears("many")
	few = true
	s.SetDeadline(time.Unix(1, 0))
	if _, err := s.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("after its time: %v", err)
	}
	client.Close()
	s.SetDeadline(time.Now().Add(30 * time.Second))
	s.Write([]byte("x"))
	if _, err := s.Read(make([]byte, 10)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("a closed port: %v", err)
	}
}
