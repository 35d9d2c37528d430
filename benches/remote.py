#!/usr/bin/env python3
"""Folders and archives of servers, mounted by stmount and by its peers: what a person waits for.

    STMOUNT=... benches/remote.py run [--ms 20] [--steps list,large,jumps,again,upload] [--rounds 3] [KIND...]
    benches/remote.py table

KIND is http, webdav, sftp, s3 (folders: stmount, rclone and, for sftp, sshfs), zip, tar.gz, tar.zst (archives behind http:
stmount and ratarmount). The servers, nginx, sshd and s3s-fs, are on this machine. With `--ms` there is a line before them whose
round trip takes so long, with 125 MB/s; without it the bare loopback, but for s3: s3s-fs sends a head, and the rest when that was
acknowledged, which takes 40 ms on this machine (it leaves Nagle's algorithm on); a proxy before it acknowledges at once.

  list      mount and `ls -lR` of 3000 files in 100 directories (of an archive: of 1000 in 10)
  large     `dd bs=1M` of a file of 256 MiB, by a new mount with an empty cache
  again     the same by the next mount, with the same cache
  jumps     200 reads of 4 KiB at random places of that file, one after the other, by a new mount with an empty cache; what takes
            longer than 30 s ends there, and counts as if it had gone on so
  upload    1000 files of 1 to 16 KiB: until `cp -r` returns, until the mount was synced, until all are on the server; what is
            on the server is compared with what was copied

Each step begins with nothing in the page cache but the programs and what the server serves. Rounds take turns among the programs.
Results are lines of JSON in BENCH_DIR, tables are medians. The memory is the highest of the processes that serve the mount. Needs
root.

Options of the peers are those below; rclone has the cache of files (`--vfs-cache-mode full`) in each step, and waits 0.1 s in
place of 5 before it uploads.
"""
import argparse, contextlib, filecmp, json, os, random, re, shutil, signal, statistics, subprocess, sys, tempfile, time
import urllib.request, zipfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../tests/servers"))
import loopback

STMOUNT = os.environ.get("STMOUNT", "stmount")
RATARMOUNT = os.environ.get("RATARMOUNT", "ratarmount")
KEPT = os.environ.get("BENCH_DIR", os.path.expanduser("~/.cache/stmount-bench/remote"))
RESULTS = os.path.join(KEPT, "results.jsonl")
FOLDERS, ARCHIVES = ["http", "webdav", "sftp", "s3"], ["zip", "tar.gz", "tar.zst"]
STEPS = ["list", "large", "again", "jumps", "upload"]
SIZE, JUMPS, LIMIT, READY = 256 << 20, 200, 30, 120
MBPS, ENDLESS = 125, 1e6

# What everybody would set who has files that nobody else writes to.
RCLONE = ["--vfs-cache-mode", "full", "--vfs-cache-max-size", "10G", "--vfs-fast-fingerprint", "--vfs-write-back", "100ms",
          "--dir-cache-time", "10m", "--attr-timeout", "10s", "--transfers", "8", "--checkers", "16", "--use-server-modtime"]
RCLONE_OF = {"sftp": ["--sftp-disable-hashcheck", "--sftp-shell-type", "none"], "s3": ["--s3-no-check-bucket"]}
SSHFS = "reconnect,ServerAliveInterval=15,max_conns=4,auto_cache,dcache_timeout=115,attr_timeout=10,entry_timeout=10"


# ---- what is served -----------------------------------------------------------------------------------------------------


def small_files(folder, dirs, each):
    dice = random.Random(1)
    for n in range(dirs):
        os.makedirs(f"{folder}/dir-{n:03}")
        for m in range(each):
            with open(f"{folder}/dir-{n:03}/file-{m:03}", "wb") as file:
                file.write(dice.randbytes(dice.randrange(1 << 10, 16 << 10)))


def large_file(path, piece):
    with open(path, "wb") as file:
        for _ in range(SIZE >> 20):
            file.write(piece())
    # What was changed just now has no version yet.
    os.utime(path, (1.5e9, 1.5e9))


