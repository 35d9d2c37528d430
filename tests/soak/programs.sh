#!/bin/bash
# Programs that people use, in a mount: git, SQLite, cargo, python, tar, cp, editors, locks, shared memory.
#
#     STMOUNT=… tests/soak/programs.sh [WORKDIR]
#
# Needs git, python3, tar, cp; cargo and flock where they are there.
source "$(dirname "$0")/lib.sh"

# After each part everything is compared with what is there after a remount.
remount() {
    (cd "$MNT" && find . -printf '%P %y %m %n %s %T@ %U %G %l\n' | sort && find . -type f -print0 | sort -z | xargs -0r sha1sum) >"$WORK/before"
    down
    up
    (cd "$MNT" && find . -printf '%P %y %m %n %s %T@ %U %G %l\n' | sort && find . -type f -print0 | sort -z | xargs -0r sha1sum) >"$WORK/after"
    cmp -s "$WORK/before" "$WORK/after" || fail "$1: another tree after a remount: $(diff "$WORK/before" "$WORK/after" | head -5)"
    ok "$1: the same after a remount, $(grep -c . "$WORK/after") lines"
}

git_works() {
    git init -q "$MNT/repo"
    cd "$MNT/repo"
    git config user.email a@b.c
    git config user.name x
    for n in $(seq 30); do
        mkdir -p "dir$((n % 5))"
        seq "$n" $((n * 50)) >"dir$((n % 5))/file$n"
        git add -A
        git commit -qm "commit $n"
    done
    git branch side HEAD~10
    git checkout -q side
    echo side >side
    git add -A
    git commit -qm side
    git checkout -q master 2>/dev/null || git checkout -q main
    git merge -q -m merge side
    git repack -adq
    git gc -q --aggressive
    git fsck --full --strict 2>&1 | grep -v '^dangling' | grep . && fail "git fsck"
    cd "$MNT"
    git clone -q --no-hardlinks repo cloned
    git clone -q repo linked
    [ "$(git -C cloned rev-parse HEAD)" = "$(git -C repo rev-parse HEAD)" ] || fail "git clone"
    [ -z "$(git -C cloned status --short)" ] || fail "git status"
    git -C cloned worktree add -q ../tree side~1 2>/dev/null
    cd "$WORK"
    ok "git: init, 30 commits, merge, repack, gc, fsck, clone, worktree"
}

# The client is killed, the mount is not.
sqlite_works() {
    "$PYTHON" - "$MNT" <<'P' || fail "sqlite"
import os, random, signal, sqlite3, sys, time
for mode in ("delete", "truncate", "persist", "wal"):
    path, told = f"{sys.argv[1]}/{mode}.db", sys.argv[1] + "/../told"
    last = 0
    for life in range(12):
        child = os.fork()
        if child == 0:
            base = sqlite3.connect(path)
            base.execute(f"pragma journal_mode={mode}")
            base.execute("create table if not exists t(n integer primary key, b blob)")
            n = (base.execute("select max(n) from t").fetchone()[0] or 0)
            while True:
                n += 1
                with base:
                    base.executemany("insert into t values(?,?)", [(n, os.urandom(random.randrange(3000)))])
                    base.execute("update t set b=zeroblob(100) where n%5=?", (n % 5,))
                with open(told, "w") as file: file.write(str(n))
        time.sleep(random.uniform(0.05, 0.3))
        os.kill(child, signal.SIGKILL); os.waitpid(child, 0)
        base = sqlite3.connect(path)
        assert base.execute("pragma integrity_check").fetchone() == ("ok",), mode
        rows = base.execute("select count(*), max(n) from t").fetchone() if os.path.exists(told) else (0, 0)
        known = int(open(told).read() or 0) if os.path.exists(told) else 0
        assert rows[0] == (rows[1] or 0) and rows[0] >= known, (mode, rows, known)
        base.close()
    if os.path.exists(told): os.unlink(told)
P
    ok "sqlite: four journal modes, 48 kills of the client, integrity_check, nothing lost"
}

cargo_works() {
    command -v cargo >/dev/null || { ok "cargo: skipped, there is none"; return; }
    mkdir -p "$MNT/crate/src"
    printf '[package]\nname = "small"\nversion = "0.1.0"\nedition = "2021"\n' >"$MNT/crate/Cargo.toml"
    printf 'pub fn two() -> u32 { 2 }\n' >"$MNT/crate/src/lib.rs"
    printf 'fn main() { println!("{}", small::two() + 40) }\n' >"$MNT/crate/src/main.rs"
    local answer
    answer=$(cd "$MNT/crate" && CARGO_TARGET_DIR=target timeout 300 cargo run -q --offline 2>&1) || fail "cargo: $answer"
    [ "$answer" = 42 ] || fail "cargo: $answer"
    printf 'pub fn two() -> u32 { 3 }\n' >"$MNT/crate/src/lib.rs"
    [ "$(cd "$MNT/crate" && CARGO_TARGET_DIR=target timeout 300 cargo run -q --offline)" = 43 ] || fail "cargo: no rebuild"
    ok "cargo: built, changed, built again"
}

