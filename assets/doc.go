// Package assets keeps the files that machines boot from: kernels, initial RAM
// disks and root file systems, each under its sha256 in one directory.
//
// A file is in the store whole and verified, or it is not there. It comes to its
// name by a rename, after all of it was written, synced, read back and hashed;
// what is still on its way, what failed and what was found damaged are in
// folders from which nothing is served:
//
//	blobs/SHA256     verified files, read-only
//	partial/SHA256   downloads that go on where they ended
//	damaged/...      files that were not what their name says, until Collect
//	index.json       what each file looked like when it was hashed last
//
// Open serves a file only while it looks as it did when it was hashed (size,
// times, inode); when it does not, it is hashed again before a byte of it is
// served. The index is a memory only: without it everything is hashed once more.
//
// A file of the server's own disk (file://) is copied, by reference where the
// file system can (XFS, Btrfs), and then hashed: what is served does not change
// when the original does. A hard link would change with it.
//
// A file that is pinned is asked of the fellow servers first, which give what
// their stores have by its sha256, and then of its publisher.
//
// The package refuses to fetch over a network what no sha256 pins and nobody
// vouches for, and starts nothing by itself. What streams and signatures are knows
// package release.
package assets
