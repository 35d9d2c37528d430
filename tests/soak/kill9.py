#!/usr/bin/env python3
"""Kills the process that serves a mount, with SIGKILL, again and again, under programs that write.

    STMOUNT=... [CONTAINER=c.zip] [PACK="--parity 5%"] tests/soak/kill9.py [WORKDIR [KILLS]]
                                                                           default: c.st, 200 kills, 10 minutes
PACK are options for `stmount pack`, which makes the container; one that is sealed is opened by STMOUNT_IDENTITY.

Each life of the mount has four writers, processes of their own. What fsync has acknowledged they append to a log outside
of the mount, which is synced itself, before they go on:

    append    grows files by random pieces, with fsync now and then
    replace   writes a temporary file, fsync, rename over the old one, fsync of the directory
    names     makes, links, renames and removes files and directories, fsync of the directory
    sqlite    two databases, one with a rollback journal and one with a write-ahead log, synchronous=EXTRA
              (with FULL, SQLite does not sync the removal of a rollback journal and may lose the last transaction)

After each kill the dead mount is taken away, the container is mounted again, and then
  - every acknowledged byte and name is there, and every acknowledged transaction; the databases pass integrity_check,
  - a file that was replaced is one of its versions, the last acknowledged or a later one, and never a mixture,
  - what was removed for certain is gone,
  - `stmount check` finds no damage; nor does `unzip -t`, `7z t` or `tar -t`, of an archive, which is brought up to date all
    the time meanwhile.
"""
import errno, glob, json, os, random, signal, sqlite3, stat, subprocess, sys, tempfile, time

STMOUNT = os.environ.get("STMOUNT", "stmount")
CONTAINER = os.environ.get("CONTAINER", "c.st")
LOST = (OSError, sqlite3.Error)
# A 7z has no hard links.
KINDS = ["mkdir", "symlink", "rename", "remove", "file"] + ([] if CONTAINER.endswith(".7z") else ["link"])
WITNESSES = {".zip": ["unzip", "-tqq"], ".7z": ["7z", "t"], ".tar": ["tar", "-tf"], ".tar.gz": ["tar", "-tf"], ".tar.zst": ["tar", "-tf"]}


def stmount(*args, **more):
    return subprocess.run([STMOUNT, "-q", *args], timeout=120, check=True, **more)


