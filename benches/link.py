#!/usr/bin/env python3
"""How much of a link is used: a large file is read from its front to its end through a mount, over a line of some length.

    STMOUNT=... benches/link.py [--mbps 40] [--ms 50] [--size 128] [--rounds 3] [SCHEME...]

The line is a proxy on the loopback: what goes through it arrives half of the round trip later, all connections share its
bandwidth (in MB/s, towards here), a connection takes one round trip to be made, and 50 ms of data wait before it at most. Each
round begins with a new mount and an empty cache; timed is `dd bs=1M` of the file alone. `plain` is curl over the same line, on
one connection. The server of `s3` is nginx, too, which gives an object that anybody may read, a zip in which the file is stored:
s3s-fs hashes all of an object for each part of it. Prints medians, and the share of the bandwidth.
"""
import argparse, os, shutil, statistics, subprocess, sys, tempfile, time, zipfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../tests/servers"))
import loopback

STMOUNT = os.environ.get("STMOUNT", "stmount")
SCHEMES = ["plain", "http", "webdav", "s3", "sftp", "ftp"]


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
    for name in ("root", "root/bucket", "m"):
        os.makedirs(f"{work}/{name}")
    with open(f"{work}/root/large", "wb") as file:
        for _ in range(asked.size):
            file.write(os.urandom(1_000_000))
    os.utime(f"{work}/root/large", (1.5e9, 1.5e9))
    with zipfile.ZipFile(f"{work}/root/bucket/all.zip", "w", zipfile.ZIP_STORED) as packed:
        packed.write(f"{work}/root/large", "large")
    web, _, _, ssh, ftp, *near = loopback.free_ports(8)
    is_root = os.geteuid() == 0 and (shutil.which("vsftpd") or os.path.exists("/usr/sbin/vsftpd"))
    started, between = [], None
    try:
        started.append(loopback.nginx(work, web))
        started.append(loopback.sshd(work, ssh))
        started.append((loopback.vsftpd if is_root else loopback.pyftpd)(work, ftp))
        # The object is one that anybody may read.
        env = loopback.home(work)
        os.remove(f"{work}/home/.aws/credentials")
        between = loopback.line(list(zip(near, (web, ssh, ftp))), asked.mbps, asked.ms)
        times = {scheme: [] for scheme in asked.schemes}
        for _ in range(asked.rounds):
            for scheme in asked.schemes:
                times[scheme].append(read(scheme, work, near, env))
        print("| | MB/s | of the line |\n|---|---|---|")
        for scheme, took in times.items():
            speed = asked.size / statistics.median(took)
            print(f"| {scheme} | {speed:.1f} | {speed / asked.mbps * 100:.0f} % |")
    finally:
        if between:
            between.kill()
        loopback.stop(started)
        subprocess.run(["umount", "-l", f"{work}/m"], stderr=subprocess.DEVNULL)
        shutil.rmtree(work, ignore_errors=True)


main()
