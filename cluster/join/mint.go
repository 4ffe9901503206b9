package join

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// TokenLife is how long an introduction token holds, counted from the config
// that carries it: long enough for a slow install, short enough to be worth
// nothing tomorrow.
const TokenLife = 15 * time.Minute

// ErrAlive says that no token is minted for a host whose agent is alive: a
// second machine that says it is the same one gets nothing.
var ErrAlive = errors.New("its agent is alive, and a host that is alive is not introduced again")

// ErrTooMany says that no token is minted because many were for this host just
// now. Whoever asks is on a network that authenticates nobody, and each token is
// kept for a day or two.
var ErrTooMany = errors.New("it was given many tokens just now; one more is made in a moment")

// Bearer is who a token is made for.
type Bearer struct {
	Host    cluster.HostName
	MAC     cluster.MAC
	UUID    cluster.UUID
	Address netip.Addr
	Boot    string

	Installer bool          // its token says only that it is done
	Life      time.Duration // of the token; default TokenLife

	Userdata *cluster.Userdata // its token is for userdata; MAC and Address are not known
	Rest     *cluster.Rest     // what its token opens; nil is nothing
}

// mint is the audit's entry of a token for b, before it is known how it went.
func (b Bearer) mint() cluster.AuditEntry {
	if b.Userdata != nil {
		return cluster.AuditEntry{
			Actor: b.Userdata.By, Action: "userdata.mint", Subject: "host " + string(b.Host),
			Detail: fmt.Sprintf("for %s, at %s, config %.12s", b.Life, b.Userdata.URL, b.Userdata.Digest),
		}
	}
	return cluster.AuditEntry{Actor: b.Address.String(), Action: "token.mint", Subject: "host " + string(b.Host)}
}

// Mint makes a token for one boot of one host. Only its hash is kept. All
// tokens of a host end when one of them is redeemed.
func (i *Introducer) Mint(ctx context.Context, b Bearer) (string, error) {
	mint := b.mint()
	alive, err := i.Nodes.Alive(ctx, b.Host)
	if err != nil {
		return "", err
	}
	if alive {
		mint.Detail = ErrAlive.Error()
		i.auditStranger(ctx, &i.limits.mints, mint)
		return "", fmt.Errorf("host %s: %w", b.Host, ErrAlive)
	}
	if b.Userdata == nil && !i.limits.mayMint(b.Host) { // who asks for userdata is no stranger
		return "", fmt.Errorf("host %s: %w", b.Host, ErrTooMany)
	}
	_, after, err := i.Records.Introduction(ctx, b.Host)
	if err != nil && !errors.Is(err, cluster.ErrNotFound) {
		return "", err
	}
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails
	token := base64.RawURLEncoding.EncodeToString(raw)
	now := time.Now()
	mint.OK, mint.At = true, now
	entries := []cluster.AuditEntry{mint}
	if b.Userdata == nil {
		if mint, ok := i.limits.mints.entry(mint); ok {
			entries[0] = mint
		} else {
			entries = nil
		}
	}
	err = i.Records.PutToken(ctx, hashToken(token), cluster.Token{
		Host: b.Host, MAC: b.MAC, UUID: b.UUID, Address: b.Address, Boot: b.Boot, Installer: b.Installer, Userdata: b.Userdata, Rest: b.Rest,
		Minted: now, Expires: now.Add(cmp.Or(b.Life, TokenLife)), After: after,
	}, entries...)
	if err != nil {
		return "", err
	}
	return token, nil
}

func hashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}