python_works() {
    "$PYTHON" -m venv --without-pip --symlinks "$MNT/venv" || fail "python -m venv"
    [ "$("$MNT/venv/bin/python" -c 'import sys; print(sys.prefix)')" = "$MNT/venv" ] || fail "the python of a venv"
    cp -a "$(dirname "$("$PYTHON" -c 'import json; print(json.__file__)')")" "$MNT/venv/here"
    "$PYTHON" -m compileall -q "$MNT/venv/here" || fail "compileall"
    ok "python: venv, compileall"
}

tar_works() {
    cd "$WORK"
    tar -cf share.tar -C /usr/share/doc . 2>/dev/null || true
    mkdir "$MNT/doc" && tar -xf share.tar -C "$MNT/doc" || fail "tar -x"
    tar -df share.tar -C "$MNT/doc" 2>&1 | grep . && fail "tar -d: it differs"
    tar -cf again.tar -C "$MNT/doc" . && mkdir again && tar -xf again.tar -C again || fail "tar -c"
    diff -r --no-dereference again "$MNT/doc" || fail "tar -c: it differs"
    ok "tar: $(tar -tf share.tar | wc -l) names unpacked, compared, packed again"
    cp -a --reflink=auto "$MNT/doc" "$MNT/doc2" && diff -r --no-dereference "$MNT/doc" "$MNT/doc2" || fail "cp -a"
    mkdir -p "$MNT/a/b/c" && mv "$MNT/doc2" "$MNT/a/b/c/" && mv "$MNT/a/b/c" "$MNT/" || fail "mv"
    diff -r --no-dereference "$MNT/doc" "$MNT/c/doc2" || fail "mv across directories"
    mv "$MNT/c" "$MNT/c/doc2" 2>/dev/null && fail "a directory was moved into itself"
    rm -rf "$MNT/c" "$WORK/again"
    ok "cp -a --reflink=auto, mv across directories, rm -r"
}

