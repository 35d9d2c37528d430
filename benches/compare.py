#!/usr/bin/env python3
"""Packs and reads folders with stmount and with its peers, and prints the medians as tables.

  benches/compare.py pack CORPUS...           size, CPU time and memory of making the image
  benches/compare.py read CORPUS...           what a person waits for on the mounted image
  benches/compare.py table [CORPUS...]        what was measured so far

A corpus is a folder; `benches/corpora` makes those of README.md. Rounds interleave the peers (A B C A B C), so that all
of them see the same moods of the machine. Each step starts with nothing in the page cache. Every result is a line of
JSON in RESULTS; the tables are made of these. Needs root (the page cache is dropped), fio, and the peers: one that is
not installed is left out, and said so.
"""
import argparse
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time

STMOUNT = os.environ.get("STMOUNT", "stmount")
WORK = os.environ.get("BENCH_DIR", os.path.expanduser("~/.cache/stmount-bench/compare"))
RESULTS = os.path.join(WORK, "results.jsonl")
MNT = os.path.join(WORK, "mnt")
TICK = os.sysconf("SC_CLK_TCK")


class Peer:
    """How an image is made and mounted: command lines with {src}, {img} and {mnt}."""

    def __init__(self, make=None, mount=None, image=None, unmount="umount {mnt}"):
        self.make, self.mount, self.image, self.unmount = make, mount, image, unmount
        self.program = (mount or make).split()[0]


def stmount(options):
    return Peer(f"{STMOUNT} pack -q -f {options} {{src}} {{img}}", f"{STMOUNT} {{img}} {{mnt}}",
                unmount=f"{STMOUNT} umount {{mnt}}")


PEERS = {
    "stmount -1": stmount("-1"),
    "stmount -6": stmount("-6"),
    "stmount -9": stmount("-9"),
    "squashfs zstd": Peer("mksquashfs {src} {img} -comp zstd -quiet -no-progress"),
    "7z -mx5": Peer("7zz a -bso0 -bsp0 -mx=5 {img} {src}/."),
    "dwarfs": Peer("mkdwarfs -i {src} -o {img} --categorize --force --no-progress --log-level=error",
                   "dwarfs {img} {mnt}"),
    "squashfuse_ll": Peer(mount="squashfuse_ll {img} {mnt}", image="squashfs zstd"),
    "passthrough_ll": Peer(mount="passthrough_ll -o source={src},cache=auto {mnt}", image="the folder itself"),
}


