package cluster

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Option is one DHCP option that machines are told beside what pilotlight says
// by itself: a value, or a list of them.
type Option struct {
	Value []string `json:"value"`           // as the option's name says; 0x and hexadecimal digits in any
	Force bool     `json:"force,omitempty"` // for machines that do not ask for the option too
}

// MarshalJSON writes the short form where it says all.
func (o Option) MarshalJSON() ([]byte, error) {
	switch {
	case !o.Force && len(o.Value) == 1:
		return json.Marshal(o.Value[0])
	case !o.Force:
		return json.Marshal(append([]string{}, o.Value...)) // a list of none is no null, which would be read as an empty text
	}
	type long Option
	return json.Marshal(long(o))
}

// UnmarshalJSON reads a text, a list of them, or the long form.
func (o *Option) UnmarshalJSON(b []byte) error {
	if string(b) == "null" { // or it would be an empty text
		*o = Option{}
		return nil
	}
	var one string
	if json.Unmarshal(b, &one) == nil {
		*o = Option{Value: []string{one}}
		return nil
	}
	var list []string
	if json.Unmarshal(b, &list) == nil {
		*o = Option{Value: list}
		return nil
	}
	type long Option
	return json.Unmarshal(b, (*long)(o))
}

// OptionName is a DHCP option's name, as DHCP servers have it, or its number.
type OptionName string

// OptionSet is a choice of DHCP options.
type OptionSet map[OptionName]Option

// EncodedOption is a DHCP option as it is sent.
type EncodedOption struct {
	Code  uint8
	Data  []byte
	Force bool
}

// form says how the value of an option is written.
type form int

const (
	formBytes form = iota // 0x...; what has no other form, or has a name and no table here

	formAddrs
	formText
	formFlag
	form8
	form16
	form32
	formDomains // RFC 1035 names (RFC 3397)
	formRoutes  // RFC 3442
)

var formWords = map[form]string{
	formBytes: "0x and hexadecimal digits", formAddrs: "a list of IPv4 addresses", formText: "a text",
	formFlag: "true or false", form8: "a number to 255", form16: "a number to 65535", form32: "a number of seconds",
	formDomains: "a list of domain names", formRoutes: `a list of routes, each like "10.9.0.0/16 via 10.0.0.1"`,
}

// known are the options that have a name here: of IANA's registry of BOOTP
// vendor extensions and DHCP options, those that are of use to a machine.
var known = map[OptionName]struct {
	code uint8
	form form
}{
	"time-offset": {2, form32}, "routers": {3, formAddrs}, "time-servers": {4, formAddrs}, "domain-name-servers": {6, formAddrs},
	"log-servers": {7, formAddrs}, "lpr-servers": {9, formAddrs}, "domain-name": {15, formText}, "root-path": {17, formText},
	"ip-forwarding": {19, formFlag}, "default-ttl": {23, form8}, "interface-mtu": {26, form16}, "static-routes": {33, formBytes},
	"arp-timeout": {35, form32}, "nis-domain": {40, formText}, "nis-servers": {41, formAddrs}, "ntp-servers": {42, formAddrs},
	"vendor-encapsulated-options": {43, formBytes}, "netbios-name-servers": {44, formAddrs}, "netbios-node-type": {46, form8},
	"x-display-manager": {49, formAddrs}, "tftp-server-name": {66, formText}, "bootfile-name": {67, formText},
	"smtp-servers": {69, formAddrs}, "uap-servers": {98, formText}, "pcode": {100, formText}, "tcode": {101, formText},
	"ipv6-only-preferred": {108, form32}, "captive-portal": {114, formText}, "auto-config": {116, form8}, "domain-search": {119, formDomains},
	"sip-servers": {120, formBytes}, "classless-static-routes": {121, formRoutes}, "vendor-specific": {125, formBytes},
	"capwap-ac": {138, formAddrs}, "tftp-server-address": {150, formAddrs}, "pxelinux-configfile": {209, formText},
	"pxelinux-pathprefix": {210, formText}, "ms-classless-static-routes": {249, formRoutes}, "wpad": {252, formText},
}

// OptionWords says of an option how its value is written.
type OptionWords struct {
	Name  OptionName
	Code  uint8
	Holds string
}

// KnownOptions lists the options that have a name here, by number.
func KnownOptions() []OptionWords {
	var out []OptionWords
	for name, k := range known {
		out = append(out, OptionWords{name, k.code, formWords[k.form]})
	}
	slices.SortFunc(out, func(a, b OptionWords) int { return int(a.Code) - int(b.Code) })
	return out
}

