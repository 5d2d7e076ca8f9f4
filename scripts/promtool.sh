#!/bin/sh
# Prints where promtool is. If this machine has none, it is taken out of Debian's package prometheus and laid in
# a directory: installing the package would start a server.
# Usage: scripts/promtool.sh DIR
set -eu
dir=$1

if command -v promtool; then
    exit 0
fi
if [ ! -x "$dir/promtool" ]; then
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "Missing: promtool, which Debian has in its package prometheus" >&2
        exit 1
    fi
    mkdir -p "$dir"
    # On the same file system, so that what is there is whole.
    part=$(mktemp -d "$dir/part.XXXXXX")
    trap 'rm -rf "$part"' EXIT
    echo "Fetching promtool from Debian's package prometheus" >&2
    (cd "$part" && apt-get download -q prometheus >&2)
    dpkg-deb --fsys-tarfile "$part"/prometheus_*.deb | tar --extract --directory "$part" ./usr/bin/promtool
    mv "$part/usr/bin/promtool" "$dir/promtool"
fi
echo "$dir/promtool"
