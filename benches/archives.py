#!/usr/bin/env python3
"""Mounts archives of other makers with stmount and with its peers, and prints what a person waits for.

  benches/archives.py make FOLDER             packs it as zip, solid 7z, tar.gz, tar.xz, tar.zst and rar
  benches/archives.py read                    reads them through each mount
  benches/archives.py table                   what was measured so far

For each archive and peer, in turn: mount to the first listing with nothing in the page cache; COUNT reads of 4 KiB at
random places in the largest files, and the same again; a new mount; all files from front to back, and again. Between
two passes only the page cache is dropped, so that what counts is what the mount itself remembers. A pass ends after
LIMIT seconds (30) with what was done until then. Every result is a line of JSON; tables are medians. Needs root.
"""
import argparse
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
STMOUNT = os.environ.get("STMOUNT", "stmount")
WORK = os.environ.get("BENCH_DIR", os.path.expanduser("~/.cache/stmount-bench/archives"))
RESULTS = os.path.join(WORK, "results.jsonl")
MNT = os.path.join(WORK, "mnt")
COUNT, LIMIT, READY = 400, int(os.environ.get("LIMIT", 30)), 180

MAKE = {
    "zip": "cd {src} && zip -qr -6 {out} .",
    "7z": "7zz a -bso0 -bsp0 -mx=5 {out} {src}/.",
    "tar.gz": "tar -C {src} -cf - . | gzip -6 > {out}",
    "tar.xz": "tar -C {src} -cf - . | xz -T2 -3 > {out}",
    "tar.zst": "tar -C {src} -cf - . | zstd -q -9 -T2 -o {out}",
    "rar": os.environ.get("MAKE_RAR", ""),
}
# How a peer mounts, and which of them.
PEERS = {
    "stmount": (STMOUNT + " {img} {mnt}", set(MAKE)),
    "mount-zip": ("mount-zip -o notrim {img} {mnt}", {"zip"}),
    "fuse-zip": ("fuse-zip -r {img} {mnt}", {"zip"}),
    "fuse-archive": ("fuse-archive -o notrim {img} {mnt}", set(MAKE)),
    "fuse-archive lazy": ("fuse-archive -o notrim,lazycache {img} {mnt}", set(MAKE) - {"zip"}),
    "fuse-archive nocache": ("fuse-archive -o notrim,nocache {img} {mnt}", set(MAKE) - {"zip"}),
    "ratarmount": ("ratarmount {img} {mnt}", set(MAKE)),
    "rar2fs": ("rar2fs {img} {mnt}", {"rar"}),
    "archivemount": ("archivemount -o readonly {img} {mnt}", set(MAKE)),
}


def drop():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3")


