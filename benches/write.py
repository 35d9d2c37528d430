#!/usr/bin/env python3
"""Measures what it costs to write into a mounted container, beside a plain directory, other FUSE file systems and backup
programs.

    benches/write.py small          rsync of 100,000 small files
    benches/write.py large          cp of one file of 1 GiB
    benches/write.py fsync          1,000 fsyncs of 64 bytes, in a container with 300,000 files
    benches/write.py versions DIR   ten versions of a tree (DIR has a folder for each), one after the other
    benches/write.py table          the medians of all that was measured

Needs root, and rsync; of bindfs, fuse-overlayfs, restic and borg those are measured that are installed. STMOUNT names the
program (target/release/stmount). Everything happens below ~/.cache/stmount-bench/write, which needs 10 GB.

A step ends when the data are on the disk: after `stmount sync`, or `sync -f`. Rounds interleave the programs; each begins
with an empty page cache. Programs run with their defaults; backup programs without compression of their own choice, and
with a password where they need one.
"""

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

HOME = Path.home() / ".cache/stmount-bench/write"
STMOUNT = os.environ.get("STMOUNT", str(Path(__file__).resolve().parent.parent / "target/release/stmount"))
ENV = dict(os.environ, RESTIC_PASSWORD="bench", BORG_PASSPHRASE="bench", BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK="yes",
           RESTIC_CACHE_DIR=str(HOME / "restic-cache"), BORG_BASE_DIR=str(HOME / "borg-base"))


def run(*command, **more):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENV,
                          text=True, **more)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stderr[-2000:]}")


def drop():
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def size(path):
    if path.is_file():
        return path.stat().st_size
    return sum(p.lstat().st_blocks * 512 for p in path.rglob("*"))


class Place:
    """A directory to write to, and what lies behind it."""

    def __init__(self):
        shutil.rmtree(HOME / "place", ignore_errors=True)
        self.home = HOME / "place"
        self.home.mkdir(parents=True)
        self.dir = self.home / "dir"
        self.dir.mkdir()
        self.store = self.dir

    def sync(self):
        run("sync", "-f", self.dir)

    def close(self):
        pass


class Plain(Place):
    pass


class Bindfs(Place):
    def __init__(self):
        super().__init__()
        self.store = self.home / "below"
        self.store.mkdir()
        run("bindfs", self.store, self.dir)

    def close(self):
        run("umount", self.dir)


class Overlay(Place):
    def __init__(self):
        super().__init__()
        lower, self.store, work = (self.home / name for name in ("lower", "upper", "work"))
        for each in (lower, self.store, work):
            each.mkdir()
        run("fuse-overlayfs", "-o", f"lowerdir={lower},upperdir={self.store},workdir={work}", self.dir)

    def close(self):
        run("umount", self.dir)


class Stmount(Place):
    def __init__(self, base=None):
        super().__init__()
        self.store = self.home / "x.st"
        if base:
            shutil.copyfile(base, self.store)
        else:
            run(STMOUNT, "create", self.store)
        run(STMOUNT, self.store, self.dir)

    def sync(self):
        run(STMOUNT, "sync", self.dir)

    def close(self):
        run(STMOUNT, "umount", self.dir)


PLACES = {"ext4": Plain, "bindfs": Bindfs, "fuse-overlayfs": Overlay, "stmount": Stmount}


class Restic:
    def __init__(self):
        self.store = HOME / "place"
        shutil.rmtree(self.store, ignore_errors=True)
        run("restic", "init", "-q", "-r", self.store)

    def backup(self, tree, name):
        run("restic", "backup", "-q", "-r", self.store, ".", cwd=tree)


class Borg:
    def __init__(self):
        self.store = HOME / "place"
        shutil.rmtree(self.store, ignore_errors=True)
        run("borg", "init", "-e", "none", self.store)

    def backup(self, tree, name):
        run("borg", "create", f"{self.store}::{name}", ".", cwd=tree)


class Container:
    """As a person does it: rsync into the mount, a name for the state."""

    def __init__(self):
        self.place = Stmount()
        self.store = self.place.store

    def backup(self, tree, name):
        run("rsync", "-a", "--delete", f"{tree}/", f"{self.place.dir}/")
        run(STMOUNT, "snapshot", self.place.dir, name)

    def close(self):
        self.place.close()


BACKUPS = {"restic": Restic, "borg": Borg, "stmount": Container}


def installed(name):
    if name in ("ext4", "stmount") or shutil.which(name):
        return True
    print(f"{name} is not installed: left out", file=sys.stderr)
    return False


def record(**result):
    with open(HOME / "results.jsonl", "a") as out:
        out.write(json.dumps(result) + "\n")
    print(json.dumps(result), flush=True)


