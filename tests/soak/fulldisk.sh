#!/bin/bash
# Fills the disk that a container is on: who is told so, and when, and that nothing is lost which was there or was synced.
# On ext4 (in a file, by a loop device) and on tmpfs, of 60 MB each. For root.
#
#     STMOUNT=… tests/soak/fulldisk.sh [WORKDIR]
source "$(dirname "$0")/lib.sh"
DISK=$WORK/disk
mkdir "$DISK"
UNDO+=("umount '$DISK'")

fill() {
    timeout 300 "$PYTHON" - "$MNT" "$WORK/told" "$1" <<'P' || fail "$2"
import errno, json, os, random, sys, time
mount, told, part = sys.argv[1:]
os.chdir(mount)

def refused(what, *args):
    """Does it; True when the disk was full, and never another error."""
    try: what(*args)
    except OSError as e:
        assert e.errno == errno.ENOSPC, (what, args, e)
        return True
    return False

def write(path, size, sync, where=None):
    """Writes bytes that do not compress; says where it was refused."""
    data = os.urandom(size)
    done, steps = 0, {"open": 0, "write": 0, "fsync": 0, "close": 0}
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    except OSError as e:
        assert e.errno == errno.ENOSPC, e
        assert not os.path.exists(path)
        steps["open"] = 1
        return None, steps
    try:
        while done < size: done += os.write(fd, data[done:done + 100_000])
    except OSError as e:
        assert e.errno == errno.ENOSPC, e
        steps["write"] += 1
    if sync: steps["fsync"] += refused(os.fsync, fd)
    steps["close"] += refused(os.close, fd)
    return data[:done], steps

def check(known):
    for path, data in known.items():
        assert open(path, "rb").read() == data, f"{path} has other contents"

known = {}
if part == "fill":
    os.mkdir("old")
    for n in range(20): known[f"old/{n}"] = write(f"old/{n}", 50_000, n % 2 == 0)[0]
    os.sync(); fd = os.open(".", os.O_RDONLY); os.fsync(fd); os.close(fd)
    total = dict.fromkeys(("open", "write", "fsync", "close"), 0)
    for n in range(400):
        data, steps = write(f"big{n}", 700_000, n % 3 == 0)
        if data is not None: known[f"big{n}"] = data
        for step, count in steps.items(): total[step] += count
        if total["write"] + total["open"] >= 30: break
    assert total["write"] and total["write"] + total["open"] >= 30 and not total["fsync"] and not total["close"], total
    check(known)
    print(f"ok      full after {sum(map(len, known.values())) >> 20} MiB: refused {total}, what was taken can be read")
    # What needs room for its entry is refused or done, and never half done.
    counts = {}
    for n in range(3000):
        for what, args in ((os.mkdir, (f"d{n}",)), (os.symlink, ("x" * 2000, f"l{n}")), (os.link, ("old/1", f"h{n}")),
                           (os.rename, (f"d{n}", f"e{n}")), (os.chmod, ("old/2", 0o600 + n % 8)),
                           (os.setxattr, ("old/3", "user.x", os.urandom(2000)))):
            try: no = refused(what, *args)
            except AssertionError as e:
                if "No such file" in str(e): continue
                raise
            counts.setdefault(what.__name__, [0, 0])[no] += 1
        if n % 100 == 0:
            fd = os.open(".", os.O_RDONLY); counts.setdefault("fsync", [0, 0])[refused(os.fsync, fd)] += 1; os.close(fd)
    # Of a rename over a file all is done, or nothing.
    for n in range(10, 20, 2):
        no = refused(os.rename, f"old/{n}", f"old/{n + 1}")
        if not no: known[f"old/{n + 1}"] = known.pop(f"old/{n}")
        counts.setdefault("rename over", [0, 0])[no] += 1
    print("ok      done and refused:", ", ".join(f"{name} {a}/{b}" for name, (a, b) in counts.items()))
    assert not counts["fsync"][1], "fsync was refused of what was taken"
    check(known)
    time.sleep(3)  # The timer commits, or says why not.
    check(known)
    json.dump({path: data.hex() for path, data in known.items()}, open(told, "w"))
elif part == "again":
    known = {path: bytes.fromhex(data) for path, data in json.load(open(told)).items()}
    check(known)
    print(f"ok      mounted again: {len(known)} files, every byte that was taken")
    # Deleting works on a full disk, and is stored.
    gone = [path for path in known if path.startswith("big")][::2]
    for path in gone: os.unlink(path)
    fd = os.open(".", os.O_RDONLY); os.fsync(fd)
    for path in gone: del known[path]
    # One file in each commit, as long as it goes.
    single = [path for path in known if path.startswith("big")][:20]
    for path in single: os.unlink(path); os.fsync(fd); del known[path]
    check(known)
    json.dump({path: data.hex() for path, data in known.items()}, open(told, "w"))
    print(f"ok      {len(gone) + len(single)} files deleted on a full disk, in 21 commits")
elif part == "room":
    known = {path: bytes.fromhex(data) for path, data in json.load(open(told)).items()}
    assert not os.path.exists("big0")
    check(known)
    known["new"], steps = write("new", 300_000, True)
    assert len(known["new"]) == 300_000 and not any(steps.values()), steps
    check(known)
    json.dump({path: data.hex() for path, data in known.items()}, open(told, "w"))
    print("ok      with room on the disk again, writing goes on")
elif part == "dirty":
    known = {path: bytes.fromhex(data) for path, data in json.load(open(told)).items()}
    # What was never committed gives its room back when it is deleted: together this is more than there is.
    for n in range(4):
        data, steps = write(f"t{n}", 1_500_000, False)
        assert data is not None and len(data) == 1_500_000, (n, steps)
        os.unlink(f"t{n}")
    check(known)
    print("ok      written and deleted four times without a commit, 6 MB together")
P
}

# A second container has no room beside the first.
compact_refused() {
    local before after code=0
    before=$(sha256sum <"$ST"; ls "$DISK")
    "$STMOUNT" compact "$ST" 2>"$WORK/said" || code=$?
    after=$(sha256sum <"$ST"; ls "$DISK")
    ((code == 13)) || fail "$1: compact on a full disk ends with $code: $(cat "$WORK/said")"
    [[ $after == "$before" ]] || fail "$1: compact on a full disk changed something"
    ok "$1: compact is refused, and nothing is changed"
}

on() {
    ST=$DISK/c.st
    new
    # What else is on that disk, to be deleted later.
    head -c 5000000 /dev/zero >"$DISK/other"
    up -o commit=1s
    fill fill "$1: filling"
    "$STMOUNT" sync "$MNT" || fail "$1: stmount sync on a full disk"
    "$STMOUNT" snapshot "$MNT" full || fail "$1: a name for the state on a full disk"
    down
    ok "$1: unmounted, $(df --output=avail -k "$DISK" | tail -1 | tr -d ' ') KiB left on the disk"
    whole "$1: full"
    compact_refused "$1"
    up -o commit=1s
    fill again "$1: mounted again"
    dead
    whole "$1: killed on a full disk"
    rm "$DISK/other"
    up -o commit=1s
    fill room "$1: room again"
    down
    up -o commit=1000s
    fill dirty "$1: not committed"
    down
    whole "$1: at the end"
    rm "$ST"
}

truncate -s 60M "$WORK/image"
mkfs.ext4 -q -m 0 "$WORK/image"
mount -o loop "$WORK/image" "$DISK"
on ext4
umount "$DISK"
mount -t tmpfs -o size=60m none "$DISK"
on tmpfs
umount "$DISK"
