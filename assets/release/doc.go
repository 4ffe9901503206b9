// Package release finds the releases of Fedora CoreOS and Flatcar, verifies who
// signed their files, and pins them: an image document with a stream: becomes one
// with URLs and sha256s, for an operator to look at and apply.
//
// A stream's own word is worth no more than the TLS that it came by, so every file
// must bear a good signature (OpenPGP, detached) of the system's key before its
// sha256 is written down. A key that has expired or was revoked signs nothing,
// whenever it says that it did.
//
// It changes nothing that is applied, and what machines get follows from what is.
// It is the only importer of OpenPGP and of the streams' format.
package release
