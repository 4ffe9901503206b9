package secret

import (
	"bytes"
	"fmt"
	"log/slog"
)

// Redacted is what every attempt to print a secret shows.
const Redacted = "[secret]"

// Value is a secret in memory. It holds a function, not bytes, so that no
// printer, encoder or debugger of structures finds the value in it, not even
// as an unexported field of something else. The zero Value is empty.
type Value struct{ reveal func() []byte }

// NewValue takes a copy of b.
func NewValue(b []byte) Value {
	b = bytes.Clone(b)
	return Value{func() []byte { return b }}
}

// Reveal returns a copy of the value, the only way to it.
func (v Value) Reveal() []byte {
	if v.reveal == nil {
		return nil
	}
	return bytes.Clone(v.reveal())
}

// Size returns how many bytes the value has.
func (v Value) Size() int {
	if v.reveal == nil {
		return 0
	}
	return len(v.reveal())
}

// String returns Redacted.
func (v Value) String() string { return Redacted }

// GoString returns Redacted.
func (v Value) GoString() string { return Redacted }

// Format prints Redacted for every verb.
func (v Value) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(Redacted)) }

// LogValue returns Redacted.
func (v Value) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText returns Redacted; it serves JSON and XML too.
func (v Value) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