def text(dice, length):
    words = "value index return self buffer length name path error result open close read write file tree node".split()
    return " ".join(dice.choices(words, k=length // 6 + 1))[:length]


def small_files(count):
    """Source files as people have them: small, alike, and each another."""
    tree = HOME / f"small-{count}"
    if not tree.exists():
        dice = random.Random(1)
        part = HOME / "part"
        shutil.rmtree(part, ignore_errors=True)
        for i in range(count):
            folder = part / f"{i // 2500}" / f"{i // 50 % 50}"
            if i % 50 == 0:
                folder.mkdir(parents=True)
            length = min(int(dice.lognormvariate(7, 1.2)), 200_000)
            (folder / f"file{i}.txt").write_text(f"{i}\n{text(dice, length)}\n")
        part.rename(tree)
    return tree


def large_file():
    path = HOME / "large"
    if not path.exists():
        dice = random.Random(2)
        with open(HOME / "part", "wb") as out:
            for _ in range(1024):
                half = dice.randbytes(512 << 10)
                out.write(half + text(dice, 512 << 10).encode())
        (HOME / "part").rename(path)
    return path


def places(rounds, names, step, work):
    for round in range(rounds):
        for name in filter(installed, names):
            place = PLACES[name]()
            drop()
            began = time.monotonic()
            work(place)
            place.sync()
            seconds = time.monotonic() - began
            place.close()
            record(step=step, peer=name, seconds=round_to(seconds), mb=round_to(size(place.store) / 1e6))


def round_to(value):
    return round(value, 3)


def fsyncs(rounds, files):
    base = HOME / f"base-{files}.st"
    if not base.exists():
        run(STMOUNT, "pack", "-q", small_files(files), base)
    for _ in range(rounds):
        for name in filter(installed, ("ext4", "bindfs", "stmount")):
            place = Stmount(base) if name == "stmount" else PLACES[name]()
            drop()
            longest = [size(place.store)] if name == "stmount" else []
            took = []
            with open(place.dir / "journal", "ab", buffering=0) as out:
                for i in range(1000):
                    out.write(f"{i:063}\n".encode())
                    began = time.monotonic()
                    os.fsync(out.fileno())
                    took.append(time.monotonic() - began)
                    longest += [size(place.store)] if name == "stmount" else []
            place.close()
            per = (longest[-1] - longest[0]) / 1000 if longest else None
            took.sort()
            record(step="fsync", peer=name, files=files, seconds=round_to(sum(took)), p50_ms=round_to(took[500] * 1e3),
                   p99_ms=round_to(took[990] * 1e3), bytes=per)


def versions(trees, rounds):
    for _ in range(rounds):
        for name in filter(installed, BACKUPS):
            backup = BACKUPS[name]()
            drop()
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
            for i, tree in enumerate(trees):
                backup.backup(tree, f"version-{i}")
            seconds = time.monotonic() - began
            if hasattr(backup, "close"):
                backup.close()
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            record(step="versions", peer=name, versions=len(trees), seconds=round_to(seconds),
                   cpu=round_to(used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime),
                   mb=round_to(size(backup.store) / 1e6))


def table():
    groups = {}
    for line in open(HOME / "results.jsonl"):
        result = json.loads(line)
        groups.setdefault((result.pop("step"), result.pop("peer")), []).append(result)
    for (step, peer), results in groups.items():
        fields = [f for f in results[0] if isinstance(results[0][f], (int, float))]
        middle = ", ".join(f"{f} {statistics.median(r[f] for r in results):g}" for f in fields)
        print(f"{step:10} {peer:16} {middle}   ({len(results)} rounds)")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("step", choices=["small", "large", "fsync", "versions", "table"])
    options.add_argument("dir", nargs="?", type=Path, help="for versions: has a folder for each")
    options.add_argument("-n", "--rounds", type=int, default=3)
    options.add_argument("--files", type=int, help="how many small files")
    given = options.parse_args()
    HOME.mkdir(parents=True, exist_ok=True)
    if given.step == "small":
        tree = small_files(given.files or 100_000)
        places(given.rounds, PLACES, "small", lambda place: run("rsync", "-a", f"{tree}/", f"{place.dir}/"))
    elif given.step == "large":
        source = large_file()
        places(given.rounds, PLACES, "large", lambda place: run("cp", source, place.dir / "large"))
    elif given.step == "fsync":
        fsyncs(given.rounds, given.files or 300_000)
    elif given.step == "versions":
        if not given.dir:
            options.error("versions needs a directory")
        versions(sorted(path for path in given.dir.iterdir() if path.is_dir())[:10], given.rounds)
    else:
        table()


if __name__ == "__main__":
    main()
