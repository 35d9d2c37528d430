#!/usr/bin/env python3
"""How much of a link is used: a large file is read from its front to its end through a mount, over a line of some length.

    STMOUNT=... benches/link.py [--mbps 40] [--ms 50] [--size 128] [--rounds 3] [SCHEME...]

The line is a proxy on the loopback: what goes through it arrives half of the round trip later, all connections share its
bandwidth (in MB/s, towards here), a connection takes one round trip to be made, and 50 ms of data wait before it at most. Each
round begins with a new mount and an empty cache; timed is `dd bs=1M` of the file alone. `plain` is curl over the same line, on
one connection. The server of `s3` is nginx, too, which gives an object that anybody may read, a zip in which the file is stored:
s3s-fs hashes all of an object for each part of it. Prints medians, and the share of the bandwidth.
"""
import argparse, asyncio, multiprocessing, os, random, shutil, socket, statistics, subprocess, sys, tempfile, time, zipfile

HERE = os.path.dirname(os.path.realpath(__file__))
SERVERS = os.path.join(HERE, "../tests/servers")
STMOUNT = os.environ.get("STMOUNT", "stmount")
SCHEMES = ["plain", "http", "webdav", "s3", "sftp", "ftp"]
WAITING = 0.05
PIECE = 128 << 10


class Line:
    """All connections through it share its bandwidth."""

    def __init__(self, mbps, ms):
        self.rate, self.delay, self.free = mbps * 1e6, ms / 2000, 0.0

    async def serve(self, port, to):
        async def one(near, near_out):
            await self.pass_on(near, near_out, to)

        return await asyncio.start_server(one, "127.0.0.1", port, limit=PIECE)

    async def pass_on(self, near, near_out, to):
        try:
            far, far_out = await asyncio.open_connection("127.0.0.1", to, limit=PIECE)
        except OSError:
            return near_out.close()
        for out in (near_out, far_out):
            out.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(self.way(near, far_out, False), self.way(far, near_out, True), return_exceptions=True)
        near_out.close()
        far_out.close()

    async def way(self, source, sink, is_down):
        loop = asyncio.get_running_loop()
        pieces = asyncio.Queue()
        deliver = asyncio.create_task(self.deliver(pieces, sink))
        begun = loop.time()
        try:
            while piece := await source.read(PIECE):
                now = loop.time()
                if is_down:
                    piece = await self.data_port(piece)
                    self.free = max(self.free, now) + len(piece) / self.rate
                    due = self.free + self.delay
                else:
                    due = max(now, begun + 2 * self.delay) + self.delay
                pieces.put_nowait((due, piece))
                if is_down and self.free - now > WAITING:
                    await asyncio.sleep(self.free - now - WAITING)
        finally:
            pieces.put_nowait((loop.time() + self.delay, b""))
            await deliver

    async def deliver(self, pieces, sink):
        loop = asyncio.get_running_loop()
        while True:
            due, piece = await pieces.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if not piece:
                if sink.can_write_eof():
                    sink.write_eof()
                return
            sink.write(piece)
            await sink.drain()

    async def data_port(self, piece):
        """Connections for data of FTP go the same way."""
        if not piece.startswith(b"229 "):
            return piece
        port = piece.split(b"|||")[1].split(b"|")[0]
        server = await self.serve(0, int(port))
        asyncio.get_running_loop().call_later(30, server.close)
        return piece.replace(port, b"%d" % server.sockets[0].getsockname()[1])


def line(pairs, mbps, ms):
    async def run():
        one = Line(mbps, ms)
        for port, to in pairs:
            await one.serve(port, to)
        await asyncio.Event().wait()

    asyncio.run(run())


def free_ports(count):
    first = random.randrange(20_000, 55_000)
    return list(range(first, first + count))


def wait_for(port):
    for _ in range(500):
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    sys.exit(f"no server at {port}")


def dd(path):
    begun = time.perf_counter()
    subprocess.run(["dd", f"if={path}", "of=/dev/null", "bs=1M", "status=none"], check=True)
    return time.perf_counter() - begun


