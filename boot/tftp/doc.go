// Package tftp serves loaders over TFTP (RFC 1350), read-only, to the firmware
// of machines that cannot do better, with the options blksize (RFC 2348), tsize
// and timeout (RFC 2349) and windowsize (RFC 7440), agreed on as RFC 2347 says.
//
// The port is pin/tftp's: it runs the loop that reads it, refuses what is not a
// read request, and encodes netascii. Read requests are taken out in front of it
// (front) and sent by a sender of our own (transfer), because the library knows
// no windows, and keeps a request's options and its socket to itself.
//
// A transfer is one goroutine, one connected socket and no memory of what it
// sent: a block's number says where in the file it is, so what is lost is read
// again. A window leaves in one system call where the kernel cuts it into
// datagrams (UDP_SEGMENT), else block by block. Without windows, and while
// transfers are few, a quick client's answer is looked for before the server
// sleeps (eager).
//
// The package confines all this to one directory, ties it to a context, keeps
// ROMs that look only at a file's size out of the log, and tells the boot's
// timeline who fetched what. It does not write files, retry for ever, or answer
// broadcasts.
package tftp
