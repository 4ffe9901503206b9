package manifest

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestSimpleReadsBack: a text that is written without quotes and is not tried means
// itself to the reader all the same.
func TestSimpleReadsBack(t *testing.T) {
	texts := []string{
		"a", "h1", "_", "/", "/etc/hosts", "a-b.c_d", "e3", "E3", "x1e3", "infinity", "Infinity", "NaNs", "nully", "True-", "t", "f",
		"YES", "oN", "on-", "o7", "b2", "x_1", "a.", "a-", "a/", "a..", "a--", "a---b", "...a", "___", "_1", "_1_2", "/1", "/.", "//", "/-",
		"0.0.0.0", "10.64.0.5", "1.2.3.4", "01.02.03.04", "999.1.1.1", "1.2.3.4.5", "1.2.3", "1.2",
	}
	letters := []byte("aAbBeEfFnNoOtTuUxXyYlLsSrRiI0123456789_./-")
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		b := make([]byte, 1+random.IntN(6))
		for i := range b {
			b[i] = letters[random.IntN(len(letters))]
		}
		texts = append(texts, string(b))
	}
	for range 500 {
		texts = append(texts, fmt.Sprintf("%d.%d.%d.%d", random.IntN(300), random.IntN(300), random.IntN(300), random.IntN(300)))
	}
	for range 2000 {
		hex := fmt.Sprintf("%012x", random.Uint64()&(1<<48-1))
		texts = append(texts, hex[:2]+":"+hex[2:4]+":"+hex[4:6]+":"+hex[6:8]+":"+hex[8:10]+":"+hex[10:])
	}
	tried := 0
	for _, s := range texts {
		if plain(s) != s || !simple.MatchString(s) {
			continue
		}
		if tried++; !readsBack(s) {
			t.Errorf("%q does not mean itself", s)
		}
	}
	if tried < 1000 {
		t.Errorf("only %d texts were simple", tried)
	}
}

// TestSpecialIsQuoted: what has another meaning is never taken for a word.
func TestSpecialIsQuoted(t *testing.T) {
	for _, s := range []string{"null", "Null", "NULL", "true", "True", "TRUE", "false", "False", "y", "No", "OFF"} {
		if plain(s) != `"`+s+`"` {
			t.Errorf("%s is written %s", s, plain(s))
		}
	}
}
