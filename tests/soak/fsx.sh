#!/bin/bash
# Runs fsx, which does random operations on a file and compares each read with what it must be: read, write, mmap both
# ways, truncate, punch hole, fallocate, copy_file_range, sendfile, close and open, dropping of caches, and a few fsyncs.
# Files of three sizes; nothing of length 0, which POSIX wants refused and fsx does not expect; several seeds; the file is compared again after each remount.
#
#     STMOUNT=… FSX=… tests/soak/fsx.sh [WORKDIR [SEEDS [FIRST SEED]]]        default: 10, each 100000 operations
source "$(dirname "$0")/lib.sh"
FSX=${FSX:-fsx}
SEEDS=${2:-10}
FIRST=${3:-1}

config() {
    # msync(2) is an fsync: without it pages stay dirty until the kernel thinks of them.
    printf 'flen = %s\nnomsyncafterwrite = %s\n[opsize]\nmin = 1\n[weights]\n' "$1" "$2"
    printf '%s\n' 'close_open = 1' 'invalidate = 1' 'read = 10' 'write = 10' 'mapread = 10' 'mapwrite = 10' \
        'truncate = 4' 'punch_hole = 3' 'posix_fallocate = 1' 'copy_file_range = 3' 'sendfile = 1' \
        'posix_fadvise = 0.5' 'fsync = 0.02' 'fdatasync = 0.02'
}

new
began=$SECONDS
count=100000
for seed in $(seq "$FIRST" $((FIRST + SEEDS - 1))); do
    case $((seed % 5)) in
        0) config 20000 false ;; # with msync, few operations
        1) config 2000000 true ;;
        *) config 200000 true ;;
    esac >"$WORK/config"
    up -o commit=$((seed % 3 + 1))s
    timeout 3000 "$FSX" -q -S "$seed" -N "$count" -P "$WORK" -f "$WORK/config" "$MNT/file$seed" >"$WORK/out" 2>&1 ||
        fail "seed $seed: $(tail -3 "$WORK/out")"
    (cd "$MNT" && sha1sum file*) >"$WORK/before"
    down
    up
    (cd "$MNT" && sha1sum -c --quiet "$WORK/before") || fail "seed $seed: the file is another after a remount"
    down
    ok "seed $seed: $count operations, the same after a remount ($((SECONDS - began)) s)"
done
whole "after fsx"
