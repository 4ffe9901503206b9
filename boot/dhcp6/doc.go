// Package dhcp6 answers DHCPv6 on the wire (RFC 8415): it lends addresses, from a
// pool or reserved, directly and through relays, answers those who only want to
// know, and tells firmware what boot.Decide says it gets (RFC 5970, and UEFI as
// EDK2 is seen to read it).
//
// A packet goes one way: wire -> message (decoded) -> exchange (whose network,
// which host, what to boot) -> book (which address) -> committer (durable, many
// in one transaction) -> wire. No Reply that lends leaves before its lease is
// durable.
//
// Leases belong to hardware addresses, as those of package dhcp do: firmware,
// iPXE and the operating system come with a DUID and an IAID each, and the
// address has to stay the same through a boot. An IPv6 network is so sparse that
// an address follows from the hardware address by a hash. So nothing is kept of
// a Solicit, and every server that shares the leases advertises the same.
//
// Prefixes are not delegated, temporary addresses not lent, and clients not
// woken up (Reconfigure). Which file a machine boots is not decided here, and
// neither are documents read here.
package dhcp6