// ours are the options that follow from the rest of what was applied, or from
// the protocol, and where they do so from.
var ours = map[uint8]string{
	0: "is padding", 1: "follows from cidr:", 12: "is the host's name:", 28: "follows from cidr:", 50: "is the client's word",
	51: "is lease:", 52: "is a matter of the protocol", 53: "is a matter of the protocol", 54: "is the server's own address; server: sets it",
	55: "is the client's word", 56: "is the reason of a refusal", 57: "is the client's word", 58: "follows from lease:", 59: "follows from lease:",
	60: "is what firmware has to be told by pilotlight", 61: "is the client's word", 77: "is the client's word", 80: "is a matter of the protocol",
	81: "is the client's word", 82: "is the relay's word", 90: "is a matter of the protocol", 93: "is the client's word", 94: "is the client's word",
	97: "is the client's word", 118: "is the relay's word", 145: "is a matter of the protocol", 175: "is what iPXE has to be told by pilotlight",
	255: "is the end of all options",
}

// fields are the options for which a network has a field.
var fields = map[uint8]struct {
	name string
	set  func(*Network) bool
}{
	3:  {"gateway", func(n *Network) bool { return n.Gateway.IsValid() }},
	6:  {"dns", func(n *Network) bool { return len(n.DNS) > 0 }},
	15: {"domain", func(n *Network) bool { return n.Domain != "" }},
	42: {"ntp", func(n *Network) bool { return len(n.NTP) > 0 }},
}

const maxOptions = 900 // bytes of one document's: a packet has to hold a boot beside them

// Encode returns an option as it is sent.
func (o Option) Encode(name OptionName) (EncodedOption, error) {
	e := EncodedOption{Force: o.Force}
	var how form
	if k, ok := known[name]; ok {
		e.Code, how = k.code, k.form
	} else if n, err := strconv.ParseUint(string(name), 10, 8); err == nil {
		e.Code, how = uint8(n), formOf(uint8(n), o.Value)
	} else {
		return e, fmt.Errorf("is not the name of a DHCP option that is known here%s; write its number, 0 to 255", nearOption(name))
	}
	if why, not := ours[e.Code]; not {
		return e, fmt.Errorf("option %d cannot be set: it %s", e.Code, why)
	}
	if len(o.Value) == 0 {
		return e, fmt.Errorf("has no value; write %s", formWords[how])
	}
	if len(o.Value) == 1 && strings.HasPrefix(o.Value[0], "0x") {
		how = formBytes
	}
	var err error
	if e.Data, err = how.encode(o.Value); err != nil {
		return e, err
	}
	if len(e.Data) == 0 {
		return e, fmt.Errorf("is empty; write %s, or take it out", formWords[how])
	}
	return e, nil
}

// formOf says what the value of an option given by number is: what the option of
// that number is, or what it looks like.
func formOf(code uint8, values []string) form {
	for _, k := range known {
		if k.code == code {
			return k.form
		}
	}
	isAddr := func(s string) bool { a, err := netip.ParseAddr(s); return err == nil && a.Is4() }
	isNumber := func(s string) bool { _, err := strconv.ParseInt(s, 0, 64); return err == nil }
	switch {
	case len(values) > 0 && !slices.ContainsFunc(values, func(s string) bool { return !isAddr(s) }):
		return formAddrs
	case len(values) == 1 && !isNumber(values[0]) && values[0] != "true" && values[0] != "false":
		return formText
	}
	return formBytes // how wide a number is to be is not known
}

