#!/usr/bin/env python3
"""What sealing costs: the same tree packed, read in sequence, read at random and written, plain and sealed, in turns.

    sealed.py TREE [ROUNDS]         STMOUNT is the program, else `stmount`; works in a directory of its own below TMPDIR

Prints medians and the ratio to the plain container, sizes, and the most memory that the daemon took. One of the kinds goes
first in each round, so that what the machine does besides hits all of them.
"""
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

tree, rounds = os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5
stmount = os.environ.get("STMOUNT", "stmount")
work = tempfile.mkdtemp(prefix="stmount-sealed-")
IDENTITY = "AGE-SECRET-KEY-1GPQ5YS6YG4RYWJZFFF95CN2WFAG9Z5JN2324V46CT9D9KHZATE0S5FAZ64"
RECIPIENT = "age10xnrrmk7r0uunrcjqvkdatwsu7s8jwv0c7rt3rxggmkgntu955dq25yyzj"
KINDS = {
    "plain": [],
    "sealed": ["--recipient", RECIPIENT],
    "cascade": ["--recipient", RECIPIENT, "--cipher", "cascade"],
    "cascade, padded": ["--recipient", RECIPIENT, "--cipher", "cascade", "--pad"],
}
env = dict(os.environ, STMOUNT_IDENTITY=f"{work}/identity", STMOUNT_STATE_DIR=f"{work}/state")
with open(f"{work}/identity", "w") as file:
    file.write(IDENTITY)
mount = f"{work}/m"
os.mkdir(mount)


def run(*words):
    subprocess.run([stmount, *words], check=True, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def timed(work):
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def files(top):
    for base, dirs, names in os.walk(top):
        dirs.sort()
        for name in sorted(names):
            path = f"{base}/{name}"
            if os.path.isfile(path) and not os.path.islink(path):
                yield path


def read_all():
    for path in files(mount):
        with open(path, "rb", buffering=0) as file:
            while file.read(1 << 20):
                pass


def read_some():
    dice, large = random.Random(7), [p for p in files(mount) if os.path.getsize(p) > 1 << 20]
    for _ in range(1000):
        path = dice.choice(large)
        with open(path, "rb", buffering=0) as file:
            file.seek(dice.randrange(os.path.getsize(path) - 4096))
            file.read(4096)


def write_all():
    for path in files(tree):
        to = f"{mount}/{os.path.relpath(path, tree)}"
        os.makedirs(os.path.dirname(to), exist_ok=True)
        shutil.copyfile(path, to)
    os.sync()


def peak():
    listed = subprocess.run([stmount, "list", "--json"], env=env, capture_output=True, text=True).stdout
    import json

    pid = next(m["pid"] for m in json.loads(listed)["mounts"] if m["mountpoint"] == mount)
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM"))


times, sizes, memory = {}, {}, {}
try:
    for number in range(rounds):
        kinds = list(KINDS)
        kinds = kinds[number % len(kinds):] + kinds[:number % len(kinds)]
        for kind in kinds:
            archive = f"{work}/{kind}.st"
            note = lambda what, took: times.setdefault((what, kind), []).append(took)  # noqa: E731, B023
            note("pack -3", timed(lambda: run("pack", "-3", "-f", *KINDS[kind], tree, archive)))
            sizes[kind] = os.path.getsize(archive)
            run("--ro", "-o", "cachesize=64M,nocache", archive, mount)
            note("read all", timed(read_all))
            memory[kind] = max(memory.get(kind, 0), peak())
            run("umount", mount)
            run("--ro", "-o", "cachesize=16M,nocache", archive, mount)
            note("1000 reads of 4 KiB", timed(read_some))
            run("umount", mount)
            written = f"{work}/written.st"
            run("create", "-f", *KINDS[kind], written)
            run(written, mount)
            note("write all", timed(lambda: (write_all(), run("umount", mount))))
    total = sum(os.path.getsize(path) for path in files(tree))
    print(f"{total / 1e6:.0f} MB, {rounds} rounds, medians\n")
    print("| | " + " | ".join(KINDS) + " |\n|---|" + "---:|" * len(KINDS))
    for what in dict.fromkeys(what for what, _ in times):
        plain = statistics.median(times[what, "plain"])
        cells = [statistics.median(times[what, kind]) for kind in KINDS]
        print(f"| {what} | " + " | ".join(f"{took:.2f} s ({took / plain:.2f})" for took in cells) + " |")
    print("| size | " + " | ".join(f"{sizes[k] / 1e6:.1f} MB ({sizes[k] / sizes['plain']:.4f})" for k in KINDS) + " |")
    print("| memory | " + " | ".join(f"{memory[k]} MB" for k in KINDS) + " |")
finally:
    subprocess.run([stmount, "umount", "-z", mount], env=env, stderr=subprocess.DEVNULL)
    shutil.rmtree(work)
