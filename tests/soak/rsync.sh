#!/bin/bash
# Backups with rsync -aHAXS into a mount: everything arrives, a second run finds nothing to do, whatever happened between.
#
#     STMOUNT=… tests/soak/rsync.sh [WORKDIR [FURTHER TREE]]        a further tree: /usr, for example
#
# For root. Needs rsync with ACLs and xattrs, setfacl, setfattr.
source "$(dirname "$0")/lib.sh"
FURTHER=${2:-}
HOME_LIKE=$WORK/home

# One of everything that a home directory or a root file system can have.
make_home() {
    mkdir -p "$HOME_LIKE"/{mail/cur,empty,photos,"with space",deep/er/and/deeper}
    cd "$HOME_LIKE"
    for n in $(seq 400); do echo "mail $n of somebody to somebody else" >"mail/cur/$n.eml"; done
    head -c 30000000 /dev/urandom >photos/noise.raw
    "$PYTHON" -c 'print("\n".join(f"{n} {n*n} a line of a log" for n in range(400000)))' >log
    ln log mail/log-again
    ln log deep/third
    ln -s log link-to-log
    ln -s /nowhere/at/all dangling
    ln -s "$("$PYTHON" -c 'print("x" * 1000)')" long-link
    mkfifo fifo
    ln fifo fifo-again
    mknod null c 1 3
    mknod disk b 259 74565
    "$PYTHON" -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
    truncate -s 300M sparse
    printf data | dd of=sparse bs=1 seek=200000000 conv=notrunc status=none
    : >nothing
    "$PYTHON" - <<'P'
import os
open(b"n" * 255, "w").write("a long name")
open(b"not \xff\xfe text", "w").write("bytes")
open("new\nline", "w").write("x")
open("old", "w").write("x"); os.utime("old", ns=(-86400 * 10**9 + 5, -86400 * 10**9 + 7))
open("exact", "w").write("x"); os.utime("exact", ns=(1234567890123456789, 1234567890987654321))
open("late", "w").write("x"); os.utime("late", (5 * 10**9, 5 * 10**9))
P
    echo x >setuid && chmod 4755 setuid
    echo x >setgid && chmod 2755 setgid
    mkdir sticky && chmod 1777 sticky
    echo x >unreadable && chmod 0 unreadable
    echo x >others && chown 1234:5678 others
    ln -s log link-of-others && chown -h 1234:5678 link-of-others
    setfattr -n user.note -v "$(seq 200 | tr '\n' ,)" log
    setfattr -n user.bytes -v 0x00ff00 nothing
    setfattr -n trusted.note -v secret "with space"
    setfacl -m u:1234:rw,g:5678:r,m::rw log
    setfacl -d -m u:1234:rwx mail
    touch mail/inherits
    touch -d '2001-02-03 04:05:06.789' deep/er
    cd "$WORK"
}

SYNC=(timeout 1800 rsync -aHAXS --numeric-ids --delete)

# Nothing is left to do, by times, sizes and all attributes, and for the contents by checksum as well.
same() {
    local left
    left=$("${SYNC[@]}" -ni "$2/" "$3/")
    [ -z "$left" ] || fail "$1: rsync would transfer again: $(head -5 <<<"$left")"
    left=$("${SYNC[@]}" -nic "$2/" "$3/")
    [ -z "$left" ] || fail "$1: other contents: $(head -5 <<<"$left")"
    ok "$1: a second run transfers nothing"
}

size() { stat -c %s "$ST"; }

make_home
new
up -o dev,suid
"${SYNC[@]}" "$HOME_LIKE/" "$MNT/home/"
same "first backup" "$HOME_LIKE" "$MNT/home"
[ "$(du -k "$MNT/home/sparse" | cut -f1)" -lt 1000 ] || fail "the sparse file takes $(du -k "$MNT/home/sparse")"
down
up -o dev,suid
same "mounted again" "$HOME_LIKE" "$MNT/home"
sync -f "$MNT" || true

# What changed costs what changed.
"$PYTHON" -c '
import sys; path = sys.argv[1] + "/photos/noise.raw"
with open(path, "r+b") as file: file.seek(11_000_000); file.write(b"changed" * 100)' "$HOME_LIKE"
rm "$HOME_LIKE"/mail/cur/1*.eml
mv "$HOME_LIKE/deep" "$HOME_LIKE/deeper"
echo "one line more" >>"$HOME_LIKE/log"
down
before=$(size)
up -o dev,suid
"${SYNC[@]}" "$HOME_LIKE/" "$MNT/home/"
same "backup of a changed tree" "$HOME_LIKE" "$MNT/home"
down
ok "backup of a changed tree: $((($(size) - before) >> 10)) KiB more in a container of $((before >> 10)) KiB"

