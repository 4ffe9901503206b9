package boot_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pilotlight/pilotlight/boot"
	"github.com/pilotlight/pilotlight/cluster"
)

// A story is what a machine does, a word each: discover and ack are firmware's,
// Discover and Ack iPXE's, sys an operating system's lease; a number is minutes
// that pass; | is where a new boot is to begin.
func TestRecorderBoots(t *testing.T) {
	for name, story := range map[string]string{
		"BIOS or UEFI through a loader":                   "discover ack loader Discover Ack script kernel initrd rootfs sys config agent join ready",
		"iPXE in the ROM":                                 "Discover Ack script kernel | Discover Ack script",
		"a DISCOVER sent again":                           "discover discover ack",
		"reset while it loads":                            "discover ack loader | discover ack loader Discover script",
		"reset when it is ready":                          "discover ack loader Discover script config ready | discover",
		"a lease renewed by a running system":             "discover ack loader Discover script config ready 60 sys",
		"firmware that hung and begins again much later":  "discover ack 20 | discover",
		"a script fetched again after waiting in between": "Discover Ack script 10 script kernel",
		"HTTP steps seen by a server that was restarted":  "| kernel initrd config",
		"a system's lease begins nothing":                 "sys",
	} {
		t.Run(name, func(t *testing.T) {
			var r boot.Recorder
			now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
			id, begins := "", true
			for word := range strings.FieldsSeq(story) {
				if word == "|" {
					begins = true
					continue
				}
				if minutes, err := time.ParseDuration(word + "m"); err == nil {
					now = now.Add(minutes)
					continue
				}
				now = now.Add(time.Second)
				r.Record(sighting(word, now))
				b, ok := r.Current(mac1)
				if word == "sys" && !ok {
					continue
				}
				if !ok || (b.ID != id) != begins {
					t.Fatalf("%s: a new boot: %v, want %v", word, b.ID != id, begins)
				}
				id, begins = b.ID, false
			}
		})
	}
}

func sighting(word string, at time.Time) boot.Sighting {
	s := boot.Sighting{MAC: mac1, Host: "web1", Event: cluster.Event{At: at, Step: cluster.Step(word)}}
	switch word {
	case "discover", "Discover":
		s.Firmware = true
		fallthrough
	case "ack", "Ack", "sys":
		s.Event.Step, s.Event.Detail = cluster.StepDHCP, word
		s.IPXE = word == "Discover" || word == "Ack"
	}
	return s
}

func TestRecorderRepeats(t *testing.T) {
	var r boot.Recorder
	for range 1000 {
		r.Record(sighting("discover", time.Now()))
	}
	if b, _ := r.Current(mac1); len(b.Events) != 1 {
		t.Errorf("a DISCOVER sent again and again makes %d events", len(b.Events))
	}
	for i := range 1000 {
		s := sighting("rootfs", time.Now())
		s.Event.Detail = time.Duration(i).String()
		r.Record(s)
	}
	if b, _ := r.Current(mac1); len(b.Events) > 64 {
		t.Errorf("one boot has %d events", len(b.Events))
	}
}

func TestRecorderForgets(t *testing.T) {
	r := boot.Recorder{Remember: 2}
	for i := range 3 {
		s := sighting("discover", time.Now())
		s.MAC[5] = byte(i)
		r.Record(s)
	}
	first := mac1
	first[5] = 0
	if _, ok := r.Current(first); ok {
		t.Error("the machine that was silent longest is remembered")
	}
	stranger := sighting("discover", time.Now())
	stranger.Host, stranger.MAC = "", cluster.MAC{2}
	r.Record(stranger)
	if _, ok := r.Current(stranger.MAC); ok {
		t.Error("a machine that no document names has a timeline")
	}
	var none *boot.Recorder
	none.Record(stranger) // and does not panic
}

// saved is a Boots in memory.
type saved struct {
	mu    sync.Mutex
	boots map[string]cluster.Boot
	calls int
	err   error
	hang  bool
}

func (s *saved) SaveBoot(ctx context.Context, b cluster.Boot) error {
	s.mu.Lock()
	hang := s.hang
	s.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.err != nil {
		return s.err
	}
	if s.boots == nil {
		s.boots = make(map[string]cluster.Boot)
	}
	s.boots[b.ID] = b
	return nil
}

func (s *saved) events() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.boots {
		n += len(b.Events)
	}
	return n
}

func TestRecorderSaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(saved)
		r := boot.Recorder{Boots: store}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { r.Run(ctx); close(done) }()

		for _, word := range strings.Fields("discover ack loader") {
			r.Record(sighting(word, time.Now()))
		}
		time.Sleep(time.Second)
		if store.events() != 3 || store.calls != 1 {
			t.Errorf("%d events in %d calls, want 3 in 1", store.events(), store.calls)
		}

		store.mu.Lock()
		store.err = errors.New("the store is down")
		store.mu.Unlock()
		r.Record(sighting("script", time.Now()))
		time.Sleep(time.Second)
		store.mu.Lock()
		store.err = nil
		store.mu.Unlock()
		time.Sleep(time.Second)
		if store.events() != 4 {
			t.Errorf("%d events when the store was back, want 4", store.events())
		}

		store.mu.Lock()
		store.hang = true
		store.mu.Unlock()
		r.Record(sighting("kernel", time.Now()))
		time.Sleep(time.Second)
		before := time.Now()
		r.Record(sighting("initrd", time.Now())) // while a save hangs
		if time.Since(before) != 0 {
			t.Error("recording waited for the store")
		}
		store.mu.Lock()
		store.hang = false
		store.mu.Unlock()
		cancel()
		<-done
		if store.events() != 6 {
			t.Errorf("%d events at the end, want 6: what is left is saved", store.events())
		}
	})
}

// UEFI that is left to its disk asks by PXE and by HTTP in one boot; the next
// boot is another one.
func TestRecordLocal(t *testing.T) {
	r := new(boot.Recorder)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	asks := func(after time.Duration, detail string) int {
		at = at.Add(after)
		r.Record(boot.Sighting{MAC: mac1, Host: "web1", Firmware: true, Event: cluster.Event{Step: cluster.StepDHCP, At: at, Detail: detail, Local: true}})
		b, _ := r.Current(mac1)
		return len(b.Events)
	}
	for i, got := range []int{asks(0, "PXE"), asks(5*time.Second, "HTTP"), asks(80*time.Second, "PXE"), asks(5*time.Second, "HTTP")} {
		if want := []int{1, 2, 1, 2}[i]; got != want {
			t.Errorf("%d: %d events, not %d", i, got, want)
		}
	}
}
