#!/usr/bin/env python3
"""Made the golden containers: make.py FOLDER [STMOUNT]. What is committed stays; this shows how it came.

The expected listings are written from the plain values below and not by reading the containers.
"""
import json
import lzma
import os
import random
import struct
import subprocess
import sys
import tempfile

import zstandard
from blake3 import blake3

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import st_craft  # noqa: E402
from st_craft import DIR, FILE, LINK, TIME, Writer  # noqa: E402
from st_craft import chunk, delete, delta, extent, field, meta, name, node, root, split, xattr, vi  # noqa: E402

DEFAULTS = dict(uid=0, gid=0, user=None, group=None, nlink=1, size=0, target=None, rdev=None, xattrs={}, b3=None)


NOBODY = 2**32 - 1


def text(n, seed):
    rng = random.Random(seed)
    return b"".join(b"%d lines of %d\n" % (rng.randrange(30), seed) for _ in range(n))


def line(path, kind, mode, **more):
    return DEFAULTS | dict(path=path, type=kind, mode=mode, same=path, mtime=TIME * 10**9 + 5) | more


def of_file(path, content, **more):
    return line(path, "file", 0o644, size=len(content), b3=blake3(content).hexdigest(), **more)


def write(folder, stem, container, lines):
    with open(os.path.join(folder, stem + ".st"), "wb") as file:
        file.write(container)
    with open(os.path.join(folder, stem + ".jsonl"), "w", encoding="ascii") as file:
        for each in sorted(lines, key=lambda each: os.fsencode(each["path"])):
            file.write(json.dumps(each, sort_keys=True) + "\n")


def behind(raw, base):
    prefix = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(level=19, dict_data=prefix).compress(raw)


def codecs(folder):
    """Every codec and filter, bases two deep, a dictionary, extents in rows of their own, holes in both places."""
    w, rows, lines, names = Writer(), [root()], [line(".", "dir", 0o755, nlink=2)], iter(range(2, 100))
    address = [4096]

    def put(label, raw, **how):
        at, ino = address[0], next(names)
        rows.extend([w.segment(at, raw, **how), name(1, label.encode(), ino)])
        rows.extend([] if any(row[1][:2] == chunk(raw, at)[1][:2] for row in rows) else [chunk(raw, at)])
        rows.append(node(ino, size=len(raw), extents=[(at, len(raw))]))
        lines.append(of_file(label, raw))
        address[0] += len(raw)
        return at, len(raw)

    raw = text(300, 1)
    put("stored", bytes(range(256)), stages=())
    put("stored by name", bytes(range(255)), stages=((0, b""),), data=bytes(range(255)))
    base = put("zstd", raw)
    put("xz", raw, stages=((4, b""),), data=lzma.compress(raw, check=lzma.CHECK_NONE))
    near = raw + b"and more"
    second = put("behind a base", near, stages=((2, b""),), bases=[base], data=behind(near, raw))
    far = b"before " + near
    put("two bases deep", far, stages=((2, b""),), bases=[second, (base[0], 100)], data=behind(far, near + raw[:100]))
    samples = [text(20 + i % 9, i) for i in range(300)]
    trained = zstandard.train_dictionary(2048, samples)
    dictionary = put("dictionary", trained.as_bytes(), stages=())
    with_it = zstandard.ZstdCompressor(level=19, dict_data=trained).compress(samples[0])
    put("with a dictionary", samples[0], stages=((3, b""),), bases=[dictionary], data=with_it)
    sound = b"RIFF" + struct.pack("<700h", *(i * i % 991 - 400 for i in range(700))) + b"x"
    params, coded = delta(sound, 4, 2)
    put("differences", sound, stages=((17, params), (1, b"")), data=zstandard.compress(coded))
    table = b"head" + b"".join(struct.pack("<IHB", i, i % 7, i % 3) for i in range(300)) + b"rest"
    params, coded = split(table, 4, [4, 2, 1])
    put("fields", table, stages=((18, params), (4, b"")), data=lzma.compress(coded, check=lzma.CHECK_NONE))
    first, gathered = split(sound, 0, [2, 2])
    last, coded = delta(gathered, 1400, 1)
    put("two filters", sound, stages=((18, first), (17, last), (0, b"")), data=coded)
    holes = bytes(1000) + raw[:50] + bytes(500) + raw[50:60]
    rows.append(node(90, size=len(holes), extents=[(0, 1000), (base[0], 50), (0, 500), (base[0] + 50, 10)]))
    rows.append(name(1, b"holes", 90))
    lines.append(of_file("holes", holes))
    apart = bytes(70_000) + raw[10:30] + bytes(5) + raw[:40] + bytes(100)
    rows.append(node(91, size=len(apart), data=7, extra=field(10, vi(60))))
    rows += [name(1, b"extents", 91), extent(7, 70_000, base[0] + 10, 20), extent(7, 70_025, base[0], 40)]
    rows.append(extent(7, 70_020, 0, 5))
    lines.append(of_file("extents", apart))
    w.table(rows, block_rows=5)
    write(folder, "codecs", w.commit((len(lines), sum(each["size"] for each in lines))), lines)


