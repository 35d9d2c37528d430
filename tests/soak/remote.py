#!/usr/bin/env python3
"""Reads from servers and writes to them over a line that does all that lines do, through real mounts, for some minutes.

    STMOUNT=... tests/soak/remote.py [MINUTES [SEED [WORKDIR]]]               default: 10 minutes, seed 1

                        ┌──────── proxies: late, cut, reset, silent, slow, refused; all connections silent; away for a while
    readers ─► mounts ──┤
    writers ─► mounts   └──────── a web server of its own: wrong lengths and parts, all for a part, 429, 503, other versions

Behind the proxies are nginx (pages and WebDAV), s3s-fs, sshd and pyftpdlib. Mounted are a container and a zip, by several
schemes, and folders with plain files; each has a small cache on the disk, and some share one. Meanwhile

  - readers compare every byte that read(2) gives them with what was served,
  - writers log, outside of the mounts, what fsync has acknowledged, and all of that is on the server in the end,
  - readers are killed, and have to be gone within the deadline,
  - the processes that serve the mounts are killed with SIGKILL, and the mounts made anew.

It fails at a wrong byte, a call that takes longer than LIMIT, an errno that says anything else than that the server is not to
be had, a process that stays, and at an acknowledged write that is lost.
"""
import array, asyncio, collections, ctypes, errno, functools, http.server, json, multiprocessing, os, random, re, shutil
import signal, socket, struct, subprocess, sys, tempfile, time, zipfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../servers"))
import loopback

STMOUNT = os.path.realpath(os.environ.get("STMOUNT", "stmount"))
MINUTES = float(sys.argv[1]) if len(sys.argv) > 1 else 10
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else 1
DEADLINE = 5
# open(2) asks for the listing, for the file, and opens it; and two cores have more to do.
LIMIT = 4 * DEADLINE
EXPECTED = {errno.EIO, errno.ETIMEDOUT, errno.ESTALE, errno.EHOSTUNREACH}
# While a mount is away, or is made anew.
AWAY = {errno.ENOTCONN, errno.ECONNABORTED, errno.ENOENT, errno.ENOTDIR, errno.EINTR}
KINDS = ["late", "cut", "reset", "silent", "slow", "refused", "all silent", "away",
         "short", "long", "other part", "all of it", "429", "503", "500", "hang", "another version"]

fork = multiprocessing.get_context("fork")
faults = fork.Array(ctypes.c_uint64, len(KINDS))
calm = fork.Value(ctypes.c_bool, False)


def happened(kind):
    with faults.get_lock():
        faults[KINDS.index(kind)] += 1


# ---- the line -----------------------------------------------------------------------------------------------------------