func nearOption(name OptionName) string {
	plain := strings.ReplaceAll(strings.ToLower(string(name)), "_", "-")
	best, at := OptionName(""), 4
	for _, other := range slices.Sorted(maps.Keys(known)) {
		if n := distance(strings.TrimSuffix(plain, "s"), strings.TrimSuffix(string(other), "s")); n < at {
			best, at = other, n
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

func (f form) encode(values []string) (out []byte, err error) {
	if len(values) > 1 && f != formAddrs && f != formDomains && f != formRoutes {
		return nil, fmt.Errorf("is one value, not %d; write %s", len(values), formWords[f])
	}
	for _, v := range values {
		b, ok := f.one(v)
		if !ok {
			return nil, fmt.Errorf("%q is not what the option holds; write %s", v, formWords[f])
		}
		out = append(out, b...)
	}
	return out, nil
}

// one encodes one value.
func (f form) one(v string) ([]byte, bool) {
	number := func(bits int) ([]byte, bool) {
		n, err := strconv.ParseUint(v, 10, bits)
		return binary.BigEndian.AppendUint64(nil, n)[8-bits/8:], err == nil
	}
	switch f {
	case formAddrs:
		a, err := netip.ParseAddr(v)
		return a.AsSlice(), err == nil && a.Is4()
	case formText:
		return []byte(v), v != ""
	case formFlag:
		on, err := strconv.ParseBool(v)
		if on {
			return []byte{1}, err == nil
		}
		return []byte{0}, err == nil
	case form8:
		return number(8)
	case form16:
		return number(16)
	case form32:
		n, err := strconv.ParseInt(v, 10, 64) // a time offset may be less than 0
		return binary.BigEndian.AppendUint32(nil, uint32(n)), err == nil && n >= -1<<31 && n < 1<<32
	case formDomains:
		return domain(v)
	case formRoutes:
		return route(v)
	}
	digits, ok := strings.CutPrefix(v, "0x")
	b, err := hex.DecodeString(strings.ReplaceAll(digits, ":", ""))
	return b, ok && err == nil
}

// domain encodes a name as RFC 1035 does, without compression.
func domain(v string) (out []byte, ok bool) {
	for label := range strings.SplitSeq(strings.TrimSuffix(v, "."), ".") {
		if label == "" || len(label) > 63 || strings.ContainsAny(label, " \t/,") {
			return nil, false
		}
		out = append(append(out, byte(len(label))), label...)
	}
	return append(out, 0), len(out) < 255
}

// route encodes "10.9.0.0/16 via 10.0.0.1": the width, the octets of the
// destination that count, the router (RFC 3442).
func route(v string) ([]byte, bool) {
	words := strings.Fields(v)
	if len(words) == 3 && words[1] == "via" {
		words = []string{words[0], words[2]}
	}
	if len(words) != 2 {
		return nil, false
	}
	if words[0] == "default" {
		words[0] = "0.0.0.0/0"
	}
	to, err := netip.ParsePrefix(words[0])
	via, err2 := netip.ParseAddr(words[1])
	if err != nil || err2 != nil || !via.Is4() || !to.Addr().Is4() || to != to.Masked() {
		return nil, false
	}
	b := append([]byte{byte(to.Bits())}, to.Addr().AsSlice()[:(to.Bits()+7)/8]...)
	return append(b, via.AsSlice()...), true
}

// Encode returns the options as they are sent, by number. What Check refuses is
// left out.
func (s OptionSet) Encode() []EncodedOption {
	var out []EncodedOption
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if e, err := s[name].Encode(name); err == nil {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b EncodedOption) int { return int(a.Code) - int(b.Code) })
	return out
}

// options checks what a network or a host says, on a network, which may be nil.
func (c *checker) options(s OptionSet, n *Network, own bool) {
	total, names := 0, map[uint8]OptionName{}
	for _, name := range slices.Sorted(maps.Keys(s)) {
		at := "options." + string(name)
		e, err := s[name].Encode(name)
		if err != nil {
			c.add(at, "%v", err)
			continue
		}
		if other, twice := names[e.Code]; twice {
			c.add(at, "is option %d, as options.%s is: keep one", e.Code, other)
		}
		names[e.Code] = name
		total += len(e.Data) + 2
		if f, ok := fields[e.Code]; ok && own && f.set(n) {
			c.add(at, "is also %s: of this network; keep one", f.name)
		}
		if e.Code == 121 && n != nil && n.Gateway.Is4() && !hasDefault(e.Data) {
			c.add(at, `has no default route, and who takes these routes ignores gateway: (RFC 3442); add "default via %s"`, n.Gateway)
		}
		if e.Code == 26 && binary.BigEndian.Uint16(append(e.Data, 0, 0)) < 576 {
			c.add(at, "an MTU of less than 576 is too small for DHCP itself (RFC 2132, section 5.1)")
		}
	}
	if total > maxOptions {
		c.add("options", "are %d bytes together; a DHCP packet has room for %d beside the rest", total, maxOptions)
	}
}

func hasDefault(routes []byte) bool {
	for len(routes) > 0 {
		bits := int(routes[0])
		if bits == 0 {
			return true
		}
		routes = routes[min(len(routes), 1+(bits+7)/8+4):]
	}
	return false
}
