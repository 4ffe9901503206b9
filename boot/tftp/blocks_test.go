package tftp

import "testing"

func TestAck(t *testing.T) {
	for _, c := range []struct {
		name        string
		acked, sent int64
		number      uint16
		want        verdict
		now         int64
	}{
		{"of the OACK", -1, 0, 0, complete, 0},
		{"of data before the OACK's", -1, 0, 1, stale, -1},
		{"of the window", 10, 14, 14, complete, 14},
		{"within the window", 10, 14, 12, partly, 12},
		{"of the last one", 10, 14, 10, again, 10},
		{"of before", 10, 14, 9, stale, 10},
		{"of what was not sent", 10, 14, 15, stale, 10},
		{"past the seam", 65534, 65538, 2, complete, 65538},
		{"before the seam", 65534, 65538, 65535, partly, 65535},
		{"at the seam", 65534, 65538, 0, partly, 65536},
		{"the second time round", 131070, 131074, 2, complete, 131074},
	} {
		b := blocks{acked: c.acked, sent: c.sent}
		if got := b.ack(c.number); got != c.want || b.acked != c.now {
			t.Errorf("%s: %d, and then %d", c.name, got, b.acked)
		}
	}
}

func TestSend(t *testing.T) {
	b := blocks{}
	for _, c := range []struct {
		from, upTo, resent int64
		repeat             bool
		ack                uint16
	}{
		{1, 4, 0, false, 2},
		{3, 6, 2, true, 3}, // 5 and 6 are new
		{7, 7, 0, true, 7}, // the rest of the window from 4 on
		{8, 11, 0, false, 8},
	} {
		if n := b.send(c.from, c.upTo); n != c.resent || b.repeat != c.repeat {
			t.Errorf("from %d: %d sent again, %v", c.from, n, b.repeat)
		}
		b.ack(c.ack)
	}
}
