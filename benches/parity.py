#!/usr/bin/env python3
"""Measures what parity costs, beside par2cmdline, on the same file of noise.

    benches/parity.py [--size MIB] [--rounds N] [--share PERCENT] [--dir DIR]

Makes a file, then in each round, the programs one after the other: parity of it, a burst of damage of four fifths of the
share, and the repair, after which the file must be what it was. Prints the medians as a table. STMOUNT names the program
(target/release/stmount); par2 must be installed. DIR (/tmp) needs room for three times the size. Each step begins with the
file in the page cache: computing is what is measured. par2 works with its defaults, 2000 blocks, and all cores, as stmount
does.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--size", type=int, default=1024, help="of the file, in MiB")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--share", type=int, default=5, help="of parity, in per cent")
parser.add_argument("--dir", default="/tmp")
args = parser.parse_args()
STMOUNT = os.environ.get("STMOUNT", str(Path(__file__).resolve().parent.parent / "target/release/stmount"))


def run(folder, codes, *command):
    """Seconds of processor time and of waiting, and the most memory in MB."""
    # What was written before is on the disk: who makes sure of its own writes does not wait for those of others.
    os.sync()
    done = subprocess.run([sys.executable, "-c", MEASURE, *command], cwd=folder, capture_output=True, text=True)
    code, cpu, wall, peak = done.stdout.rpartition("\n")[2].split()
    if int(code) not in codes:
        sys.exit(f"{' '.join(command)}: {code}\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
    return float(cpu), float(wall), int(peak) / 1024


# The most memory of one child is only known to who has no other.
MEASURE = """
import resource, subprocess, sys, time
begun = time.monotonic()
code = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode
wall, used = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
print(code, used.ru_utime + used.ru_stime, wall, used.ru_maxrss, end="")
"""


def make(path, size):
    dice = random.Random(1)
    with open(path, "wb") as file:
        for _ in range(size):
            file.write(dice.randbytes(1 << 20))


def spoil(path, at, length):
    with open(path, "r+b") as file:
        file.seek(at)
        was = file.read(length)
        file.seek(at)
        file.write(random.Random(2).randbytes(length))
    return was


def is_as_it_was(path, at, was):
    with open(path, "rb") as file:
        file.seek(at)
        return file.read(len(was)) == was


def stmount_create(folder):
    return run(folder, (0,), STMOUNT, "parity", "add", "-q", "data", f"{args.share}%")


def stmount_repair(folder):
    os.utime(folder / "data.stpar")
    # It is no archive: repaired is what the code says.
    return run(folder, (51,), STMOUNT, "check", "-q", "--repair", "data")


def par2_create(folder):
    return run(folder, (0,), "par2", "create", "-q", "-q", f"-r{args.share}", "-n1", "data.par2", "data")


def par2_repair(folder):
    return run(folder, (0,), "par2", "repair", "-q", "-q", "data.par2")


def clean(folder):
    """Whatever is not the file itself; how much of it was parity."""
    others = [path for path in folder.iterdir() if path.name != "data"]
    size = sum(path.stat().st_size for path in others if "par" in path.name)
    for path in others:
        path.unlink()
    return size


def measure(folder):
    found = {}
    programs = {"stmount": (stmount_create, stmount_repair), "par2cmdline": (par2_create, par2_repair)}
    data, size = folder / "data", args.size << 20
    for number in range(args.rounds):
        at = size // 7 * (number % 6)
        for program, (create, repair) in programs.items():
            found.setdefault((program, "create"), []).append(create(folder))
            was = spoil(data, at, size * args.share // 125)
            found.setdefault((program, "repair"), []).append(repair(folder))
            if not is_as_it_was(data, at, was):
                sys.exit(f"{program} did not repair it")
            found.setdefault((program, "size"), []).append(clean(folder))
    return found


def table(found):
    print("| | CPU s | wall s | memory MB | parity MB |\n|---|---|---|---|---|")
    for program in ("stmount", "par2cmdline"):
        for step in ("create", "repair"):
            cpu, wall, peak = (statistics.median(values) for values in zip(*found[program, step]))
            size = f"{statistics.median(found[program, 'size']) / 1e6:.1f}" if step == "create" else ""
            print(f"| {program} {step} | {cpu:.1f} | {wall:.1f} | {peak:.0f} | {size} |")


with tempfile.TemporaryDirectory(dir=args.dir) as place:
    make(Path(place) / "data", args.size)
    table(measure(Path(place)))