def first_generation(w):
    """A tree that will change: the bytes up to its commit, its rows by what they are, its listing."""
    a, b = text(200, 3), text(100, 4)
    rows = [root(3), node(2, DIR, nlink=2), node(3, size=len(a), extents=[(4096, len(a))], nlink=2)]
    rows += [node(4, size=len(b), extents=[(4096 + len(a), len(b))]), node(5, LINK, size=3, extra=field(1, b"old"))]
    rows += [name(1, b"dir", 2, 4), name(1, b"a", 3), name(2, b"again", 3), name(2, b"b", 4), name(1, b"link", 5, 10)]
    rows += [w.segment(4096, a), w.segment(4096 + len(a), b), chunk(a, 4096), meta(b"user/0", b"root")]
    w.table(rows, block_rows=2)
    who = dict(user="root")
    lines = [line(".", "dir", 0o755, nlink=3, **who), line("dir", "dir", 0o755, nlink=2, **who)]
    lines += [of_file("a", a, nlink=2, **who), of_file("dir/again", a, nlink=2, **who) | dict(same="a")]
    lines += [of_file("dir/b", b, **who), line("link", "symlink", 0o777, size=3, target="old", **who)]
    return w.commit((5, len(a) + len(b))), a, b, lines


def second_generation(w, a, b, tail=0):
    """Names deleted, moved and put; an inode changed; the first segment written anew in two; a tail."""
    end, c = len(w.data), text(150, 5)
    half = len(a) // 2
    at = 4096 + len(a) + len(b)
    rows = [delete(name(1, b"link", 5, 10)), delete(node(5, LINK, extra=b"")), delete(name(2, b"b", 4)), name(1, b"b", 4)]
    rows += [node(3, 0o100600, size=len(a) + 5, extents=[(4096, len(a))], nlink=2, extra=xattr(b"user.k", b"v"))]
    rows += [node(6, size=len(c), extents=[(at, len(c))]), name(2, b"c", 6), w.segment(at, c)]
    rows += [w.segment(4096, a[:half], stages=()), w.segment(4096 + half, a[half:]), meta(b"group/0", b"wheel")]
    w.table(rows, block_rows=3)
    who, changed = dict(user="root", group="wheel"), a + bytes(5)
    lines = [line(".", "dir", 0o755, nlink=3, **who), line("dir", "dir", 0o755, nlink=2, **who)]
    extra = dict(nlink=2, xattrs={"user.k": "76"}, **who)
    lines += [of_file("a", changed, **extra) | dict(mode=0o600)]
    lines += [of_file("dir/again", changed, **extra) | dict(same="a", mode=0o600)]
    lines += [of_file("b", b, **who), of_file("dir/c", c, **who)]
    return w.commit((5, len(a) + len(b) + len(c)), tail=None if tail is None else end), lines


