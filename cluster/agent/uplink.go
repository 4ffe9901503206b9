package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// ErrRedial is the cause for which an Uplink ends the run of a Link when it is
// about to begin another: the host does not go.
var ErrRedial = errors.New("dialled again with other authorities")

var errNotLinked = errors.New("there is no link to the store yet")

// Uplink is a Link that waits for a host's certificate, and is dialled again
// when the authorities change. A certificate that is merely renewed needs no
// new connection.
type Uplink struct {
	Identity *Identity
	Dial     func(*tls.Config) (Link, error)
	Place    func(*Identity) error // if set: called with each new certificate, and before the first dial
	Log      *slog.Logger          // nil: silent

	mu   sync.Mutex
	link Link
}

var _ Link = (*Uplink)(nil)

// Run implements Link.
func (u *Uplink) Run(ctx context.Context, told func(State)) error {
	if u.Log == nil {
		u.Log = slog.New(slog.DiscardHandler)
	}
	backoff := Backoff{Min: time.Second, Max: time.Minute}
	for ctx.Err() == nil {
		changed := u.Identity.Changed()
		if !u.Identity.Valid(time.Now()) {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		u.place()
		err := u.once(ctx, told)
		if err == nil || ctx.Err() != nil {
			backoff.Reset()
			continue
		}
		wait := backoff.Next()
		u.Log.Error("etcd cannot be dialled; what runs stays", "err", err, "again", wait.Round(time.Millisecond).String())
		Sleep(ctx, wait)
	}
	return nil
}

// once runs one link until ctx ends or the authorities change.
func (u *Uplink) once(ctx context.Context, told func(State)) error {
	ca := u.Identity.CA()
	config, err := u.Identity.TLS()
	if err != nil {
		return err
	}
	link, err := u.Dial(config)
	if err != nil {
		return err
	}
	u.set(link)
	defer u.set(nil)
	running, end := context.WithCancelCause(ctx)
	defer end(nil)
	ended := make(chan error, 1)
	go func() { ended <- link.Run(running, told) }() // waited for below
	for {
		changed := u.Identity.Changed()
		if !bytes.Equal(ca, u.Identity.CA()) {
			end(ErrRedial)
			changed = nil
		}
		select {
		case err := <-ended:
			return err
		case <-changed:
			u.place()
		}
	}
}

func (u *Uplink) place() {
	if u.Place == nil {
		return
	}
	if err := u.Place(u.Identity); err != nil {
		u.Log.Error("the certificate is not in its place", "err", err)
	}
}

func (u *Uplink) set(l Link) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.link = l
}

// PutStatus implements Link.
func (u *Uplink) PutStatus(ctx context.Context, s cluster.Status) error {
	u.mu.Lock()
	l := u.link
	u.mu.Unlock()
	if l == nil {
		return errNotLinked
	}
	return l.PutStatus(ctx, s)
}
