#!/usr/bin/env bash
# vagrant.sh makes a fresh Debian machine the lab's server. Vagrant runs it in
# the machine "server", as root, where build/lab is at /lab.
set -euo pipefail

address=10.99.0.1
data=/var/lib/pilotlight

if ! [[ -x /lab/bin/pilotlight && -d /lab/manifests ]]; then
  echo "vagrant.sh: there is no lab in build/lab: run \"sudo make lab-prepare\", then \"vagrant rsync server\" and \"vagrant provision server\"" >&2
  exit 1
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -y -q --no-install-recommends ipxe

install -m 755 /lab/bin/pilotlight /lab/bin/pilotlight-agent /usr/local/bin/

# The same manifests, with this machine's interface.
interface=$(ip -4 -o address show to "$address" | awk '{print $2}')
sed -i "s/^interface: .*/interface: ${interface:?no interface has the address $address}/" /lab/manifests/lab.yaml

cat >/etc/systemd/system/pilotlight.service <<UNIT
[Unit]
Description=pilotlight
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
ExecStart=/usr/local/bin/pilotlight serve /lab/manifests --data $data
Restart=always

[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload
systemctl enable pilotlight.service
systemctl restart pilotlight.service

for version in v1 v2; do
  pilotlight site push "/lab/site/$version/oci" "www:$version"
done
# A value that nobody needs to know, given to it only once.
if pilotlight secret list -o json | grep -q '"version": 0'; then
  head -c 24 /dev/urandom | base64 | tr -d '\n' | pilotlight secret put page-token
fi
pilotlight host list