def archives(work):
    """They are made once: of text that packs to about a half, and small files."""
    os.makedirs(KEPT, exist_ok=True)
    if not all(os.path.exists(f"{KEPT}/x.{ending}") for ending in ARCHIVES):
        small_files(f"{work}/packed/small", 10, 100)
        words = [os.urandom(6) for _ in range(2000)]
        dice = random.Random(2)
        text = lambda: b" ".join(dice.choices(words, k=160_000))[: 1 << 20]
        large_file(f"{work}/packed/large", text)
        with zipfile.ZipFile(f"{KEPT}/x.zip", "w", zipfile.ZIP_DEFLATED) as packed:
            for folder, _, names in os.walk(f"{work}/packed"):
                for name in names:
                    packed.write(f"{folder}/{name}", os.path.relpath(f"{folder}/{name}", f"{work}/packed"))
        for ending, program in (("tar.gz", "gzip -6"), ("tar.zst", "zstd -q -9 -T2")):
            subprocess.run(f"tar -C {work}/packed -c . | {program} >{KEPT}/x.{ending}", shell=True, check=True)
        shutil.rmtree(f"{work}/packed")
    for ending in ARCHIVES:
        shutil.copy(f"{KEPT}/x.{ending}", f"{work}/root/")
        os.utime(f"{work}/root/x.{ending}", (1.5e9, 1.5e9))


