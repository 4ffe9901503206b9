package ignition

import (
	_ "embed" // for the part handler
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/coreos/ignition/v2/config/v3_1/types"
)

// Language is who reads a host's config.
type Language string

// The languages.
const (
	LanguageIgnition  Language = "Ignition"
	LanguageCloudInit Language = "cloud-init"
	LanguageCoreOS    Language = "coreos-cloudinit"
	LanguageText      Language = "the installer of another system"
)

// Languages returns who may read the config, first whom the operator wrote it for.
func (c *Config) Languages() []Language {
	var out []Language
	if c.text != nil {
		return []Language{LanguageText}
	}
	if c.ignition != nil {
		out = append(out, LanguageIgnition)
	}
	switch {
	case c.cloud == nil:
	case c.cloud.coreos:
		out = append(out, LanguageCoreOS)
	default:
		out = append(out, LanguageCloudInit)
	}
	if len(out) == 2 && c.cloud.written {
		out[0], out[1] = out[1], out[0]
	}
	return out
}

// Pointed returns the config in a language with the token in it, as it is served to
// who comes by a Pointer: of Ignition the given version, or the oldest that can hold
// it, whatever the client asks for, since its hash stands in the pointer.
func (c *Config) Pointed(l Language, spec, token string) (body []byte, contentType string, err error) {
	switch {
	case !slices.Contains(c.Languages(), l):
		return nil, "", fmt.Errorf("%w: profile %s has none for %s", ErrNoConfig, c.profile, l)
	case l == LanguageText:
		return nil, "", fmt.Errorf("%w: profile %s has a text, which the installer of another system reads: write config: {butane: ...} or {cloud_config: ...} in it", ErrNoConfig, c.profile)
	case l == LanguageIgnition:
		accept := ""
		if spec != "" {
			accept = ContentType + ";version=" + spec
		}
		body, err = c.Ignition(accept, token)
		return body, ContentType, err
	}
	body, err = c.CloudConfig(token)
	return body, c.CloudType(), err
}

// Whole reports whether the config cannot be fetched by a Pointer in a language, and is
// given whole in its place: cloud-init's part handlers take one #cloud-config.
func (c *Config) Whole(l Language) bool {
	return l == LanguageCloudInit && c.cloud != nil && c.cloud.message
}

// CloudType is what CloudConfig is served as.
func (c *Config) CloudType() string {
	if c.cloud != nil && c.cloud.message {
		return MultipartType
	}
	return CloudConfigType
}

// LanguageFor returns in which language the config is for a client with an Accept
// header, where it is in two: Ignition says that it is Ignition.
func (c *Config) LanguageFor(accept string) Language {
	all := c.Languages()
	if len(all) == 2 && all[0] == LanguageIgnition && !strings.Contains(strings.ToLower(accept), ContentType) {
		return all[1]
	}
	return all[0]
}

// Pointer is what a machine that does not boot from the network is given in the
// place of its config: where that is, and by what it is known. It is small
// whatever the config's size. Who has it may fetch the config until the host has
// joined, so it is a secret.
type Pointer struct {
	URL    string `json:"url"` // https://...
	Token  string `json:"token"`
	SHA256 string `json:"sha256"` // of the config, with the token in it
	CA     string `json:"ca"`     // PEM: the only authority to trust for URL
}

// For returns the pointer in a language.
func (p Pointer) For(l Language) ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("point to a config: %w", err)
	}
	switch l {
	case LanguageIgnition:
		return p.ignition()
	case LanguageCloudInit:
		return p.cloudInit()
	case LanguageCoreOS:
		return p.coreOS(), nil
	}
	return nil, fmt.Errorf("point to a config: %w: there is no pointer for %s", ErrNoConfig, l)
}

func (p Pointer) check() error {
	if err := checkURL(p.URL); err != nil {
		return err
	}
	if !strings.HasPrefix(p.URL, "https://") {
		return fmt.Errorf("%s is not https://, and a token would be seen on the way", p.URL)
	}
	if err := checkHex(p.SHA256, 32); err != nil {
		return err
	}
	return checkToken(p.Token)
}

// ignition merges the config into the pointer, which keeps the authority for what
// the config itself fetches from the server.
func (p Pointer) ignition() ([]byte, error) {
	cfg := types.Config{Ignition: types.Ignition{Version: types.MaxVersion.String()}}
	cfg.Ignition.Config.Merge = []types.Resource{{
		Source:       &p.URL,
		HTTPHeaders:  types.HTTPHeaders{{Name: "Authorization", Value: ptr("Bearer " + p.Token)}},
		Verification: types.Verification{Hash: ptr("sha256-" + p.SHA256)},
	}}
	cfg.Ignition.Security.TLS.CertificateAuthorities = []types.Resource{{
		Source: ptr("data:;base64," + base64.StdEncoding.EncodeToString([]byte(p.CA))),
	}}
	body, err := json.Marshal(cfg)
	if err != nil {
		return nil, fmt.Errorf("encode a pointer: %w", err)
	}
	return append(body, '\n'), nil
}

// The program that does for cloud-init what Ignition does itself: cloud-init's
// #include knows neither an authority nor a hash. It is a part handler, so it runs
// before any module reads the config.
//
//go:embed pointer.py
var partHandler string

const partBoundary = "=====pilotlight====="

func (p Pointer) cloudInit() ([]byte, error) {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode a pointer: %w", err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=%q\nMIME-Version: 1.0\n", partBoundary)
	part := func(kind, name, text string) {
		fmt.Fprintf(&b, "\n--%s\nContent-Type: %s; charset=\"us-ascii\"\nMIME-Version: 1.0\nContent-Disposition: attachment; filename=%q\n\n%s", partBoundary, kind, name, text)
	}
	part("text/part-handler", "pilotlight.py", partHandler)
	part("text/x-pilotlight", "pilotlight.json", string(text)+"\n")
	fmt.Fprintf(&b, "\n--%s--\n", partBoundary)
	return []byte(b.String()), nil
}

// coreOS is a script, which coreos-cloudinit runs in the place of a config. The
// token goes to curl by a file: arguments are anybody's on the machine.
func (p Pointer) coreOS() []byte {
	return []byte(`#!/bin/sh
# Fetches this host's config from pilotlight, verifies it, and has coreos-cloudinit apply it.
set -eu
umask 077
dir=/run/pilotlight-userdata
rm -rf "$dir"
mkdir "$dir"
trap 'rm -rf "$dir"' EXIT
cat > "$dir/ca" <<'EOF'
` + strings.TrimSpace(p.CA) + `
EOF
cat > "$dir/header" <<'EOF'
Authorization: Bearer ` + p.Token + `
EOF
curl --fail --silent --show-error --connect-timeout 10 --max-time 60 \
  --retry 120 --retry-delay 5 --retry-connrefused \
  --cacert "$dir/ca" -H "@$dir/header" --output "$dir/config" '` + p.URL + `'
if ! echo '` + p.SHA256 + `  '"$dir/config" | sha256sum -c - >/dev/null 2>&1; then
  echo "pilotlight: what ` + p.URL + ` sent is not this host's config: its sha256 is another" >&2
  exit 1
fi
coreos-cloudinit --from-file="$dir/config"
`)
}