calls_work() {
    cd "$MNT"
    timeout 120 "$PYTHON" - <<'P' || fail "system calls"
import errno, fcntl, mmap, os, signal, socket, struct, threading, time

# How editors save: a temporary file, fsync, rename over the old one; readers see the old or the new text.
def save(n):
    fd = os.open("text.tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(fd, b"%d\n" % n * 5000); os.fsync(fd); os.close(fd)
    os.rename("text.tmp", "text")
    d = os.open(".", os.O_RDONLY); os.fsync(d); os.close(d)
save(0)
over = False
def reader():
    while not over:
        text = open("text", "rb").read()
        assert len(set(text.split())) == 1 and text.count(b"\n") == 5000, text[:100]
failures = []
def guarded():
    try: reader()
    except BaseException as e: failures.append(e)
thread = threading.Thread(target=guarded); thread.start()
for n in range(1, 150): save(n)
over = True; thread.join(); assert not failures, failures
# And with a backup: rename away, write, unlink.
os.rename("text", "text~"); open("text", "w").write("new"); os.unlink("text~")
print("ok      editors: 150 files written, synced and renamed over, under a reader")

# Locks between processes.
def in_child(work):
    child = os.fork()
    if child == 0:
        try: os._exit(work())
        except BaseException: os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
file = open("locked", "w+b"); file.write(b"x" * 100); file.flush()
def flocked():
    try: fcntl.flock(open("locked", "r+b"), fcntl.LOCK_EX | fcntl.LOCK_NB); return 0
    except BlockingIOError: return 1
fcntl.flock(file, fcntl.LOCK_EX); assert in_child(flocked) == 1
fcntl.flock(file, fcntl.LOCK_UN); assert in_child(flocked) == 0
def ranged(start):
    def work():
        try: fcntl.lockf(open("locked", "r+b"), fcntl.LOCK_EX | fcntl.LOCK_NB, 10, start); return 0
        except (BlockingIOError, PermissionError): return 1
    return work
fcntl.lockf(file, fcntl.LOCK_EX, 10, 20)
assert (in_child(ranged(15)), in_child(ranged(0)), in_child(ranged(30))) == (1, 0, 0)
fcntl.lockf(file, fcntl.LOCK_UN, 10, 20); assert in_child(ranged(15)) == 0
# Eight processes count in one file, under a lock that waits.
open("count", "w").write("0")
def counts():
    for _ in range(50):
        with open("count", "r+") as f:
            fcntl.flock(f, fcntl.LOCK_EX); n = int(f.read()); f.seek(0); f.write(str(n + 1)); f.flush()
    return 0
children = []
for _ in range(8):
    child = os.fork()
    if child == 0: os._exit(counts())
    children.append(child)
assert all(os.waitpid(child, 0)[1] == 0 for child in children) and open("count").read() == "400"
print("ok      locks: flock and fcntl between processes, 400 turns of 8 processes")

# Memory shared by two processes.
fd = os.open("shared", os.O_RDWR | os.O_CREAT); os.ftruncate(fd, 1 << 20)
memory = mmap.mmap(fd, 1 << 20)
def writes():
    other = mmap.mmap(os.open("shared", os.O_RDWR), 1 << 20)
    for at in range(0, 1 << 20, 4096): other[at:at + 8] = struct.pack("<Q", at)
    return 0
assert in_child(writes) == 0
assert all(struct.unpack_from("<Q", memory, at)[0] == at for at in range(0, 1 << 20, 4096))
memory[100:105] = b"hello"; memory.flush()
assert os.pread(fd, 5, 100) == b"hello"
os.pwrite(fd, b"there", 100); assert memory[100:105] == b"there"
memory.close(); os.close(fd)
print("ok      mmap: written by one process, read by another, and both ways with write and read")

# O_APPEND by several processes: nothing is overwritten.
def appends(n):
    fd = os.open("appended", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for _ in range(300): os.write(fd, b"%d" % n * 99 + b"\n")
    return 0
children = []
for n in range(4):
    child = os.fork()
    if child == 0: os._exit(appends(n))
    children.append(child)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
lines = open("appended", "rb").read().split(b"\n")[:-1]
assert len(lines) == 1200 and all(len(set(line)) == 1 and len(line) == 99 for line in lines)
print("ok      O_APPEND: 1200 lines of four processes, each whole")

# What has no name lives as long as it is open.
fd = os.open("nameless", os.O_RDWR | os.O_CREAT); os.write(fd, b"abc"); os.unlink("nameless")
os.fsync(fd); os.write(fd, b"def"); os.fsync(fd)
assert os.pread(fd, 10, 0) == b"abcdef" and os.fstat(fd).st_nlink == 0
os.fchmod(fd, 0o600); os.ftruncate(fd, 2); os.fsync(fd); assert os.fstat(fd).st_size == 2; os.close(fd)
other = os.open("over", os.O_RDWR | os.O_CREAT); os.write(other, b"old"); open("over2", "w").write("new")
os.rename("over2", "over"); assert os.pread(other, 3, 0) == b"old" and open("over").read() == "new"; os.close(other)
os.mkdir("removed"); d = os.open("removed", os.O_RDONLY); os.rmdir("removed")
try: os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=d); raise SystemExit("a file was made in a directory that is gone")
except FileNotFoundError: pass
d2 = os.open(".", os.O_RDONLY); os.fsync(d2); os.close(d2)
assert os.fstat(d).st_nlink == 0
os.close(d)
os.mkfifo("fifo"); fifo = os.open("fifo", os.O_RDWR); os.unlink("fifo"); os.write(fifo, b"through")
assert os.fstat(fifo).st_nlink == 0 and os.read(fifo, 7) == b"through"; os.close(fifo)
print("ok      nameless: unlinked, replaced and removed while open")

# Sparse files, fallocate, copy_file_range, SEEK_DATA.
fd = os.open("sparse", os.O_RDWR | os.O_CREAT); os.pwrite(fd, b"end", 1 << 40); os.pwrite(fd, b"mid", 5 << 20)
assert os.fstat(fd).st_blocks < 100 and os.lseek(fd, 6 << 20, os.SEEK_DATA) == 1 << 40
os.posix_fallocate(fd, 0, 4096)
to = os.open("copied", os.O_RDWR | os.O_CREAT); assert os.copy_file_range(fd, to, 1000, 5 << 20, 0) == 1000
assert os.pread(to, 4, 0) == b"mid\0"; os.close(fd); os.close(to); os.unlink("sparse")
print("ok      sparse: a terabyte, SEEK_DATA, fallocate, copy_file_range")
P
    cd "$WORK"
}

new
up -o commit=1s
git_works && remount git
sqlite_works && remount sqlite
cargo_works
python_works && remount "cargo and python"
tar_works && remount tar
calls_work && remount "system calls"
down
whole "after all programs"
