package ignition

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

// TestToken: only what needs no escaping anywhere is filled in, and what is
// refused is never repeated.
func TestToken(t *testing.T) {
	in := testInput(cluster.Config{CloudConfig: "#cloud-config\n", Butane: "variant: fcos\nversion: 1.5.0\n"})
	c := mustCompile(t, in)
	for _, good := range []string{strings.Repeat("a", 16), strings.Repeat("Z", 512), "AZaz09-_.~AZaz09", TokenPlaceholder} {
		a, err1 := c.Ignition("", good)
		b, err2 := c.CloudConfig(good)
		if err1 != nil || err2 != nil || strings.Count(string(a), good) == 0 || strings.Count(string(b), good) == 0 {
			t.Errorf("%s: %v, %v", good, err1, err2)
		}
	}
	for _, bad := range []string{
		"", "short", strings.Repeat("a", 513), "secretsecret\"quote", "secretsecret\nline", "secretsecret space",
		"secretsecret%41xx", "secretsecret\\x00", "secretsecretü", "secretsecret{{x}}", "secretsecret'x",
	} {
		a, err1 := c.Ignition("", bad)
		b, err2 := c.CloudConfig(bad)
		if !errors.Is(err1, ErrToken) || !errors.Is(err2, ErrToken) || a != nil || b != nil {
			t.Errorf("%q: %v, %v", bad, err1, err2)
		}
		if bad != "" && (strings.Contains(err1.Error(), bad) || strings.Contains(err2.Error(), bad)) {
			t.Errorf("the token is in %v or %v", err1, err2)
		}
	}
}

// TestTokenStaysInside: no error and no way of printing a Config shows a token.
func TestTokenStaysInside(t *testing.T) {
	in := testInput(goldenConfig(t, "testdata/golden/fcos.bu"))
	c := mustCompile(t, in)
	for _, accept := range []string{ContentType + ";version=2.4.0", ContentType + ";version=3.0.0", "garbage"} {
		if _, err := c.Ignition(accept, testToken); err == nil || strings.Contains(err.Error(), testToken) {
			t.Errorf("%s: %v", accept, err)
		}
	}
	if _, err := c.Ignition("", testToken); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CloudConfig(testToken); err == nil || strings.Contains(err.Error(), testToken) {
		t.Error(err)
	}
	if s := fmt.Sprintf("%v %+v %#v", c, c, *c); strings.Contains(s, testToken) {
		t.Error("a Config keeps its token")
	}
}

// FuzzToken: a token is filled in as it is, or refused without being shown.
func FuzzToken(f *testing.F) {
	f.Add(testToken)
	f.Add("x\"}}, \"y\": {{")
	f.Add(strings.Repeat("a", 600))
	c := mustCompile(f, testInput(cluster.Config{CloudConfig: "#cloud-config\n", Ignition: `{"ignition": {"version": "3.0.0"}}`}))
	f.Fuzz(func(t *testing.T, token string) {
		a, err1 := c.Ignition("", token)
		b, err2 := c.CloudConfig(token)
		if (err1 == nil) != (err2 == nil) {
			t.Fatalf("%v, %v", err1, err2)
		}
		if err1 != nil {
			if len(token) > 20 && strings.Contains(err1.Error(), token) {
				t.Fatal("the token is in the error")
			}
			return
		}
		if _, _, err := specs[0].parse(a); err != nil || !strings.Contains(string(a), `"data:,`+token+`"`) || !strings.Contains(string(b), `"`+token+`"`) {
			t.Fatalf("%v\n%s\n%s", err, a, b)
		}
	})
}
