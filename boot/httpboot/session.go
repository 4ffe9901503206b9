package httpboot

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Sessions makes the tokens of the metadata service's sessions, and knows them
// again. Nothing is kept: a token says when it ends, and is of use to one network
// card at one address. So one server takes what another one, or one before a
// restart, has made, when they have the same key.
type Sessions struct{ key []byte }

// NewSessions makes Sessions of a secret that all servers share.
func NewSessions(secret []byte) (*Sessions, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "pilotlight metadata sessions", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("make the key of metadata sessions: %w", err)
	}
	return &Sessions{key}, nil
}

const stampLength = 8

// begin makes the token of a machine's session.
func (s *Sessions) begin(m Machine, ends time.Time) (string, error) {
	if s == nil {
		return "", status(http.StatusNotFound, "there are no sessions here")
	}
	stamp := binary.BigEndian.AppendUint64(nil, uint64(ends.Unix()))
	return base64.URLEncoding.EncodeToString(append(stamp, s.sum(stamp, m)...)), nil
}

// holds reports whether a token is one of a machine's session that goes on.
func (s *Sessions) holds(token string, m Machine, now time.Time) bool {
	raw, err := base64.URLEncoding.DecodeString(token)
	if s == nil || err != nil || len(raw) != stampLength+sha256.Size || !hmac.Equal(raw[stampLength:], s.sum(raw[:stampLength], m)) {
		return false
	}
	return now.Unix() < int64(binary.BigEndian.Uint64(raw))
}

func (s *Sessions) sum(stamp []byte, m Machine) []byte {
	at := m.Address.As16()
	mac := hmac.New(sha256.New, s.key)
	mac.Write(stamp)
	mac.Write(at[:])
	mac.Write(m.Identity.MAC[:])
	return mac.Sum(nil)
}

type connectionKey struct{}

// WithConnection is for http.Server.ConnContext: with it an answer can be kept from
// going further than one hop.
func WithConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, c)
}

// oneHop keeps what is sent on a request's connection from now on from being
// forwarded.
func oneHop(ctx context.Context) error {
	c, ok := ctx.Value(connectionKey{}).(syscall.Conn)
	if !ok {
		return errors.New("the hop limit of the answer cannot be set: the server knows no connection")
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("set the hop limit of the answer: %w", err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, 1)
	})
	if err := errors.Join(err, failed); err != nil {
		return fmt.Errorf("set the hop limit of the answer: %w", err)
	}
	return nil
}
