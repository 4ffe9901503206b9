package etcd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// Recover makes what a member holds that of the only member there is: those that
// have a vote are lost for good. It is for a member that does not run, and works
// for a learner too, as etcd's --force-new-cluster does not (raft panics: removed
// all voters). What was there stays beside it, at the path that is returned.
//
// Whoever is not lost after all must not be started again: nothing reconciles the
// two.
func Recover(ctx context.Context, c MemberConfig) (before string, err error) {
	data := filepath.Join(c.Dir, "member")
	if _, err := os.Stat(data); err != nil {
		return "", fmt.Errorf("there is no etcd in %s to recover: %w", c.Dir, err)
	}
	c.Several = true
	l, err := net.Listen("tcp", "127.0.0.1:0") // no client is to come
	if err != nil {
		return "", fmt.Errorf("start what etcd holds in %s: %w", c.Dir, err)
	}
	c.Client, _ = netip.ParseAddrPort(l.Addr().String())
	_ = l.Close()
	cfg, err := c.embed()
	if err != nil {
		return "", err
	}
	if err := settleLog(ctx, cfg); err != nil {
		return "", fmt.Errorf("read what etcd holds in %s: %w", c.Dir, err)
	}
	before = fmt.Sprintf("%s.before-recovery-%s", c.Dir, time.Now().UTC().Format("20060102T150405"))
	fresh := c.Dir + ".recovering"
	if err := os.RemoveAll(fresh); err != nil { // of a try that was broken off
		return "", fmt.Errorf("make room for what is recovered: %w", err)
	}
	err = snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath: filepath.Join(data, "snap", "db"), SkipHashCheck: true, // no checksum is appended to a file in use
		Name: cfg.Name, OutputDataDir: fresh, PeerURLs: []string{cfg.AdvertisePeerUrls[0].String()},
		InitialCluster: cfg.Name + "=" + cfg.AdvertisePeerUrls[0].String(), InitialClusterToken: cfg.InitialClusterToken,
	})
	if err != nil {
		return "", fmt.Errorf("recover what etcd holds in %s: %w", c.Dir, err)
	}
	if err := os.Rename(c.Dir, before); err != nil {
		return "", fmt.Errorf("put what was there aside: %w", err)
	}
	if err := os.Rename(fresh, c.Dir); err != nil {
		return "", fmt.Errorf("put what was recovered in its place: %w; type: mv %s %s", err, before, c.Dir)
	}
	return before, nil
}

// logQuiet is for how long nothing more must be taken over from the log.
const logQuiet = 2 * time.Second // and so long is a leader, if there is one, silent at most

// ErrNotGone says that a member cannot be made the only one: others lead it.
var ErrNotGone = errors.New("the others are not gone: one of them leads this one; stop them for good, or remove this one from them")

// settleLog has a member that does not run take over what its log says is
// committed, which needs no other member.
func settleLog(ctx context.Context, cfg *embed.Config) error {
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	var led error
	last, since := uint64(0), time.Now()
	for time.Since(since) < logQuiet {
		if at := e.Server.AppliedIndex(); at != last || at < e.Server.CommittedIndex() {
			last, since = at, time.Now()
		}
		if by := e.Server.Leader(); by != 0 && by != e.Server.MemberID() {
			led = ErrNotGone
		}
		pause(ctx, logQuiet/20)
		if ctx.Err() != nil || led != nil {
			break
		}
	}
	e.Server.Stop() // writes the store; Close waits for a quorum
	for _, l := range e.Peers {
		_ = l.Close() // nobody was served
	}
	for _, l := range e.Clients {
		_ = l.Close()
	}
	return errors.Join(led, ctx.Err())
}

// HasMember reports whether there is an etcd in a directory.
func HasMember(dir string) (bool, error) {
	_, err := os.Stat(filepath.Join(dir, "member"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
