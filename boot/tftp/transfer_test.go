package tftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// random is a file without two blocks that are alike.
func random(size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// exchange runs a transfer of a file to a client over a network in memory with
// faults, in synctest's time, and checks that what came is the file.
func exchange(t *testing.T, file []byte, set terms, latency time.Duration, fate fate, how manner) (*transfer, error) {
	t.Helper()
	server, client := network(latency)
	x := &transfer{terms: set, channel: server, file: bytes.NewReader(file)}
	ended := make(chan error, 1)
	go func() { ended <- x.run(context.Background()) }()
	got, err := receive(&faulty{conn: client, fate: fate}, set, how)
	if err != nil || !bytes.Equal(got, file) {
		t.Errorf("%d bytes came of %d: %v", len(got), len(file), err)
	}
	return x, <-ended
}

func agreed(block, window int) terms {
	return terms{block: block, window: window, agreed: []option{{"blksize", "x"}}}
}

func smooth(bool, int, []byte) fault { return none }

// Whatever its size, a file comes whole, in as many blocks as it has.
func TestSizes(t *testing.T) {
	for _, window := range []int{1, 2, 16, 64} {
		for _, size := range []int{0, 1, 511, 512, 513, 512 * window, 512*window - 1, 512*window + 1, 512*window*3 + 7, 512 * 64, 512 * 128} {
			synctest.Test(t, func(t *testing.T) {
				x, err := exchange(t, random(size), agreed(512, window), time.Millisecond, smooth, manner{})
				want := int64(size/512 + 1)
				if err != nil || x.blocks.acked != want || x.resent != 0 || x.size != int64(size) || x.windows != (want+int64(window)-1)/int64(window) {
					t.Errorf("size %d, window %d: %v, %+v, %d windows, %d resent", size, window, err, x.blocks, x.windows, x.resent)
				}
			})
		}
	}
}

// Numbers begin again at 0 after 65535.
func TestRollover(t *testing.T) {
	for _, window := range []int{7, 64} {
		synctest.Test(t, func(t *testing.T) {
			fate := func(_ bool, n int, p []byte) fault { // lose what is around the seam, once
				if len(p) > 4 && n%3 == 0 && binary.BigEndian.Uint16(p[2:])+3 < 6 {
					return lost
				}
				return none
			}
			x, err := exchange(t, random(8*66_000), agreed(8, window), 0, fate, manner{})
			if err != nil || x.blocks.acked != 66_001 {
				t.Errorf("window %d: %v, %+v", window, err, x.blocks)
			}
		})
	}
}

// A file comes whole over any network that lets something through.
func TestFaults(t *testing.T) {
	manners := map[string]manner{
		"plain": {lingers: true}, "complains": {complains: true, lingers: true},
		"impatient": {patience: 300 * time.Millisecond, lingers: true}, "all": {complains: true, patience: 70 * time.Millisecond, lingers: true},
	}
	networks := map[string][3]int{"loss": {10, 0, 0}, "copies": {0, 20, 0}, "order": {0, 0, 20}, "all": {5, 10, 10}}
	file := random(150_000)
	for m, how := range manners {
		for n, c := range networks {
			for _, window := range []int{1, 4, 64} {
				t.Run(fmt.Sprint(m, " ", n, " ", window), func(t *testing.T) {
					for seed := range uint64(4) {
						synctest.Test(t, func(t *testing.T) {
							x, err := exchange(t, file, agreed(1428, window), 3*time.Millisecond, percent(seed, c[0], c[1], c[2]), how)
							if err != nil && !errors.Is(err, errSilent) { // every ACK of the last block may be lost
								t.Errorf("seed %d: %v", seed, err)
							}
							// What follows a gap in a window has to be sent again; a copy is no gap.
							most := x.blocks.acked * int64(max(window/4, 2))
							if n == "copies" {
								most = x.blocks.acked // or all would be doubled
							}
							if x.resent > most {
								t.Errorf("seed %d: %d blocks sent again of %d", seed, x.resent, x.blocks.acked)
							}
						})
					}
				})
			}
		}
	}
}

// A network that doubles packets does not double what is sent, whatever the
// client makes of it: the Sorcerer's Apprentice (RFC 1123, section 4.2.3.1).
func TestDuplicates(t *testing.T) {
	acks := func(toClient bool, _ int, _ []byte) fault {
		if toClient {
			return none
		}
		return doubled
	}
	all := func(bool, int, []byte) fault { return doubled }
	first := func(toClient bool, n int, _ []byte) fault { // a single one, that must not go on for ever
		if toClient && n == 5 {
			return doubled
		}
		return none
	}
	for _, c := range []struct {
		name   string
		fate   fate
		how    manner
		resent int64 // at most, in windows
	}{
		{"acknowledgements", acks, manner{}, 0},
		{"everything, and the client says so in the middle of a window", all, manner{}, 1},
		{"one block, to a client that complains", first, manner{complains: true}, 1},
	} {
		for _, window := range []int{1, 2, 16, 64} {
			synctest.Test(t, func(t *testing.T) {
				x, err := exchange(t, random(1428*1000), agreed(1428, window), 5*time.Millisecond, c.fate, c.how)
				if err != nil || x.resent > c.resent*int64(window) {
					t.Errorf("%s, window %d: %v, %d of %d blocks sent again", c.name, window, err, x.resent, x.blocks.acked)
				}
			})
		}
	}
}

// An acknowledgement within a window is answered with what follows it (RFC 7440,
// section 4), at once; so a loss costs less than a timeout.
func TestGap(t *testing.T) {
	for name, losing := range map[string]int{"the first of a window": 9, "in a window": 12, "the last of a window": 16} {
		for _, how := range []manner{{}, {complains: true}} {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				fate := func(toClient bool, n int, _ []byte) fault {
					if toClient && n == losing { // the OACK is number 0
						return lost
					}
					return none
				}
				x, err := exchange(t, random(1428*80), agreed(1428, 8), 2*time.Millisecond, fate, how)
				took := time.Since(start)
				if err != nil || x.resent == 0 || x.resent > 16 {
					t.Errorf("%s: %v, %d blocks sent again", name, err, x.resent)
				}
				if tail := losing == 16; took > 600*time.Millisecond && !tail || took > 1500*time.Millisecond {
					t.Errorf("%s: it took %s", name, took)
				}
			})
		}
	}
}