def record(**result):
    with open(RESULTS, "a") as f:
        f.write(json.dumps(result) + "\n")
    print(" ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in result.items()), flush=True)


class Mounted:
    def __init__(self, command, img):
        drop()
        before = set(os.listdir("/proc"))
        begun = time.monotonic()
        line = command.format(img=img, mnt=MNT)
        done = subprocess.run(["timeout", str(READY), "bash", "-c", line], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while done.returncode == 0 and not (os.path.ismount(MNT) and os.listdir(MNT)):
            if time.monotonic() - begun > READY:
                break
            time.sleep(0.001)
        self.ready = time.monotonic() - begun
        self.failed = None if os.path.ismount(MNT) else f"rc {done.returncode}: {done.stderr[-150:]}"
        self.pids = [p for p in set(os.listdir("/proc")) - before if p.isdigit() and self.ours(p)]

    @staticmethod
    def ours(pid):
        try:
            with open(f"/proc/{pid}/cmdline") as f:
                return MNT in f.read()
        except OSError:
            return False

    def peak(self):
        total = 0
        for pid in self.pids:
            try:
                with open(f"/proc/{pid}/status") as f:
                    total += int(re.search(r"VmHWM:\s+(\d+)", f.read()).group(1))
            except (OSError, AttributeError):
                pass
        return total / 1024

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for _ in range(200):
            if not os.path.ismount(MNT) or subprocess.run(["umount", MNT], stderr=subprocess.DEVNULL).returncode == 0:
                break
            time.sleep(0.05)
        for _ in range(400):
            if not any(os.path.exists(f"/proc/{pid}") for pid in self.pids):
                return
            time.sleep(0.01)


def files():
    found = []
    for folder, _, names in os.walk(MNT):
        for path in (os.path.join(folder, name) for name in names):
            if os.path.isfile(path) and not os.path.islink(path) and "#" not in path:
                found.append((os.path.getsize(path), path))
    return found


def jumps(largest):
    """Reads at the same random places each time; how many, and how long the median and the longest took."""
    dice, waits, begun = random.Random(7), [], time.monotonic()
    while len(waits) < COUNT and time.monotonic() - begun < LIMIT:
        size, path = dice.choice(largest)
        at = dice.randrange(max(size - 4096, 1))
        start = time.monotonic()
        with open(path, "rb", buffering=0) as f:
            os.pread(f.fileno(), 4096, at)
        waits.append(time.monotonic() - start)
    took = time.monotonic() - begun
    waits.sort()
    return dict(rate=len(waits) / took, p50=waits[len(waits) // 2], p99=waits[int(len(waits) * 0.99)], n=len(waits))


def sweep(paths):
    begun, done = time.monotonic(), 0
    for _, path in paths:
        with open(path, "rb", buffering=0) as f:
            while piece := f.read(1 << 20):
                done += len(piece)
                if time.monotonic() - begun > LIMIT:
                    return dict(rate=done / (time.monotonic() - begun) / 1e6, whole=False)
    return dict(rate=done / (time.monotonic() - begun) / 1e6, whole=True)


def read(peer, ending):
    command, img = PEERS[peer][0], os.path.join(WORK, f"a.{ending}")
    key = dict(peer=peer, archive=ending)
    for index in (f"{img}.index.sqlite", os.path.expanduser("~/.ratarmount"), os.path.join(WORK, "cache")):
        shutil.rmtree(index, ignore_errors=True) if os.path.isdir(index) else os.path.exists(index) and os.remove(index)
    with Mounted(command, img) as mounted:
        if mounted.failed:
            return record(step="failed", why=mounted.failed, **key)
        record(step="mount", wall=mounted.ready, **key)
        largest = sorted(files(), reverse=True)[:8]
        for number in (1, 2):
            drop()
            record(step=f"jumps {number}", **jumps(largest), **key)
        record(step="memory", rss=mounted.peak(), **key)
    with Mounted(command, img) as mounted:
        record(step="mount again", wall=mounted.ready, **key)
        paths = sorted(files(), key=lambda found: found[1])
        for number in (1, 2):
            drop()
            record(step=f"sweep {number}", **sweep(paths), **key)
        record(step="memory", rss=mounted.peak(), **key)


def table():
    with open(RESULTS) as f:
        rows = [json.loads(row) for row in f]

    def cell(step, field, scale, digits, **key):
        found = [row[field] for row in rows if row["step"] == step and all(row[k] == v for k, v in key.items())]
        return f"{statistics.median(found) * scale:.{digits}f}" if found else "–"

    print("| archive | peer | mount s | again s | jumps/s | 2nd pass | p99 ms | MB/s | 2nd pass | MB |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for ending in MAKE:
        for peer in PEERS:
            key = dict(peer=peer, archive=ending)
            if not any(row["peer"] == peer and row["archive"] == ending for row in rows):
                continue
            peak = [row["rss"] for row in rows if row["step"] == "memory" and row["peer"] == peer and row["archive"] == ending]
            cells = [cell("mount", "wall", 1, 2, **key), cell("mount again", "wall", 1, 2, **key),
                     cell("jumps 1", "rate", 1, 0, **key), cell("jumps 2", "rate", 1, 0, **key),
                     cell("jumps 1", "p99", 1e3, 1, **key), cell("sweep 1", "rate", 1, 0, **key),
                     cell("sweep 2", "rate", 1, 0, **key), f"{max(peak):.0f}" if peak else "–"]
            print(f"| {ending} | {peer} | " + " | ".join(cells) + " |")


def make(folder):
    for ending, line in MAKE.items():
        out = os.path.join(WORK, f"a.{ending}")
        if line and not os.path.exists(out):
            subprocess.run(["bash", "-c", line.format(src=os.path.abspath(folder), out=out)], check=True)
            print(f"{out}: {os.path.getsize(out) / 1e6:.1f} MB", flush=True)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("verb", choices=["make", "read", "table"])
    options.add_argument("folder", nargs="?")
    options.add_argument("-a", "--archives", help="only these, with commas")
    options.add_argument("-p", "--peers", help="only these, with commas")
    options.add_argument("-n", "--rounds", type=int, default=3)
    given = options.parse_args()
    os.makedirs(MNT, exist_ok=True)
    os.environ["STMOUNT_CACHE_DIR"] = os.path.join(WORK, "cache")
    if given.verb == "make":
        return make(given.folder)
    if given.verb == "table":
        return table()
    names = given.peers.split(",") if given.peers else list(PEERS)
    for missing in [name for name in names if not shutil.which(PEERS[name][0].split()[0])]:
        print(f"{missing} is left out: it is not installed", file=sys.stderr)
        names.remove(missing)
    endings = given.archives.split(",") if given.archives else list(MAKE)
    for _ in range(given.rounds):
        for ending in endings:
            for name in names:
                if ending in PEERS[name][1] and os.path.exists(os.path.join(WORK, f"a.{ending}")):
                    read(name, ending)


if __name__ == "__main__":
    main()
