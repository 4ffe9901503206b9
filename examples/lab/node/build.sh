#!/usr/bin/env bash
# build.sh makes the lab's node image from Debian's packages, in two steps of
# which each has its cache:
#
#   build.sh packages OUT       OUT/root.tar.zst, the packages, installed
#   build.sh image PACKAGES OUT OUT/vmlinuz          the kernel
#                               OUT/initrd.img       a small initramfs: see init
#                               OUT/rootfs.squashfs  the root file system
#                               OUT/sha256sums       of the three
#
# The image has the shape of Fedora CoreOS's live PXE image, so what boots here
# boots there. There is nothing of pilotlight in it: all that comes by Ignition.
set -euo pipefail
umask 022

here=$(cd "$(dirname "$0")" && pwd)
suite=bookworm
# A one-line apt source, when Debian's own servers are not to be used.
source=${LAB_APT_SOURCE:-}

say() { echo "node image: $*"; }

# listed prints the lines of one of the lists beside this script.
listed() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$here/$1"; }

install_packages() {
  local include
  include=$(listed packages | paste -sd,)
  say "installing Debian packages: ${include//,/ }"
  # Manual pages, documents and translations stay out.
  mmdebstrap --variant=minbase --mode=root --quiet --components=main --include="$include" \
    --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$suite" - ${source:+"$source"} | zstd -q -3 -T0 -o "$out/root.tar.zst"
}

configure() {
  say "configuring"
  cp -r --no-preserve=mode,ownership "$here/overlay/." "$root/"
  # Ignition calls this to relabel what it wrote; etc/selinux/config says why
  # there is nothing to do.
  mkdir -p "$root/usr/lib/ignition"
  ln -s /bin/true "$root/usr/lib/ignition/setfiles"
  # systemd takes this as the first boot of a machine, and only then applies
  # presets: among them those in which Ignition enables units.
  echo uninitialized >"$root/etc/machine-id"
  rm -f "$root/var/lib/dbus/machine-id" "$root"/etc/ssh/ssh_host_* "$root/etc/hostname" "$root/etc/resolv.conf"
  # The units that packages enabled give way to the presets.
  find "$root/etc/systemd/system" -name '*.wants' -exec rm -rf {} +
  chroot "$root" systemctl preset-all --quiet
  local unit
  while read -r unit; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done < <(listed masked-units)
  # Newer than /usr: no "update the cache" unit runs at boot.
  touch "$root/etc/.updated" "$root/var/.updated"
}

trim() {
  say "leaving out what a node never runs"
  local pattern
  while read -r pattern; do
    # Unquoted on purpose: it is a pattern.
    # shellcheck disable=SC2086
    (cd "$root" && rm -rf -- $pattern)
  done < <(listed left-out)
  find "$root/var/log" "$root/var/cache" -type f -delete
  chroot "$root" depmod "$kernel"
}

initramfs() {
  say "making the initramfs"
  local tree=$work/initramfs modules=lib/modules/$kernel module file
  mkdir -p "$tree"/{bin,dev,proc,sys,run,tmp,etc,image,sysroot} "$tree/$modules"
  install -m 755 /usr/bin/busybox "$tree/bin/busybox"
  ln -s busybox "$tree/bin/sh"
  install -m 755 "$here/init" "$tree/init"
  install -m 755 "$here/lease" "$tree/bin/lease"
  listed initramfs-modules >"$tree/lib/modules/load"
  # modprobe names a module and all that it needs; what is built into the
  # kernel comes as "builtin NAME".
  while read -r module; do
    chroot "$root" modprobe -S "$kernel" --show-depends "$module"
  done <"$tree/lib/modules/load" | sed -n 's/^insmod \([^ ]*\).*/\1/p' | sort -u >"$work/modules"
  while read -r file; do
    install -D -m 644 "$root$file" "$tree$file"
  done <"$work/modules"
  cp "$root/$modules"/modules.{dep,order,builtin,builtin.modinfo} "$tree/$modules/"
  (cd "$tree" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet --reproducible -o -H newc -R 0:0) | zstd -q -19 >"$out/initrd.img"
}

make_image() {
  root=$work/root
  mkdir "$root"
  tar -C "$root" --zstd -xpf "$packages/root.tar.zst"
  kernel=$(ls "$root/lib/modules")
  cp "$root/boot/vmlinuz-$kernel" "$out/vmlinuz"
  configure
  trim
  initramfs
  say "compressing the root file system"
  mksquashfs "$root" "$out/rootfs.squashfs" -noappend -quiet -no-progress -no-xattrs \
    -comp zstd -Xcompression-level "${LAB_ZSTD_LEVEL:-15}" -b 128K
  (cd "$out" && sha256sum vmlinuz initrd.img rootfs.squashfs >sha256sums)
  say "made: $(cd "$out" && du -h --apparent-size vmlinuz initrd.img rootfs.squashfs | awk '{printf "%s%s %s", s, $2, $1; s=", "}')"
}

usage="usage: build.sh packages OUT | build.sh image PACKAGES OUT"
case ${1:-} in
packages)
  out=${2:?$usage}
  mkdir -p "$out"
  install_packages
  ;;
image)
  packages=${2:?$usage} out=${3:?$usage}
  mkdir -p "$out"
  work=$(mktemp -d "$out/.work.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  make_image
  ;;
*)
  echo "$usage" >&2
  exit 2
  ;;
esac
