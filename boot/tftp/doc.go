// Package tftp serves loaders over TFTP (RFC 1350, 2347, 2348, 2349), read-only,
// to the firmware of machines that cannot do better.
//
// The protocol is pin/tftp's. This package confines it to one directory, ties
// it to a context, keeps ROMs that look only at a file's size out of the log,
// and tells the boot's timeline who fetched what.
package tftp
