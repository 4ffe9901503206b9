package agent

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// Whatever a host is told to run, there is a plan that is the same each time, says
// how each container fares, and takes each step once.
func FuzzDesired(f *testing.F) {
	for _, d := range []cluster.Desired{
		{}, {Containers: []cluster.Container{web(1), service("db", 2, 80)}}, {Containers: []cluster.Container{web(1), web(1)}},
	} {
		text, err := json.Marshal(d)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, uint8(0))
		f.Add(text, uint8(255))
	}
	f.Fuzz(func(t *testing.T, text []byte, here uint8) {
		d := new(cluster.Desired)
		if json.Unmarshal(text, d) != nil {
			return
		}
		w := World{Desired: d, Images: map[string]bool{}, Sealed: map[cluster.Version]bool{}, Settle: time.Second, Now: time.Unix(1e9, 0)}
		for i, c := range d.Containers {
			w.Images[c.Service.Image] = here>>(i%8)&1 == 1
			for _, v := range c.Secrets {
				w.Sealed[v] = here>>(i%8)&1 == 1
			}
		}
		first, err := json.Marshal(Plan(w).Actions)
		if err != nil {
			t.Fatal(err)
		}
		second := Plan(w)
		if again, _ := json.Marshal(second.Actions); string(again) != string(first) {
			t.Errorf("%s and then %s", first, again)
		}
		if len(second.Status) != len(d.Containers) {
			t.Errorf("%d containers, and a word about %d", len(d.Containers), len(second.Status))
		}
		if len(second.Actions) > 2*len(d.Containers) {
			t.Errorf("%d containers, and %d steps", len(d.Containers), len(second.Actions))
		}
	})
}
