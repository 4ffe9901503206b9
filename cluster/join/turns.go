package join

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// An introduction changes etcd's users, one change after the other whoever asks. A
// thousand hosts that join at once would each be served a little, and all give up
// and ask again; so a few are served at a time, who came first before the others,
// and the rest are told to come back.
const (
	introductionsAtOnce = 16
	introductionWait    = 8 * time.Second // below what hosts wait for an answer
)

// errBusy is for a host that waited long enough. It asks again by itself.
var errBusy = errors.New("too many hosts are introduced at this moment")

// turns is how many introductions are under way. The zero turns is ready.
type turns struct {
	once sync.Once
	free *semaphore.Weighted
}

// turn waits until an introduction may begin, and returns what ends it.
func (i *Introducer) turn(ctx context.Context) (leave func(), err error) {
	t := &i.turns
	t.once.Do(func() { t.free = semaphore.NewWeighted(introductionsAtOnce) })
	ctx, cancel := context.WithTimeout(ctx, introductionWait)
	defer cancel()
	if err := t.free.Acquire(ctx, 1); err != nil {
		return nil, errBusy
	}
	return func() { t.free.Release(1) }, nil
}
