package cluster

import (
	"bytes"
	"encoding/json"
	"testing"
)

func FuzzOctets(f *testing.F) {
	f.Add("Ethernet1/7")
	f.Add("0x0004000a0102")
	f.Add("0x00:04")
	f.Add(" 0x")
	f.Fuzz(func(t *testing.T, s string) {
		o, err := ParseOctets(s)
		if err != nil {
			return
		}
		if again, err := ParseOctets(string(o)); err != nil || again != o {
			t.Errorf("%q is %q, which is read as %q, %v", s, o, again, err)
		}
		if of := OctetsOf([]byte(s)); of != "" && len(s) <= maxOctets {
			if again, err := ParseOctets(string(of)); err != nil || again != of {
				t.Errorf("the bytes %q are %q, which is read as %q, %v", s, of, again, err)
			}
		}
	})
}

// An option that is read and written is the same one, and what it is sent as fits.
func FuzzOption(f *testing.F) {
	f.Add("ntp-servers", []byte(`["10.0.0.1", "10.0.0.2"]`))
	f.Add("121", []byte(`{"value": ["10.9.0.0/16 via 10.0.0.1", "default 10.0.0.1"], "force": true}`))
	f.Add("domain-search", []byte(`"example.test"`))
	f.Add("43", []byte(`"0x0104"`))
	f.Fuzz(func(t *testing.T, name string, text []byte) {
		var o, again Option
		if json.Unmarshal(text, &o) != nil {
			return
		}
		body, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(body, &again); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if second, err := json.Marshal(again); err != nil || !bytes.Equal(second, body) {
			t.Errorf("%s and then %s, %v", body, second, err)
		}
		e, err := o.Encode(OptionName(name))
		if err != nil {
			return
		}
		if e.Code == 0 || e.Code == 255 || len(e.Data) > 255*4 {
			t.Errorf("option %d of %d bytes", e.Code, len(e.Data))
		}
		hasDefault(e.Data)
	})
}

// What etcd or a client of the API holds is read and looked through without harm,
// and once it was written it is read and written the same. (What is there but empty
// may go with the first writing.)
func FuzzDocument(f *testing.F) {
	for _, s := range []string{
		`{"kind":"host","name":"web1","macs":["52:54:00:12:34:56"],"address":"10.0.0.5","profile":"web","switch_port":{"circuit":"0x00"}}`,
		`{"kind":"network","name":"lan","cidr":"10.0.0.0/24","dhcp":"authoritative","pools":["10.0.0.9-10.0.0.20"],"options":{"ntp-servers":"10.0.0.1"}}`,
		`{"kind":"site","name":"www","hosts":1,"services":[{"name":"web","image":"a@sha256:0"}]}`,
		`{"kind":"group","name":"g","match":{"labels":{"a":"b"}},"profile":"web"}`,
		`{"kind":"profile","name":"web","image":"node","args":["a={{.ConfigURL}}"]}`, `{"kind":"image","name":"node"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := UnmarshalDocument(text)
		if err != nil {
			return
		}
		body, err := MarshalDocument(d)
		if err != nil {
			return
		}
		if settled, err := UnmarshalDocument(body); err != nil {
			t.Fatalf("%s: %v", body, err)
		} else if body, err = MarshalDocument(settled); err != nil {
			t.Fatal(err)
		}
		again, err := UnmarshalDocument(body)
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if second, err := MarshalDocument(again); err != nil || !bytes.Equal(second, body) {
			t.Errorf("%s and then %s, %v", body, second, err)
		}
		snap := NewSnapshot(1, []Document{d})
		for _, n := range snap.Networks() {
			snap.NetworkOf(n.Gateway)
		}
		Check([]Document{d})
	})
}