// What is lost at either end of a transfer.
func TestEnds(t *testing.T) {
	lose := func(toClient bool, which ...int) fate {
		return func(to bool, n int, _ []byte) fault {
			for _, w := range which {
				if to == toClient && n == w {
					return lost
				}
			}
			return none
		}
	}
	file := random(1428*10 + 5)
	for name, c := range map[string]struct {
		fate    fate
		outcome string
		how     manner
	}{
		"two OACKs":           {lose(true, 0, 1), outcomeSent, manner{}},
		"two ACKs of an OACK": {lose(false, 0, 1), outcomeSent, manner{}},
		"the last ACK, and the client waits for that": {lose(false, 3), outcomeSent, manner{lingers: true}},
		"the last ACK, and the client is gone":        {lose(false, 3), outcomeUnsure, manner{}},
	} {
		synctest.Test(t, func(t *testing.T) {
			x, err := exchange(t, file, agreed(1428, 4), time.Millisecond, c.fate, c.how)
			if is := outcomeOf(x, err); is != c.outcome {
				t.Errorf("%s: %s, %v", name, is, err)
			}
		})
	}
}

// A client that says nothing more is given up, after a while that is the same
// each time or longer each time.
func TestSilence(t *testing.T) {
	for _, c := range []struct {
		asked, took time.Duration
	}{{0, (1 + 2 + 4 + 4 + 4 + 4) * time.Second}, {3 * time.Second, 18 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			server, client := network(0)
			x := &transfer{terms: agreed(512, 4), channel: server, file: bytes.NewReader(random(5000))}
			x.timeout = c.asked
			start := time.Now()
			err := x.run(context.Background())
			if took := time.Since(start); !errors.Is(err, errSilent) || took != c.took || server.sent != tries || len(client.in) != tries {
				t.Errorf("after %s: %v, %d packets", took, err, server.sent)
			}
			if is := outcomeOf(x, err); is != outcomeProbed {
				t.Errorf("it is %s", is)
			}
		})
	}
}

// A client that ends it is not sent more.
func TestClientError(t *testing.T) {
	for _, c := range []struct {
		after   int // blocks that it takes before
		outcome string
	}{{0, outcomeProbed}, {4, outcomeAborted}} {
		synctest.Test(t, func(t *testing.T) {
			server, client := network(0)
			x := &transfer{terms: agreed(512, 4), channel: server, file: bytes.NewReader(random(5000))}
			if c.after > 0 {
				client.Write([]byte{0, opAck, 0, 0})
				client.Write([]byte{0, opAck, 0, byte(c.after)})
			}
			client.Write([]byte{0, opError, 0, 8, 'b', 'y', 'e', 0})
			err := x.run(context.Background())
			var said *clientError
			if !errors.As(err, &said) || said.code != 8 || said.message != "bye" || outcomeOf(x, err) != c.outcome {
				t.Errorf("%s: %v", outcomeOf(x, err), err)
			}
		})
	}
}

// The end of the context ends a transfer that waits, at once.
func TestTransferStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, _ := network(0)
		x := &transfer{terms: agreed(512, 4), channel: server, file: bytes.NewReader(random(5000))}
		ctx, cancel := context.WithCancel(context.Background())
		start := time.Now()
		time.AfterFunc(1500*time.Millisecond, cancel)
		if err := x.run(ctx); !errors.Is(err, errStopped) || time.Since(start) != 1500*time.Millisecond {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
	})
}
