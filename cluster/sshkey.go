package cluster

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"regexp"
	"strings"
)

var sshKeyForm = regexp.MustCompile(`^(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com) [A-Za-z0-9+/]+=*( .*)?$`)

func (c *checker) sshKeys(keys []string) { c.sshKeysAt("", keys) }

// sshKeysAt is for keys in a field below another.
func (c *checker) sshKeysAt(at string, keys []string) {
	for i, k := range keys {
		field := fmt.Sprintf("%sssh_keys[%d]", at, i)
		switch {
		case !sshKeyForm.MatchString(k):
			c.add(field, "is not an SSH public key; it is one line like: ssh-ed25519 AAAA... comment (cat ~/.ssh/id_ed25519.pub)")
		case !wholeKey(k):
			c.add(field, "cannot be decoded: a part of the key is missing or another; copy the whole line (cat ~/.ssh/id_ed25519.pub)")
		}
	}
}

// wholeKey reports whether the second word of a key is one of the kind that the
// first names: strings with their length before them, of which the first is that
// name again (RFC 4253, section 6.6), and none is cut short.
func wholeKey(k string) bool {
	words := strings.SplitN(k, " ", 3)
	rest, err := base64.StdEncoding.DecodeString(words[1])
	if err != nil {
		return false
	}
	var parts []string
	for len(rest) > 0 {
		if len(rest) < 4 {
			return false
		}
		n := uint64(binary.BigEndian.Uint32(rest))
		if rest = rest[4:]; n > uint64(len(rest)) {
			return false
		}
		parts, rest = append(parts, string(rest[:n])), rest[n:]
	}
	if len(parts) < 2 || parts[0] != words[0] {
		return false
	}
	return words[0] != "ssh-ed25519" || len(parts) == 2 && len(parts[1]) == 32 // RFC 8709, section 4
}
