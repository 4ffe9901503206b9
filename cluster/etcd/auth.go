package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/pilotlight/pilotlight/cluster"
)

// RootUser is the servers' own etcd user: the common name of the certificate
// with which a Store connects.
const RootUser = "root"

// EnsureAuth turns on etcd's access control, with the servers as root. From
// then on a certificate without a user of its name opens nothing.
func (s *Store) EnsureAuth(ctx context.Context) error {
	st, err := s.client.AuthStatus(ctx)
	if err == nil && st.Enabled {
		return nil
	}
	steps := []func() error{
		func() error { _, err := s.client.RoleAdd(ctx, RootUser); return err },
		func() error { return s.addUser(ctx, RootUser) },
		func() error { _, err := s.client.UserGrantRole(ctx, RootUser, RootUser); return err },
		func() error { _, err := s.client.AuthEnable(ctx); return err },
	}
	for _, step := range steps {
		if err := ignoreExisting(step()); err != nil {
			return fmt.Errorf("turn on etcd's access control: %w", err)
		}
	}
	return nil
}

// addUser makes a user without a password: only a certificate opens it.
func (s *Store) addUser(ctx context.Context, name string) error {
	_, err := s.client.UserAddWithOptions(ctx, name, "", &clientv3.UserAddOptions{NoPassword: true})
	return err
}

func (s *Store) grant(ctx context.Context, role, key, end string, p authpb.Permission_Type) error {
	_, err := s.client.RoleGrantPermission(ctx, role, key, end, clientv3.PermissionType(p))
	return err
}

func ignoreExisting(err error) error {
	for _, fine := range []error{rpctypes.ErrUserAlreadyExist, rpctypes.ErrRoleAlreadyExist} {
		if errors.Is(err, fine) {
			return nil
		}
	}
	return err
}

// AllowNode makes the etcd user of a host, who may read the host's own folder,
// write its status and its liveness there, and nothing else. What it must run
// is not for it to write: the leader leaves sites where they say they are, so a
// stolen host that wrote itself every site would be given every site's secrets.
// Doing it again changes nothing.
//
// What is begun is ended, also when whoever asks hangs up: it asks again, and
// else would find as much to do as before. Of several who ask at a time one does
// it.
func (s *Store) AllowNode(ctx context.Context, h cluster.HostName) error {
	if h == "" || strings.Contains(string(h), "/") {
		return fmt.Errorf("let %q into etcd: it is not the name of a host", h)
	}
	_, err, _ := s.allowing.Do(string(h), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), allowTime)
		defer cancel()
		return nil, s.allowNode(ctx, h)
	})
	return err
}

// allowTime is how long it may take to let a host in.
const allowTime = 30 * time.Second

func (s *Store) allowNode(ctx context.Context, h cluster.HostName) error {
	user, folder := cluster.UserOf(h), cluster.NodeFolder(h)
	if u, err := s.client.UserGet(ctx, user); err == nil && len(u.Roles) == 1 && u.Roles[0] == user {
		return nil
	}
	// What does not need the other is asked for at once, so that many hosts that
	// join wait little. The user gets the role last: it counts as done by that.
	steps := [][]func() error{
		{
			func() error { _, err := s.client.RoleAdd(ctx, user); return err },
			func() error { return s.addUser(ctx, user) },
		},
		{
			func() error { return s.grant(ctx, user, folder, clientv3.GetPrefixRangeEnd(folder), clientv3.PermRead) },
			func() error { return s.grant(ctx, user, cluster.StatusKey(h), "", clientv3.PermReadWrite) },
			func() error { return s.grant(ctx, user, cluster.AliveKey(h), "", clientv3.PermReadWrite) },
		},
		{func() error { _, err := s.client.UserGrantRole(ctx, user, user); return err }},
	}
	for _, together := range steps {
		var g errgroup.Group
		for _, step := range together {
			g.Go(func() error { return ignoreExisting(step()) })
		}
		if err := g.Wait(); err != nil {
			return fmt.Errorf("let %s into etcd: %w", h, err)
		}
	}
	return nil
}

// PrepareNode makes the etcd user of a host that has yet to join, so that a thousand
// which join at once need not wait for that: AllowNode then finds it. Of a host that
// was shut out it makes none while a certificate from before may hold.
func (s *Store) PrepareNode(ctx context.Context, h cluster.HostName) error {
	retired, err := s.isRetired(ctx, h)
	if err != nil || retired {
		return err
	}
	if err := s.AllowNode(ctx, h); err != nil {
		return err
	}
	if retired, err = s.isRetired(ctx, h); err != nil || !retired {
		return err
	}
	if _, err := s.client.UserDelete(ctx, cluster.UserOf(h)); err != nil && !errors.Is(err, rpctypes.ErrUserNotFound) {
		return fmt.Errorf("shut %s out of etcd: %w", h, err) // it was at the same moment
	}
	return nil
}

// retiredKept outlasts a host's certificate, which holds for a day.
const retiredKept = 25 * time.Hour

func (s *Store) isRetired(ctx context.Context, h cluster.HostName) (bool, error) {
	r, err := s.client.Get(ctx, cluster.RetiredKey(h), clientv3.WithCountOnly())
	if err != nil {
		return false, fmt.Errorf("ask whether %s was shut out: %w", h, err)
	}
	return r.Count > 0, nil
}

// ForgetNode removes a host's etcd user, its folder and its introduction: its
// certificate opens nothing from then on.
func (s *Store) ForgetNode(ctx context.Context, h cluster.HostName) error {
	user := cluster.UserOf(h)
	lease, err := s.client.Grant(ctx, int64(retiredKept.Seconds()))
	if err != nil {
		return fmt.Errorf("shut %s out of etcd: %w", h, err)
	}
	if _, err := s.client.Put(ctx, cluster.RetiredKey(h), "", clientv3.WithLease(lease.ID)); err != nil { // first: see PrepareNode
		return fmt.Errorf("shut %s out of etcd: %w", h, err)
	}
	if _, err := s.client.UserDelete(ctx, user); err != nil && !errors.Is(err, rpctypes.ErrUserNotFound) {
		return fmt.Errorf("shut %s out of etcd: %w", h, err)
	}
	if _, err := s.client.RoleDelete(ctx, user); err != nil && !errors.Is(err, rpctypes.ErrRoleNotFound) {
		return fmt.Errorf("shut %s out of etcd: %w", h, err)
	}
	_, err = s.client.Txn(ctx).Then(
		clientv3.OpDelete(cluster.NodeFolder(h), clientv3.WithPrefix()),
		clientv3.OpDelete(cluster.IntroductionKey(h)),
	).Commit()
	if err != nil {
		return fmt.Errorf("remove what etcd holds for %s: %w", h, err)
	}
	return nil
}
