package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/secret"
)

const (
	engineTime = time.Minute      // what the engine may take for a call
	pullTime   = 30 * time.Minute // and for a pull
	lastWords  = 12               // lines of a container that failed
	maxWords   = 2 << 10          // bytes of them
)

// Opener opens what is sealed to this host.
type Opener interface {
	Open(s *secret.Sealed, as cluster.Version) (secret.Value, error)
}

// hand carries one action out. It is the only part that changes anything.
type hand struct {
	runtime Runtime
	vault   *Vault
	opener  Opener
	sealed  map[cluster.Version]*secret.Sealed
}

// outcome is how an action ended.
type outcome struct {
	action Action
	err    error
	words  string // the last words of a container that was abandoned
	took   time.Duration
}

// do carries a out. A pull ends with ctx; what else was begun is finished, so
// that a host which shuts its agent down is not left between two versions.
func (h *hand) do(ctx context.Context, a Action) outcome {
	limit := engineTime
	switch a.Verb {
	case Pull:
		limit = pullTime
	default:
		ctx = context.WithoutCancel(ctx)
		limit += time.Duration(a.Container.Service.StopGrace)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	started := time.Now()
	o := outcome{action: a}
	o.words, o.err = h.carryOut(ctx, a)
	o.took = time.Since(started)
	return o
}

func (h *hand) carryOut(ctx context.Context, a Action) (words string, err error) {
	switch a.Verb {
	case Pull:
		err = h.runtime.Pull(ctx, a.Image)
	case Create:
		err = h.create(ctx, a)
	case Start:
		err = h.start(ctx, a)
	case Restore:
		if err = h.place(ctx, a.Slot, a.Container); err == nil {
			err = h.runtime.Start(ctx, a.ID)
		}
	case Stop:
		err = h.runtime.Stop(ctx, a.ID)
	case Remove:
		err = h.remove(ctx, a.ID)
	case Abandon:
		words = h.lastWords(ctx, a)
		err = h.remove(ctx, a.ID)
	case RemoveNetwork:
		err = h.runtime.RemoveNetwork(ctx, a.Slot.Site)
	case RemoveSecrets:
		err = h.vault.Remove(a.Slot)
	case RemoveImage:
		err = h.runtime.RemoveImage(ctx, a.Image)
	}
	if err != nil {
		err = fmt.Errorf("%s %s: %w", a.Verb, a.Slot.Key, err)
	}
	return words, err
}

func (h *hand) remove(ctx context.Context, id string) error {
	if err := h.runtime.Stop(ctx, id); err != nil {
		return err
	}
	return h.runtime.Remove(ctx, id)
}

// create places the secrets first: the engine refuses to mount a directory
// that is not there.
func (h *hand) create(ctx context.Context, a Action) error {
	if err := h.place(ctx, a.Slot, a.Container); err != nil {
		return err
	}
	spec := Spec{Slot: a.Slot, Service: a.Container.Service}
	if len(a.Container.Service.Secrets) > 0 {
		spec.Secrets = h.vault.Path(a.Slot)
	}
	_, err := h.runtime.Create(ctx, spec)
	return err
}

// start starts a new version, and the one before again if it does not start. A
// container that does not start is removed, since what it was made from, a
// network or a directory, may be there no longer.
func (h *hand) start(ctx context.Context, a Action) error {
	if err := h.place(ctx, a.Slot, a.Container); err != nil {
		return err
	}
	if a.First != "" {
		if err := h.runtime.Stop(ctx, a.First); err != nil {
			return err
		}
	}
	err := h.runtime.Start(ctx, a.ID)
	if err == nil {
		return nil
	}
	if gone := h.runtime.Remove(ctx, a.ID); gone != nil {
		err = fmt.Errorf("%w; and it cannot be removed: %w", err, gone)
	}
	if a.First != "" {
		if back := h.runtime.Start(ctx, a.First); back != nil {
			err = fmt.Errorf("%w; and the version before does not start again: %w", err, back)
		}
	}
	return err
}

// place opens the secrets of a container and puts them where it sees them.
func (h *hand) place(ctx context.Context, slot Slot, c cluster.Container) error {
	if len(c.Service.Secrets) == 0 {
		return nil
	}
	values, err := h.open(c)
	if err != nil {
		return err
	}
	user := c.Service.User
	if user == "" {
		image, err := h.runtime.Image(ctx, c.Service.Image)
		if err != nil {
			return err
		}
		if image != nil {
			user = image.User
		}
	}
	return h.vault.Write(slot, c.Service, user, values)
}

func (h *hand) open(c cluster.Container) (map[cluster.SecretName]secret.Value, error) {
	values := make(map[cluster.SecretName]secret.Value, len(c.Secrets))
	for _, v := range c.Secrets {
		sealed := h.sealed[v]
		if sealed == nil {
			return nil, fmt.Errorf("version %d of secret %s is not on this host yet", v.Version, v.Name)
		}
		value, err := h.opener.Open(sealed, v)
		if err != nil {
			return nil, err
		}
		values[v.Name] = value
	}
	for _, m := range c.Service.Secrets {
		if _, ok := values[m.Name]; !ok {
			return nil, fmt.Errorf("secret %s has no value yet; put one: pilotlight secret put %s", m.Name, m.Name)
		}
	}
	return values, nil
}

// lastWords returns the end of a container's log without the secrets that it
// was given. Nothing is returned when they are not known.
func (h *hand) lastWords(ctx context.Context, a Action) string {
	values, err := h.open(a.Container)
	if err != nil {
		return ""
	}
	b, err := h.runtime.Logs(ctx, a.ID, lastWords)
	if err != nil {
		return ""
	}
	return redact(b, values)
}

// redact takes the values out of a log, whole or line by line, and whatever a
// terminal would obey.
func redact(log []byte, values map[cluster.SecretName]secret.Value) string {
	text := strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(log), "?"))
	for _, v := range values {
		plain := v.Reveal()
		hide(&text, string(plain))
		for line := range strings.Lines(string(plain)) {
			hide(&text, line)
		}
		clear(plain)
	}
	text = strings.TrimSpace(text)
	if over := len(text) - maxWords; over > 0 {
		text = strings.ToValidUTF8(text[over:], "")
	}
	return text
}

func hide(text *string, value string) {
	if value = strings.TrimSpace(value); value != "" {
		*text = strings.ReplaceAll(*text, value, secret.Redacted)
	}
}
