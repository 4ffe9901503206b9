# What there is to do, one line each: make help

GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS   = -s -w -X main.version=$(VERSION)
BUILD     = build

.PHONY: help build test ring1 race lint vuln fuzz fuzz-strangers bench bench-peers integration terraform firmware firmware-all firmware-kinds storm tools firmware-tools clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

build: ## the two binaries, in build/
	@mkdir -p $(BUILD)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BUILD)/pilotlight ./cmd/pilotlight
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BUILD)/pilotlight-agent ./cmd/pilotlight-agent

test: lint ring1 fuzz-strangers integration firmware lab-test ## all three rings; installs the Debian packages that it needs

ring1 race: ## no root, no network beyond loopback, under the race detector
	$(GO) test -race -timeout 10m ./...

integration: tools build ## real clients against the real server, in network namespaces (root)
	$(GO) test -tags integration -run Integration -count 1 -timeout 20m ./...

terraform: ## Terraform and its matchbox provider, built for this, against matchbox's gRPC API (minutes the first time)
	$(GO) test -tags integration,terraform -run '^TestTerraform$$' -count 1 -timeout 30m -v ./cmd/pilotlight

firmware: firmware-tools ## emulated machines boot beside somebody else's DHCP server (root)
	$(GO) test -tags integration,firmware -run '^TestFirmware' -count 1 -timeout 60m -v ./boot

# What firmware of other kinds boots, fetched by examples/loaders/debian.
KINDS = $(CURDIR)/$(BUILD)/firmware
firmware-all: firmware firmware-kinds ## and firmware of every kind that Debian has, to Debian's kernel (root; ten minutes)
	PILOTLIGHT_FIRMWARE=$(KINDS) $(GO) test -tags integration,firmware -run '^TestMatrix' -count 1 -timeout 60m -v ./boot
firmware-kinds: firmware-tools
	$(call install,ovmf-ia32 qemu-system-arm qemu-efi-aarch64 u-boot-qemu grub-common)
	@test -e $(KINDS)/arm64/vmlinuz || { export DEBIAN_CACHE=$(KINDS)/packages; \
	  ./examples/loaders/debian loaders $(KINDS)/loaders && ./examples/loaders/debian kernel amd64 $(KINDS)/amd64 && ./examples/loaders/debian kernel arm64 $(KINDS)/arm64; }

STORM ?= -machines 1000 -servers 1
storm: tools ## a thousand simulated machines boot at once, and a server is killed half-way (root; minutes)
	$(GO) test -tags storm -run '^TestStorm$$' -count 1 -timeout 60m -v ./examples/storm $(STORM)

lint: ## gofmt, vet, staticcheck
	@test -z "$$(gofmt -l .)" || { echo "not gofmt-clean:"; gofmt -l .; exit 1; }
	$(GO) vet -tags integration,firmware,lab,peers,storm,terraform ./...
	$(GO) tool staticcheck -tags integration,firmware,lab,peers,storm,terraform ./...

vuln: ## known vulnerabilities in what we link (asks the Go vulnerability database)
	$(GO) tool govulncheck ./...

FUZZTIME ?= 30s
fuzz: ## each fuzz target for FUZZTIME
	$(call fuzz,.,$(FUZZTIME))

fuzz-strangers: ## what a stranger on the network can send, some seconds each
	$(call fuzz,boot,3s)

# fuzz runs the targets below a directory, each for a time. Go ends a run by a deadline,
# and now and then takes that for a failure: it is run again when that is all, without
# an input that failed.
define fuzz
	@for f in $$(grep -rlE '^func Fuzz' --include=*_test.go $(1)); do \
	  for t in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$f | cut -c6-); do \
	    for try in 1 2 3; do echo "$$f $$t"; \
	      out=$$($(GO) test -run '^$$' -fuzz "^$$t$$" -fuzztime $(2) -fuzzminimizetime 1s ./$$(dirname $$f) 2>&1) && { echo "$$out"; break; }; \
	      echo "$$out"; test $$try -lt 3 && echo "$$out" | grep -qx '    context deadline exceeded' && ! echo "$$out" | grep -q 'Failing input' || exit 1; \
	    done; done; done
endef

bench: ## benchmarks, for benchstat
	$(GO) test -run '^$$' -bench . -benchmem ./...

# Peers that Debian does not install beside each other, unpacked. ROUNDS says how often each server is run.
PEERS = $(CURDIR)/$(BUILD)/peers
ROUNDS ?= 5
bench-peers: tools ## ours and other servers in turn, as ratios of medians, in one table (root; more than an hour)
	$(call install,nginx-light wrk bsdextrautils)
	@mkdir -p $(PEERS) && cd $(PEERS) && for p in atftpd tftpd-hpa; do \
	  test -e usr/share/doc/$$p || { apt-get download -q $$p && dpkg -x $${p}_*.deb . ; } || exit 1; done
	@rm -f $(PEERS)/table
	PATH="$(PEERS)/usr/sbin:$$PATH" ROUNDS=$(ROUNDS) PILOTLIGHT_PEERS_TABLE=$(PEERS)/table \
	  $(GO) test -tags integration,peers -run Peers -count 1 -p 1 -timeout 120m -v ./boot/tftp ./cmd/pilotlight
	@{ echo 'what|ours|theirs|peer|ratio|goal|'; cat $(PEERS)/table; } | column -t -s '|'

# The clients and peers of ring 2, each the Debian package's own.
PACKAGES = ipxe ignition etcd-client docker-registry skopeo udhcpc isc-dhcp-client isc-dhcp-relay dhcpcd-base tftp-hpa atftp curl \
           kea-admin kea-dhcp4-server cloud-init tcpdump dnsmasq-base libwrap0 iproute2 openssh-client shellcheck \
           grub-common nmap procps systemd netplan.io network-manager nftables dbus iputils-ping gcc libblkid-dev genisoimage openssl util-linux
FIRMWARE = qemu-system-x86 seabios ipxe-qemu ovmf
define install
	@missing=$$(for p in $(1); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	 if [ -n "$$missing" ]; then echo "installing" $$missing; \
	   apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing >/dev/null; fi
endef
tools: ## install the Debian packages that the tests need and this machine lacks
	$(call install,$(PACKAGES))
firmware-tools: tools
	$(call install,$(FIRMWARE))

clean: ## remove what was built
	rm -rf $(BUILD)

include examples/lab/lab.mk
