package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/secret"
)

// State is what a host was told, as it was read at one moment.
type State struct {
	Desired  *cluster.Desired // nil: nobody has decided yet, so nothing is to change
	Revision cluster.Revision // of the Desired
	Secrets  map[cluster.Version]*secret.Sealed
	Problem  string // what of it could not be read
}

// Memory is what an agent has found out and cannot see by looking.
type Memory struct {
	Proven map[Slot]Proven      `json:"proven,omitempty"` // at most one a service: what was healthy last
	Failed map[Slot]Failure     `json:"failed,omitempty"`
	Images map[string]time.Time `json:"images,omitempty"` // pulled by us -> when last needed
}

// Proven is a version of a service that was healthy here.
type Proven struct {
	Container cluster.Container `json:"container"`
	ID        string            `json:"id,omitempty"`     // of the engine's container that was; another one has to show it again
	Before    string            `json:"before,omitempty"` // the image of the version before: kept for a way back
}

// Failure is a version of a service that could not be made to run.
type Failure struct {
	Count   int       `json:"count"`
	Until   time.Time `json:"until"` // when to try again
	Trial   bool      `json:"trial"` // it ran, and was not healthy
	Message string    `json:"message"`
}

// Times between tries. A trial may cost an outage, so it is repeated rarely.
const (
	prepareMin, prepareMax = 3 * time.Second, 2 * time.Minute
	trialMin, trialMax     = time.Minute, time.Hour
)

func (f Failure) again(now time.Time, trial bool, message string) Failure {
	least, most := prepareMin, prepareMax
	if trial {
		least, most = trialMin, trialMax
	}
	if f.Trial != trial {
		f.Count = 0
	}
	return Failure{f.Count + 1, now.Add(doubled(least, most, f.Count)), trial, message}
}

func (m *Memory) make() {
	if m.Proven == nil {
		m.Proven = map[Slot]Proven{}
	}
	if m.Failed == nil {
		m.Failed = map[Slot]Failure{}
	}
	if m.Images == nil {
		m.Images = map[string]time.Time{}
	}
}

// provenOf returns the version of k that was healthy last, and the container
// that was.
func (m *Memory) provenOf(k Key) (hash, id string) {
	for s, p := range m.Proven {
		if s.Key == k {
			return s.Hash, p.ID
		}
	}
	return "", ""
}

// proves notes that a version is healthy, and reports whether that is news.
func (m *Memory) proves(w Well) bool {
	c := w.Container
	slot := SlotOf(c)
	delete(m.Failed, slot)
	if before, known := m.Proven[slot]; known {
		if before.ID == w.ID {
			return false
		}
		before.ID = w.ID
		m.Proven[slot] = before
		return true
	}
	p := Proven{Container: c, ID: w.ID}
	for s, old := range m.Proven {
		if s.Key == slot.Key {
			p.Before = old.Container.Service.Image
			if p.Before == c.Service.Image {
				p.Before = old.Before
			}
			delete(m.Proven, s)
		}
	}
	m.Proven[slot] = p
	return true
}

// saved is the file of the last known state. No secret in it is open.
type saved struct {
	Desired  *cluster.Desired `json:"desired"`
	Revision cluster.Revision `json:"revision"`
	Secrets  []*secret.Sealed `json:"secrets,omitempty"`
	Memory   Memory           `json:"memory"`
}

func loadState(path string) (State, Memory, error) {
	var s saved
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	} else if err == nil {
		err = json.Unmarshal(b, &s)
	}
	state := State{Desired: s.Desired, Revision: s.Revision, Secrets: map[cluster.Version]*secret.Sealed{}}
	for _, sealed := range s.Secrets {
		if sealed != nil {
			state.Secrets[sealed.Version] = sealed
		}
	}
	s.Memory.make()
	if err != nil {
		return State{}, s.Memory, fmt.Errorf("read the last known state: %w; containers that run stay, and the servers tell the rest", err)
	}
	return state, s.Memory, nil
}

func encodeState(state State, memory Memory) ([]byte, error) {
	s := saved{Desired: state.Desired, Revision: state.Revision, Memory: memory}
	for _, sealed := range state.Secrets {
		s.Secrets = append(s.Secrets, sealed)
	}
	slices.SortFunc(s.Secrets, func(a, b *secret.Sealed) int {
		if c := strings.Compare(string(a.Name), string(b.Name)); c != 0 {
			return c
		}
		return a.Version.Version - b.Version.Version
	})
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode the last known state: %w", err)
	}
	return b, nil
}

// writeFile puts b in place of the file in one go, and on the disk before it
// returns.
func writeFile(path string, b []byte, mode fs.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close() // a second time at worst
			_ = os.Remove(f.Name())
		}
	}()
	if err = f.Chmod(mode); err != nil {
		return err
	}
	if _, err = f.Write(b); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
