#!/usr/bin/env bash
# build.sh makes the disk of a virtual machine from Debian's packages:
#
#   build.sh OUT   OUT/vmlinuz     the kernel
#                  OUT/initrd.img  Debian's own initial RAM disk
#                  OUT/disk.img    the root file system, with the label "root"
#
# It is a disk as clouds have them: cloud-init does the first boot, by whatever data
# source it finds, and there is nothing of pilotlight in it.
set -euo pipefail
umask 022

here=$(cd "$(dirname "$0")" && pwd)
suite=bookworm
# A one-line apt source, when Debian's own servers are not to be used.
source=${LAB_APT_SOURCE:-}

say() { echo "virtual machine: $*"; }

out=${1:?usage: build.sh OUT}
mkdir -p "$out"
work=$(mktemp -d "$out/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
include=$(sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$here/packages" | paste -sd,)

say "installing Debian packages: ${include//,/ }"
mmdebstrap --variant=minbase --mode=root --quiet --components=main --include="$include" \
  --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  "$suite" "$root" ${source:+"$source"}

say "configuring"
cp -r --no-preserve=mode,ownership "$here/overlay/." "$root/"
chroot "$root" systemctl --quiet enable systemd-networkd.service
# AppArmor: Docker loads the profile that its containers need itself.
chroot "$root" systemctl --quiet mask systemd-networkd-wait-online.service apparmor.service apt-daily.timer apt-daily-upgrade.timer
echo 'LABEL=root / ext4 defaults 0 1' >"$root/etc/fstab"
echo uninitialized >"$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id" "$root"/etc/ssh/ssh_host_* "$root/etc/hostname" "$root/etc/resolv.conf"
cp -L "$root/vmlinuz" "$out/vmlinuz"
cp -L "$root/initrd.img" "$out/initrd.img"
rm -rf "$root"/boot/* "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*

say "making the disk"
truncate -s 3G "$out/disk.img"
mkfs.ext4 -q -L root -E lazy_itable_init=1,lazy_journal_init=1 -d "$root" "$out/disk.img"
say "made: $(cd "$out" && du -h vmlinuz initrd.img disk.img | awk '{printf "%s%s %s", s, $2, $1; s=", "}')"
