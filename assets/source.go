package assets

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
)

// source is a cluster.File, understood.
type source struct {
	url    string // of a file from a network, or empty
	path   string // of a file of this machine, or empty
	digest string // in lower case, or empty
	name   string // for errors: the URL without a password

	client *http.Client         // nil is the store's
	once   bool                 // a download that fails is not tried again
	vouch  func(*os.File) error // says of a whole file that no sha256 pins whether it may be kept; nil asks nobody
}

// key names the work that fetching the source is.
func (s source) key() string {
	switch {
	case s.digest != "":
		return s.digest
	case s.url != "":
		return "url-" + hashOf(s.url)
	}
	return "file " + s.path
}

func hashOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// understand refuses what cannot be fetched, with what to write.
func understand(f cluster.File) (source, error) {
	s := source{digest: strings.ToLower(f.SHA256)}
	if raw, err := hex.DecodeString(s.digest); s.digest != "" && (err != nil || len(raw) != 32) {
		return s, fmt.Errorf("%q is not a sha256: write its 64 hexadecimal digits, as sha256sum prints them", f.SHA256)
	}
	if f.URL == "" && s.digest != "" {
		s.name = "sha256:" + s.digest
		return s, nil // whatever has that digest
	}
	u, err := url.Parse(f.URL)
	if err != nil {
		return s, fmt.Errorf("%q is no URL: write it like https://example.org/vmlinuz or file:///srv/images/vmlinuz", f.URL)
	}
	s.name = u.Redacted()
	switch u.Scheme {
	case "file":
		if u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(u.Path) {
			return s, fmt.Errorf("%q names no file of this machine: write it like file:///srv/images/vmlinuz", s.name)
		}
		s.path = filepath.Clean(u.Path)
	case "http", "https":
		if u.Host == "" {
			return s, fmt.Errorf("%q has no host: write it like https://example.org/vmlinuz", s.name)
		}
		if s.digest == "" {
			return s, fmt.Errorf("%s: %w: type: curl -fsSL '%s' | sha256sum, compare it with what its publisher says, and write it as its sha256", s.name, ErrUnpinned, s.name)
		}
		s.url = f.URL
	default:
		return s, fmt.Errorf("%q is no URL that can be fetched: write it like https://example.org/vmlinuz or file:///srv/images/vmlinuz", s.name)
	}
	return s, nil
}
