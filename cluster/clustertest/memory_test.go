package clustertest

import "testing"

func TestMemory(t *testing.T) {
	TestStore(t, func(*testing.T) Rig {
		m := new(Memory)
		return Rig{Store: m, Hosts: m, Compact: func(*testing.T) { m.Compact() }}
	})
}
