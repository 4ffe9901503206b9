// Package agent is the loop of one host: it keeps the containers running that
// the host must run, with their secrets, and says how they are.
//
// Plan is its heart and does no I/O: from what is desired, what is there and
// the time it says what to do next, at most one action a service. Agent carries
// the actions out, looks again, and asks Plan again; so it may be killed at any
// point and goes on from what it finds. Containers are known by their labels,
// and a running one whose Hash is still desired is never touched.
//
// The last known desire is kept on disk, its secrets still sealed. Losing etcd,
// every server, or the certificate therefore stops nothing, and a reboot
// without any of them brings everything back. Only a desire that was read, and
// says so, removes a container: what could not be read changes nothing.
//
// Identity and Admission are how a host gets in: keys made here, a token
// redeemed, a certificate renewed.
//
// What it does not do: it does not choose what runs where, it opens no
// listener, and it knows neither Docker nor etcd: Runtime and Link are theirs.
package agent