def shell(line, cwd=None):
    """Runs a command line; wall seconds, CPU seconds, MB of memory at most, and what it printed."""
    begun = time.monotonic()
    out = subprocess.Popen(["bash", "-c", line], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    printed, said = out.stdout.read(), out.stderr.read()
    _, status, usage = os.wait4(out.pid, 0)
    if status:
        raise RuntimeError(f"{line}: {said[-300:]}")
    return time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, printed


def drop(what=3):
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write(str(what))


def image(name, corpus):
    made_by = PEERS[name].image or name
    plain = re.sub(r"[^a-z0-9]+", "-", made_by)
    return os.path.join(WORK, f"{os.path.basename(corpus)}.{plain}")


def line(text, name, corpus):
    return text.format(src=corpus, img=image(name, corpus), mnt=MNT)


def record(**result):
    result["load"] = os.getloadavg()[0]
    with open(RESULTS, "a") as f:
        f.write(json.dumps(result) + "\n")
    print(" ".join(f"{k}={v:.3f}" if isinstance(v, float) else f"{k}={v}" for k, v in result.items()), flush=True)


def pack(name, corpus):
    img = image(name, corpus)
    if os.path.exists(img):
        os.remove(img)
    wall, cpu, rss, _ = shell(line(PEERS[name].make, name, corpus))
    record(step="pack", peer=name, corpus=os.path.basename(corpus), wall=wall, cpu=cpu, rss=rss, size=os.path.getsize(img))


class Mounted:
    """A cold mount that is ready when its root can be listed, and the daemons that came with it."""

    def __init__(self, name, corpus):
        self.name, self.corpus = name, corpus
        drop()
        before = set(os.listdir("/proc"))
        begun = time.monotonic()
        shell(line(PEERS[name].mount, name, corpus) + " >/dev/null 2>&1 </dev/null")
        while not (os.path.ismount(MNT) and os.listdir(MNT)):
            time.sleep(0.001)
        self.ready = time.monotonic() - begun
        self.pids = [p for p in set(os.listdir("/proc")) - before if p.isdigit() and self.ours(p)]

    @staticmethod
    def ours(pid):
        try:
            with open(f"/proc/{pid}/cmdline") as f:
                return MNT in f.read()
        except OSError:
            return False

    def cpu(self):
        total = 0
        for pid in self.pids:
            with open(f"/proc/{pid}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICK

    def peak(self):
        total = 0
        for pid in self.pids:
            with open(f"/proc/{pid}/status") as f:
                total += int(re.search(r"VmHWM:\s+(\d+)", f.read()).group(1))
        return total / 1024

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for _ in range(100):
            if subprocess.run(["bash", "-c", line(PEERS[self.name].unmount, self.name, self.corpus)],
                              stderr=subprocess.DEVNULL).returncode == 0:
                break
            time.sleep(0.05)
        while any(os.path.exists(f"/proc/{pid}") for pid in self.pids):
            time.sleep(0.005)


def largest(root, count):
    files = []
    for folder, _, names in os.walk(root):
        paths = (os.path.join(folder, name) for name in names)
        files += [(os.path.getsize(p), p) for p in paths if ":" not in p and os.path.isfile(p) and not os.path.islink(p)]
    return [path for _, path in sorted(files, reverse=True)[:count]]


def read(name, corpus, steps):
    key = dict(peer=name, corpus=os.path.basename(corpus))

    def timed(step, command):
        with Mounted(name, corpus) as mounted:
            if step == "find":
                record(step="ls", wall=mounted.ready, **key)
            before = mounted.cpu()
            wall, cpu, _, _ = shell(command, cwd=MNT)
            record(step=step, wall=wall, cpu=cpu, daemon_cpu=mounted.cpu() - before, rss=mounted.peak(), **key)

    def random(size, count):
        with Mounted(name, corpus) as mounted:
            files = largest(MNT, 4)
            drop()
            wall, _, _, printed = shell(
                f"fio --name=r --ioengine=psync --rw=randread --bs={size} --readonly --invalidate=0 --norandommap "
                f"--randrepeat=1 --thread --group_reporting --output-format=json --file_service_type=random "
                f"--openfiles={len(files)} --number_ios={count} --runtime=20 --percentile_list=50:99 "
                f"--filename='{':'.join(files)}'")
            done = json.loads(printed[printed.index("{"):])["jobs"][0]["read"]
            at = {k[:2]: v / 1e6 for k, v in done["clat_ns"]["percentile"].items()}
            record(step=f"random {size}", p50=at["50"], p99=at["99"], mean=done["clat_ns"]["mean"] / 1e6,
                   n=done["total_ios"], rss=mounted.peak(), **key)

    files = "find . -type f -print0 | xargs -0 -n 64 -P {} cat >/dev/null"
    todo = {
        "find": lambda: timed("find", "find . -ls >/dev/null"),
        "seq1": lambda: timed("seq1", files.format(1)),
        "seq2": lambda: timed("seq2", files.format(2)),
        "random 4k": lambda: random("4k", 2000),
        "random 128k": lambda: random("128k", 500),
    }
    for step in steps or todo:
        todo[step]()


def results():
    with open(RESULTS) as f:
        return [json.loads(row) for row in f]


def table(corpora):
    rows = results()
    for corpus in corpora or sorted({row["corpus"] for row in rows}):
        mine = [row for row in rows if row["corpus"] == os.path.basename(corpus)]

        def cell(peer, step, field, scale=1.0, digits=2):
            found = [row[field] for row in mine if row["peer"] == peer and row["step"] == step and field in row]
            return f"{statistics.median(found) * scale:.{digits}f}" if found else "–"

        def peers(step):
            return [peer for peer in PEERS if any(row["peer"] == peer and row["step"] == step for row in mine)]

        print(f"\n{os.path.basename(corpus)}\n\n| pack | size MB | CPU s | wall s | memory MB |\n|---|---|---|---|---|")
        for peer in peers("pack"):
            print(f"| {peer} | {cell(peer, 'pack', 'size', 1e-6, 1)} | {cell(peer, 'pack', 'cpu', 1, 1)} "
                  f"| {cell(peer, 'pack', 'wall', 1, 1)} | {cell(peer, 'pack', 'rss', 1, 0)} |")
        print("\n| read | first ls ms | find -ls s | 1 reader s | 2 readers s | 4 KiB p50 / p99 ms "
              "| 128 KiB p50 / p99 ms | daemon MB |\n|---|---|---|---|---|---|---|---|")
        for peer in peers("seq1"):
            peak = [row["rss"] for row in mine if row["peer"] == peer and row["step"] != "pack" and "rss" in row]
            both = [f"{cell(peer, 'random ' + s, 'p50')} / {cell(peer, 'random ' + s, 'p99')}" for s in ("4k", "128k")]
            print(f"| {peer} | {cell(peer, 'ls', 'wall', 1e3, 0)} | {cell(peer, 'find', 'wall')} "
                  f"| {cell(peer, 'seq1', 'wall')} | {cell(peer, 'seq2', 'wall')} | {both[0]} | {both[1]} | {max(peak):.0f} |")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("verb", choices=["pack", "read", "table"])
    options.add_argument("corpora", nargs="*", metavar="CORPUS")
    options.add_argument("-p", "--peers", help="only these, with commas")
    options.add_argument("-s", "--steps", help="only these steps of reading, with commas")
    options.add_argument("-n", "--rounds", type=int, default=5)
    given = options.parse_intermixed_args()
    os.makedirs(MNT, exist_ok=True)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # passthrough_ll holds each file it has seen
    if given.verb == "table":
        return table(given.corpora)
    names = given.peers.split(",") if given.peers else list(PEERS)
    for missing in [name for name in names if not shutil.which(PEERS[name].program)]:
        print(f"{missing} is left out: {PEERS[missing].program} is not installed", file=sys.stderr)
        names.remove(missing)
    corpora = [os.path.abspath(corpus) for corpus in given.corpora]
    for corpus in corpora:
        for _ in range(given.rounds):
            for name in names:
                if given.verb == "pack" and PEERS[name].make:
                    pack(name, corpus)
                elif given.verb == "read" and PEERS[name].mount:
                    read(name, corpus, given.steps and given.steps.split(","))


if __name__ == "__main__":
    main()
