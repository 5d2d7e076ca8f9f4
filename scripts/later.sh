#!/bin/sh
# Builds the version after this one: this tree with a migration and a generation of definitions more, which
# tests/proofs/later holds. Prints the path of its program; only that goes to stdout.
# Usage: scripts/later.sh DIRECTORY
set -eu

dir=$1
here=$(cd "$(dirname "$0")/.." && pwd)
later=$here/tests/proofs/later

rm -rf "$dir/source"
mkdir -p "$dir/source"
# With the times of the files, so cargo builds only what has changed since the last time.
(cd "$here" && find . -path ./target -prune -o -name .git -prune -o -type f -print0 | tar --null -T - -cf -) |
    tar -xf - -C "$dir/source"
source=$(cd "$dir/source" && pwd)
migrations=$source/migrations
cp "$later/versioned.sql" "$migrations/versioned/9999_later.sql"
cat "$later/definitions.sql" >>"$migrations/definitions/views.sql"
echo $(($(cat "$here/migrations/definitions/GENERATION") + 1)) >"$migrations/definitions/GENERATION"
(cd "$source" && CARGO_TARGET_DIR=$dir/target ${CARGO:-cargo} build --locked -p virtuozo -p virtuozo-failpoints) >&2
echo "$dir/target/debug/virtuozo"
