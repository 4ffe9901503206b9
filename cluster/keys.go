package cluster

import (
	"fmt"
	"net/netip"
)

// Root is the prefix of every key that pilotlight keeps in etcd.
const Root = "/pilotlight/v1/"

// Where things are kept. A folder ends in a slash.
const (
	LeasesFolder        = Root + "leases/"
	BootsFolder         = Root + "boots/"
	TokensFolder        = Root + "tokens/"
	IntroductionsFolder = Root + "introductions/"
	KeyOwnersFolder     = Root + "keyowners/" // which host a key was certified for, for an hour
	NodesFolder         = Root + "nodes/"
	InstallsFolder      = Root + "installs/"
	ServersFolder       = Root + "servers/"
	RetiredFolder       = Root + "retired/" // hosts that were shut out, while a certificate of theirs may hold
	InvitesFolder       = Root + "invites/" // for servers that may join: their hash
	AuditFolder         = Root + "audit/"
	SeedFolder          = Root + "seed/"   // digests of what serve DIR applied last, by server
	LeaderFolder        = Root + "leader"  // the control loop's election
	AppliedKey          = Root + "applied" // the refs that the last apply wrote; its revision guards the next one
)

// Folder returns the folder of the documents of kind k.
func Folder(k Kind) string { return Root + k.Plural() + "/" }

// DocumentKey returns where a document is kept.
func DocumentKey(r Ref) string { return Folder(r.Kind) + r.Name }

// SecretValueKey returns where the sealed value of one version of a secret is.
func SecretValueKey(v Version) string {
	return fmt.Sprintf("%s%s/%08d", Folder(KindSecret), v.Name, v.Version)
}

// NodeFolder returns the only prefix that a host's agent may read and write.
func NodeFolder(h HostName) string { return NodesFolder + string(h) + "/" }

// DesiredKey returns where a host's Desired is.
func DesiredKey(h HostName) string { return NodeFolder(h) + "desired" }

// StatusKey returns where a host's Status is.
func StatusKey(h HostName) string { return NodeFolder(h) + "status" }

// AliveKey returns where a host's liveness key is, under its lease.
func AliveKey(h HostName) string { return NodeFolder(h) + "alive" }

// NodeSecretsFolder returns where the secrets are that are sealed to a host.
func NodeSecretsFolder(h HostName) string { return NodeFolder(h) + "secrets/" }

// LeaseKey returns where the lease of an address is.
func LeaseKey(n NetworkName, a netip.Addr) string {
	return LeasesFolder + string(n) + "/" + a.String()
}

// UserOf returns the etcd user, and so the certificate's common name, of a
// host's agent.
func UserOf(h HostName) string { return "node:" + string(h) }

// NodeSecretKey returns where one version of a secret is that is sealed to a
// host.
func NodeSecretKey(h HostName, v Version) string {
	return fmt.Sprintf("%s%s/%08d", NodeSecretsFolder(h), v.Name, v.Version)
}

// TokenKey returns where a token's record is. hash is the SHA-256 of the token
// in hexadecimal.
func TokenKey(hash string) string { return TokensFolder + hash }

// IntroductionKey returns where a host's last introduction is.
func IntroductionKey(h HostName) string { return IntroductionsFolder + string(h) }

// InstallKey returns where it is kept how far the installation of a host is.
func InstallKey(h HostName) string { return InstallsFolder + string(h) }

// BootKey returns where the timeline of one boot is.
func BootKey(h HostName, id string) string { return BootsFolder + string(h) + "/" + id }

// ServerKey returns where a server tells of itself.
func ServerKey(n ServerName) string { return ServersFolder + string(n) }

// InviteKey returns where the hash of a token is with which a server may join.
func InviteKey(hash string) string { return InvitesFolder + hash }

// RetiredKey returns where it stands that a host was shut out lately.
func RetiredKey(h HostName) string { return RetiredFolder + string(h) }
