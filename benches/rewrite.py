#!/usr/bin/env python3
"""Measures what it takes until changes of a mounted archive are in the archive, beside other programs that write to one.

    benches/rewrite.py fill DIR     rsync of a folder into an empty archive
    benches/rewrite.py edit         a line behind a small file, in an archive of 1 GiB that hardly compresses
    benches/rewrite.py table        the medians of all that was measured

zip against fuse-zip, tar and tar.gz against archivemount and the overlay of ratarmount, which is committed; 7z by itself. And an
overlay of stmount against that of ratarmount, without a commit. A step ends when the unmount is over, no process of the program is
left, and sync(1) is done. What is in the archive then is unpacked by bsdtar and compared; a program that lost something is named.

STMOUNT names the program (target/release/stmount), PATH has the others. Needs rsync, bsdtar, and 8 GB below
~/.cache/stmount-bench/rewrite. Rounds (--rounds) interleave the programs.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

HOME = Path.home() / ".cache/stmount-bench/rewrite"
STMOUNT = os.environ.get("STMOUNT", str(Path(__file__).resolve().parent.parent / "target/release/stmount"))
LIMIT = 900
RESULTS = HOME / "results.jsonl"


def run(*command, check=True, **more):
    return subprocess.run([str(word) for word in command], check=check, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, timeout=LIMIT, **more)


def unmounted(mnt, name, archive):
    run("fusermount3" if shutil.which("fusermount3") else "fusermount", "-u", mnt)
    end = time.monotonic() + LIMIT
    while subprocess.run(["pgrep", "-f", f"{name}.*{archive}"], stdout=subprocess.DEVNULL).returncode == 0:
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)


class Stmount:
    def mount(self, archive, mnt):
        run(STMOUNT, "-o", "rw", archive, mnt)

    def done(self, archive, mnt):
        run(STMOUNT, "umount", mnt)


class Overlay(Stmount):
    def mount(self, archive, mnt):
        run(STMOUNT, "-o", f"overlay={HOME / 'overlay'}", archive, mnt)


class FuseZip:
    def mount(self, archive, mnt):
        run("fuse-zip", archive, mnt)

    def done(self, archive, mnt):
        unmounted(mnt, "fuse-zip", archive)


class Archivemount:
    def mount(self, archive, mnt):
        run("archivemount", archive, mnt)

    def done(self, archive, mnt):
        unmounted(mnt, "archivemount", archive)


class RatarmountOverlay:
    def mount(self, archive, mnt):
        run("ratarmount", "-w", HOME / "overlay", archive, mnt)

    def done(self, archive, mnt):
        unmounted(mnt, "ratarmount", archive)


class Ratarmount(RatarmountOverlay):
    def done(self, archive, mnt):
        super().done(archive, mnt)
        run("ratarmount", "--commit-overlay", "-w", HOME / "overlay", archive, input=b"commit\n")


PROGRAMS = {
    "zip": {"stmount": Stmount, "fuse-zip": FuseZip},
    "tar": {"stmount": Stmount, "archivemount": Archivemount, "ratarmount": Ratarmount},
    "tar.gz": {"stmount": Stmount, "archivemount": Archivemount},
    "7z": {"stmount": Stmount},
    "overlay": {"stmount": Overlay, "ratarmount": RatarmountOverlay},
}
INSTALLED = {"fuse-zip": "fuse-zip", "archivemount": "archivemount", "ratarmount": "ratarmount"}


def make(kind, source, archive):
    """An archive of a folder, by other people's tools."""
    archive.unlink(missing_ok=True)
    if kind == "zip":
        run("zip", "-qr", archive, ".", cwd=source)
    elif kind == "7z":
        run("7z", "a", "-mx=1", "-ms=64m", archive, ".", cwd=source)
    else:
        run("tar", "-caf", archive, "-C", source, ".")


def lost(archive, wanted):
    """What is not in an archive as it should be; and what is in the overlay, of one that is not committed."""
    out = HOME / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    run("bsdtar", "-xf", archive, "-C", out, check=False)
    told = subprocess.run(["diff", "-rq", "--no-dereference", wanted, out], capture_output=True, text=True).stdout
    return len(told.splitlines())


