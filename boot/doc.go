// Package boot decides what a machine gets that asks the network how to boot.
//
// A Request is what the machine says of itself, whatever protocol it says it
// in. Decide, which does no I/O, answers it with a Reply: the name of a loader,
// or a URL, or nothing. iPXE then fetches Entry, the script that every machine
// starts with, and through it Script, which is made for one machine. Recorder
// keeps the timeline of every boot.
//
// The wires are elsewhere: DHCP in package dhcp, TFTP in package tftp, HTTP in
// package httpboot. What a host is told once it runs is package ignition's.
package boot
