//go:build lab

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
)

func itoa(n int) string { return strconv.Itoa(n) }

// agentState is where an agent keeps its keys and certificate.
const agentState = "/var/lib/pilotlight-agent"

// refusal is etcd's own, and that of the guard before it.
var refusal = regexp.MustCompile(`(?i)permission ?denied`)

// etcd asks etcd with a host's own certificate, by etcd's own client.
func (l *labTest) etcd(t *testing.T) {
	for i, m := range l.machines {
		dir := t.TempDir()
		ca := filepath.Join(dir, "ca.crt")
		if err := os.WriteFile(ca, []byte(l.agentConfig(t, m).CA), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"node.crt", "node.key"} {
			text := l.on(t, m, `cat `+agentState+`/`+name)
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		ask := func(args ...string) (string, error) {
			out, err := output(l.ctx, l.network, nil, []string{"ETCDCTL_API=3"}, append([]string{
				"etcdctl", "--endpoints", "https://" + serverAddress + ":2379", "--cacert", ca,
				"--cert", filepath.Join(dir, "node.crt"), "--key", filepath.Join(dir, "node.key"),
			}, args...)...)
			return string(out), err
		}
		own := cluster.NodeFolder(cluster.HostName(m.name))
		if out, err := ask("get", "--prefix", own, "--keys-only"); err != nil || !strings.Contains(out, own+"desired") {
			t.Errorf("%s cannot read its own prefix: %v\n%s", m.name, err, out)
		}
		other := cluster.NodeFolder(cluster.HostName(l.machines[1-i].name))
		for _, args := range [][]string{
			{"get", "--prefix", cluster.Folder(cluster.KindSecret)},
			{"get", "--prefix", other},
			{"get", "--prefix", cluster.Root},
			{"get", "--prefix", cluster.NodesFolder},
			{"put", other + "desired", "{}"},
			{"del", "--prefix", other},
			{"user", "list"},
			{"watch", "--prefix", cluster.Root},
		} {
			out, err := ask(args...)
			if err == nil || !refusal.MatchString(err.Error()) {
				t.Errorf("%s may: etcdctl %v: %v\n%s", m.name, args, err, out)
			}
		}
	}
}

// serverKeepsSecret looks through all files that the server wrote.
func (l *labTest) serverKeepsSecret(t *testing.T) {
	for _, at := range []string{l.server.data, l.logs, l.manifests()} {
		seen := 0
		err := filepath.WalkDir(at, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil // etcd has replaced it since
			}
			if err != nil {
				return err
			}
			seen++
			if bytes.Contains(b, []byte(l.secret)) {
				t.Errorf("the secret is in %s", path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if seen == 0 {
			t.Errorf("there is no file in %s: nothing was looked through", at)
		}
	}
	for _, args := range [][]string{{"get", "-o", "yaml"}, {"secret", "list", "-o", "json"}, {"audit", "-o", "json"}, {"site", "status", "-o", "json"}, {"render", "n1"}} {
		out, err := l.server.run(l.ctx, nil, args...)
		if err != nil {
			t.Errorf("pilotlight %v: %v", args, err)
		}
		if bytes.Contains(out, []byte(l.secret)) {
			t.Errorf("the secret is in what `pilotlight %s` prints", strings.Join(args, " "))
		}
	}
}

// nodeSearch prints where on a node the secret is. It comes by a here document,
// lies in a file below /run while it is searched for, and is searched for in
// what is written to disks, to Docker, to the journal, and given to processes.
// Memory file systems that are meant to hold it (below /run/pilotlight and in
// the container at /run/secrets) are not below the roots that are searched.
const nodeSearch = `
set -u
umask 077
pattern=$(mktemp -p /run)
trap 'rm -f "$pattern"' EXIT
cat >"$pattern" <<'SECRET'
%s
SECRET
found() { sed "s|^|$1: |"; }
find / /var/lib/docker /tmp /dev/shm -xdev -type f -print0 | xargs -0 grep -lFf "$pattern" | sort -u | found file
find /run -xdev -type f -not -path '/run/pilotlight/*' -not -path "$pattern" -print0 | xargs -0 -r grep -lFf "$pattern" | found run
journalctl --no-pager -o export | grep -cFf "$pattern" | grep -v '^0$' | found journal
docker ps -aq | xargs -r docker inspect | grep -cFf "$pattern" | grep -v '^0$' | found inspect
docker ps -aq | xargs -rn1 docker logs 2>&1 | grep -cFf "$pattern" | grep -v '^0$' | found logs
for p in /proc/[0-9]*; do
  [ "$p" != "/proc/$$" ] || continue
  if grep -qsFf "$pattern" "$p/environ" "$p/cmdline"; then echo "$p" | found process; fi
done
find / -xdev -type f | wc -l | sed 's/^/searched: /'
docker inspect --format '{{range .Mounts}}{{.Source}} {{.Destination}} {{.RW}}{{"\n"}}{{end}}' $(docker ps -q)
findmnt -no FSTYPE -T /run/pilotlight
`

// planted is a file that nobody but the test makes: a search that does not find
// it proves nothing.
const planted = "/var/lib/planted-by-lab-test"

func (l *labTest) searchFindsPlant(t *testing.T) {
	m := l.machines[0]
	l.on(t, m, "umask 077; cat >"+planted+" <<'SECRET'\nx"+l.secret+"y\nSECRET\n")
	out := l.on(t, m, fmt.Sprintf(nodeSearch, l.secret))
	l.on(t, m, "rm "+planted)
	if !strings.Contains(out, "file: "+planted) {
		t.Errorf("the search does not find the secret in %s:\n%s", planted, out)
	}
}

func (l *labTest) nodeKeepsSecret(t *testing.T) {
	for _, m := range l.machines {
		out := l.on(t, m, fmt.Sprintf(nodeSearch, l.secret))
		searched := 0
		for line := range strings.Lines(out) {
			what, detail, _ := strings.Cut(strings.TrimSpace(line), ": ")
			switch what {
			case "file", "run", "journal", "inspect", "logs", "process":
				t.Errorf("%s: the secret is in %s %s", m.name, what, detail)
			case "searched":
				searched, _ = strconv.Atoi(detail)
			}
		}
		t.Logf("%s: %s", m.name, out)
		if searched < 1000 {
			t.Errorf("%s: only %d files were searched", m.name, searched)
		}
		if !strings.HasSuffix(out, "tmpfs") {
			t.Errorf("%s: secrets are not on tmpfs", m.name)
		}
	}
}
