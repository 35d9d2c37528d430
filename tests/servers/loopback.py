"""Servers of other makers on this machine, and lines to them, for what is written in Python: the bench of links, that of remote
folders, and the soak test.

The scripts beside this file say how each server is set up; all of one test is in one directory, WORK.
"""
import asyncio, functools, multiprocessing, os, random, re, shutil, socket, subprocess, sys, time

HERE = os.path.dirname(os.path.realpath(__file__))
KEY, SECRET = "KEY", "SECRET-OF-THE-KEY"
WAITING = 0.05
WINDOW = 6 << 20
PIECE = 128 << 10


def free_ports(count):
    """So many ports, one behind the other, that were free a moment ago."""
    while True:
        first = random.randrange(20_000, 55_000)
        try:
            for n in range(count):
                with socket.socket() as sock:
                    sock.bind(("127.0.0.1", first + n))
            return list(range(first, first + count))
        except OSError:
            pass


def wait_for(port):
    for _ in range(500):
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    sys.exit(f"no server at {port}")


def start(command, port):
    """Starts a server, which has a process group of its own, so that `stop` ends its workers as well."""
    nothing = subprocess.DEVNULL
    server = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
    wait_for(port)
    return server


def stop(servers):
    for server in servers:
        os.killpg(server.pid, 15)
    for server in servers:
        server.wait()


def nginx(work, port):
    """Serves WORK/root, below /dav/ also by WebDAV. Takes two more ports behind this one."""
    return start([f"{HERE}/nginx.sh", work, str(port)], port)


def sshd(work, port):
    """Whoever has WORK/ssh/client is let in as who started it."""
    return start([f"{HERE}/sshd.sh", work, str(port)], port)


def s3(work, port):
    """Has the directories below WORK/buckets as buckets, for who has KEY and SECRET."""
    os.makedirs(f"{work}/buckets", exist_ok=True)
    keys = ["--access-key", KEY, "--secret-key", SECRET]
    return start(["s3s-fs", "--host", "127.0.0.1", "--port", str(port), *keys, f"{work}/buckets"], port)


def pyftpd(work, port):
    return start([sys.executable, f"{HERE}/ftpd.py", work, str(port), "clear"], port)


def vsftpd(work, port):
    return start([f"{HERE}/vsftpd.sh", work, str(port)], port)


def home(work):
    """A home of its own with the keys that sshd and the server of S3 let in; the environment of a program that lives there."""
    os.makedirs(f"{work}/home/.ssh", exist_ok=True)
    os.makedirs(f"{work}/home/.aws", exist_ok=True)
    if os.path.exists(f"{work}/ssh/client"):
        shutil.copy(f"{work}/ssh/client", f"{work}/home/.ssh/id_ed25519")
        os.chmod(f"{work}/home/.ssh/id_ed25519", 0o600)
    with open(f"{work}/home/.aws/credentials", "w") as file:
        file.write(f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
    env = dict(os.environ, HOME=f"{work}/home", STMOUNT_STATE_DIR=f"{work}/state", STMOUNT_CACHE_DIR=f"{work}/caches")
    for name in ("SSH_AUTH_SOCK", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_CA_BUNDLE"):
        env.pop(name, None)
    return env


async def lead_data(reply, pass_on, seconds):
    """An answer of FTP that names a port for data names one in its place whose connections are passed on in the same way."""
    found = re.match(rb"229 .*\(\|\|\|(\d+)\|\)", reply)
    if not found:
        return reply
    server = await asyncio.start_server(functools.partial(pass_on, to=int(found[1])), "127.0.0.1", 0, limit=PIECE)
    asyncio.get_running_loop().call_later(seconds, server.close)
    return reply.replace(found[1], b"%d" % server.sockets[0].getsockname()[1])


class Line:
    """A line of some length, in MB/s towards here and ms for a round trip. All connections through it share its bandwidth."""

    def __init__(self, mbps, ms):
        self.rate, self.delay, self.free = mbps * 1e6, ms / 2000, 0.0

    async def serve(self, port, to):
        return await asyncio.start_server(functools.partial(self.pass_on, to=to), "127.0.0.1", port, limit=PIECE)

    async def pass_on(self, near, near_out, to):
        try:
            far, far_out = await asyncio.open_connection("127.0.0.1", to, limit=PIECE)
        except OSError:
            return near_out.close()
        for out in (near_out, far_out):
            out.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ways = self.way(near, far_out, None), self.way(far, near_out, far_out.get_extra_info("socket"))
        await asyncio.gather(*ways, return_exceptions=True)
        near_out.close()
        far_out.close()

    async def way(self, source, sink, server):
        """One direction; that towards here comes from the socket of a server."""
        loop = asyncio.get_running_loop()
        pieces, waiting = asyncio.Queue(), [0]
        deliver = asyncio.create_task(self.deliver(pieces, sink, waiting))
        begun = loop.time()
        try:
            while piece := await source.read(PIECE):
                now = loop.time()
                if server:
                    # There are servers that wait until their head was acknowledged before they send more.
                    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                    piece = await lead_data(piece, self.pass_on, 30)
                    self.free = max(self.free, now) + len(piece) / self.rate
                    due = self.free + self.delay
                else:
                    due = max(now, begun + 2 * self.delay) + self.delay
                pieces.put_nowait((due, piece))
                waiting[0] += len(piece)
                # Nobody sends more than the other end has room for, or when it has hung up.
                while waiting[0] > WINDOW and not deliver.done():
                    await asyncio.sleep(0.002)
                if deliver.done():
                    break
                if server and self.free - now > WAITING:
                    await asyncio.sleep(self.free - now - WAITING)
        finally:
            pieces.put_nowait((loop.time() + self.delay, b""))
            await deliver

    async def deliver(self, pieces, sink, waiting):
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
            waiting[0] -= len(piece)


def line(pairs, mbps, ms):
    """Starts a process that has one line, with an end here and a server for each pair of ports."""

    async def run():
        one = Line(mbps, ms)
        for port, to in pairs:
            await one.serve(port, to)
        await asyncio.Event().wait()

    between = multiprocessing.get_context("fork").Process(target=lambda: asyncio.run(run()), daemon=True)
    between.start()
    for port, _ in pairs:
        wait_for(port)
    return between