def generations(folder):
    w = Writer(uid=b"two generations!")
    old, a, b, before = first_generation(w)
    new, after = second_generation(w, a, b)
    write(folder, "one-generation", old, before)
    write(folder, "two-generations", new, after)
    garbage = random.Random(6).randbytes(1000)
    write(folder, "garbage-behind", new + garbage, after)
    torn = bytearray(new)
    torn[len(old) + 100] ^= 1  # in a segment of the tail: the second commit does not count
    write(folder, "tail-lost", bytes(torn), before)
    durable = Writer(uid=b"durable before! ")
    a, b = first_generation(durable)[1:3]
    lost = bytearray(second_generation(durable, a, b, tail=None)[0])
    lost[lost.rindex(b"\xabSTR\x04") - 64] ^= 1  # in what ends the last table: its fence
    write(folder, "fence-lost", bytes(lost), before)
    headless = bytearray(new)
    headless[:4096] = bytes(4096)
    write(folder, "header-lost", bytes(headless), after)
    w.record(2, b"", 0)
    write(folder, "cut-in-the-third", bytes(w.data) + b"\xabSTR\x04", after)
    write(folder, "behind-a-program", b"#!/bin/sh\nexit 0\n".ljust(1001, b"#") + new, after)


def fill(root):
    """A small tree with all metadata."""
    at = lambda *parts: os.path.join(root, *parts)  # noqa: E731
    os.makedirs(at("dir", "below"))
    for label, content in dict(small=b"a few bytes\n", empty=b"", text=text(3000, 7), again=text(3000, 7)).items():
        with open(at("dir", label), "wb") as file:
            file.write(content)
    with open(os.fsencode(at()) + b"/not utf-8 \xff", "wb") as file:
        file.write(random.Random(8).randbytes(9000))
    with open(at("sparse"), "wb") as file:
        file.truncate(1 << 20)
        file.seek(500_000)
        file.write(b"an island")
    os.link(at("dir", "text"), at("hard link"))
    os.symlink("../dir/small", at("dir", "below", "link"))
    os.mkfifo(at("fifo"), 0o640)
    os.mknod(at("null"), 0o020666, os.makedev(1, 3))
    os.mknod(at("socket"), 0o140755)
    os.setxattr(at("dir", "small"), "user.comment", b"an attribute")
    acl = struct.pack("<IHHIHHIHHIHHIHHI", 2, 1, 6, NOBODY, 2, 4, 12345, 4, 4, NOBODY, 16, 6, NOBODY, 32, 0, NOBODY)
    os.setxattr(at("dir", "small"), "system.posix_acl_access", acl)
    os.chown(at("dir", "again"), 12345, 54321)
    os.chmod(at("dir", "again"), 0o4751)
    os.chmod(at("dir", "below"), 0o1777)
    for i, (top, dirs, files) in enumerate(os.walk(root, topdown=False)):
        for j, label in enumerate(files + dirs):
            os.utime(os.path.join(top, label), ns=(0, (TIME - i * 10**9 * 2) * 10**9 + j), follow_symlinks=False)
    os.utime(root, ns=(0, -1))


def packed(folder, program):
    """What the packer made of a real tree, and what the operating system said of it; as root."""
    with tempfile.TemporaryDirectory() as root:
        fill(root)
        for stem, options in dict(plain=["-6"], segments=["-9", "--segment", "4K"], chunks=["-1", "--segment", "chunk"]).items():
            subprocess.run([program, "pack", *options, root, os.path.join(folder, stem + ".st")], check=True)
            lister = os.path.join(os.path.dirname(st_craft.__file__), "os_list.py")
            listing = subprocess.run([sys.executable, lister, root], check=True, capture_output=True).stdout
            with open(os.path.join(folder, stem + ".jsonl"), "wb") as file:
                file.write(listing)


if __name__ == "__main__":
    codecs(sys.argv[1])
    generations(sys.argv[1])
    if len(sys.argv) > 2:
        packed(*sys.argv[1:])