class Place:
    """The servers with what they serve, and the ways to them."""

    def __init__(self, work, kinds, ms):
        self.work, self.started, self.between = work, [], None
        web, _, _, self.ssh, self.s3, *near = loopback.free_ports(8)
        for name in ("root/up", "buckets/uploads", "buckets/bucket", "m"):
            os.makedirs(f"{work}/{name}")
        small_files(f"{work}/new", 10, 100)
        if set(kinds) & set(FOLDERS):
            small_files(f"{work}/root/tree", 100, 30)
            large_file(f"{work}/root/large", lambda: os.urandom(1 << 20))
        if set(kinds) & set(ARCHIVES):
            archives(work)
        try:
            self.started += [loopback.nginx(work, web), loopback.sshd(work, self.ssh)]
            if "s3" in kinds:
                self.started.append(loopback.s3(work, self.s3))
            self.env = loopback.home(work)
            self.web = web
            if "s3" in kinds:
                self.fill_bucket()
            if ms:
                self.between = loopback.line(list(zip(near, (self.web, self.ssh, self.s3))), MBPS, ms)
                self.web, self.ssh, self.s3 = near
            elif "s3" in kinds:
                self.between = loopback.line([(near[2], self.s3)], ENDLESS, 0)
                self.s3 = near[2]
        except BaseException:
            self.end()
            raise
        with open(f"{work}/rclone.conf", "w") as file:
            file.write(f"""[http]
type = http
url = http://127.0.0.1:{self.web}/
[webdav]
type = webdav
url = http://127.0.0.1:{self.web}/dav/
vendor = other
[sftp]
type = sftp
host = 127.0.0.1
port = {self.ssh}
user = root
key_file = {work}/ssh/client
[s3]
type = s3
provider = Other
access_key_id = {loopback.KEY}
secret_access_key = {loopback.SECRET}
endpoint = http://127.0.0.1:{self.s3}
""")

    def fill_bucket(self):
        """The large file is sent: of what is put into its directory the server hashes all for each part of it."""
        shutil.copytree(f"{self.work}/root/tree", f"{self.work}/buckets/bucket/tree")
        who = ["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", f"{loopback.KEY}:{loopback.SECRET}",
               "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]
        url = f"http://127.0.0.1:{self.s3}/bucket/large"
        subprocess.run(["curl", "-sf", *who, "-T", f"{self.work}/root/large", url], check=True, stdout=subprocess.DEVNULL)
        os.utime(f"{self.work}/buckets/bucket/large", (1.5e9, 1.5e9))

    def end(self):
        if self.between:
            self.between.kill()
        loopback.stop(self.started)

    def behind(self, kind):
        """Where the server of a kind has its files."""
        return f"{self.work}/buckets/bucket" if kind == "s3" else f"{self.work}/root"

    def up(self, kind):
        return f"{self.work}/buckets/uploads" if kind == "s3" else f"{self.work}/root/up"


# ---- the programs -------------------------------------------------------------------------------------------------------


class Program:
    """A mount of what a kind serves, or of the empty folder that takes changes."""

    def __init__(self, place, kind, takes_changes=False):
        self.place, self.kind, self.takes_changes, self.point = place, kind, takes_changes, f"{place.work}/m"
        self.cache, self.child = f"{place.work}/cache", None
        self.mount()

    def foreground(self, *command):
        """Starts a program that stays, and returns when its mount is there."""
        log = open(f"{self.place.work}/log", "w")
        quiet = dict(stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.child = subprocess.Popen(command, env=self.place.env, **quiet)
        begun = time.perf_counter()
        while not os.path.ismount(self.point):
            if self.child.poll() is not None or time.perf_counter() - begun > READY:
                sys.exit(f"{' '.join(command)}: no mount: {open(log.name).read()[-500:]}")
            time.sleep(0.001)

    def pid(self):
        return self.child.pid

    def memory(self):
        """The highest of it and of what it started, in MB."""
        children = subprocess.run(["pgrep", "-P", str(self.pid())], capture_output=True, text=True).stdout.split()
        peak = 0
        for pid in [self.pid(), *children]:
            with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as status:
                peak += int(re.search(r"VmHWM:\s+(\d+)", status.read())[1])
        return peak / 1024

    def sync(self):
        subprocess.run(["sync", "-f", self.point], check=True)

    def finish(self):
        """Returns when all that was written is on the server, and the mount is gone."""
        subprocess.run(["umount", self.point], check=True)
        self.child.wait()


class Stmount(Program):
    def mount(self):
        place, place_of = self.place, "up/" if self.takes_changes else ""
        address, more = {
            "http": (f"http://127.0.0.1:{place.web}/", ""),
            "webdav": (f"webdav://127.0.0.1:{place.web}/dav/{place_of}", ""),
            "sftp": (f"sftp://127.0.0.1:{place.ssh}{place.work}/root/{place_of}", ",hostkey=accept-new"),
            "s3": (f"s3://{'uploads' if self.takes_changes else 'bucket'}/", f",endpoint=http://127.0.0.1:{place.s3}"),
        }.get(self.kind) or (f"http://127.0.0.1:{place.web}/x.{self.kind}", f",index={self.cache}/index")
        rw = "rw," if self.takes_changes else ""
        subprocess.run([STMOUNT, "-q", "-o", f"{rw}cache={self.cache}{more}", address, self.point], check=True, env=place.env)

    def pid(self):
        said = subprocess.run([STMOUNT, "list", "--json"], capture_output=True, check=True, env=self.place.env).stdout
        return next(mount["pid"] for mount in json.loads(said)["mounts"] if mount["mountpoint"] == self.point)

    def sync(self):
        subprocess.run([STMOUNT, "-q", "sync", self.point], check=True, env=self.place.env)

    def finish(self):
        subprocess.run([STMOUNT, "-q", "umount", self.point], check=True, env=self.place.env)


class Rclone(Program):
    def mount(self):
        place = self.place
        path = "up" if self.takes_changes else ""
        path = {"sftp": f"{place.work}/root/{path}", "s3": "uploads" if path else "bucket"}.get(self.kind, path)
        self.rc = loopback.free_ports(1)[0]
        rc = ["--rc", "--rc-no-auth", "--rc-addr", f"127.0.0.1:{self.rc}"]
        self.foreground("rclone", "mount", f"{self.kind}:{path}", self.point, "--config", f"{place.work}/rclone.conf",
                        "--cache-dir", self.cache, *RCLONE, *RCLONE_OF.get(self.kind, []), *rc)

    def finish(self):
        """It ends without having uploaded everything, and so is waited for."""
        while self.takes_changes:
            url, json_is = f"http://127.0.0.1:{self.rc}/vfs/stats", {"Content-Type": "application/json"}
            ask = urllib.request.Request(url, data=b"{}", headers=json_is)
            with urllib.request.urlopen(ask) as answer:
                queue = json.load(answer)["diskCache"]
            if queue["uploadsQueued"] + queue["uploadsInProgress"] == 0:
                break
            time.sleep(0.01)
        super().finish()


class Sshfs(Program):
    def mount(self):
        place = self.place
        path = f"{place.work}/root/{'up' if self.takes_changes else ''}"
        ssh = f"IdentityFile={place.work}/ssh/client,StrictHostKeyChecking=no,UserKnownHostsFile=/dev/null,port={place.ssh}"
        self.foreground("sshfs", "-f", f"root@127.0.0.1:{path}", self.point, "-o", f"{SSHFS},{ssh}")


class Ratarmount(Program):
    def mount(self):
        url = f"http://127.0.0.1:{self.place.web}/x.{self.kind}"
        os.makedirs(self.cache, exist_ok=True)
        self.foreground(RATARMOUNT, "-f", "--index-folders", self.cache, url, self.point)


PROGRAMS = {"stmount": (Stmount, STMOUNT, FOLDERS + ARCHIVES), "rclone": (Rclone, "rclone", FOLDERS),
            "sshfs": (Sshfs, "sshfs", ["sftp"]), "ratarmount": (Ratarmount, RATARMOUNT, ARCHIVES)}


# ---- the steps ----------------------------------------------------------------------------------------------------------


def record(**result):
    with open(RESULTS, "a") as file:
        file.write(json.dumps(result) + "\n")
    print(" ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in result.items()), flush=True)


def cold(place, kind):
    """Nothing is in the page cache but what the server serves, and the programs."""
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3")
    paths = [f"{place.work}/root/x.{kind}"] if kind in ARCHIVES else [f"{place.behind(kind)}/large"]
    for path in paths:
        subprocess.run(["cat", path], stdout=subprocess.DEVNULL, check=True)
    for _, program, kinds in PROGRAMS.values():
        if kind in kinds and shutil.which(program):
            subprocess.run([program, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    tree = "" if kind in ARCHIVES else place.behind(kind) + "/tree"
    subprocess.run(["ls", "-lR", tree or place.work], stdout=subprocess.DEVNULL, check=True)


def timed(work):
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def read_all(path):
    return timed(lambda: subprocess.run(["dd", f"if={path}", "of=/dev/null", "bs=1M", "status=none"], check=True))


def jumps(path):
    dice, waits = random.Random(7), []
    with open(path, "rb", buffering=0) as file:
        while len(waits) < JUMPS and sum(waits) < LIMIT:
            at = dice.randrange(SIZE // 4096) * 4096
            waits.append(timed(lambda: os.pread(file.fileno(), 4096, at)))
    waits.sort()
    return dict(wall=sum(waits) / len(waits) * JUMPS, p50=waits[len(waits) // 2], p99=waits[len(waits) * 99 // 100], n=len(waits))


def is_same(left, right):
    found = filecmp.dircmp(left, right)
    _, other, failed = filecmp.cmpfiles(left, right, found.common_files, shallow=False)
    more = [name for name in found.right_only if not name.startswith(".")]
    if found.left_only or more or other or failed:
        return False
    return all(is_same(f"{left}/{name}", f"{right}/{name}") for name in found.common_dirs)


def measure(place, kind, program, steps, ms):
    peak, key = 0.0, dict(kind=kind, program=program, ms=ms)

    def fresh():
        shutil.rmtree(f"{place.work}/cache", ignore_errors=True)
        shutil.rmtree(f"{place.work}/caches", ignore_errors=True)

    def mounted(work, takes_changes=False):
        nonlocal peak
        cold(place, kind)
        begun = time.perf_counter()
        one = PROGRAMS[program][0](place, kind, takes_changes)
        try:
            return work(one, begun)
        finally:
            peak = max(peak, one.memory() if os.path.ismount(one.point) else 0)
            if os.path.ismount(one.point):
                one.finish()

    def listing(one, begun):
        tree = f"{one.point}/{'small' if kind in ARCHIVES else 'tree'}"
        told = subprocess.run(["ls", "-lR", tree], capture_output=True, text=True, check=True).stdout
        wall, count = time.perf_counter() - begun, sum(1 for word in told.split("\n") if " file-" in word)
        assert count == (1000 if kind in ARCHIVES else 3000), f"{count} files"
        record(step="list", wall=wall, **key)

    def upload(one, begun):
        begun = time.perf_counter()
        subprocess.run(["cp", "-r", f"{place.work}/new/.", one.point], check=True)
        copied = time.perf_counter() - begun
        one.sync()
        synced = time.perf_counter() - begun
        nonlocal peak
        peak = max(peak, one.memory())
        one.finish()
        wall = time.perf_counter() - begun
        assert is_same(f"{place.work}/new", place.up(kind)), f"{program}, {kind}: not everything is on the server"
        record(step="upload", wall=wall, copied=copied, synced=synced, **key)

    large = lambda step: lambda one, _: record(step=step, wall=read_all(f"{one.point}/large"), **key)
    if "list" in steps:
        fresh()
        mounted(listing)
    if "large" in steps or "again" in steps:
        fresh()
        mounted(large("large"))
        if "again" in steps:
            mounted(large("again"))
    if "jumps" in steps:
        fresh()
        mounted(lambda one, _: record(step="jumps", **jumps(f"{one.point}/large"), **key))
    if "upload" in steps and kind in FOLDERS and kind != "http":
        fresh()
        for name in os.listdir(place.up(kind)):
            shutil.rmtree(f"{place.up(kind)}/{name}")
        mounted(upload, True)
    record(step="memory", rss=peak, **key)


def run(asked):
    kinds = asked.kinds or FOLDERS + ARCHIVES
    programs = asked.programs.split(",") if asked.programs else list(PROGRAMS)
    for name in [name for name in programs if not shutil.which(PROGRAMS[name][1])]:
        print(f"{name} is left out: it is not installed", file=sys.stderr)
        programs.remove(name)
    os.makedirs(KEPT, exist_ok=True)
    work = os.path.realpath(tempfile.mkdtemp(prefix="stmount-remote-", dir="/var/tmp"))
    os.chmod(work, 0o755)
    place = None
    # Whoever ends it wants its servers ended as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("it was ended"))
    try:
        place = Place(work, kinds, asked.ms)
        for _ in range(asked.rounds):
            for kind in kinds:
                for program in programs:
                    if kind in PROGRAMS[program][2]:
                        measure(place, kind, program, asked.steps.split(","), asked.ms)
    finally:
        subprocess.run(["umount", "-l", f"{work}/m"], stderr=subprocess.DEVNULL)
        if place:
            place.end()
        shutil.rmtree(work, ignore_errors=True)


def table():
    with open(RESULTS) as file:
        rows = [json.loads(row) for row in file]

    def median(step, field, **key):
        found = [row[field] for row in rows if row["step"] == step and all(row[k] == v for k, v in key.items())]
        return statistics.median(found) if found else None

    def cell(step, field, digits, scale=1, **key):
        found = median(step, field, **key)
        return "" if found is None else f"{found * scale:.{digits}f}"

    for ms in sorted({row["ms"] for row in rows}):
        print(f"\n{f'Round trip {ms:g} ms' if ms else 'Loopback'}\n")
        print("| | | list s | large MB/s | again MB/s | jumps s | p50 / p99 ms | cp s | synced s | uploaded s | memory MB |")
        print("|---|---|---|---|---|---|---|---|---|---|---|")
        for kind in FOLDERS + ARCHIVES:
            for program in PROGRAMS:
                key = dict(kind=kind, program=program, ms=ms)
                here = [row for row in rows if all(row[k] == v for k, v in key.items())]
                if not here:
                    continue
                took = [median(step, "wall", **key) for step in ("large", "again")]
                speeds = ["" if wall is None else f"{SIZE / 1e6 / wall:.0f}" for wall in took]
                waits = " / ".join(cell("jumps", field, 1, 1e3, **key) for field in ("p50", "p99"))
                ups = [cell("upload", field, 1, **key) for field in ("copied", "synced", "wall")]
                peak = max((row["rss"] for row in here if row["step"] == "memory"), default=0)
                cells = [cell("list", "wall", 2, **key), *speeds, cell("jumps", "wall", 2, **key), waits, *ups]
                print(f"| {kind} | {program} | {' | '.join(cells)} | {peak:.0f} |")


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("verb", choices=["run", "table"])
    words.add_argument("kinds", nargs="*", metavar="KIND")
    words.add_argument("--ms", type=float, default=0)
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--steps", default=",".join(STEPS))
    words.add_argument("--programs")
    asked = words.parse_intermixed_args()
    run(asked) if asked.verb == "run" else table()


if __name__ == "__main__":
    main()
