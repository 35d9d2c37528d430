#!/usr/bin/env python3
"""Damages a container in many ways, repairs it, and compares every byte with what it was.

    damage.py CONTAINER ROUNDS [--share 5]        STMOUNT is the program, else `stmount`; PASSWORD_FILE opens the container

Each round damages a copy in one way: a burst of the promised length somewhere (also over the header, the last commit, the
parity), scattered sectors, a cut end, or zeros at both ends; then `check --repair` must end with 51 (or 0, when the damage
changed nothing), and the copy must be the original, bit for bit. Prints a count for each way.
"""
import argparse
import collections
import os
import random
import shutil
import subprocess
import sys

parser = argparse.ArgumentParser()
parser.add_argument("container")
parser.add_argument("rounds", type=int)
parser.add_argument("--share", type=float, default=5.0)
parser.add_argument("--seed", type=int, default=1)
args = parser.parse_args()
stmount = os.environ.get("STMOUNT", "stmount")
options = ["--password-file", os.environ["PASSWORD_FILE"]] if "PASSWORD_FILE" in os.environ else []
whole = open(args.container, "rb").read()
size = len(whole)
# What remains of the share when the parity itself and a column at each end are taken off.
burst = int(size * args.share / 100 / (1 + args.share / 100) * 0.75)
dice = random.Random(args.seed)


def noise(n):
    return dice.randbytes(n)


def burst_at(data, at, n, what):
    n = min(n, len(data) - at)
    data[at:at + n] = noise(n) if what == "noise" else bytes(n)
    return data


def anywhere(data):
    return burst_at(data, dice.randrange(max(1, size - burst)), burst, dice.choice(["noise", "zeros"]))


def header(data):
    return burst_at(data, 0, burst, "zeros")


def end(data):
    return burst_at(data, size - burst, burst, "noise")


def commit(data):
    # The last commit of a packed container lies before its parity.
    return burst_at(data, max(0, int(size / (1 + args.share / 100 * 1.09)) - burst // 2), burst, "noise")


def sectors(data):
    # Two fifths of the share: of some hundred sectors that one cell each is of, no more than the share may be hit by chance.
    count = size // 4096
    for at in dice.sample(range(count), max(1, int(count * args.share / 100 * 0.4))):
        data[at * 4096:at * 4096 + 4096] = noise(4096)
    return data


def bits(data):
    for _ in range(20):
        at = dice.randrange(size)
        data[at] ^= 1 << dice.randrange(8)
    return data


def cut(data):
    return data[:size - dice.randrange(1, burst)]


ways = [anywhere, header, end, commit, sectors, bits, cut]
found = collections.Counter()
for number in range(args.rounds):
    way = ways[number % len(ways)]
    damaged = bytes(way(bytearray(whole)))
    path = args.container + ".damaged"
    with open(path, "wb") as file:
        file.write(damaged)
    done = subprocess.run([stmount, "check", "--repair", *options, "--progress", "none", path], capture_output=True, text=True)
    same = open(path, "rb").read() == whole
    found[way.__name__, same] += 1
    if not same or done.returncode not in (0, 51):
        shutil.copy(path, f"{args.container}.failed-{number}")
        print(f"round {number}: {way.__name__}: exit {done.returncode}, same: {same}\n{done.stdout[:1000]}{done.stderr[:1000]}")
for (way, same), count in sorted(found.items()):
    print(f"{way:10} {'identical' if same else 'DIFFERENT':10} {count}")
sys.exit(any(not same for _, same in found))
