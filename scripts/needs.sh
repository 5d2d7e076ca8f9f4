#!/bin/sh
# Makes sure that the named programs are on this machine: installs what is missing from Debian's
# packages as root or through sudo, otherwise names the packages in one line and fails.
# Usage: scripts/needs.sh [compiler] [postgres] [python] [qemu] [mail] [compose] [systemd] [faults]
set -eu

missing=
want() { # want PACKAGE: note a package as missing
    missing="$missing $1"
}

for need in "$@"; do
    case $need in
    compiler) command -v cc >/dev/null 2>&1 || want build-essential ;;
    postgres)
        found=$(command -v postgres || ls /usr/lib/postgresql/*/bin/postgres 2>/dev/null || true)
        [ -n "$found" ] || want postgresql
        ;;
    python) python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || want python3-venv ;;
    qemu) { command -v qemu-img && command -v qemu-io; } >/dev/null 2>&1 || want qemu-utils ;;
    # The mail server of the tests, for Debian's own Python.
    mail) /usr/bin/python3 -c 'import aiosmtpd' 2>/dev/null || want python3-aiosmtpd ;;
    compose)
        docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null 2>&1 ||
            want docker-compose
        ;;
    # A clock that jumps, and a kill in a system call.
    faults)
        ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || want faketime
        command -v strace >/dev/null 2>&1 || want strace
        ;;
    systemd) command -v systemd-analyze >/dev/null 2>&1 || want systemd ;;
    *)
        echo "needs.sh: unknown need '$need'" >&2
        exit 2
        ;;
    esac
done

if [ -n "$missing" ]; then
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        # Where nobody sits at a terminal, sudo must not ask for a password.
        if command -v sudo >/dev/null 2>&1 && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
            as_root=sudo
        else
            echo "Missing: install the Debian packages:$missing" >&2
            exit 1
        fi
    fi
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "Missing: what Debian calls$missing; install it with this system's package manager" >&2
        exit 1
    fi
    echo "Installing from Debian's packages:$missing" >&2
    # Its failure is not the end: the lists that are there may do, and the installation says if not.
    $as_root apt-get update -q >&2 || true
    $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends $missing >&2
fi

if ! command -v cargo >/dev/null 2>&1; then
    echo "Missing: Rust, with cargo, of the version in Cargo.toml (rust-version) or newer; rustup installs it" >&2
    exit 1
fi
