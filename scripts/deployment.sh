#!/bin/sh
# Holds the compose file and the units against the programs that read them: docker compose (or Debian's
# docker-compose) and systemd-analyze. Neither Docker nor systemd has to run.
set -eu
cd "$(dirname "$0")/.."

if docker compose version >/dev/null 2>&1; then
    compose() { docker compose "$@"; }
else
    compose() { docker-compose "$@"; }
fi
compose --file compose.yaml config --quiet

# A unit is checked together with the program it starts, and that is not installed here.
units=$(mktemp -d)
trap 'rm -rf "$units"' EXIT
for unit in deploy/systemd/*.service; do
    sed 's|^ExecStart=/usr/local/bin/virtuozo|ExecStart=/bin/true|' "$unit" >"$units/${unit##*/}"
done
mkdir "$units/virtuozo-worker@.service.d"
for drop_in in '' deploy/systemd/workstation.conf; do
    [ -z "$drop_in" ] || cp "$drop_in" "$units/virtuozo-worker@.service.d/"
    said=$(systemd-analyze verify --man=no "$units"/*.service 2>&1) || failed=1
    if [ -n "${failed:-}${said}" ]; then
        echo "$said" >&2
        echo "the units in deploy/systemd are not what systemd understands" >&2
        exit 1
    fi
done
