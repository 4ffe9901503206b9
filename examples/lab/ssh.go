package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// sshUser is whose keys the manifests' ssh_keys are.
const sshUser = "core"

// sshKey is the key that the manifests let in.
type sshKey struct {
	file   string // for people
	public string
	signer ssh.Signer
}

// openSSHKey reads the lab's key, and makes it when there is none.
func openSSHKey(dir string) (sshKey, error) {
	file := filepath.Join(dir, "id_ed25519")
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = makeSSHKey(file)
	}
	if err != nil {
		return sshKey{}, fmt.Errorf("the key for ssh: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return sshKey{}, fmt.Errorf("the key for ssh: %s: %w; remove it for a new one", file, err)
	}
	public := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))) + " lab"
	return sshKey{file: file, public: public, signer: signer}, nil
}

func makeSSHKey(file string) ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "pilotlight lab")
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(block)
	return text, os.WriteFile(file, text, 0o600)
}

// remote is a connection to a machine.
type remote struct{ client *ssh.Client }

// connect logs in to a machine. Its host key is not checked: it was made minutes
// ago, on a network that nobody else is on.
func connect(ctx context.Context, in *namespace, address string, key sshKey) (*remote, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	address = net.JoinHostPort(address, "22")
	conn, err := in.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	// The handshake has no context of its own.
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	c, channels, requests, err := ssh.NewClientConn(conn, address, &ssh.ClientConfig{
		User: sshUser, Auth: []ssh.AuthMethod{ssh.PublicKeys(key.signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("ssh %s@%s: %w", sshUser, address, err)
	}
	_ = conn.SetDeadline(time.Time{})
	return &remote{ssh.NewClient(c, channels, requests)}, nil
}

// root runs a shell script as root and returns what it printed. The script is
// no argument of any process, so that nothing in it shows in a list of them.
func (r *remote) root(ctx context.Context, script string) (string, error) {
	return r.exec(ctx, "sudo -n /bin/bash -s", strings.NewReader(script))
}

func (r *remote) exec(ctx context.Context, command string, stdin io.Reader) (string, error) {
	session, err := r.client.NewSession()
	if err != nil {
		return "", err
	}
	defer session.Close()
	stop := context.AfterFunc(ctx, func() { _ = session.Close() })
	defer stop()
	var out, said bytes.Buffer
	session.Stdin, session.Stdout, session.Stderr = stdin, &out, &said
	if err := session.Run(command); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return out.String(), fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))
	}
	return out.String(), nil
}

func (r *remote) close() error { return r.client.Close() }
