package main

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"strings"

	"github.com/pilotlight/pilotlight/cluster"
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

// registryRole lets operators push, and hosts that are introduced pull.
func (s *server) registryRole(r *http.Request) registry.Role {
	if _, ok := operator(r); ok {
		return registry.Pusher
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
