package assets

import "errors"

// Sentinels on which callers branch.
var (
	// ErrNotFetched: the file is not in the store. Fetch gets it.
	ErrNotFetched = errors.New("not fetched")

	// ErrMismatch: a file is not what its sha256 says. It is never served.
	ErrMismatch = errors.New("sha256 mismatch")

	// ErrRefused: whoever was to vouch for a file did not. It is not kept.
	ErrRefused = errors.New("not vouched for")

	// ErrDamaged: a file in the store has changed, and was moved aside.
	ErrDamaged = errors.New("damaged in the store")

	// ErrUnpinned: a file from a network has no sha256.
	ErrUnpinned = errors.New("no sha256")

	// ErrDiskFull: there is no room for the file. What came of it was removed.
	ErrDiskFull = errors.New("no space left")
)
