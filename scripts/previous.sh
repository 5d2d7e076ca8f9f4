#!/bin/sh
# Builds the version whose schema is one step behind today's, out of the history, and prints the path of its
# program. Only that goes to stdout.
# Usage: scripts/previous.sh DIRECTORY [COMMIT]
set -eu

dir=$1
commit=${2:-}
if ! git rev-parse --git-dir >/dev/null 2>&1; then
    echo "previous.sh: there is no history here: this needs a clone, not an archive" >&2
    exit 1
fi
if [ -n "$commit" ]; then
    commit=$(git rev-parse --verify --quiet "$commit^{commit}") || {
        echo "previous.sh: there is no commit '$2' in this clone" >&2
        exit 1
    }
else
    # The parent of the newest commit that brought a migration.
    newest=$(git log -1 --format=%H --diff-filter=A -- 'migrations/*.sql')
    commit=$(git rev-parse --verify --quiet "$newest^") || {
        echo "previous.sh: this clone does not reach back to the schema before today's:" \
            "fetch the history (git fetch --unshallow), or name a commit" >&2
        exit 1
    }
fi

place=$dir/$(git rev-parse --short=12 "$commit")
echo "The previous version is $(git log -1 --format='%h, %s' "$commit")" >&2
if [ ! -d "$place/source" ]; then
    mkdir -p "$place/source.new"
    git archive "$commit" | tar -x -C "$place/source.new"
    mv "$place/source.new" "$place/source"
fi
place=$(cd "$place" && pwd)
(cd "$place/source" && CARGO_TARGET_DIR=$place/target ${CARGO:-cargo} build --locked -p virtuozo) >&2
echo "$place/target/debug/virtuozo"
