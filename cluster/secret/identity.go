package secret

import (
	"fmt"
	"log/slog"
	"strings"

	"filippo.io/age"
)

// Identity is the key that opens what is sealed to its Recipient.
type Identity struct{ key func() *age.X25519Identity }

// NewIdentity makes a new key.
func NewIdentity() (*Identity, error) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fmt.Errorf("make an age identity: %w", err)
	}
	return &Identity{func() *age.X25519Identity { return key }}, nil
}

// ParseIdentity reads what Export wrote. Lines that begin with # are skipped,
// as age-keygen writes them.
func ParseIdentity(s string) (*Identity, error) {
	for line := range strings.Lines(s) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := age.ParseX25519Identity(line)
		if err != nil { // its text may quote the line, so it is not passed on
			return nil, fmt.Errorf("not an age identity: the line begins with AGE-SECRET-KEY-1 (age-keygen makes one)")
		}
		return &Identity{func() *age.X25519Identity { return key }}, nil
	}
	return nil, fmt.Errorf("no age identity: a line that begins with AGE-SECRET-KEY-1 is missing (age-keygen makes one)")
}

// Recipient returns age1..., the public half, to which others seal.
func (i *Identity) Recipient() string { return i.key().Recipient().String() }

// Export returns the identity in the clear, for its owner's key file.
func (i *Identity) Export() string { return i.key().String() }

// String returns Redacted.
func (i *Identity) String() string { return Redacted }

// GoString returns Redacted.
func (i *Identity) GoString() string { return Redacted }

// Format prints Redacted for every verb.
func (i *Identity) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(Redacted)) }

// LogValue returns Redacted.
func (i *Identity) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText returns Redacted.
func (i *Identity) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
