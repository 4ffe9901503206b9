#!/bin/sh
# Fetches this host's config from pilotlight, verifies it, and has coreos-cloudinit apply it.
set -eu
umask 077
dir=/run/pilotlight-userdata
rm -rf "$dir"
mkdir "$dir"
trap 'rm -rf "$dir"' EXIT
cat > "$dir/ca" <<'EOF'
-----BEGIN CERTIFICATE-----
MIIB
-----END CERTIFICATE-----
EOF
cat > "$dir/header" <<'EOF'
Authorization: Bearer THE-INTRODUCTION-TOKEN-IS-MADE-FOR-EACH-BOOT
EOF
curl --fail --silent --show-error --connect-timeout 10 --max-time 60 \
  --retry 120 --retry-delay 5 --retry-connrefused \
  --cacert "$dir/ca" -H "@$dir/header" --output "$dir/config" 'https://10.0.0.1:8443/v1/config'
if ! echo 'abababababababababababababababababababababababababababababababab  '"$dir/config" | sha256sum -c - >/dev/null 2>&1; then
  echo "pilotlight: what https://10.0.0.1:8443/v1/config sent is not this host's config: its sha256 is another" >&2
  exit 1
fi
coreos-cloudinit --from-file="$dir/config"
