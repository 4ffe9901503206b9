// Package clustertest holds Memory, a working store without etcd for tests, and
// TestStore, the suite that Memory and package etcd both pass: what it asks is
// what every part of pilotlight may rely on.
//
// Memory keeps nothing on disk, forgets nothing by itself and knows no
// certificates. Nothing outside tests imports it.
package clustertest
