package release

import (
	"bytes"
	_ "embed" // the keys
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/pilotlight/pilotlight/cluster"
)

//go:embed keys/fedora.asc
var fedoraKeys []byte

//go:embed keys/flatcar.asc
var flatcarKeys []byte

// ErrSignature is for a file whose signature is not good. It is not kept.
var ErrSignature = errors.New("no good signature")

// Keyring is whose signatures are believed.
type Keyring struct {
	keys openpgp.EntityList
	name string // for errors: where the keys are from
}

// BuiltIn returns the keys of a system's publisher that came with this program.
func BuiltIn(os cluster.OS) (Keyring, error) {
	switch os {
	case cluster.FedoraCoreOS:
		return ReadKeys("the keys of Fedora that this program has", fedoraKeys)
	case cluster.Flatcar:
		return ReadKeys("the keys of Flatcar that this program has", flatcarKeys)
	}
	return Keyring{}, fmt.Errorf("nothing is known of the system %q: write stream: fedora-coreos/stable or flatcar/stable", os)
}

const keyHead = "-----BEGIN PGP PUBLIC KEY BLOCK-----"

// maxKeys is how long a file of keys may be.
const maxKeys = 1 << 20

// ReadKeys reads public keys, one behind the other, in OpenPGP's armor.
func ReadKeys(name string, text []byte) (Keyring, error) {
	k := Keyring{name: name}
	blocks := strings.Split(string(text), keyHead)
	if len(blocks) < 2 || len(text) > maxKeys {
		return k, fmt.Errorf("%s holds no public keys: give what gpg --export --armor KEY prints", name)
	}
	for _, b := range blocks[1:] {
		found, err := openpgp.ReadArmoredKeyRing(strings.NewReader(keyHead + b))
		if err != nil {
			return k, fmt.Errorf("%s: %w: give what gpg --export --armor KEY prints", name, err)
		}
		k.keys = append(k.keys, found...)
	}
	return k, nil
}

// Fingerprints returns those of the keys, as gpg prints them without spaces.
func (k Keyring) Fingerprints() (out []string) {
	for _, e := range k.keys {
		out = append(out, fingerprint(e.PrimaryKey))
	}
	return out
}

func fingerprint(k *packet.PublicKey) string { return fmt.Sprintf("%X", k.Fingerprint) }

// Verify reads a file and returns who signed it.
func (k Keyring) Verify(file io.Reader, signature []byte, now time.Time) (signer string, err error) {
	if bytes.HasPrefix(bytes.TrimSpace(signature), []byte("-----BEGIN")) {
		block, err := armor.Decode(bytes.NewReader(signature))
		if err != nil {
			return "", fmt.Errorf("%w: the signature is none: %w", ErrSignature, err)
		}
		if signature, err = io.ReadAll(io.LimitReader(block.Body, maxSmall)); err != nil {
			return "", fmt.Errorf("%w: the signature is none: %w", ErrSignature, err)
		}
	}
	config := &packet.Config{Time: func() time.Time { return now }}
	sig, by, err := openpgp.VerifyDetachedSignature(k.keys, file, bytes.NewReader(signature), config)
	switch {
	case err == nil && sig.SigType != packet.SigTypeBinary:
		return "", fmt.Errorf("%w: it is a signature of something else than a file", ErrSignature)
	case err == nil && sig.CreationTime.After(now.Add(clockSkew)):
		return "", fmt.Errorf("%w: it was made at %s, which is to come: set this machine's clock", ErrSignature, sig.CreationTime.UTC().Format(time.RFC3339))
	case err == nil:
		return who(by), nil
	}
	return "", fmt.Errorf("%w: %s", ErrSignature, k.words(err, by, signature))
}

// clockSkew is how far ahead a publisher's clock may be.
const clockSkew = 24 * time.Hour

// who names a key by its owner and its fingerprint.
func who(e *openpgp.Entity) string {
	name := "somebody"
	if i := e.PrimaryIdentity(); i != nil && i.UserId != nil {
		name = strings.TrimSpace(i.UserId.Name + " <" + i.UserId.Email + ">")
	}
	return name + " " + fingerprint(e.PrimaryKey)
}

// words says what is wrong with a signature, and what to type.
func (k Keyring) words(err error, by *openpgp.Entity, signature []byte) string {
	name := "its key"
	if by != nil {
		name = "the key of " + who(by)
	}
	switch {
	case errors.Is(err, pgperrors.ErrUnknownIssuer):
		return fmt.Sprintf("it was signed by the key %s, which is not among %s: if its owner says that it is theirs, give it with --keys FILE", issuer(signature), k.name)
	case errors.Is(err, pgperrors.ErrKeyExpired):
		return fmt.Sprintf("%s has expired: get its owner's newer one, and give it with --keys FILE, or take a newer release", name)
	case errors.Is(err, pgperrors.ErrSignatureExpired):
		return fmt.Sprintf("the signature of %s has expired: take a newer release", name)
	case errors.Is(err, pgperrors.ErrKeyRevoked):
		return fmt.Sprintf("%s was revoked by its owner: do not use the file; take a newer release", name)
	}
	return fmt.Sprintf("%v: it is not the file that was signed: do not use it; try again, or another --mirror", err)
}

// issuer returns the ID of the key that a signature says it was made by.
func issuer(signature []byte) string {
	p, err := packet.NewReader(bytes.NewReader(signature)).Next()
	if s, ok := p.(*packet.Signature); err == nil && ok && s.IssuerKeyId != nil {
		return fmt.Sprintf("%016X", *s.IssuerKeyId)
	}
	return "of nobody"
}