class Line:
    """A connection that passes through."""

    def __init__(self, ends):
        self.ends, self.is_silent = ends, False

    def end(self, with_reset=False):
        for writer in self.ends:
            sock = writer.get_extra_info("socket")
            if with_reset and sock is not None and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Proxy:
    def __init__(self, port, to, dice):
        self.port, self.to, self.dice, self.lines, self.is_away = port, to, dice, set(), False

    async def serve(self):
        self.server = await asyncio.start_server(functools.partial(self.pass_on, to=self.to), "127.0.0.1", self.port)

    async def pass_on(self, near, near_out, to):
        dice = self.dice
        if self.is_away or not calm.value and dice.random() < 0.02:
            happened("refused")
            return Line([near_out]).end(True)
        try:
            far, far_out = await asyncio.open_connection("127.0.0.1", to)
        except OSError:
            return Line([near_out]).end(True)
        line = Line([near_out, far_out])
        self.lines.add(line)
        try:
            await asyncio.gather(self.pump(near, far_out, line, False), self.pump(far, near_out, line, True))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            line.end()
            self.lines.discard(line)

    async def pump(self, source, sink, line, is_down):
        dice = self.dice
        left = dice.expovariate(1 / 80)
        while piece := await source.read(1 << 16):
            left -= 1
            if left < 0 and not calm.value and not line.is_silent:
                left = dice.expovariate(1 / 80)
                if not await self.fault(piece, sink, line):
                    return
                continue
            while line.is_silent:
                if calm.value:
                    return line.end()
                await asyncio.sleep(0.1)
            if is_down:
                piece = await loopback.lead_data(piece, self.pass_on, 20)
            sink.write(piece)
            await sink.drain()
        if not line.is_silent and sink.can_write_eof():
            sink.write_eof()

    async def fault(self, piece, sink, line):
        """Something goes wrong with a piece. False where it ends the connection."""
        kind = self.dice.choice(["late", "late", "cut", "reset", "silent", "slow"])
        happened(kind)
        if kind == "late":
            await asyncio.sleep(self.dice.uniform(0.05, 0.8))
        elif kind == "slow":
            for n in range(len(piece)):
                if calm.value or n > 1000:
                    sink.write(piece[n:])
                    break
                sink.write(piece[n : n + 1])
                await sink.drain()
                await asyncio.sleep(0.1)
            return True
        elif kind in ("cut", "reset"):
            sink.write(piece[: self.dice.randrange(len(piece) + 1)])
            await asyncio.sleep(0.01)
            line.end(kind == "reset")
            return False
        else:
            line.is_silent = True
            while not calm.value:
                await asyncio.sleep(0.1)
            line.end()
            return False
        sink.write(piece)
        await sink.drain()
        return True

    async def weather(self):
        """What happens to all connections at once."""
        while True:
            await asyncio.sleep(self.dice.uniform(10, 40))
            if calm.value:
                continue
            if self.dice.random() < 0.5:
                happened("all silent")
                for line in self.lines:
                    line.is_silent = True
            else:
                happened("away")
                self.is_away = True
                for line in list(self.lines):
                    line.end(True)
                self.lines.clear()
                await asyncio.sleep(self.dice.uniform(0.3, 4))
                self.is_away = False


def proxies(pairs):
    async def run():
        all = [Proxy(port, to, random.Random(SEED * 100 + n)) for n, (port, to) in enumerate(pairs)]
        for proxy in all:
            await proxy.serve()
        await asyncio.gather(*(proxy.weather() for proxy in all))

    asyncio.run(run())


# ---- the web server that errs -------------------------------------------------------------------------------------------

CHANGING = 2 << 20


