# What the scripts here have in common; sourced by bash, with the work directory as the first argument.
#
# Gives: $WORK, a new directory that is removed at the end; $ST, a container in it; $MNT, where it is mounted; `new`, `up`,
# `down` and `dead` for these; `ok` and `fail`, one line for each check; `whole`, which verifies the container.

set -euo pipefail
STMOUNT=${STMOUNT:-stmount}
PYTHON=${PYTHON:-python3}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "${1:-/tmp}"
WORK=$(mktemp -d "$(cd "${1:-/tmp}" && pwd)/soak.XXXXXX")
ST=$WORK/c.st
MNT=$WORK/mnt
mkdir "$MNT" "$WORK/empty"
chmod 755 "$WORK" "$WORK/empty"

# Further things to undo: a script appends to it.
UNDO=()

clean() {
    local result=$?
    set +e
    cd /
    mountpoint -q "$MNT" 2>/dev/null && { "$STMOUNT" -q umount "$MNT" 2>/dev/null || umount -l "$MNT"; }
    umount -l "$MNT" 2>/dev/null
    for undo in "${UNDO[@]}"; do eval "$undo" 2>/dev/null; done
    if [ $result -ne 0 ] && [ -n "${KEEP:-}" ]; then echo "kept: $WORK"; else rm -rf "$WORK"; fi
    exit $result
}
trap clean EXIT
trap 'exit 130' INT TERM

ok() { printf 'ok      %s\n' "$*"; }
fail() {
    printf 'FAILED  %s\n' "$*"
    exit 1
}

# A new container without anything in it.
new() { rm -f "$ST" && "$STMOUNT" -q pack "$WORK/empty" "$ST" || fail "cannot make a container"; }

# Mounts it, with further arguments for stmount.
up() { "$STMOUNT" -q "$@" "$ST" "$MNT" || fail "cannot mount $ST"; }

# Unmounts it, and returns when everything is stored.
down() { "$STMOUNT" -q umount "$MNT" || fail "cannot unmount $MNT"; }

# The process that serves the mount.
server() { "$STMOUNT" list --json | "$PYTHON" -c '
import json, sys
mounts = json.load(sys.stdin)["mounts"]
print(next(m["pid"] for m in mounts if m["mountpoint"] == sys.argv[1] and m["served"]))' "$MNT"; }

# Kills the process that serves the mount, and takes the dead mount away.
dead() {
    local pid
    pid=$(server) || fail "no process serves $MNT"
    kill -9 "$pid"
    while grep -q '^State:.[^Z]' "/proc/$pid/status" 2>/dev/null; do sleep 0.01; done
    umount -l "$MNT"
}

# Verifies every hash of the container, and that the reference reader sees the same.
whole() {
    timeout 600 "$STMOUNT" -q check "$ST" || fail "$*: the container is damaged"
    if "$PYTHON" -c 'import zstandard, blake3' 2>/dev/null; then
        timeout 1800 "$PYTHON" "$HERE/../st_ref.py" check "$ST" >"$WORK/ref" 2>&1 || fail "$*: the reference reader: $(tail -1 "$WORK/ref")"
    fi
    ok "$*: the container is whole ($(($(stat -c %s "$ST") >> 10)) KiB)"
}
