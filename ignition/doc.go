// Package ignition makes what a host is told when it boots: the profile's
// template and the host become Butane, Butane becomes Ignition, and pilotlight's
// own part (host name, SSH keys, agent, introduction token) is merged in. The
// same host can be told the same by a #cloud-config.
//
// Compile does all the work that costs anything, once, when a document changes:
//
//	template -> Butane (or Ignition v3 JSON, or #cloud-config) -> parsed and
//	checked -> pilotlight's part merged in -> checked again in every version of
//	the Ignition spec that it may be served in -> cut at its holes
//
// What remains for a request is to choose the version that the client asked for
// and to copy the pieces with the token between them: Config.Ignition and
// Config.CloudConfig touch neither Butane nor JSON.
//
// It refuses rather than guesses. A missing variable, an unknown key, a file or
// unit that pilotlight writes itself, a field that the asked version does not
// have: each is an error that names the document, the line and what to type.
// Nothing is ever dropped from a config to make it fit, and there is no empty
// config: a client that read one would boot into nothing.
//
// # On the hosts
//
// The agent's binary is /opt/pilotlight/bin/pilotlight-agent, the one place that
// suits all three: Flatcar's /usr is read-only and Fedora CoreOS's /opt is a
// link to /var/opt, which exists when Ignition writes its files. Under SELinux
// (Fedora CoreOS) Ignition labels each file that it writes by the policy, in
// which /opt/*/bin is bin_t, so that systemd may run it; /etc/pilotlight is
// etc_t. A path under /var/lib would be var_lib_t, which systemd may not run.
//
// Ignition writes the whole config that it was given to its log, and with it the
// introduction token, which is why a token is good for one use and a few minutes.
// Debian's Ignition also wants setfiles, /etc/selinux/config and a file_contexts
// in the system that it writes to, even where there is no SELinux, and it puts
// SSH keys into ~/.ssh/authorized_keys.d/ignition, of which sshd must be told,
// unless IGNITION_WRITE_AUTHORIZED_KEYS_FRAGMENT=false is in its environment.
//
// The package does no I/O, keeps no clock and imports nothing of boot. It is the
// only importer of Butane.
package ignition
