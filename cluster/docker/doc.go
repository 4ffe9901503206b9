// Package docker is the agent's Runtime on the Docker API.
//
// What it makes carries the labels io.pilotlight.host, site, service and hash,
// and is found by them alone; it sees no container of anybody else. Every
// container is hardened: no capability that its service does not name, no new
// privileges, a limit of processes, logs that rotate. A secret is never in an
// environment, an argument or a label, but in files that are mounted at
// /run/secrets.
//
// What it does not do: it builds no image, and it pulls none without a digest.
package docker
