package secret

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const clear1 = "correct horse battery staple"

// holder hides a value and an identity where no method of theirs is called.
type holder struct {
	name  string
	value Value
	id    *Identity
	inner struct{ v Value }
	list  []Value
	byKey map[string]Value
	any   any
}

type exportedHolder struct {
	V  Value
	P  *Value
	ID *Identity
}

func TestNothingPrintsASecret(t *testing.T) {
	v := NewValue([]byte(clear1))
	id, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	h := holder{"h", v, id, struct{ v Value }{v}, []Value{v}, map[string]Value{"k": v}, v}
	exported := exportedHolder{v, &v, id}

	var out bytes.Buffer
	for _, thing := range []any{v, &v, id, *id, h, &h, exported, &exported, []any{v, id}, error(fmt.Errorf("with %v and %v", v, id))} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
			fmt.Fprintf(&out, verb+"\n", thing)
		}
		for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(handler).Info("m", "thing", thing, slog.Group("g", "thing", thing))
		}
	}
	for _, thing := range []any{v, &v, id, exported, []Value{v}, map[string]Value{"k": v}} {
		b, err := json.Marshal(thing)
		if err != nil {
			t.Errorf("json %T: %v", thing, err)
		}
		out.Write(b)
	}
	b, err := xml.Marshal(exported)
	if err != nil {
		t.Error(err)
	}
	out.Write(b)

	text := strings.ToLower(out.String())
	for _, form := range []string{clear1, fmt.Sprintf("%x", clear1), fmt.Sprintf("%v", []byte(clear1)), fmt.Sprintf("%#v", []byte(clear1)), id.Export()} {
		if strings.Contains(text, strings.ToLower(form)) {
			t.Errorf("printed: %q", form)
		}
	}
	if got := fmt.Sprint(v, id); got != Redacted+" "+Redacted {
		t.Errorf("prints as %q", got)
	}
	if string(v.Reveal()) != clear1 || v.Size() != len(clear1) {
		t.Errorf("reveals %q", v.Reveal())
	}
}

func TestValueKeepsItsOwnBytes(t *testing.T) {
	in := []byte(clear1)
	v := NewValue(in)
	clear(in)
	clear(v.Reveal())
	if string(v.Reveal()) != clear1 {
		t.Error("a caller changed the value")
	}
	if b := (Value{}).Reveal(); b != nil {
		t.Errorf("the zero value reveals %q", b)
	}
}

func TestIdentity(t *testing.T) {
	id, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseIdentity("# made by a test\n\n" + id.Export() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if again.Recipient() != id.Recipient() || !strings.HasPrefix(id.Recipient(), "age1") {
		t.Errorf("recipient %s became %s", id.Recipient(), again.Recipient())
	}
	for _, bad := range []string{"", "# only\n", "AGE-SECRET-KEY-1QQQQ", id.Recipient()} {
		_, err := ParseIdentity(bad)
		if err == nil || !strings.Contains(err.Error(), "age-keygen") {
			t.Errorf("ParseIdentity(%q): %v", bad, err)
		}
		if err != nil && strings.Contains(err.Error(), "QQQQ") {
			t.Errorf("the error quotes the key: %v", err)
		}
	}
}
