#!/bin/sh
# Holds the dependencies against deny.toml (bans, licences, sources), with cargo-deny from PATH or
# built once into the target directory.
set -eu

version=0.20.2
tools=${CARGO_TARGET_DIR:-target}/tools
PATH=$PATH:$tools/bin
if ! command -v cargo-deny >/dev/null 2>&1; then
    # Unoptimised: built in half the time, and fast enough for a few hundred crates.
    cargo install cargo-deny --version "$version" --locked --debug --root "$tools" \
        --target-dir "$tools/build"
    rm -rf "$tools/build"
fi
# One crate has a licence file and no licence field; deny.toml says which licence it is.
cargo-deny --locked --workspace check --allow no-license-field bans licenses sources
