package agent

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/secret"
)

func TestVault(t *testing.T) {
	v := VaultForTest(t)
	owners := map[string]string{}
	v.chown = func(path string, uid, gid int) error {
		b, err := os.ReadFile(path)
		owners[string(b)] = fmt.Sprintf("%d:%d", uid, gid)
		return err
	}
	if err := v.Open(); err != nil {
		t.Fatal(err)
	}
	slot := Slot{Key{"shop", "web"}, "abc"}
	values := map[cluster.SecretName]secret.Value{"a": secret.NewValue([]byte("A")), "b": secret.NewValue([]byte("B")), "c": secret.NewValue([]byte("C"))}
	service := cluster.Service{Secrets: []cluster.SecretMount{{Name: "a"}, {Name: "b", Target: "bee", Mode: 0o440, UID: 7, GID: 8}, {Name: "c", GID: 9}}}
	for range 2 { // again is the same
		if err := v.Write(slot, service, "1000:1001", values); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range map[string]struct {
		value, owner string
		mode         fs.FileMode
	}{"a": {"A", "1000:1001", 0o400}, "bee": {"B", "7:8", 0o440}, "c": {"C", "0:9", 0o400}} {
		path := filepath.Join(v.Path(slot), file)
		b, err := os.ReadFile(path)
		st, _ := os.Stat(path)
		if err != nil || string(b) != want.value || st.Mode() != want.mode || owners[want.value] != want.owner {
			t.Errorf("%s: %q %v, owner %s, %v", file, b, st, owners[want.value], err)
		}
	}
	for dir, mode := range map[string]fs.FileMode{v.Dir: 0o700, filepath.Join(v.Dir, "shop"): 0o700, v.Path(slot): 0o755} {
		if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", dir, st.Mode(), err)
		}
	}
	if slots, err := v.Slots(); err != nil || len(slots) != 1 || slots[0] != slot {
		t.Errorf("%v %v", slots, err)
	}
	if err := v.Remove(slot); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(v.Dir, "shop")); !os.IsNotExist(err) {
		t.Errorf("a removed site has left something: %v", err)
	}
	if err := v.Remove(slot); err != nil {
		t.Errorf("removed again: %v", err)
	}
}

func TestVaultRefuses(t *testing.T) {
	v := VaultForTest(t)
	value := map[cluster.SecretName]secret.Value{"a": secret.NewValue([]byte("A"))}
	for _, c := range []struct {
		slot  Slot
		mount cluster.SecretMount
		user  string
		says  string
	}{
		{Slot{Key{"..", "web"}, "h"}, cluster.SecretMount{Name: "a"}, "", "rename it"},
		{Slot{Key{"shop", "a/b"}, "h"}, cluster.SecretMount{Name: "a"}, "", "rename it"},
		{Slot{Key{"shop", "web"}, ""}, cluster.SecretMount{Name: "a"}, "", "rename it"},
		{Slot{Key{".new", "web"}, "h"}, cluster.SecretMount{Name: "a"}, "", "rename it"},
		{Slot{Key{"shop", "web"}, "h"}, cluster.SecretMount{Name: "a", Target: "../../x"}, "", "set target: a"},
		{Slot{Key{"shop", "web"}, "h"}, cluster.SecretMount{Name: "a"}, "nobody", "set user: UID[:GID]"},
		{Slot{Key{"shop", "web"}, "h"}, cluster.SecretMount{Name: "a"}, "-1", "set user: UID[:GID]"},
	} {
		err := v.Write(c.slot, cluster.Service{Secrets: []cluster.SecretMount{c.mount}}, c.user, value)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if slots, err := v.Slots(); err != nil {
		t.Error(err)
	} else {
		for _, s := range slots {
			if files, _ := os.ReadDir(v.Path(s)); len(files) > 0 {
				t.Errorf("left in %s: %v", s, files)
			}
		}
	}
	if left, _ := os.ReadDir(filepath.Join(v.Dir, newFolder)); len(left) > 0 {
		t.Errorf("half written and left: %v", left)
	}
	if err := MountVault("relative"); err == nil || !strings.Contains(err.Error(), "--secrets /run/pilotlight/secrets") {
		t.Errorf("relative: %v", err)
	}
}

func TestRedact(t *testing.T) {
	values := map[cluster.SecretName]secret.Value{"a": secret.NewValue([]byte("line one\nline two\n")), "b": secret.NewValue([]byte("s3cr3t"))}
	for in, want := range map[string]string{
		"login with s3cr3t failed\n":            "login with [secret] failed",
		"line one\r\nand line two":              "[secret]\nand [secret]",
		"s3\x00cr3t":                            "[secret]",
		"\x1b[31mred\x1b[0m \xff":               "[31mred[0m ?",
		strings.Repeat("x", maxWords+100) + "y": strings.Repeat("x", maxWords-1) + "y",
	} {
		if got := redact([]byte(in), values); got != want {
			t.Errorf("%.40q became %.60q, not %.60q", in, got, want)
		}
	}
}
