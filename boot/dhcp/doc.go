// Package dhcp answers DHCPv4 on the wire: it lends addresses, from a pool or
// reserved, directly and through relays (RFC 2131, 2132, 3046, 3527, 5107, 6842), and tells
// firmware what boot.Decide says it gets (RFC 4578, and the PXE and UEFI
// specifications as firmware is seen to read them). Beside somebody else's server
// it does the second only: proxy DHCP (PXE 2.1, section 2.2).
//
// A packet goes one way: wire -> message (decoded) -> exchange (whose network,
// which host, what to boot) -> book (which address) -> committer (durable, many
// in one transaction) -> wire. No acknowledgement leaves before its lease is
// durable. Leases belong to hardware addresses, never to client identifiers:
// firmware, iPXE, the initial RAM disk and the operating system send different
// ones, and the address has to stay the same through a boot.
//
// Before an address is offered anew, prober looks whether somebody uses it; the
// offer waits, and nothing else does. A host that is known by its switch port is
// known by the lease where no relay says the port.
//
// Watch finds the other servers of a network and says what they do to a boot.
//
// Which file a machine boots is not decided here, and neither are documents
// read here: that is package boot's and cluster.Snapshot's.
package dhcp