def step(kind, name, work, wanted, source):
    ending = "tar" if kind == "overlay" else kind
    archive, mnt = HOME / f"a.{ending}", HOME / "mnt"
    for folder in [mnt, HOME / "overlay"]:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    for old in HOME.glob("a.*"):
        old.unlink()
    make(ending, source, archive)
    run("sync")
    Path("/proc/sys/vm/drop_caches").write_text("3")
    program = PROGRAMS[kind][name]()
    begun = time.monotonic()
    try:
        program.mount(archive, mnt)
        mounted = time.monotonic()
        work(mnt)
        worked = time.monotonic()
        program.done(archive, mnt)
        run("sync")
        ended = time.monotonic()
    except (subprocess.SubprocessError, TimeoutError, OSError) as e:
        run("umount", "-l", mnt, check=False)
        return {"failed": str(e)[:200]}
    missing = lost(archive, wanted) if kind != "overlay" else 0
    return {"mount": mounted - begun, "work": worked - mounted, "commit": ended - worked, "all": ended - begun, "lost": missing}


def measure(what, kinds, rounds, work, wanted, source_of):
    for number in range(rounds):
        for kind in kinds:
            for name in PROGRAMS[kind]:
                if name in INSTALLED and not shutil.which(INSTALLED[name]):
                    print(f"{name} is not installed", file=sys.stderr)
                    continue
                found = step(kind, name, work, wanted, source_of)
                found |= {"what": what, "kind": kind, "name": name}
                print(json.dumps(found), flush=True)
                with open(RESULTS, "a") as results:
                    results.write(json.dumps(found) + "\n")


def fill(folder, kinds, rounds):
    empty = HOME / "empty"
    empty.mkdir(exist_ok=True)
    (empty / "there").write_text("so that it is not empty\n")
    wanted = HOME / "wanted"
    shutil.rmtree(wanted, ignore_errors=True)
    run("rsync", "-rlt", f"{folder}/", wanted)
    shutil.copy(empty / "there", wanted)
    # Where a program refuses a part of it, that is in what is lost.
    measure("fill", kinds, rounds, lambda mnt: run("rsync", "-rlt", f"{folder}/", f"{mnt}/", check=False), wanted, empty)


def edit(kinds, rounds):
    large, wanted = HOME / "large", HOME / "wanted"
    if not large.exists():
        large.mkdir()
        dice = random.Random(1)
        for number in range(100):
            (large / f"part{number:02}").write_bytes(dice.randbytes(10_737_418))
        (large / "notes.txt").write_text("a line\n")
    shutil.rmtree(wanted, ignore_errors=True)
    shutil.copytree(large, wanted)

    def line(path):
        with open(path / "notes.txt", "a") as notes:
            notes.write("another line\n")

    line(wanted)
    measure("edit", kinds, rounds, line, wanted, large)


def table():
    found = {}
    for line in RESULTS.read_text().splitlines():
        one = json.loads(line)
        found.setdefault((one["what"], one["kind"], one["name"]), []).append(one)
    print("| | | program | mount s | work s | commit s | all s | lost |\n|---|---|---|---|---|---|---|---|")
    for (what, kind, name), all in sorted(found.items()):
        good = [one for one in all if "failed" not in one]
        if not good:
            print(f"| {what} | {kind} | {name} | failed: {all[0]['failed']} | | | | |")
            continue
        medians = [f"{statistics.median(one[key] for one in good):.2f}" for key in ["mount", "work", "commit", "all"]]
        print(f"| {what} | {kind} | {name} | {' | '.join(medians)} | {max(one['lost'] for one in good)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["fill", "edit", "table"])
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", default=",".join(PROGRAMS))
    given = parser.parse_args()
    HOME.mkdir(parents=True, exist_ok=True)
    kinds = given.kinds.split(",")
    if given.what == "fill":
        fill(given.folder or parser.error("fill needs a folder"), kinds, given.rounds)
    elif given.what == "edit":
        edit(kinds, given.rounds)
    else:
        table()


main()
