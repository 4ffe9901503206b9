package ignition

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	// ContentType is that of an Ignition config.
	ContentType = "application/vnd.coreos.ignition+json"

	// CloudConfigType is that of a #cloud-config.
	CloudConfigType = "text/cloud-config"
)

// lowest asks for the oldest version of the spec that can hold the config: it
// is what the most clients read, and what somebody gets who does not say.
const lowest = -1

// chooseVersion reads an Accept header (RFC 9110, section 12.5.1) and returns
// the minor version that the client reads, or lowest.
//
// Ignition 2 sends "application/vnd.coreos.ignition+json;version=3.3.0, */*;q=0.1"
// with the newest version that it reads (older ones without the */*); Ignition
// 0.x the same with 2.x, so that the */* of a client that names only versions
// that we do not speak counts for nothing.
func chooseVersion(accept string) (int, error) {
	if accept == "" {
		return lowest, nil
	}
	if len(accept) > 1024 {
		return 0, fmt.Errorf("%w: an Accept header of %d bytes; send Accept: %s;version=3.6.0", ErrNotAcceptable, len(accept), ContentType)
	}
	best, bestQuality, named, anything := lowest, 0.0, false, false
	for rest, more := accept, true; more; {
		var one string
		one, rest, more = strings.Cut(rest, ",")
		kind, version, quality := mediaRange(one)
		switch {
		case quality <= 0:
		case strings.EqualFold(kind, ContentType) && version != "":
			minor, ok := minorOf(version)
			if ok && (!named || quality > bestQuality || quality == bestQuality && minor > best) {
				best, bestQuality = minor, quality
			}
			named = named || ok
			if !ok && !named {
				bestQuality = -1 // it speaks Ignition, but nothing that we do
			}
		case accepts(kind):
			anything = true
		}
	}
	switch {
	case named:
		return best, nil
	case anything && bestQuality == 0:
		return lowest, nil
	}
	return 0, fmt.Errorf("%w: %.200q asks for no Ignition v3 config; Ignition 2.0 (spec 3.0.0) is the oldest client that is served: boot a newer image, or send Accept: %s;version=3.6.0",
		ErrNotAcceptable, accept, ContentType)
}

// Follows reports whether a client that asks with an Accept header follows a Pointer,
// and which version of the spec it asks for: it is Ignition that reads 3.1.0 or newer,
// the first whose merge takes headers. Who keeps the config for a system that is
// started later (coreos-installer, flatcar-install, curl) names no version, and is to
// get all of it.
func Follows(accept string) (spec string, ok bool) {
	minor, err := chooseVersion(accept)
	if err != nil || minor < 1 {
		return "", false
	}
	return specs[minor].version, true
}

// mediaRange takes apart one element of an Accept header.
func mediaRange(s string) (kind, version string, quality float64) {
	quality = 1
	kind, params, more := strings.Cut(s, ";")
	for more {
		var one string
		one, params, more = strings.Cut(params, ";")
		name, value, _ := strings.Cut(one, "=")
		switch name, value = strings.TrimSpace(name), strings.Trim(strings.TrimSpace(value), `"`); {
		case strings.EqualFold(name, "version"):
			version = value
		case strings.EqualFold(name, "q"):
			if q, err := strconv.ParseFloat(value, 64); err == nil && q >= 0 && q <= 1 {
				quality = q
			}
		}
	}
	return strings.TrimSpace(kind), version, quality
}

// accepts reports whether an Ignition config of any version is in a media range.
func accepts(kind string) bool {
	switch strings.ToLower(kind) {
	case "*/*", "application/*", "application/json", ContentType:
		return true
	}
	return false
}

// minorOf returns N of 3.N.P. A client that reads a newer version than we write
// reads the newest that we write, too.
func minorOf(version string) (int, bool) {
	rest, ok := strings.CutPrefix(version, "3.")
	if !ok {
		return 0, false
	}
	digits, patch, _ := strings.Cut(rest, ".")
	patch, experimental, _ := strings.Cut(patch, "-")
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || strings.Trim(patch, "0123456789") != "" {
		return 0, false
	}
	if experimental != "" && n > 0 {
		n-- // what follows 3.N-1.0 is not settled
	}
	return int(min(n, newest)), true
}
