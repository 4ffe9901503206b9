package secret

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"io"
	"slices"

	"filippo.io/age"

	"github.com/pilotlight/pilotlight/cluster"
)

// MaxSize is the most bytes that a value may have; it is Docker's limit too.
const MaxSize = 500 << 10

const (
	keySize    = 32
	maxWrapped = 4 << 10 // an age file around a data key has some 230 bytes
	domain     = "pilotlight/secret/v1"
)

// Sealed is a value in its envelope: what etcd and an agent's disk may hold.
type Sealed struct {
	cluster.Version
	Box  []byte `json:"box"`  // nonce and AES-256-GCM ciphertext
	Keys []Key  `json:"keys"` // the data key, once for each recipient
}

// Key is the data key of a Sealed, wrapped for one recipient.
type Key struct {
	Recipient string `json:"recipient"` // age1...
	Wrapped   []byte `json:"wrapped"`   // an age file
}

// Seal puts a value into an envelope that each recipient (age1...) can open.
func Seal(v Value, as cluster.Version, recipients ...string) (*Sealed, error) {
	switch size := v.Size(); {
	case size == 0:
		return nil, &SizeError{Name: as.Name}
	case size > MaxSize:
		return nil, &SizeError{Name: as.Name, Size: size}
	case as.Name == "" || as.Version < 1:
		return nil, fmt.Errorf("seal secret %q: version %d: a secret has a name, and versions count from 1", as.Name, as.Version)
	}
	key := make([]byte, keySize)
	rand.Read(key) // never fails; see crypto/rand
	defer clear(key)
	s := &Sealed{Version: as}
	var err error
	if s.Keys, err = wrap(key, as, recipients); err != nil {
		return nil, err
	}
	gcm, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	plain := v.Reveal()
	defer clear(plain)
	nonce := make([]byte, gcm.NonceSize(), gcm.NonceSize()+len(plain)+gcm.Overhead())
	rand.Read(nonce)
	s.Box = gcm.Seal(nonce, nonce, plain, additional(as))
	return s, nil
}

// Open opens the envelope.
func (s *Sealed) Open(id *Identity) (Value, error) {
	key, err := s.unwrap(id)
	if err != nil {
		return Value{}, err
	}
	defer clear(key)
	gcm, err := newGCM(key)
	if err != nil {
		return Value{}, err
	}
	if n := len(s.Box); n <= gcm.NonceSize()+gcm.Overhead() || n > gcm.NonceSize()+gcm.Overhead()+MaxSize {
		return Value{}, &TamperedError{s.Version}
	}
	nonce, box := s.Box[:gcm.NonceSize()], s.Box[gcm.NonceSize():]
	plain, err := gcm.Open(nil, nonce, box, additional(s.Version))
	if err != nil {
		return Value{}, &TamperedError{s.Version}
	}
	return Value{func() []byte { return plain }}, nil
}

// OpenAs opens the envelope if it holds the version that the caller expects,
// which is that of the place where it was found.
func (s *Sealed) OpenAs(id *Identity, as cluster.Version) (Value, error) {
	if s.Version != as {
		return Value{}, &MovedError{Expected: as, Found: s.Version}
	}
	return s.Open(id)
}

// For returns the same box with its key wrapped for these recipients only. id
// is one of those to whom s is sealed. s is left as it is.
func (s *Sealed) For(id *Identity, recipients ...string) (*Sealed, error) {
	key, err := s.unwrap(id)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	keys, err := wrap(key, s.Version, recipients)
	if err != nil {
		return nil, err
	}
	return &Sealed{Version: s.Version, Box: s.Box, Keys: keys}, nil
}

// Recipients returns to whom s is sealed.
func (s *Sealed) Recipients() []string {
	out := make([]string, len(s.Keys))
	for i, k := range s.Keys {
		out[i] = k.Recipient
	}
	return out
}

func wrap(key []byte, as cluster.Version, recipients []string) ([]Key, error) {
	if len(recipients) == 0 {
		return nil, fmt.Errorf("seal secret %s: no recipient: give the age1... key of each who may open it", as.Name)
	}
	keys := make([]Key, 0, len(recipients))
	for _, to := range recipients {
		if slices.ContainsFunc(keys, func(k Key) bool { return k.Recipient == to }) {
			continue
		}
		r, err := age.ParseX25519Recipient(to)
		if err != nil {
			return nil, fmt.Errorf("seal secret %s: recipient %q: %w; a recipient looks like age1... (age-keygen -y KEYFILE prints it)", as.Name, to, err)
		}
		var out bytes.Buffer
		w, err := age.Encrypt(&out, r)
		if err == nil {
			_, err = w.Write(key)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			return nil, fmt.Errorf("seal secret %s to %s: %w", as.Name, to, err)
		}
		keys = append(keys, Key{to, out.Bytes()})
	}
	return keys, nil
}

func (s *Sealed) unwrap(id *Identity) ([]byte, error) {
	if id == nil {
		return nil, &RecipientError{Version: s.Version, Sealed: s.Recipients()}
	}
	me := id.Recipient()
	i := slices.IndexFunc(s.Keys, func(k Key) bool { return k.Recipient == me })
	if i < 0 {
		return nil, &RecipientError{Version: s.Version, Recipient: me, Sealed: s.Recipients()}
	}
	if len(s.Keys[i].Wrapped) > maxWrapped {
		return nil, &TamperedError{s.Version}
	}
	r, err := age.Decrypt(bytes.NewReader(s.Keys[i].Wrapped), id.key())
	if err != nil {
		return nil, &TamperedError{s.Version}
	}
	key, err := io.ReadAll(io.LimitReader(r, keySize+1))
	if err != nil || len(key) != keySize {
		return nil, &TamperedError{s.Version}
	}
	return key, nil
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("data key: %w", err)
	}
	return cipher.NewGCM(block)
}

// additional is what is authenticated beside the value. A name holds no zero
// byte, so that no two versions come to the same bytes.
func additional(v cluster.Version) []byte {
	return fmt.Appendf(nil, "%s\x00%s\x00%d", domain, v.Name, v.Version)
}