def blob(seed, size):
    """The same bytes for the same seed; some of it compresses."""
    dice = random.Random(seed)
    return (dice.randbytes(size // 2) + b"%d " % seed * size)[:size]


class Log:
    """What is known to be durable: JSON lines, each synced."""

    def __init__(self, path):
        self.file = open(path, "ab", buffering=0)

    def add(self, *what):
        self.file.write(json.dumps(what).encode() + b"\n")
        os.fsync(self.file.fileno())


def synced(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


# ---- writers: each goes on until the mount is gone ----------------------------------------------------------------------


def append(mount, log, seed):
    dice = random.Random(seed)
    sizes = {}
    while True:
        path = f"{mount}/append-{seed}-{dice.randrange(4)}"
        with open(path, "ab", buffering=0) as file:
            for _ in range(dice.randrange(1, 6)):
                at = sizes.get(path, 0)
                piece = blob(at, dice.choice([10, 1000, 50_000, 3_000_000 if dice.random() < 0.1 else 5000]))
                log.add("begins", path, at, len(piece))
                file.write(piece)
                sizes[path] = at + len(piece)
            os.fsync(file.fileno())
        log.add("grown", path, sizes[path])


def replace(mount, log, seed):
    dice = random.Random(seed)
    version = 0
    while True:
        version += 1
        path = f"{mount}/replaced-{seed}-{dice.randrange(3)}"
        data = blob(version, dice.choice([0, 100, 20_000, 300_000]))
        log.add("replaces", path, version, len(data))
        with open(path + ".tmp", "wb", buffering=0) as file:
            file.write(data)
            os.fsync(file.fileno())
        os.rename(path + ".tmp", path)
        if dice.random() < 0.7:
            synced(mount)
            log.add("replaced", path, version)


def planned(dice, top, number, there):
    """Some changes of names, and which names they make and take away."""
    plan, new, gone = [], set(), set()
    for n in range(dice.randrange(1, 8)):
        path, what = f"{top}/{number}-{n}", dice.choice(KINDS)
        if what in ("rename", "remove"):
            if not there - gone:
                continue
            old = dice.choice(sorted(there - gone))
            gone.add(old)
            plan.append((what, old, path))
        else:
            plan.append((what, path, path + "-link"))
            new |= {path, path + "-link"} if what == "link" else {path}
        if what == "rename":
            new.add(path)
    return plan, new, gone


def done(what, path, other):
    match what:
        case "mkdir": os.mkdir(path)
        case "symlink": os.symlink("nowhere", path)
        case "rename": os.rename(path, other)
        case "remove": os.rmdir(path) if stat.S_ISDIR(os.lstat(path).st_mode) else os.unlink(path)
        case "file" | "link":
            with open(path, "wb") as file:
                file.write(path.encode())
            if what == "link":
                os.link(path, other)


def names(mount, log, seed):
    dice = random.Random(seed)
    top = f"{mount}/names-{seed}"
    os.mkdir(top)
    there = set()
    for number in range(1 << 30):
        plan, new, gone = planned(dice, top, number, there)
        log.add("names", sorted(new), sorted(gone))
        for step in plan:
            done(*step)
        synced(top)
        there = (there | new) - gone
        log.add("named", sorted(new), sorted(gone))


def sqlite(mount, log, seed):
    dice = random.Random(seed)
    bases = []
    for mode in ("delete", "wal"):
        path = f"{mount}/{mode}-{seed}.db"
        base = sqlite3.connect(path)
        base.execute(f"pragma journal_mode={mode}")
        base.execute("pragma synchronous=extra")
        base.execute("create table t(n integer primary key, b blob)")
        bases.append((path, base))
    for number in range(1 << 30):
        path, base = dice.choice(bases)
        with base:
            base.execute("insert into t values(?, ?)", (number, dice.randbytes(dice.choice([10, 5000]))))
            if number % 5 == 0:
                base.execute("update t set b = zeroblob(300) where n % 7 = ?", (number % 7,))
        # SQLite takes a directory that it cannot open for one that is synced: ask whether the mount was there until now.
        os.statvfs(mount)
        log.add("inserted", path, number)


WRITERS = (append, replace, names, sqlite)


def gone(mount):
    """Whether an error came of the kill: the mount is dead, or is so in a moment."""
    for _ in range(100):
        try:
            os.statvfs(mount)
        except OSError as e:
            return e.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        time.sleep(0.02)
    return False


def start(writer, mount, log, seed):
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(120)
            writer(mount, Log(log), seed)
        except LOST as e:
            if gone(mount):
                os._exit(0)
            print(f"{writer.__name__}: {e}", flush=True)
        except BaseException as e:
            print(f"{writer.__name__}: {e!r}", flush=True)
        os._exit(1)
    return child


# ---- after a kill -------------------------------------------------------------------------------------------------------


def need(true, what):
    if not true:
        raise AssertionError(what)


def exists(path):
    return os.path.lexists(path)


def verify(log):
    """Compares what is there with one log; returns how many facts were acknowledged."""
    pieces, grown, versions, replaced, there, unsure, inserted = {}, {}, {}, {}, {}, set(), {}
    lines = [json.loads(line) for line in open(log, "rb").read().splitlines()]
    for kind, *what in lines:
        match kind:
            case "begins": pieces.setdefault(what[0], []).append(what[1:])
            case "grown": grown[what[0]] = what[1]
            case "replaces": versions.setdefault(what[0], {})[what[1]] = what[2]
            case "replaced":
                replaced[what[0]] = what[1]
            case "names": unsure = set(what[0]) | set(what[1])
            case "named":
                there.update(dict.fromkeys(what[0], True) | dict.fromkeys(what[1], False))
                unsure = set()
            case "inserted": inserted.setdefault(what[0], set()).add(what[1])
    for path, size in grown.items():
        data = open(path, "rb").read()
        need(len(data) >= size, f"{path} has {len(data)} bytes, {size} were synced")
        for at, length in pieces[path]:
            if at + length <= size:
                need(data[at : at + length] == blob(at, length), f"{path}: other bytes at {at}")
    for path, version in replaced.items():
        data = open(path, "rb").read()
        possible = [n for n in versions[path] if n >= version]
        need(any(data == blob(n, versions[path][n]) for n in possible), f"{path} is none of the versions {possible}")
    for path, is_there in there.items():
        if path not in unsure:
            need(exists(path) == is_there, f"{path} is {'gone' if is_there else 'back'}")
            if is_there and os.path.isfile(path):
                os.stat(path)
    for path, numbers in inserted.items():
        base = sqlite3.connect(path)
        need(base.execute("pragma integrity_check").fetchone() == ("ok",), f"{path}: integrity_check")
        found = {n for (n,) in base.execute("select n from t")}
        base.close()
        need(numbers <= found, f"{path}: {len(numbers - found)} transactions are lost")
    return sum(line[0] in ("grown", "replaced", "named", "inserted") for line in lines)


def walk(top):
    """Every name has an inode, and every file can be read."""
    for here, dirs, files in os.walk(top, onerror=lambda e: need(False, e)):
        for name in dirs + files:
            path = os.path.join(here, name)
            os.lstat(path)
            if os.path.isfile(path) and not os.path.islink(path):
                open(path, "rb").read()


def server(mount):
    listed = subprocess.run([STMOUNT, "list", "--json"], capture_output=True, check=True).stdout
    return next(m["pid"] for m in json.loads(listed)["mounts"] if m["mountpoint"] == mount and m["served"])


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    while os.path.exists(f"/proc/{pid}") and "\nState:\tZ" not in open(f"/proc/{pid}/status").read():
        time.sleep(0.005)


def life(work, number, dice):
    """One mount from its beginning to its violent end; returns how many facts were acknowledged."""
    mount, container, log = f"{work}/mnt", f"{work}/{CONTAINER}", f"{work}/log"
    stmount("-o", f"rw,commit={dice.choice([1, 2, 5])}s", container, mount)
    for old in glob.glob(log + "-*"):
        os.unlink(old)
    if number % 20 == 0:
        subprocess.run(["find", mount, "-mindepth", "1", "-delete"], check=True, timeout=60)
    logs = [f"{log}-{writer.__name__}" for writer in WRITERS]
    children = [start(writer, mount, own, number) for writer, own in zip(WRITERS, logs)]
    settler = subprocess.Popen(["sh", "-c", f"while '{STMOUNT}' commit '{mount}' 2>/dev/null; do sleep 0.2; done"])
    time.sleep(dice.choice([0.05, 0.3, 1, 2.5]) * dice.uniform(0.2, 1.8))
    kill(server(mount))
    settler.wait(timeout=60)
    results = [os.waitpid(child, 0)[1] for child in children]
    # SQLite maps the index of a write-ahead log: of a mount that is gone that is a SIGBUS.
    need(all(result in (0, signal.SIGBUS) for result in results), f"a writer failed before the mount did: {results}")
    subprocess.run(["umount", "-l", mount], check=True, timeout=60)
    size = os.path.getsize(container)
    # What was begun and not committed is told of: nothing needs it.
    checked = subprocess.run([STMOUNT, "-q", "check", container], capture_output=True, text=True, timeout=120)
    left = [line for line in checked.stdout.splitlines() if "are no record" not in line]
    need(checked.returncode == 0 or checked.returncode == 3 and not left, f"check: {checked.stdout}{checked.stderr}")
    if dice.random() < 0.3:  # Once more, with nobody at work: what is mounted and killed at once.
        stmount("-o", "rw", container, mount)
        kill(server(mount))
        subprocess.run(["umount", "-l", mount], check=True, timeout=60)
    stmount("-o", "rw", container, mount)
    # What was half written is taken back by then.
    witness = next((command for ending, command in WITNESSES.items() if CONTAINER.endswith(ending)), None)
    if witness:  # 1, of unzip: it is empty
        done = subprocess.run([*witness, container], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        need(done.returncode == 0 or witness[0] == "unzip" and done.returncode == 1, " ".join(witness))
    facts = sum(verify(own) for own in logs if os.path.exists(own))
    walk(mount)
    if dice.random() < 0.5:
        stmount("umount", mount)
    else:
        kill(server(mount))
        subprocess.run(["umount", "-l", mount], check=True, timeout=60)
    return facts, size


def main():
    base = sys.argv[1] if len(sys.argv) > 1 else "/tmp"
    kills = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    os.makedirs(base, exist_ok=True)
    work = os.path.realpath(tempfile.mkdtemp(prefix="soak.", dir=base))
    os.makedirs(f"{work}/mnt")
    os.makedirs(f"{work}/empty")
    failed, facts, began = False, 0, time.time()
    try:
        stmount("pack", *os.environ.get("PACK", "").split(), f"{work}/empty", f"{work}/{CONTAINER}")
        for number in range(kills):
            new, size = life(work, number, random.Random(number))
            facts += new
            print(f"ok      kill {number + 1}: {new} acknowledged facts, container {size >> 10} KiB", flush=True)
        print(f"ok      {kills} kills, {facts} acknowledged facts, none lost, {time.time() - began:.0f} s")
    except BaseException as e:
        failed = True
        print(f"FAILED  {e!r}")
    finally:
        subprocess.run(["umount", "-l", f"{work}/mnt"], stderr=subprocess.DEVNULL)
        if failed and os.environ.get("KEEP"):
            print(f"kept: {work}")
        else:
            subprocess.run(["rm", "-rf", work])
    sys.exit(failed)


main()
