#!/bin/sh
# Holds the compose file, the units and the configuration of Prometheus against the programs that read them:
# docker compose (or Debian's docker-compose), systemd-analyze and promtool. Neither of the three services has to
# run. What the alerts say of figures over time is tested by promtool too.
# Usage: scripts/deployment.sh DIR, where promtool is laid if this machine has none
set -eu
promtool=$("${0%/*}/promtool.sh" "$1")
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if docker compose version >/dev/null 2>&1; then
    compose() { docker compose --file compose.yaml "$@"; }
else
    # Debian's docker-compose is older than the option create_host_path of the Compose specification.
    sed '/^ *bind:$/{N;/create_host_path/d;}' compose.yaml >"$work/compose.yaml"
    compose() { docker-compose --project-directory . --file "$work/compose.yaml" "$@"; }
fi
compose config --quiet
compose --profile monitoring config --quiet

said=$("$promtool" check config --lint-fatal deploy/prometheus/prometheus.yml 2>&1) || {
    echo "$said" >&2
    exit 1
}
said=$("$promtool" test rules tests/e2e/monitoring/alerts.yml 2>&1) || {
    echo "$said" >&2
    exit 1
}

# A unit is checked together with the program it starts, and that is not installed here.
units=$work/units
mkdir "$units"
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
