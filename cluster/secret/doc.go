// Package secret keeps values that must not be seen: a Value cannot be printed,
// an Identity is a host's or a server's own age key, and a Sealed is a value in
// an envelope that can lie in etcd.
//
// Most callers need three calls: Seal on the operator's way in, For when the
// leader hands a secret on to a host, Open on the host.
//
// The value is sealed once, with AES-256-GCM under a random data key of its
// own; its name and version are authenticated with it, so that a box does not
// open under another name. The data key is wrapped with age (X25519) for each
// recipient by itself: to hand a secret on costs one wrap, whatever its size,
// and shows no recipient anything of the others.
//
// What it does not do: it does not say who sealed. Whoever may write a box to
// the store may put another in its place; the store's access rules guard that.
package secret