# Each day a directory, with links to what did not change.
before=$(size)
up -o dev,suid
echo "of the second day" >>"$HOME_LIKE/log"
"${SYNC[@]}" --link-dest=../home "$HOME_LIKE/" "$MNT/day2/"
same "--link-dest" "$HOME_LIKE" "$MNT/day2"
[ "$(stat -c %i "$MNT/home/photos/noise.raw")" = "$(stat -c %i "$MNT/day2/photos/noise.raw")" ] || fail "--link-dest made no link"
down
ok "--link-dest: $((($(size) - before) >> 10)) KiB more"

# A backup into a directory of its own shares what the container has.
before=$(size)
up -o dev,suid
"${SYNC[@]}" "$HOME_LIKE/" "$MNT/copy/"
same "a whole copy" "$HOME_LIKE" "$MNT/copy"
down
ok "a whole copy: $((($(size) - before) >> 10)) KiB more"

up -o dev,suid
head -c 100000 /dev/urandom | dd of="$HOME_LIKE/photos/noise.raw" bs=1000 seek=5000 conv=notrunc status=none
"${SYNC[@]}" --inplace --no-whole-file "$HOME_LIKE/" "$MNT/copy/" 2>/dev/null || timeout 600 rsync -aHAX --numeric-ids --delete --inplace --no-whole-file "$HOME_LIKE/" "$MNT/copy/"
same "--inplace" "$HOME_LIKE" "$MNT/copy"
head -c 500000 /dev/urandom >>"$HOME_LIKE/photos/noise.raw"
echo appended >>"$HOME_LIKE/log"
timeout 600 rsync -aHAX --numeric-ids --append "$HOME_LIKE/" "$MNT/copy/"
same "--append" "$HOME_LIKE" "$MNT/copy"

# Interrupted: what arrived is kept, and used.
head -c 40000000 /dev/urandom >"$HOME_LIKE/photos/second.raw"
rsync -aHAX --numeric-ids --partial --bwlimit=10m "$HOME_LIKE/" "$MNT/copy/" >/dev/null 2>&1 &
for _ in $(seq 300); do
    find "$MNT/copy/photos" -name '.second.raw.*' -size +1M | grep -q . && break
    sleep 0.1
done
kill -INT $! && wait $! && fail "it was not interrupted"
# The process that receives ends a moment after the one that sends.
for _ in $(seq 50); do [ -s "$MNT/copy/photos/second.raw" ] && break || sleep 0.1; done
[ -s "$MNT/copy/photos/second.raw" ] || fail "--partial kept nothing"
ok "--partial: $(stat -c %s "$MNT/copy/photos/second.raw") bytes kept of an interrupted transfer"
"${SYNC[@]}" --partial --no-whole-file --stats "$HOME_LIKE/" "$MNT/copy/" >"$WORK/stats"
same "--partial, resumed" "$HOME_LIKE" "$MNT/copy"

# Killed in the middle, five times, and resumed.
down
up -o dev,suid,commit=1s
for n in 1 2 3 4 5; do
    "${SYNC[@]}" --bwlimit=5m "$HOME_LIKE/" "$MNT/killed/" >/dev/null 2>&1 &
    sleep "$n"
    dead
    # It would go on and count errors, at 5 MB a second.
    kill $! 2>/dev/null
    wait $! && fail "rsync ended before the kill"
    up -o dev,suid,commit=1s
    find "$MNT" -ls >/dev/null || fail "after kill -9 the tree cannot be read"
done
"${SYNC[@]}" "$HOME_LIKE/" "$MNT/killed/"
same "killed five times, resumed" "$HOME_LIKE" "$MNT/killed"
rm -rf "$MNT/killed" "$MNT/day2"
"${SYNC[@]}" "$MNT/home/" "$WORK/restored/"
same "restored" "$MNT/home" "$WORK/restored"
down
whole "after all backups"

if [ -n "$FURTHER" ]; then
    new
    up -o dev,suid
    began=$SECONDS
    "${SYNC[@]}" "$FURTHER/" "$MNT/further/"
    ok "$FURTHER: $(du -sh --apparent-size "$FURTHER" | cut -f1) in $((SECONDS - began)) s"
    left=$("${SYNC[@]}" -ni "$FURTHER/" "$MNT/further/")
    [ -z "$left" ] || fail "$FURTHER: rsync would transfer again: $(head -5 <<<"$left")"
    down
    up -o dev,suid
    same "$FURTHER, mounted again" "$FURTHER" "$MNT/further"
    down
    whole "$FURTHER"
fi
