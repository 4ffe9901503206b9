package main

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pilotlight/pilotlight/cluster/join"
	"github.com/pilotlight/pilotlight/ignition"
)

// served is "served CODE FILE URL [ACCEPT]": what is served there is, byte for byte, what
// is in FILE, but for the token, which has to be a new one each time; with another code
// than 200 FILE gets the answer.
func served(ts *testscript.TestScript, neg bool, a []string) {
	fetch := func() (code, body string) {
		req, err := http.NewRequest(http.MethodGet, a[2], nil)
		ts.Check(err)
		if len(a) > 3 {
			req.Header.Set("Accept", a[3])
		}
		res, err := http.DefaultClient.Do(req)
		ts.Check(err)
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		ts.Check(err)
		return res.Status[:3], string(b)
	}
	code, body := fetch()
	if code != a[0] {
		ts.Fatalf("answered %s: %s", code, body)
	}
	if code != "200" {
		ts.Check(os.WriteFile(ts.MkAbs(a[1]), []byte(body), 0o600))
		return
	}
	ts.Check(os.WriteFile(ts.MkAbs(a[1]+".got"), []byte(body), 0o600))
	want := ts.ReadFile(a[1])
	found := but(want).FindStringSubmatch(body)
	if (found == nil) != neg {
		ts.Fatalf("served is\n%s\nand not\n%s", body, want)
	}
	if _, again := fetch(); len(found) > 1 && again == body {
		ts.Fatalf("the token is the same again")
	}
}

// but matches a text with a token in the place of its placeholder, and, where it points
// to a config with that token, with that one's sha256.
func but(want string) *regexp.Regexp {
	pattern := strings.ReplaceAll(regexp.QuoteMeta(want), ignition.TokenPlaceholder, "([A-Za-z0-9_-]{43})")
	if strings.Contains(want, join.PathConfig) {
		pattern = regexp.MustCompile("sha256-[0-9a-f]{64}").ReplaceAllString(pattern, "sha256-[0-9a-f]{64}")
	}
	return regexp.MustCompile(`\A` + pattern + `\z`)
}

// same is "same FILE WANT": FILE is WANT but for its token.
func same(ts *testscript.TestScript, _ bool, a []string) {
	if got, want := ts.ReadFile(a[0]), ts.ReadFile(a[1]); !but(want).MatchString(got) {
		ts.Fatalf("%s is\n%s\nand not\n%s", a[0], got, want)
	}
}
