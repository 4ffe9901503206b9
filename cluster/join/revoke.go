package join

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
)

// revokeTries is how often a token is looked at anew that changes meanwhile.
const revokeTries = 5

// RevokeUserdata ends all userdata of a host that is still good for something, and
// says how many there were. A machine that has joined by one stays.
func (i *Introducer) RevokeUserdata(ctx context.Context, by string, h cluster.HostName) (int, error) {
	n, err := i.revokeUserdata(ctx, h)
	if err == nil && n == 0 {
		return 0, nil // nothing was done
	}
	detail := fmt.Sprintf("%d revoked", n)
	if err != nil {
		detail += ", then " + err.Error()
	}
	i.audit(ctx, cluster.AuditEntry{Actor: by, Action: "userdata.revoke", Subject: "host " + string(h), OK: err == nil, Detail: detail})
	return n, err
}

func (i *Introducer) revokeUserdata(ctx context.Context, h cluster.HostName) (n int, err error) {
	hashes, err := i.Records.TokensOf(ctx, h)
	if err != nil {
		return 0, err
	}
	for _, hash := range hashes {
		done, err := i.revoke(ctx, hash)
		for try := 1; errors.Is(err, cluster.ErrConflict) && try < revokeTries; try++ {
			done, err = i.revoke(ctx, hash)
		}
		if err != nil {
			return n, err
		}
		if done {
			n++
		}
	}
	return n, nil
}

// revoke ends one token of userdata, and reports whether it was good for something.
func (i *Introducer) revoke(ctx context.Context, hash string) (bool, error) {
	t, at, err := i.Records.Token(ctx, hash)
	if errors.Is(err, cluster.ErrNotFound) {
		return false, nil // it has been forgotten
	}
	now := time.Now()
	if err != nil || t.Userdata == nil || !t.Used.IsZero() || !t.Revoked.IsZero() || now.After(t.Expires) {
		return false, err
	}
	t.Revoked = now
	return true, i.Records.UseToken(ctx, hash, t, at)
}
