# The lab: two machines that boot over the network. See examples/lab/main.go.
# The top Makefile includes this file.

.PHONY: lab lab-test lab-install lab-secure lab-vm lab-net lab-prepare lab-clean

lab: ## boot two machines over the network, until Ctrl-C (root)
	go run ./examples/lab

lab-test: ## the same, with everything asserted (root)
	go test -tags lab -count=1 -timeout 60m -v -run '^TestLab$$' ./examples/lab

lab-install: ## two machines are installed to their disks, once each, whatever they do (root; ten minutes)
	go test -tags lab -count=1 -timeout 60m -v -run '^TestInstall$$' ./examples/lab

lab-secure: ## a machine with Secure Boot on boots, and joins, by a signed shim and GRUB (root)
	go test -tags lab -count=1 -timeout 30m -v -run '^TestSecureBoot$$' ./examples/lab

lab-vm: ## virtual machines boot from their own disks, join by the metadata service or a CD, and hold their firewall after a restart (root)
	go test -tags lab -count=1 -timeout 80m -v -run '^TestVM' ./examples/lab

lab-net: ## a machine whose two cards are a bond with a VLAN on it joins, and serves its site by the VLAN alone (root)
	go test -tags lab -count=1 -timeout 30m -v -run '^TestNetwork$$' ./examples/lab

lab-prepare: ## make what the lab boots, and boot nothing; for the Vagrantfile (root)
	go run ./examples/lab -prepare

lab-clean: ## remove what the lab has cached
	go run ./examples/lab -clean
