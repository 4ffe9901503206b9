package secret

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/pilotlight/pilotlight/cluster"
)

var version = cluster.Version{Name: "db-password", Version: 3}

func identity(t testing.TB) *Identity {
	t.Helper()
	id, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func seal(t testing.TB, value []byte, to ...string) *Sealed {
	t.Helper()
	s, err := Seal(NewValue(value), version, to...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSealOpen(t *testing.T) {
	a, b, stranger := identity(t), identity(t), identity(t)
	for _, size := range []int{1, 15, 4096, MaxSize} {
		value := bytes.Repeat([]byte{'x'}, size)
		sealed := seal(t, value, a.Recipient(), b.Recipient(), a.Recipient())
		if len(sealed.Keys) != 2 {
			t.Fatalf("%d keys for two recipients", len(sealed.Keys))
		}
		wire, err := json.Marshal(sealed)
		if err != nil {
			t.Fatal(err)
		}
		if len(wire) > 1<<20 {
			t.Errorf("%d bytes come to %d on the wire, more than etcd takes", size, len(wire))
		}
		var read Sealed
		if err := json.Unmarshal(wire, &read); err != nil {
			t.Fatal(err)
		}
		for _, id := range []*Identity{a, b} {
			got, err := read.OpenAs(id, version)
			if err != nil || !bytes.Equal(got.Reveal(), value) {
				t.Fatalf("size %d: %v", size, err)
			}
		}
		_, err = read.Open(stranger)
		var wrong *RecipientError
		if !errors.Is(err, ErrNotRecipient) || !errors.As(err, &wrong) || !slices.Equal(wrong.Sealed, read.Recipients()) {
			t.Errorf("a stranger gets %v", err)
		}
		if !strings.Contains(err.Error(), "pilotlight secret put db-password") {
			t.Errorf("the error says nothing to type: %v", err)
		}
	}
}

func TestForHandsOnTheSameBox(t *testing.T) {
	server, host, other := identity(t), identity(t), identity(t)
	sealed := seal(t, []byte(clear1), server.Recipient())
	handed, err := sealed.For(server, host.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(handed.Box, sealed.Box) || handed.Version != sealed.Version {
		t.Error("the box is another")
	}
	if !slices.Equal(handed.Recipients(), []string{host.Recipient()}) || !slices.Equal(sealed.Recipients(), []string{server.Recipient()}) {
		t.Errorf("sealed to %v, from %v", handed.Recipients(), sealed.Recipients())
	}
	if got, err := handed.Open(host); err != nil || string(got.Reveal()) != clear1 {
		t.Errorf("the host gets %v", err)
	}
	for _, id := range []*Identity{server, other, nil} {
		if _, err := handed.Open(id); !errors.Is(err, ErrNotRecipient) {
			t.Errorf("others get %v", err)
		}
	}
	if _, err := sealed.For(other, host.Recipient()); !errors.Is(err, ErrNotRecipient) {
		t.Errorf("whom it is not sealed to hands it on: %v", err)
	}
}

func TestTamperedDoesNotOpen(t *testing.T) {
	id := identity(t)
	other := identity(t)
	for name, change := range map[string]func(*Sealed){
		"name":         func(s *Sealed) { s.Name = "db-passwore" },
		"version":      func(s *Sealed) { s.Version.Version++ },
		"nonce":        func(s *Sealed) { s.Box[0] ^= 1 },
		"ciphertext":   func(s *Sealed) { s.Box[13] ^= 1 },
		"tag":          func(s *Sealed) { s.Box[len(s.Box)-1] ^= 1 },
		"short box":    func(s *Sealed) { s.Box = s.Box[:12] },
		"no box":       func(s *Sealed) { s.Box = nil },
		"long box":     func(s *Sealed) { s.Box = make([]byte, MaxSize+100) },
		"wrapped":      func(s *Sealed) { s.Keys[0].Wrapped[len(s.Keys[0].Wrapped)-1] ^= 1 },
		"no wrapped":   func(s *Sealed) { s.Keys[0].Wrapped = nil },
		"long wrapped": func(s *Sealed) { s.Keys[0].Wrapped = make([]byte, maxWrapped+1) },
		"another's key under our name": func(s *Sealed) {
			s.Keys[0].Wrapped = seal(t, []byte("x"), other.Recipient()).Keys[0].Wrapped
		},
		"another box's key":   func(s *Sealed) { s.Keys = seal(t, []byte("x"), id.Recipient()).Keys },
		"a key of other size": func(s *Sealed) { s.Keys[0].Wrapped = plainAge(t, id.Recipient(), make([]byte, 33)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := seal(t, []byte(clear1), id.Recipient())
			change(s)
			got, err := s.Open(id)
			if !errors.Is(err, ErrTampered) || got.Reveal() != nil {
				t.Fatalf("%v", err)
			}
			if !strings.Contains(err.Error(), "pilotlight secret put") {
				t.Errorf("the error says nothing to type: %v", err)
			}
		})
	}
}

func TestOpenAsRefusesAnotherVersion(t *testing.T) {
	id := identity(t)
	s := seal(t, []byte(clear1), id.Recipient())
	for _, as := range []cluster.Version{{Name: version.Name, Version: 4}, {Name: "other", Version: 3}} {
		if _, err := s.OpenAs(id, as); !errors.Is(err, ErrMoved) || !strings.Contains(err.Error(), "pilotlight secret put "+string(as.Name)) {
			t.Errorf("%v: %v", as, err)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	to := identity(t).Recipient()
	value := NewValue([]byte(clear1))
	for name, c := range map[string]struct {
		value Value
		as    cluster.Version
		to    []string
		says  string
	}{
		"empty":        {Value{}, version, []string{to}, "pilotlight secret put db-password < FILE"},
		"too large":    {NewValue(make([]byte, MaxSize+1)), version, []string{to}, "the most is 512000"},
		"no recipient": {value, version, nil, "no recipient"},
		"no key":       {value, version, []string{"ssh-ed25519 AAAA"}, "age-keygen -y"},
		"no name":      {value, cluster.Version{Version: 1}, []string{to}, "has a name"},
		"no version":   {value, cluster.Version{Name: "x"}, []string{to}, "count from 1"},
	} {
		if _, err := Seal(c.value, c.as, c.to...); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Seal(Value{}, version, to); !errors.Is(err, ErrSize) {
		t.Errorf("%v is not ErrSize", err)
	}
}

func FuzzOpen(f *testing.F) {
	id, err := ParseIdentity("AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX")
	if err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(seal(f, []byte(clear1), id.Recipient()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"name":"a","version":1,"box":"AAAA","keys":[{"recipient":"` + id.Recipient() + `","wrapped":""}]}`))
	f.Add([]byte(`{"keys":[{}]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Sealed
		if json.Unmarshal(b, &s) != nil {
			return
		}
		v, err := s.Open(id)
		if err != nil {
			if !errors.Is(err, ErrTampered) && !errors.Is(err, ErrNotRecipient) {
				t.Fatalf("an error that nobody can branch on: %v", err)
			}
			return
		}
		if v.Size() == 0 || v.Size() > MaxSize {
			t.Fatalf("opened %d bytes", v.Size())
		}
		if again, err := s.For(id, id.Recipient()); err != nil {
			t.Fatal(err)
		} else if _, err := again.Open(id); err != nil {
			t.Fatal(err)
		}
	})
}

func plainAge(t testing.TB, to string, value []byte) []byte {
	t.Helper()
	r, err := age.ParseX25519Recipient(to)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, r)
	if err == nil {
		_, err = w.Write(value)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// The envelope beside plain age, on the way of a secret: the operator puts it,
// the leader hands it on to a host, the host opens it.
func BenchmarkSeal(b *testing.B) {
	for _, size := range []int{32, 4 << 10, MaxSize} {
		value := NewValue(make([]byte, size))
		id := identity(b)
		b.Run(fmt.Sprintf("envelope/%d", size), func(b *testing.B) {
			for b.Loop() {
				if _, err := Seal(value, version, id.Recipient()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("age/%d", size), func(b *testing.B) {
			for b.Loop() {
				plainAge(b, id.Recipient(), value.Reveal())
			}
		})
	}
}

// BenchmarkHandOn re-seals a value for one host: age has to open and encrypt
// all of it again.
func BenchmarkHandOn(b *testing.B) {
	server, host := identity(b), identity(b)
	for _, size := range []int{32, 4 << 10, MaxSize} {
		value := make([]byte, size)
		sealed := seal(b, value, server.Recipient())
		b.Run(fmt.Sprintf("envelope/%d", size), func(b *testing.B) {
			for b.Loop() {
				if _, err := sealed.For(server, host.Recipient()); err != nil {
					b.Fatal(err)
				}
			}
		})
		file := plainAge(b, server.Recipient(), value)
		b.Run(fmt.Sprintf("age/%d", size), func(b *testing.B) {
			for b.Loop() {
				r, err := age.Decrypt(bytes.NewReader(file), server.key())
				if err != nil {
					b.Fatal(err)
				}
				plain, err := io.ReadAll(r)
				if err != nil {
					b.Fatal(err)
				}
				plainAge(b, host.Recipient(), plain)
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	id := identity(b)
	for _, size := range []int{32, 4 << 10, MaxSize} {
		sealed := seal(b, make([]byte, size), id.Recipient())
		b.Run(fmt.Sprintf("envelope/%d", size), func(b *testing.B) {
			for b.Loop() {
				if _, err := sealed.Open(id); err != nil {
					b.Fatal(err)
				}
			}
		})
		file := plainAge(b, id.Recipient(), make([]byte, size))
		b.Run(fmt.Sprintf("age/%d", size), func(b *testing.B) {
			for b.Loop() {
				r, err := age.Decrypt(bytes.NewReader(file), id.key())
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
