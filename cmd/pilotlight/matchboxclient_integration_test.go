//go:build integration

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/poseidon/matchbox/matchbox/client"
	"github.com/poseidon/matchbox/matchbox/server/serverpb"
)

// deleteByAPI deletes by matchbox's own client, since its command line has no
// verb for it.
func deleteByAPI(t *testing.T, m *mover, kind, id string) {
	t.Helper()
	dir := filepath.Join(m.dir, "certs")
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	c, err := client.New(&client.Config{Endpoints: []string{m.grpc}, DialTimeout: 10 * time.Second, TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: []tls.Certificate{cert}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	switch kind {
	case "group":
		_, err = c.Groups.GroupDelete(ctx, &serverpb.GroupDeleteRequest{Id: id})
	case "profile":
		_, err = c.Profiles.ProfileDelete(ctx, &serverpb.ProfileDeleteRequest{Id: id})
	}
	if err != nil {
		t.Fatalf("delete %s %s: %v", kind, id, err)
	}
}

// refusedTLS shows a certificate of another authority, and none. Matchbox's own
// client would try for ever.
func refusedTLS(t *testing.T, m *mover, foreign string) {
	t.Helper()
	mallory, err := tls.LoadX509KeyPair(foreign+".crt", foreign+".key")
	if err != nil {
		t.Fatal(err)
	}
	for what, certs := range map[string][]tls.Certificate{"a foreign certificate": {mallory}, "no certificate": nil} {
		c, err := tls.Dial("tcp", m.grpc, &tls.Config{InsecureSkipVerify: true, Certificates: certs, NextProtos: []string{"h2"}})
		if err == nil {
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
			_, err = c.Read(make([]byte, 1)) // TLS 1.3 tells a client behind its handshake
			c.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "remote error: tls") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
