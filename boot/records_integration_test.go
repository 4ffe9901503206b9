//go:build integration

package boot_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"sync"

	"github.com/pilotlight/pilotlight/cluster"
)

// journal is the plainest durable Leases: each transaction is appended to a file
// and synced.
type journal struct {
	mu     sync.Mutex
	file   *os.File
	leases map[string]cluster.Lease
}

func openJournal(name string) (*journal, error) {
	j := &journal{leases: make(map[string]cluster.Lease)}
	if b, err := os.ReadFile(name); err == nil {
		d := json.NewDecoder(bytes.NewReader(b))
		for {
			var l cluster.Lease
			if d.Decode(&l) != nil {
				break
			}
			j.leases[cluster.LeaseKey(l.Network, l.Address)] = l
		}
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	j.file = f
	return j, err
}

func (j *journal) Leases(context.Context) ([]cluster.Lease, cluster.Revision, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []cluster.Lease
	for _, l := range j.leases {
		out = append(out, l)
	}
	return out, 0, nil
}

func (j *journal) Commit(_ context.Context, put, _ []cluster.Lease) (cluster.Revision, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var b bytes.Buffer
	for _, l := range put {
		j.leases[cluster.LeaseKey(l.Network, l.Address)] = l
		line, err := json.Marshal(l)
		if err != nil {
			return 0, err
		}
		b.Write(append(line, '\n'))
	}
	if _, err := j.file.Write(b.Bytes()); err != nil {
		return 0, err
	}
	return 0, j.file.Sync()
}

// boots writes each timeline to a file of its own.
