package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/api"
	"github.com/pilotlight/pilotlight/cluster/etcd"
	"github.com/pilotlight/pilotlight/cluster/manifest"
)

// seed applies the manifests of `serve DIR`. A document that DIR has as this or
// another server served it last is left alone, even where somebody applied another
// since: a restart never takes back what an operator did.
func seed(ctx context.Context, by cluster.ServerName, store *etcd.Store, applier *api.Applier, set *manifest.Set, log *slog.Logger) error {
	served, err := store.Seeds(ctx)
	if err != nil {
		return err
	}
	now := make(map[string]string, len(set.Documents))
	var changed []cluster.Document
	for _, d := range set.Documents {
		body, err := cluster.MarshalDocument(d)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		key := cluster.DocumentKey(d.Ref())
		now[key] = hex.EncodeToString(sum[:])
		if !slices.ContainsFunc(served, func(seed map[string]string) bool { return seed[key] == now[key] }) {
			changed = append(changed, d)
		}
	}
	out, err := applier.Apply(ctx, "server:serve", changed, nil)
	if err != nil {
		return fmt.Errorf("apply the manifests: %w", err)
	}
	if err := set.Place(out.Problems); err != nil {
		return err
	}
	for _, m := range set.Places(out.Advice) {
		log.Warn("a manifest may not say what was meant", "at", m.String())
	}
	return store.PutSeed(ctx, by, now)
}
