// Package join introduces a host: its agent redeems a single-use token for a
// certificate of its own, fetches it again if the answer was lost, and renews
// it. Client is the host's side.
package join

import "github.com/pilotlight/pilotlight/cluster"

// The paths of the introduction, below https://SERVER.
const (
	PathJoin         = "/v1/join"               // POST a Request
	PathCertificates = "/v1/join/certificates/" // GET, and a key's hash: the answer to a Request that was lost
	PathRenew        = "/v1/renew"              // POST a RenewRequest with the host's certificate
)

// Request is what a host says when it is introduced.
type Request struct {
	Token     string       `json:"token"`
	CSR       string       `json:"csr"`       // PEM; its key never leaves the host
	Recipient string       `json:"recipient"` // age1...: what the host's secrets are to be sealed to
	MAC       cluster.MAC  `json:"mac"`
	UUID      cluster.UUID `json:"uuid,omitempty"`
}

// RenewRequest asks for a new certificate over a connection that the present
// one authenticates.
type RenewRequest struct {
	CSR string `json:"csr"` // PEM
}

// Response is what a host that was introduced gets.
type Response struct {
	Host        cluster.HostName `json:"host"`
	Certificate string           `json:"certificate"` // PEM; its common name is the host's etcd user
	CA          string           `json:"ca"`          // PEM, one or more: the authorities to trust from now on
}
