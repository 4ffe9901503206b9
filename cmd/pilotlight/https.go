package main

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/pilotlight/pilotlight/cluster"
	"github.com/pilotlight/pilotlight/cluster/etcd"
	"github.com/pilotlight/pilotlight/cluster/registry"
)

// secureConfig is how the HTTPS listener speaks: a certificate is asked for and,
// when one is shown, verified. An introduction comes without.
func (s *server) secureConfig() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12, // Docker's client of the registry, and Ignition's, may be old
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.certificate.Load(), nil },
		ClientAuth:     tls.VerifyClientCertIfGiven,
		ClientCAs:      s.data.ca.Pool(),
	}
}

func peer(r *http.Request) (*x509.Certificate, bool) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return nil, false
	}
	return r.TLS.PeerCertificates[0], true
}

// operator returns the name of the operator who asks.
func operator(r *http.Request) (string, bool) {
	cert, ok := peer(r)
	if !ok {
		return "", false
	}
	return operatorOf(cert)
}

// isServer reports whether it is a server that asks: with the certificate by which
// servers are etcd's root, and which no host and no operator gets.
func isServer(r *http.Request) bool {
	cert, ok := peer(r)
	return ok && cert.Subject.CommonName == etcd.RootUser && len(cert.Subject.Organization) == 0
}

// giveFellow gives another server a file of an image.
func (s *server) giveFellow(w http.ResponseWriter, r *http.Request) {
	if !isServer(r) {
		http.Error(w, "this is for servers among themselves", http.StatusForbidden)
		return
	}
	s.boot.files.ServeFellow(w, r, r.PathValue("sha256"))
}

// fellowClient asks other servers, as one of them.
func (s *server) fellowClient() (*http.Client, error) {
	config, err := s.data.etcdClient()
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: config, ForceAttemptHTTP2: true,
		DialContext:         (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second, ResponseHeaderTimeout: time.Minute, IdleConnTimeout: time.Minute,
	}}, nil
}

// fellowURLs is where the other servers are.
func (s *server) fellowURLs() (out []string) {
	for _, o := range s.servers() {
		if o.Name == s.place.Name {
			continue
		}
		for _, a := range o.Addresses {
			out = append(out, "https://"+netip.AddrPortFrom(a, o.HTTPS).String())
		}
	}
	return out
}

// registryRole lets operators push, hosts that are introduced pull, and servers.
func (s *server) registryRole(r *http.Request) registry.Role {
	if _, ok := operator(r); ok {
		return registry.Pusher
	}
	if isServer(r) {
		return registry.Fellow
	}
	cert, ok := peer(r)
	if !ok {
		return registry.Nobody
	}
	host, ok := strings.CutPrefix(cert.Subject.CommonName, cluster.UserOf(""))
	if !ok {
		return registry.Nobody
	}
	if _, _, err := s.store.Introduction(r.Context(), cluster.HostName(host)); err != nil {
		return registry.Nobody // retired since
	}
	return registry.Puller
}
