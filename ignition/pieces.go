package ignition

import (
	"bytes"
	"fmt"
	"hash"
	"slices"
)

// The holes of a config: what is not known before it is asked for. Each stands
// in the text under a name that no operator would write; the token's name is
// itself a valid token, so that a rendered config is a valid config.
const (
	holeVersion = iota
	holeHash
	holeAgent
	holeName
	holeToken
)

// TokenPlaceholder stands where the introduction token will be, in what an
// operator is shown.
const TokenPlaceholder = "THE-INTRODUCTION-TOKEN-IS-MADE-FOR-EACH-BOOT"

var holes = [...]string{
	holeVersion: "3.PILOTLIGHT-SPEC-VERSION.0",
	holeHash:    "PILOTLIGHT-AGENT-HASH",
	holeAgent:   "PILOTLIGHT-AGENT-CONFIG",
	holeName:    "PILOTLIGHT-HOST-NAME",
	holeToken:   TokenPlaceholder,
}

// values fill the holes, each at its index.
type values [len(holes)]string

// pieces is a text cut at its holes. It is immutable.
type pieces struct {
	text []byte // without the holes
	cuts []cut  // in the order of the text
}

type cut struct{ at, hole int }

// split cuts b, which has each of the wanted holes exactly once.
func split(b []byte, wanted ...int) (pieces, error) {
	for _, hole := range wanted {
		if n := bytes.Count(b, []byte(holes[hole])); n != 1 {
			return pieces{}, fmt.Errorf("the config holds %q, which pilotlight fills in itself: take it out", holes[hole])
		}
	}
	var p pieces
	for len(b) > 0 {
		at, hole := len(b), -1
		for _, h := range wanted {
			if i := bytes.Index(b, []byte(holes[h])); i >= 0 && i < at {
				at, hole = i, h
			}
		}
		p.text = append(p.text, b[:at]...)
		if hole < 0 {
			break
		}
		p.cuts = append(p.cuts, cut{at: len(p.text), hole: hole})
		b = b[at+len(holes[hole]):]
	}
	p.text = slices.Clip(p.text)
	return p, nil
}

// fill returns the whole text with v in its holes.
func (p pieces) fill(v *values) []byte {
	n := len(p.text)
	for _, c := range p.cuts {
		n += len(v[c.hole])
	}
	out := make([]byte, 0, n)
	from := 0
	for _, c := range p.cuts {
		out = append(out, p.text[from:c.at]...)
		out = append(out, v[c.hole]...)
		from = c.at
	}
	return append(out, p.text[from:]...)
}

// digest writes all of p to h so that no two that differ write the same.
func (p pieces) digest(h hash.Hash) {
	fmt.Fprintf(h, "%v %d\n", p.cuts, len(p.text))
	h.Write(p.text)
}

// Which tokens may be filled in: what neither JSON, YAML, a URL nor a shell
// needs to escape.
const (
	minToken = 16
	maxToken = 512
)

// checkToken never says what it was given.
func checkToken(token string) error {
	if len(token) < minToken || len(token) > maxToken {
		return fmt.Errorf("%w: it has %d characters, not %d to %d", ErrToken, len(token), minToken, maxToken)
	}
	for i := range len(token) {
		if !tokenBytes[token[i]] {
			return fmt.Errorf("%w: character %d is not a letter, a digit, or one of - _ . ~", ErrToken, i+1)
		}
	}
	return nil
}

var tokenBytes = func() (ok [256]bool) {
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~" {
		ok[c] = true
	}
	return ok
}()
