package cluster

import (
	"encoding/hex"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestEncodeOption(t *testing.T) {
	for _, row := range []struct {
		name  OptionName
		value []string
		code  uint8
		want  string // in hexadecimal, or the beginning of what is said
	}{
		{"interface-mtu", []string{"9000"}, 26, "2328"},
		{"26", []string{"1500"}, 26, "05dc"},
		{"ntp-servers", []string{"10.0.0.1", "10.0.0.2"}, 42, "0a0000010a000002"},
		{"time-offset", []string{"-3600"}, 2, "fffff1f0"},
		{"ip-forwarding", []string{"true"}, 19, "01"},
		{"default-ttl", []string{"64"}, 23, "40"},
		{"domain-name", []string{"a.b"}, 15, "612e62"},
		{"domain-search", []string{"eng.example.", "a.b"}, 119, "03656e67076578616d706c6500" + "01610162" + "00"},
		{"classless-static-routes", []string{"10.9.0.0/16 via 10.0.0.1", "default via 10.0.0.2", "10.1.2.3/32 10.0.0.3", "10.17.128.0/17 via 10.0.0.4"}, 121,
			"100a090a000001" + "000a000002" + "200a0102030a000003" + "110a11800a000004"},
		{"vendor-encapsulated-options", []string{"0x01:02:FF"}, 43, "0102ff"},
		{"interface-mtu", []string{"0xffff"}, 26, "ffff"},
		{"224", []string{"10.0.0.1"}, 224, "0a000001"},
		{"225", []string{"hello"}, 225, "68656c6c6f"},

		{"226", []string{"7"}, 0, `!"7" is not what the option holds; write 0x`},
		{"interface-mtu", []string{"70000"}, 0, `!"70000" is not what the option holds; write a number to 65535`},
		{"interface-mtu", []string{"1", "2"}, 0, "!is one value, not 2"},
		{"interface-mtu", nil, 0, "!has no value"},
		{"ntp-servers", []string{"ntp.example.org"}, 0, "!\"ntp.example.org\" is not what"},
		{"ntp-servers", []string{"fd00::1"}, 0, "!\"fd00::1\" is not what"},
		{"classless-static-routes", []string{"10.9.0.1/16 via 10.0.0.1"}, 0, "!\"10.9.0.1/16"},
		{"domain-search", []string{"a..b"}, 0, "!\"a..b\" is not"},
		{"vendor-encapsulated-options", []string{"0x1"}, 0, "!\"0x1\" is not"},
		{"ntp_server", []string{"10.0.0.1"}, 0, "!is not the name of a DHCP option that is known here; did you mean ntp-servers?"},
		{"frobnicate", []string{"1"}, 0, "!is not the name of a DHCP option that is known here; write its number"},
		{"256", []string{"1"}, 0, "!is not the name"},
		{"53", []string{"0x01"}, 0, "!option 53 cannot be set: it is a matter of the protocol"},
		{"54", []string{"10.0.0.1"}, 0, "!option 54 cannot be set: it is the server's own address; server:"},
		{"50", []string{"10.0.0.1"}, 0, "!option 50"}, {"51", []string{"0x00000001"}, 0, "!option 51 cannot be set: it is lease:"},
		{"61", []string{"0x01"}, 0, "!option 61"}, {"82", []string{"0x01"}, 0, "!option 82"}, {"175", []string{"0x01"}, 0, "!option 175"},
		{"255", []string{"0x01"}, 0, "!option 255"}, {"0", []string{"0x01"}, 0, "!option 0"},
	} {
		e, err := Option{Value: row.value}.Encode(row.name)
		if says, bad := strings.CutPrefix(row.want, "!"); bad {
			if err == nil || !strings.HasPrefix(err.Error(), says) {
				t.Errorf("%s: %v: %v, want %q", row.name, row.value, err, says)
			}
		} else if err != nil || e.Code != row.code || hex.EncodeToString(e.Data) != row.want {
			t.Errorf("%s: %v: option %d is %x, %v; want %s", row.name, row.value, e.Code, e.Data, err, row.want)
		}
	}
}

func TestOptionJSON(t *testing.T) {
	for _, row := range []struct {
		option Option
		want   string
	}{
		{Option{Value: []string{"9000"}}, `"9000"`},
		{Option{Value: []string{"a", "b"}}, `["a","b"]`},
		{Option{Value: []string{"a"}, Force: true}, `{"value":["a"],"force":true}`},
	} {
		b, err := json.Marshal(row.option)
		var back Option
		if err2 := json.Unmarshal(b, &back); err != nil || err2 != nil || string(b) != row.want || !reflect.DeepEqual(back, row.option) {
			t.Errorf("%s, want %s; back it is %+v: %v, %v", b, row.want, back, err, err2)
		}
	}
}

func TestCheckOptions(t *testing.T) {
	one := func(v ...string) Option { return Option{Value: v} }
	docs := good(t)
	lan := docs[0].(*Network)
	lan.DNS = addrs("10.0.0.1")
	lan.Options = OptionSet{
		"domain-name-servers": one("10.0.0.9"), "121": one("10.9.0.0/16 via 10.0.0.9"), "interface-mtu": one("500"), "26": one("1500"),
		"bogus": one("1"), "17": one(strings.Repeat("x", 500)), "100": one(strings.Repeat("x", 500)),
	}
	docs[9].(*Host).Options = OptionSet{"domain-name-servers": one("10.0.0.9"), "121": one("10.9.0.0/16 via 10.0.0.9"), "53": one("0x01")}
	docs[10].(*Host).Options = OptionSet{"121": one("10.9.0.0/16 via 10.0.0.9")} // on no network that is known
	var got []string
	for _, p := range Check(docs) {
		got = append(got, p.String())
	}
	want := []string{
		"network lan: options.121: has no default route, and who takes these routes ignores gateway: (RFC 3442); add \"default via 10.0.0.1\"",
		"network lan: options.bogus: is not the name of a DHCP option that is known here; write its number, 0 to 255",
		"network lan: options.domain-name-servers: is also dns: of this network; keep one",
		"network lan: options.interface-mtu: is option 26, as options.26 is: keep one",
		"network lan: options.interface-mtu: an MTU of less than 576 is too small for DHCP itself (RFC 2132, section 5.1)",
		"network lan: options: are 1027 bytes together; a DHCP packet has room for 900 beside the rest",
		"host h1: options.121: has no default route, and who takes these routes ignores gateway: (RFC 3442); add \"default via 10.0.0.1\"",
		"host h1: options.53: option 53 cannot be set: it is a matter of the protocol",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
