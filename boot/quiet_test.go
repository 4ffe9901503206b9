package boot

import (
	"strconv"
	"testing"
	"time"
)

func TestQuiet(t *testing.T) {
	var q Quiet
	now := time.Unix(1_800_000_000, 0)
	for _, turn := range []struct {
		key   string
		after time.Duration
		want  bool
	}{
		{"a", 0, true}, {"a", time.Second, false}, {"b", time.Second, true},
		{"a", quietTime - time.Second, false}, {"a", quietTime, true}, {"a", quietTime + time.Second, false},
	} {
		if got := q.says(turn.key, now.Add(turn.after)); got != turn.want {
			t.Errorf("%s after %s: %t", turn.key, turn.after, got)
		}
	}
	for i := range 3 * QuietMost { // a stranger makes them up
		q.says(strconv.Itoa(i), now.Add(time.Minute))
	}
	if n := q.Len(); n > QuietMost {
		t.Errorf("%d keys are known", n)
	}
	if q.says("one more", now.Add(time.Minute)) || !q.says("one more", now.Add(2*time.Minute)) {
		t.Error("the log is not rationed, or for ever")
	}
}