@functools.lru_cache(4)
def changing(version):
    """Each eight bytes say where they are, and of which version."""
    return array.array("Q", range(version << 40, (version << 40) + CHANGING // 8)).tobytes()


class Errs(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    pages, dice, version = {}, None, 1

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        fault, is_head = None, self.command == "HEAD"
        if not calm.value and self.dice.random() < 0.12:
            fault = self.dice.choice(["short", "long", "other part", "all of it", "429", "503", "500", "hang", "reset"])
            # Half of a page whose length says that it is all of it is a page.
            if fault == "long" and self.path == "/":
                fault = "short"
            happened(fault)
        if self.path == "/":
            body, tag = "".join(f'<a href="{name}">{name}</a>\n' for name in [*self.pages, "changing.bin"]).encode(), None
            body = b"<title>Index of /</title><h1>Index of /</h1>" + body
        elif self.path == "/changing.bin":
            if not calm.value and self.dice.random() < 0.02:
                happened("another version")
                type(self).version += 1
            body, tag = changing(self.version), f'"v{self.version}"'
        elif self.path[1:] in self.pages:
            body, tag = self.pages[self.path[1:]], '"one"'
        else:
            return self.say(404, b"", {})
        headers, status, whole = {}, 200, len(body)
        if tag:
            headers["ETag"] = tag
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        is_old = self.headers.get("If-Range", tag) != tag
        if wanted and not is_old and self.path != "/" and fault != "all of it":
            first, last = wanted.groups()
            begin = int(first) if first else max(0, whole - int(last))
            end = min(int(last) + 1, whole) if first and last else whole
            if fault == "other part":
                shift = self.dice.randrange(1, 5000)
                begin, end = max(0, begin - shift), max(1, end - shift)
            body, status = body[begin:end], 206
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{whole}"
        length = len(body)
        if fault == "hang":
            deadline = time.monotonic() + 3 * DEADLINE
            while not calm.value and time.monotonic() < deadline:
                time.sleep(0.1)
            self.close_connection = True
            return
        if fault in ("429", "503", "500"):
            self.say(int(fault), b"", {} if fault == "500" else {"Retry-After": str(self.dice.choice([0, 1, 2, 60]))})
            return
        if fault in ("short", "reset"):
            body, self.close_connection = body[: self.dice.randrange(len(body) + 1)], True
        if fault == "long":
            length, self.close_connection = length // 2, True
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.say(status, b"" if is_head else body, headers, length)

    def say(self, status, body, headers, length=None):
        try:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body) if length is None else length), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True


def errs(port, pages, seed):
    Errs.pages, Errs.dice = pages, random.Random(seed)
    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 100

        def handle_error(self, *_):
            pass

    Server(("127.0.0.1", port), Errs).serve_forever()


# ---- mounts -------------------------------------------------------------------------------------------------------------


class Mount:
    def __init__(self, work, number, source, options, truth, writes=None):
        self.point, self.source, self.options, self.truth = f"{work}/m{number}", source, options, truth
        self.number, self.writes = number, writes
        # Odd while it is away.
        self.epoch = fork.Value(ctypes.c_uint64, 1)
        os.mkdir(self.point)

    def mount(self, tries=60):
        for _ in range(tries):
            done = say("-o", self.options, self.source, self.point, timeout=120)
            if done.returncode == 0:
                self.epoch.value += self.epoch.value & 1
                return
            # Over such a line that is an end of its own, and so is an archive whose beginning does not come.
            need(done.returncode in (42, 30, 12, 1), f"mounting {self.source}: {done.returncode} {done.stderr}")
            counts[f"mount {done.returncode}"] += 1
            time.sleep(0.3)
        raise AssertionError(f"{self.source} cannot be mounted: {done.stderr}")

    def kill(self):
        self.epoch.value += 1
        pid = server_of(self.point)
        if pid:
            os.kill(pid, signal.SIGKILL)
            began = time.monotonic()
            while alive(pid):
                need(time.monotonic() - began < LIMIT, f"the server of {self.source} stays after SIGKILL")
                time.sleep(0.01)
        subprocess.run(["umount", "-l", self.point], stderr=subprocess.DEVNULL, timeout=60)


counts = collections.Counter()
ENV = {}


def say(*args, timeout=120):
    return subprocess.run([STMOUNT, "-q", *args], capture_output=True, text=True, timeout=timeout, env=ENV)


def server_of(point):
    mounts = json.loads(say("list", "--json").stdout)["mounts"]
    return next((m["pid"] for m in mounts if m["mountpoint"] == point and m["served"]), None)


def state_of(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def alive(pid):
    return state_of(pid) not in "XZ"


def need(true, what):
    if not true:
        raise AssertionError(what)


# ---- readers ------------------------------------------------------------------------------------------------------------

READS, BYTES, LONGEST, SINCE = range(4)


class Stats:
    def __init__(self):
        self.numbers, self.errors = fork.Array(ctypes.c_double, 4, lock=False), fork.Array(ctypes.c_uint64, 200, lock=False)

    def call(self, epoch, work, *args):
        """Makes a call, and notes how long it took. An error that is to be expected is none; `None` is given then."""
        before, self.numbers[SINCE] = epoch.value, time.monotonic()
        try:
            return work(*args)
        except OSError as e:
            self.errors[e.errno] += 1
            was_away = before & 1 or epoch.value != before
            if e.errno not in EXPECTED and not (was_away and e.errno in AWAY):
                fail(f"{work.__name__}{args}: {e}")
            if was_away:
                time.sleep(0.2)
            return None
        finally:
            took = time.monotonic() - self.numbers[SINCE]
            self.numbers[LONGEST], self.numbers[SINCE] = max(took, self.numbers[LONGEST]), 0
            if took > LIMIT:
                fail(f"{work.__name__}{args} took {took:.1f} s")


def fail(what):
    with open(FAILURES, "a") as file:
        file.write(what + "\n")


def reader(mount, stats, seed):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    dice = random.Random(seed)
    names = sorted(mount.truth)
    while True:
        path, epoch = dice.choice(names), mount.epoch
        if dice.random() < 0.02:
            listed = stats.call(epoch, os.listdir, mount.point)
            if listed is not None and not set(n.split("/")[0] for n in names) <= set(listed) and not epoch.value & 1:
                # Below a mount that went away in the meantime there is nothing.
                if os.path.ismount(mount.point):
                    fail(f"{mount.point} lists {listed}")
        fd = stats.call(epoch, os.open, f"{mount.point}/{path}", os.O_RDONLY)
        if fd is None:
            continue
        truth, version = mount.truth[path], None
        size = CHANGING if truth is None else len(truth)
        at = dice.randrange(size + 1)
        for _ in range(dice.choice([1, 1, 2, 10])):
            length = dice.choice([1, 4096, 50_000, 131_072, 500_000])
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            read = stats.call(epoch, os.pread, fd, length, at)
            if read is None:
                break
            if truth is None:
                if version is None and len(read) >= 16:
                    word = at + -at % 8
                    version = struct.unpack_from("<Q", read, word - at)[0] >> 40
                expected = changing(version)[at : at + length] if version is not None else read
            else:
                expected = truth[at : at + length]
            if len(read) < len(expected) and read and read == expected[: len(read)]:
                # So much came before the error, which comes with the next read.
                stats.errors[0] += 1
            elif read != expected:
                wrong = next((i for i, (a, b) in enumerate(zip(read, expected)) if a != b), min(len(read), len(expected)))
                fail(f"WRONG BYTES: {mount.source} {path} at {at}+{wrong}: {len(read)} of {len(expected)}, version {version}")
            stats.numbers[READS] += 1
            stats.numbers[BYTES] += len(read)
            at = min(at + len(read), size) if dice.random() < 0.7 else dice.randrange(size + 1)
        stats.call(epoch, os.close, fd)
        time.sleep(dice.uniform(0, 0.04))


# ---- writers ------------------------------------------------------------------------------------------------------------


def blob(seed, size):
    dice = random.Random(seed)
    return (dice.randbytes(size // 2) + b"%d " % seed * size)[:size]


def writer(mount, stats, seed, log):
    """Writes whole files; logs each before it begins, and when it is acknowledged."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    dice, number = random.Random(seed), 0
    out = open(log, "ab", buffering=0)

    def note(*what):
        out.write(json.dumps(what).encode() + b"\n")
        os.fsync(out.fileno())

    while True:
        number += 1
        name, version = f"w{dice.randrange(40)}", seed * 1_000_000 + number
        size, is_renamed = dice.choice([0, 10, 5000, 200_000, 1_500_000]), dice.random() < 0.5
        note("begins", name, version, size, is_renamed)
        path = f"{mount.point}/{name}"
        place = path + ".new" if is_renamed else path
        fd = stats.call(mount.epoch, os.open, place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        if fd is None:
            continue
        try:
            # Before it went away what is below was another file system.
            if os.fstat(fd).st_dev == os.stat("/").st_dev or not os.path.ismount(mount.point):
                os.close(fd)
                os.unlink(place)
                continue
        except OSError:
            continue
        is_written = stats.call(mount.epoch, os.write, fd, blob(version, size)) == size
        is_synced = is_written and stats.call(mount.epoch, os.fsync, fd) is None and not stats_failed(stats)
        try:
            os.close(fd)
        except OSError:
            is_synced = False
        if is_synced and is_renamed:
            try:
                os.rename(place, path)
                dir = os.open(mount.point, os.O_RDONLY)
                os.fsync(dir)
                os.close(dir)
            except OSError as e:
                stats.errors[e.errno] += 1
                is_synced = False
        if is_synced:
            note("acknowledged", name, version)
            stats.numbers[READS] += 1
            stats.numbers[BYTES] += size
        time.sleep(dice.choice([0, 0.1, 0.5, 3]))


def stats_failed(stats, seen={}):
    """Whether an error was noted since this was asked last: fsync gives nothing, with and without one."""
    now = sum(stats.errors)
    before, seen["n"] = seen.get("n", now), now
    return now != before


def verify(log, place):
    begun, acknowledged = {}, {}
    for kind, name, *what in map(json.loads, open(log, "rb").read().splitlines()):
        if kind == "begins":
            begun.setdefault(name, []).append(what)
        else:
            acknowledged[name] = what[0]
    for name, version in acknowledged.items():
        path = f"{place}/{name}"
        need(os.path.exists(path), f"{path}: acknowledged, and it is not on the server")
        data = open(path, "rb").read()
        later = [b for b in begun[name] if b[0] >= version]
        fits = [v for v, size, renamed in later if data == (full := blob(v, size)) or v != version and not renamed and full.startswith(data)]
        need(fits, f"{path}: {len(data)} bytes, which are none of the versions {later}")
    return len(acknowledged), sum(1 for line in open(log, "rb") if b'"acknowledged"' in line)


# ---- servers ------------------------------------------------------------------------------------------------------------


def servers(work, ports):
    web, _, _, s3, ssh, ftp = ports
    return [loopback.nginx(work, web), loopback.s3(work, s3), loopback.sshd(work, ssh), loopback.pyftpd(work, ftp)]


def corpus(work):
    """Files and what they hold; the same files in a container and in a zip."""
    dice, truth = random.Random(SEED), {}
    os.makedirs(f"{work}/root/dir")
    for n in range(10):
        size = dice.choice([0, 100, 70_000, 1_000_000, 3_000_000])
        name = f"{'dir/' if n % 2 else ''}file-{n}"
        truth[name] = dice.randbytes(size // 2) + b"0123456789 " * (size // 22)
    truth["large"] = dice.randbytes(6_000_000)
    for name, data in truth.items():
        open(f"{work}/root/{name}", "wb").write(data)
        # What was changed just now has no version yet.
        os.utime(f"{work}/root/{name}", (1.5e9, 1.5e9))
    need(say("pack", f"{work}/root", f"{work}/x.st").returncode == 0, "pack")
    with zipfile.ZipFile(f"{work}/x.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in truth:
            packed.write(f"{work}/root/{name}", name)
    for name in ("x.st", "x.zip"):
        shutil.move(f"{work}/{name}", f"{work}/root/{name}")
        os.utime(f"{work}/root/{name}", (1.5e9, 1.5e9))
    for name in ("w-dav", "w-sftp"):
        os.mkdir(f"{work}/root/{name}")
    os.makedirs(f"{work}/buckets/bucket")
    os.makedirs(f"{work}/buckets/w-s3")
    shutil.copytree(f"{work}/root", f"{work}/buckets/bucket", dirs_exist_ok=True)
    return truth


def mounts(work, truth, near):
    web, s3, ssh, ftp, own = near
    key = subprocess.run(["ssh-keygen", "-lf", f"{work}/ssh/host.pub"], capture_output=True, text=True, check=True).stdout.split()[1]
    base = f"deadline={DEADLINE}s,cachesize=4M,cache-max=8M"
    cached = lambda n: f"{base},cache={work}/cache-{n}"
    endpoint = f"endpoint=http://127.0.0.1:{s3}"
    sftp = f"sftp://root@127.0.0.1:{ssh}{work}/root"
    whole, plain = truth, dict(truth)
    plain.update({name: open(f"{work}/root/{name}", "rb").read() for name in ("x.st", "x.zip")})
    asked = [
        (f"http://127.0.0.1:{web}/x.st", cached(1), whole),
        (f"http://127.0.0.1:{web}/x.zip", cached(1), whole),
        (f"http://127.0.0.1:{web}/", cached(2), plain),
        (f"webdav://127.0.0.1:{web}/dav/", cached(2), plain),
        (f"http://127.0.0.1:{own}/x.st", cached(3), whole),
        (f"http://127.0.0.1:{own}/x.zip", f"deadline={DEADLINE}s,nocache,cachesize=4M", whole),
        (f"http://127.0.0.1:{own}/", cached(3), {"changing.bin": None, "x.zip": plain["x.zip"]}),
        (f"s3://bucket/x.st", f"{cached(4)},{endpoint}", whole),
        (f"s3://bucket/", f"{cached(4)},{endpoint}", plain),
        (f"{sftp}/x.zip", f"{cached(5)},hostkey={key}", whole),
        (f"{sftp}/", f"{cached(5)},hostkey={key}", plain),
        (f"ftp://127.0.0.1:{ftp}/x.st", cached(6), whole),
        (f"ftp://127.0.0.1:{ftp}/", cached(6), plain),
        (f"webdav://127.0.0.1:{web}/dav/w-dav/", f"rw,nonempty,{cached(7)}", None, f"{work}/root/w-dav"),
        (f"{sftp}/w-sftp/", f"rw,nonempty,{cached(7)},hostkey={key}", None, f"{work}/root/w-sftp"),
        (f"s3://w-s3/", f"rw,nonempty,{cached(7)},{endpoint}", None, f"{work}/buckets/w-s3"),
    ]
    return [Mount(work, n, *one) for n, one in enumerate(asked)]


# ---- the test -----------------------------------------------------------------------------------------------------------


class Work:
    """The processes that use the mounts."""

    def __init__(self, mounts, work):
        self.jobs = [(mount, Stats(), f"{work}/log-{mount.number}") for mount in mounts]
        self.children, self.starts, self.longest_kill = [None] * len(mounts), 0, 0.0
        for n in range(len(mounts)):
            self.start(n)

    def start(self, n):
        mount, stats, log = self.jobs[n]
        self.starts += 1
        seed = SEED * 1000 + self.starts
        args = (mount, stats, seed, log) if mount.writes else (mount, stats, seed)
        self.children[n] = fork.Process(target=writer if mount.writes else reader, args=args, daemon=True)
        self.children[n].start()

    def kill(self, n):
        child, began = self.children[n], time.monotonic()
        os.kill(child.pid, signal.SIGKILL)
        child.join(LIMIT)
        took = time.monotonic() - began
        self.longest_kill = max(self.longest_kill, took)
        if child.is_alive():
            fail(f"a process at {self.jobs[n][0].source} stays after SIGKILL, in state {state_of(child.pid)}")
        self.jobs[n][1].numbers[SINCE] = 0

    def look(self):
        for n, (mount, stats, _) in enumerate(self.jobs):
            since = stats.numbers[SINCE]
            if since and time.monotonic() - since > 2 * LIMIT:
                fail(f"a call at {mount.source} takes over {2 * LIMIT} s, in state {state_of(self.children[n].pid)}")
                stats.numbers[SINCE] = 0
            need(self.children[n].is_alive(), f"the process at {mount.source} has ended")

    def figures(self):
        readers = [s for m, s, _ in self.jobs if not m.writes]
        sums = [sum(s.numbers[i] for s in readers) for i in (READS, BYTES)]
        longest = max(s.numbers[LONGEST] for _, s, _ in self.jobs)
        errors = {errno.errorcode.get(n, "short"): sum(s.errors[n] for _, s, _ in self.jobs) for n in range(200)
                  if any(s.errors[n] for _, s, _ in self.jobs)}
        return sums, longest, errors


def ends_well(mount):
    """All that was acknowledged is on the server once the line is good again."""
    began = time.monotonic()
    while time.monotonic() - began < 180:
        if not os.path.ismount(mount.point):
            mount.mount()
        done = say("umount", mount.point, timeout=170)
        if done.returncode == 0:
            return
        counts[f"umount {done.returncode}"] += 1
        time.sleep(0.5)
        subprocess.run(["umount", "-l", mount.point], stderr=subprocess.DEVNULL)
    raise AssertionError(f"{mount.source} is not up: {done.stderr}")


def run(work):
    global FAILURES
    FAILURES, dice = f"{work}/failures", random.Random(SEED)
    ports = loopback.free_ports(11)
    behind, (web, s3, ssh, ftp, own) = ports[:6], ports[6:]
    started = servers(work, behind)
    ENV.update(loopback.home(work), NO_COLOR="1")
    helpers, all, users = [], [], None
    try:
        truth = corpus(work)
        pages = {name: open(f"{work}/root/{name}", "rb").read() for name in ("x.st", "x.zip")}
        pairs = [(web, behind[0]), (s3, behind[3]), (ssh, behind[4]), (ftp, behind[5])]
        helpers = [fork.Process(target=proxies, args=(pairs,), daemon=True),
                   fork.Process(target=errs, args=(own, pages, SEED), daemon=True)]
        for helper in helpers:
            helper.start()
        for port in (web, s3, ssh, ftp, own):
            loopback.wait_for(port)
        all = mounts(work, truth, (web, s3, ssh, ftp, own))
        for mount in all:
            mount.mount()
        users = Work(all, work)
        end = time.monotonic() + MINUTES * 60
        while time.monotonic() < end:
            time.sleep(dice.uniform(0.5, 3))
            users.look()
            if dice.random() < 0.4:
                n = dice.choice([n for n, m in enumerate(all) if not m.writes])
                users.kill(n)
                users.start(n)
                counts["readers killed"] += 1
            if dice.random() < 0.25:
                mount = dice.choice(all)
                mount.kill()
                mount.mount()
                counts["daemons killed"] += 1
            if os.path.exists(FAILURES) and len(open(FAILURES).readlines()) > 20:
                break
        calm.value = True
        for n in range(len(all)):
            users.kill(n)
        for mount in all:
            if mount.writes:
                ends_well(mount)
        for mount, _, log in users.jobs:
            if mount.writes:
                files, facts = verify(log, mount.writes)
                counts["acknowledged writes"] += facts
                counts["files compared on servers"] += files
    finally:
        if users:
            for child in users.children:
                child.kill()
            (reads, bytes), longest, errors = users.figures()
            print(f"reads {reads:.0f}, bytes compared {bytes:.0f}, errors {errors}, longest call {longest:.1f} s, "
                  f"longest end of a killed process {users.longest_kill:.2f} s")
            print("faults", {kind: faults[n] for n, kind in enumerate(KINDS)})
            print(dict(counts))
            if os.environ.get("VERBOSE"):
                for m, s, _ in users.jobs:
                    print(f"  {m.source}: {s.numbers[READS]:.0f} reads, {s.numbers[BYTES]:.0f} bytes, longest {s.numbers[LONGEST]:.1f} s",
                          {errno.errorcode.get(n, "short"): s.errors[n] for n in range(200) if s.errors[n]})
        for mount in all:
            pid = server_of(mount.point)
            if pid:
                os.kill(pid, signal.SIGKILL)
            subprocess.run(["umount", "-l", mount.point], stderr=subprocess.DEVNULL)
        for helper in helpers:
            helper.kill()
        loopback.stop(started)
    failures = open(FAILURES).read().splitlines() if os.path.exists(FAILURES) else []
    need(not failures, "\n".join(failures[:20]))
    need(counts["acknowledged writes"] > 0 and reads > 0, "nothing was done")


def main():
    base = sys.argv[3] if len(sys.argv) > 3 else "/var/tmp"
    work, failed = os.path.realpath(tempfile.mkdtemp(prefix="soak.", dir=base)), False
    os.chmod(work, 0o755)
    try:
        run(work)
        print(f"ok      {MINUTES} minutes, seed {SEED}")
    except BaseException as e:
        failed = True
        print(f"FAILED  {e}")
    finally:
        if failed and os.environ.get("KEEP"):
            print(f"kept: {work}")
        else:
            subprocess.run(["rm", "-rf", work])
    sys.exit(failed)


main()