def read(scheme, work, near, env):
    web, ssh, ftp = near
    if scheme == "plain":
        begun = time.perf_counter()
        subprocess.run(["curl", "-s", "-o", "/dev/null", f"http://127.0.0.1:{web}/large"], check=True)
        return time.perf_counter() - begun
    address, more = {
        "http": (f"http://127.0.0.1:{web}/", ""),
        "webdav": (f"webdav://127.0.0.1:{web}/dav/", ""),
        "s3": ("s3://bucket/all.zip", f",endpoint=http://127.0.0.1:{web}"),
        "sftp": (f"sftp://127.0.0.1:{ssh}{work}/root/", ",hostkey=accept-new"),
        "ftp": (f"ftp://127.0.0.1:{ftp}/", ""),
    }[scheme]
    shutil.rmtree(f"{work}/cache", ignore_errors=True)
    subprocess.run([STMOUNT, "-q", "-o", f"cache={work}/cache{more}", address, f"{work}/m"], check=True, env=env)
    try:
        return dd(f"{work}/m/large")
    finally:
        subprocess.run([STMOUNT, "-q", "umount", f"{work}/m"], env=env)


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--mbps", type=float, default=40)
    words.add_argument("--ms", type=float, default=50)
    words.add_argument("--size", type=int, default=128, help="MB")
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("schemes", nargs="*", default=SCHEMES)
    asked = words.parse_args()
    work = os.path.realpath(tempfile.mkdtemp(prefix="stmount-link-"))
    os.chmod(work, 0o755)
    for name in ("root", "root/bucket", "home/.ssh", "m"):
        os.makedirs(f"{work}/{name}")
    with open(f"{work}/root/large", "wb") as file:
        for _ in range(asked.size):
            file.write(os.urandom(1_000_000))
    os.utime(f"{work}/root/large", (1.5e9, 1.5e9))
    with zipfile.ZipFile(f"{work}/root/bucket/all.zip", "w", zipfile.ZIP_STORED) as packed:
        packed.write(f"{work}/root/large", "large")
    ports = free_ports(8)
    web, _, _, ssh, ftp, *near = ports
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, start_new_session=True)
    is_root = os.geteuid() == 0 and (shutil.which("vsftpd") or os.path.exists("/usr/sbin/vsftpd"))
    ftpd = [f"{SERVERS}/vsftpd.sh", work, str(ftp)] if is_root else [sys.executable, f"{SERVERS}/ftpd.py", work, str(ftp), "clear"]
    started = [
        subprocess.Popen([f"{SERVERS}/nginx.sh", work, str(web)], **quiet),
        subprocess.Popen([f"{SERVERS}/sshd.sh", work, str(ssh)], **quiet),
        subprocess.Popen(ftpd, **quiet),
    ]
    pairs = list(zip(near, (web, ssh, ftp)))
    between = multiprocessing.get_context("fork").Process(target=line, args=(pairs, asked.mbps, asked.ms), daemon=True)
    env = dict(os.environ, HOME=f"{work}/home", STMOUNT_STATE_DIR=f"{work}/state", STMOUNT_CACHE_DIR=f"{work}/caches")
    for name in ("SSH_AUTH_SOCK", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        env.pop(name, None)
    try:
        for port in (web, ssh, ftp):
            wait_for(port)
        shutil.copy(f"{work}/ssh/client", f"{work}/home/.ssh/id_ed25519")
        between.start()
        for port in near:
            wait_for(port)
        times = {scheme: [] for scheme in asked.schemes}
        for _ in range(asked.rounds):
            for scheme in asked.schemes:
                times[scheme].append(read(scheme, work, near, env))
        print("| | MB/s | of the line |\n|---|---|---|")
        for scheme, took in times.items():
            speed = asked.size / statistics.median(took)
            print(f"| {scheme} | {speed:.1f} | {speed / asked.mbps * 100:.0f} % |")
    finally:
        if between.pid:
            between.kill()
        for one in started:
            os.killpg(one.pid, 15)
        subprocess.run(["umount", "-l", f"{work}/m"], stderr=subprocess.DEVNULL)
        shutil.rmtree(work, ignore_errors=True)


main()
