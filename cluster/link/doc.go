// Package link is the agent's side of etcd: one watch on what is the host's
// own, its status, and the lease by which the servers know that it lives.
//
// Nothing outside of cluster.NodeFolder(host) is read or written. Whatever
// fails is tried again, with growing pauses, for as long as the link runs: to
// lose etcd is an everyday thing, and never a reason to change what runs.
package link
