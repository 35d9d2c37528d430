#!/usr/bin/env python3
"""Damages a container while it is mounted and read, again and again, and lets it heal.

    STMOUNT=... [PACK="--cipher cascade --recipient age1..."] [MOUNT=ro] tests/soak/rot.py FOLDER [WORKDIR [ROUNDS]]

The folder is packed with 5 % of parity and mounted, with little memory for what is decoded. Readers, processes of their
own, read its files at random places and compare them with the folder, without an end. Meanwhile, in each round, the file
is damaged as far as its parity promises to make good: a burst of three quarters of the share, sectors all over it, or the
places of the last commit. Then everything is repaired: by what was read and is written back, by a look of `stmount check
--repair` at a copy when the mount cannot be written to. No reader may ever see another byte, or an error.
"""
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

STMOUNT = os.environ.get("STMOUNT", "stmount")
SHARE = 0.05
SECTOR = 4096


def stmount(*args, may=(0,)):
    done = subprocess.run([STMOUNT, "-q", *args], timeout=900, capture_output=True, text=True)
    if done.returncode not in may:
        raise AssertionError(f"stmount {' '.join(args)}: exit {done.returncode}: {done.stderr}")
    return done


def read(folder, mount, files, seed, told):
    """Reads and compares until it is told to end, and tells how much that was."""
    dice, count = random.Random(seed), 0
    going = [True]
    signal.signal(signal.SIGTERM, lambda *_: going.clear())
    while going:
        name, size = dice.choice(files)
        at = dice.randrange(size)
        length = min(size - at, dice.choice([1, 5000, 200_000, 4_000_000]))
        with open(f"{folder}/{name}", "rb") as ours, open(f"{mount}/{name}", "rb") as theirs:
            ours.seek(at), theirs.seek(at)
            # What the kernel has of it is not asked for again.
            os.posix_fadvise(theirs.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            try:
                same = ours.read(length) == theirs.read(length)
            except OSError as e:
                same = False
                print(f"{name} at {at}: {e}", file=told, flush=True)
            if not same:
                print(f"{name}: {length} bytes at {at} are not the same", file=told, flush=True)
                os._exit(1)
        count += length
    print(count, file=told, flush=True)
    os._exit(0)


def places(size, round, dice):
    """What is damaged in this round: offset and length."""
    burst = int(size * SHARE / (1 + SHARE) * 0.75)
    match round % 3:
        case 0:
            return [(dice.randrange(size - burst), burst)]
        case 1:
            # Of random sectors, a row of 512 cells takes about two fifths of its share.
            count = size // SECTOR
            return [(at * SECTOR, SECTOR) for at in dice.sample(range(count), int(count * SHARE * 0.36))]
        case _:
            at = int(size / (1 + SHARE * 1.09)) - burst // 2
            return [(at, burst)]


def main():
    folder = sys.argv[1]
    work = tempfile.mkdtemp(prefix="rot.", dir=sys.argv[2] if len(sys.argv) > 2 else "/tmp")
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 12
    container, mount = f"{work}/c.st", f"{work}/mnt"
    writable = os.environ.get("MOUNT", "rw") == "rw"
    os.mkdir(mount)
    stmount("pack", "--parity", "5%", *os.environ.get("PACK", "").split(), folder, container)
    whole = open(container, "rb").read()
    files = [(os.path.relpath(os.path.join(top, name), folder)) for top, _, names in os.walk(folder) for name in names]
    files = [(name, os.path.getsize(f"{folder}/{name}")) for name in files if not os.path.islink(f"{folder}/{name}")]
    files = [(name, size) for name, size in files if size]
    stmount("-o", f"cachesize=8M,nocache,{'rw' if writable else 'ro'},commit=1", container, mount)
    failed, readers, logs = False, [], []
    try:
        for seed in range(4):
            logs.append(f"{work}/reader-{seed}")
            readers.append(os.fork())
            if readers[-1] == 0:
                read(folder, mount, files, seed, open(logs[-1], "w"))
        for round in range(rounds):
            dice, size = random.Random(round), len(whole)
            hurt = places(size, round, dice)
            began = time.time()
            with open(container, "r+b", buffering=0) as file:
                for at, length in hurt:
                    os.pwrite(file.fileno(), dice.randbytes(length), at)
            time.sleep(8)
            if writable:
                # Every file is read once; what is noted then is written when the mount is at rest.
                for name, _ in files:
                    with open(f"{mount}/{name}", "rb") as file:
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                        while file.read(1 << 20):
                            pass
                stmount("commit", mount)
            else:
                with open(container, "r+b", buffering=0) as file:
                    for at, length in hurt:
                        os.pwrite(file.fileno(), whole[at : at + length], at)
            for reader in readers:
                if os.waitpid(reader, os.WNOHANG)[0]:
                    raise AssertionError("a reader has ended: " + "".join(open(log).read() for log in logs))
            now = open(container, "rb").read()
            left = sum(now[at : at + SECTOR] != whole[at : at + SECTOR] for at in range(0, len(whole), SECTOR))
            total = sum(length for _, length in hurt)
            print(f"ok      round {round + 1}: {total >> 10} KiB in {len(hurt)} places, {left} sectors left damaged, {time.time() - began:.0f} s", flush=True)
            if left:
                # What nobody reads, parity among it, is for the repair of all.
                shutil.copy(container, f"{work}/copy")
                stmount("check", "--repair", f"{work}/copy", may=(0, 51))
                with open(container, "r+b", buffering=0) as file:
                    for at in range(0, len(whole), SECTOR):
                        if now[at : at + SECTOR] != whole[at : at + SECTOR]:
                            os.pwrite(file.fileno(), whole[at : at + SECTOR], at)
                if open(f"{work}/copy", "rb").read()[: len(whole)] != whole:
                    raise AssertionError("the repair has made another file of it")
    except BaseException as e:
        failed = True
        print(f"FAILED  {e!r}")
    finally:
        for reader in readers:
            os.kill(reader, signal.SIGTERM)
        ends = [os.waitpid(reader, 0)[1] for reader in readers] if not failed else []
        failed = failed or any(ends)
        amount = sum(int(open(log).read().split()[-1]) for log in logs) if not failed else 0
        subprocess.run([STMOUNT, "-q", "umount", mount])
        shutil.rmtree(work, ignore_errors=True)
    print(f"{'FAILED' if failed else 'ok'}      {rounds} rounds; the readers have compared {amount >> 20} MiB")
    sys.exit(failed)


main()
