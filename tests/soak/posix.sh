#!/bin/bash
# Runs pjdfstest, which knows what POSIX says about names, modes, owners and times, in a mount. For root.
#
#     STMOUNT=… PJDFSTEST=… tests/soak/posix.sh [WORKDIR]
#
# Needs pjdfstest (`cargo install pjdfstest`) and the users and groups `tests` and `pjdfstest`.
source "$(dirname "$0")/lib.sh"
PJDFSTEST=${PJDFSTEST:-pjdfstest}

# mount(8) would ask the helper of the file system to remount; the kernel can do that alone.
mkdir "$WORK/bin"
printf '#!/bin/sh\nexec %s -i "$@"\n' "$(command -v mount)" >"$WORK/bin/mount"
chmod 755 "$WORK/bin/mount"
PATH=$WORK/bin:$PATH

# A second file system, for EXDEV.
mkdir "$WORK/second"
mount -t tmpfs none "$WORK/second"
chmod 777 "$WORK/second"
UNDO+=("umount '$WORK/second'")

config() {
    printf '[settings]\nnaptime = 0.01\nallow_remount = %s\n[features]\n' "$1"
    printf '%s = {}\n' posix_fallocate rename_ctime utimensat utime_now stat_st_birthtime
}

# Remounting read-only is refused (EBUSY, on any file system) while an earlier test still holds a file: a run of its own.
run() {
    config "$1" >"$WORK/config"
    (cd "$MNT" && timeout 900 "$PJDFSTEST" -c "$WORK/config" -s "$WORK/second" -p "$MNT" ${2:+"$2"}) >"$WORK/out" 2>&1 || true
    grep -E '(skipped|FAILED)$' -A1 "$WORK/out" | grep -v -e -- || true
    local summary
    summary=$(grep '^Summary: ' "$WORK/out") || fail "pjdfstest did not end: $(tail -1 "$WORK/out")"
    [[ $summary == "Summary: 0 failed,"* ]] || fail "${2:-all}: $summary"
    ok "${2:-all}: $summary"
}

new
up -o allow_other,suid,dev
chmod 777 "$MNT"
run false
run true erofs
down
whole "after pjdfstest"
up
[ -z "$(ls -A "$MNT")" ] || fail "something is left: $(ls -A "$MNT")"
ok "mounted again, nothing is left"
