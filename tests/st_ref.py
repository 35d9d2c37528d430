#!/usr/bin/env python3
"""Reads .st containers, from src/formats/st/FORMAT.md alone. Slow, small, and it verifies every hash it passes.

    st_ref.py list FILE        JSON lines, one for each name, sorted
    st_ref.py cat FILE PATH    the contents of a file
    st_ref.py check FILE       every table, segment and chunk; prints a summary

Needs Python 3.11 and the modules `zstandard` and `blake3`.
"""
import bisect
import json
import mmap
import os
import struct
import sys

import zstandard
from blake3 import blake3

import st_parts as parts
from st_parts import CHUNK, EXTENT, FENCE, HUGE, META, MIB, NAME, NODE, SEGMENT, Bad, Stream, check_of, hash_of, need

MAGIC, RECORD_MAGIC, FOOTER_MAGIC = b"\x89STF\r\n\x1a\n", b"\xabSTR", b"STcf"
SEG, TABLE, COMMIT = 2, 3, 4
KINDS = {1: "fifo", 2: "char", 4: "dir", 6: "block", 8: "file", 10: "symlink", 12: "socket"}


class Container:
    def __init__(self, path):
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            self.file = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        self.start, self.uid, self.problems, self.cache = 0, None, [], {}
        footer = self.file[-128:]
        if len(footer) == 128 and footer[112:116] == FOOTER_MAGIC:
            where, end = struct.unpack_from("<QQ", footer)
            if end <= len(self.file):
                self.start = len(self.file) - end
                self.header()
                if self.candidate(where) and check_of(self.head["uid"] + footer[:120]) == footer[120:]:
                    return
        self.start = 0
        self.header()
        need(any(self.look_at(at) for at in range(len(self.file) // 64 * 64, 4095, -64)), "no commit is whole")

    def bytes(self, at, n):
        need(0 <= at and n >= 0 and self.start + at + n <= len(self.file), "something lies beyond the end")
        return self.file[self.start + at : self.start + at + n]

    def header(self):
        self.uid = None
        head = self.file[self.start : self.start + 4096]
        if len(head) == 4096 and head[:8] == MAGIC and hash_of(head[:4064]) == head[4064:]:
            self.uid, major, incompat = head[16:32], *struct.unpack_from("<H", head, 8), head[32:40]
            need(major == 1 and not any(incompat), "made by a newer version")

    def look_at(self, at):
        """Whether at this place of a torn file stands a commit that counts, or a record that points back to one."""
        head = self.file[at : at + 96]
        if len(head) < 96 or head[:4] != RECORD_MAGIC or struct.unpack_from("<Q", head, 8)[0] != at:
            return False
        if self.uid and check_of(self.uid + head[:80]) != head[80:88]:
            return False
        return self.candidate(at if head[4] == COMMIT else struct.unpack_from("<Q", head, 32)[0])

    def record(self, at, kind, payload_len=None, uid=None):
        head = self.bytes(at, 96)
        magic, found, flags, _, own, length = struct.unpack_from("<4sBBHQQ", head)
        need(at % 64 == 0 and (magic, found, own) == (RECORD_MAGIC, kind, at), f"no record of type {kind} at {at}")
        need(payload_len in (None, length), "a record has another length than was said")
        payload = self.bytes(at + 96, length)
        need(hash_of(payload) == head[48:80], f"the payload of the record at {at} is damaged")
        uid = uid or self.uid or payload[:16]
        need(check_of(uid + head[:80]) == head[80:88] and head[40:48] == uid[:8], f"the record at {at} is damaged")
        return payload

    def candidate(self, at):
        """Takes the state of the commit there, if it is whole."""
        try:
            need(at, "no commit")
            self.head = self.commit(at)
            self.tables = [self.fence(*t) for t in self.head["tables"]]
            self.uid = self.head["uid"]
            return True
        except Bad:
            return False

    def commit(self, at):
        need(struct.unpack("<Q", self.bytes(at + 16, 8))[0] <= 2 * MIB, "a commit is too large")
        payload = self.record(at, COMMIT)
        seq, time, before = struct.unpack_from("<QQQ", payload, 16)
        tail, tail_hash = struct.unpack_from("<Q32s", payload, 72)
        address, ino, incompat, _, _, _, count, _ = struct.unpack_from("<QQQQQQII", payload, 112)
        need(self.uid in (None, payload[:16]) and not incompat, "another container, or a newer version")
        need(tail <= at and at - tail <= 64 * MIB and hash_of(self.bytes(tail, at - tail)) == tail_hash, "a torn tail")
        need(count <= 4096 and len(payload) >= 168 + 64 * count, "a commit is too short for its tables")
        tables = [struct.unpack_from("<QQQQ32s", payload, 168 + 64 * i) for i in range(count)]
        head = dict(uid=payload[:16], seq=seq, time=time, at=at, before=(before, payload[40:72]), tables=tables)
        return head | dict(items=self.items(Stream(payload[168 + 64 * count :])), next=(address, ino))

    @staticmethod
    def items(stream):
        items = {}
        while not stream.done():
            kind, zero, length = struct.unpack("<HHI", stream.take(8))
            need(kind < 0x8000 and not zero, "an unknown item of a commit is critical")
            items[kind] = stream.take(length)
        return items

    def fence(self, at, payload_len, blocks_len, fence_len, fence_hash):
        """The blocks of a table: (family, rows, first key, offset, length, hash)."""
        need(payload_len == blocks_len + fence_len + 16, "a table has another length than was said")
        stored = self.bytes(at + 96 + blocks_len, fence_len)
        need(hash_of(stored) == fence_hash, "a fence is damaged")
        ends = struct.unpack("<QQ", self.bytes(at + 96 + payload_len - 16, 16))
        need(ends == (blocks_len, fence_len), "a table ends otherwise than it should")
        blocks, offset = [], at + 96
        for family, rows, first, length, digest in parts.block(stored, FENCE):
            blocks.append((family, rows, first, offset, length, digest))
            offset += length
        need(offset == at + 96 + blocks_len, "the blocks have another length than the fence says")
        return blocks

    def rows(self, family, table):
        """The rows of one family in one table, as {key: row}; checks their order."""
        found, last = {}, b""
        for of, count, first, offset, length, digest in table:
            if of != family:
                continue
            stored = self.bytes(offset, length)
            need(hash_of(stored) == digest, f"a block of family {family} is damaged")
            rows = parts.block(stored, parts.COLUMNS[family])
            need(len(rows) == count and count and parts.key_of(family, rows[0]) == first, "a fence does not fit its block")
            for row in rows:
                key = parts.key_of(family, row)
                need(last < key and row[0] in (0, 1), "rows are out of order")
                found[key], last = row, key
        return found

    def merged(self, family):
        """All rows of a family: the newest row of a key counts."""
        if family not in self.cache:
            found = {}
            for table in self.tables:
                found |= self.rows(family, table)
            self.cache[family] = [row[1:] for _, row in sorted(found.items()) if row[0] == 0]
        return self.cache[family]

    def segments(self):
        """For each table, newest first, the segments that no newer table has deleted or replaced."""
        if "layers" not in self.cache:
            seen, layers = set(), []
            for table in reversed(self.tables):
                rows = self.rows(SEGMENT, table)
                live = [row[1:] for key, row in rows.items() if row[0] == 0 and key not in seen]
                seen |= rows.keys()
                layers.append(([row[0] for row in live], live))
            self.cache["layers"] = layers
        return self.cache["layers"]

    def segment_at(self, address):
        for starts, rows in self.segments():
            i = bisect.bisect(starts, address) - 1
            if i >= 0 and address < starts[i] + rows[i][1]:
                return rows[i]
        raise Bad(f"no segment holds the tape address {address}")

    def decoded(self, row, depth=0):
        """The raw bytes of a segment."""
        address, raw_len, at, payload_len, store, digest = row
        if depth == 0 and self.cache.get("segment", (None,))[0] == row:
            return self.cache["segment"][1]
        need(depth <= 2, "bases have bases have bases")
        need(store == 0 and raw_len <= 64 * MIB and payload_len <= raw_len + MIB, "a segment is too large")
        payload = self.record(at, SEG, payload_len)
        need(hash_of(payload) == digest, f"the segment at {at} is damaged")
        own, own_len, stages, flags, bases, _ = struct.unpack_from("<QQBBHI", payload)
        need((own, own_len) == (address, raw_len) and stages <= 8 and bases <= 64, "a segment is not what was said")
        stream = Stream(payload[24:])
        bases = [struct.unpack("<QQ", stream.take(16)) for _ in range(bases)]
        need(sum(n for _, n in bases) <= 64 * MIB, "the bases of a segment are too large")
        stages = [self.stage(stream) for _ in range(stages)]
        base = b"".join(self.tape(*b, depth + 1) for b in bases)
        raw = stream.data[stream.at :]
        for codec, params in reversed(stages):
            raw = self.undo(codec, params, raw, raw_len, base)
        need(len(raw) == raw_len, "a segment has another length")
        if depth == 0:
            self.cache["segment"] = (row, raw)
        return raw

    @staticmethod
    def stage(stream):
        codec, length = struct.unpack("<HH", stream.take(4))
        return codec, stream.take(length)

    @staticmethod
    def undo(codec, params, raw, raw_len, base):
        match codec:
            case 0:
                return raw
            case 1:
                return parts.unzstd(raw, raw_len)
            case 2:
                return parts.unzstd(raw, raw_len, base)
            case 3:
                return parts.unzstd(raw, raw_len, base, zstandard.DICT_TYPE_FULLDICT)
            case 4:
                return parts.unxz(raw, raw_len)
            case 17:
                return parts.undo_delta(raw, params)
            case 18:
                return parts.undo_fields(raw, params)
        raise Bad(f"unknown codec {codec}")

    def tape(self, address, length, depth=0):
        out = []
        while length:
            row = self.segment_at(address)
            skip = address - row[0]
            out.append(self.decoded(row, depth)[skip : skip + length])
            address, length = address + len(out[-1]), length - len(out[-1])
        return b"".join(out)

    def contents(self, node):
        """The bytes of a file, in pieces."""
        at, size = 0, node["size"]
        for offset, address, length in node["extents"]:
            need(at <= offset and offset + length <= size, "extents overlap, or lie behind the end of their file")
            yield from zeros(offset - at)
            for skip in range(0, length, MIB):
                piece = min(MIB, length - skip)
                yield self.tape(address + skip, piece) if address else bytes(piece)
            at = offset + length
        yield from zeros(size - at)

    def nodes(self):
        """{inode: what is known of it}."""
        if "nodes" not in self.cache:
            far = {}
            for data, offset, extents in self.merged(EXTENT):
                need(len(extents) == 1, "a row of EXTENT has one extent")
                far.setdefault(data, []).append((offset, *extents[0]))
            self.cache["nodes"] = {row[0]: self.node(row, far) for row in self.merged(NODE)}
        return self.cache["nodes"]

    @staticmethod
    def node(row, far):
        ino, mode, uid, gid, secs, nanos, nlink, size, data, extents, extra = row
        need(mode >> 12 in KINDS and mode < 1 << 16 and size < HUGE and nanos < 10**9, f"inode {ino} is impossible")
        node = dict(mode=mode, uid=uid, gid=gid, mtime=parts.signed(secs) * 10**9 + nanos, nlink=nlink, size=size, xattrs={})
        at, near = 0, []
        for address, length in extents:
            near.append((at, address, length))
            at += length
        node["extents"] = far.get(data, []) if data else near
        stream = Stream(extra)
        while not stream.done():
            tag, value = stream.take(1)[0], Stream(stream.take(stream.vi()))
            if tag == 1:
                node["target"] = value.data
            elif tag == 2:
                node["rdev"] = [value.vi(), value.vi()]
                need(max(node["rdev"]) < 1 << 32, "an impossible device number")
            elif tag == 3:
                name = value.take(value.vi())
                need(0 < len(name) < 256 and 0 not in name, "an attribute has an impossible name")
                node["xattrs"][name.decode("utf-8", "surrogateescape")] = value.data[value.at :].hex()
        need(mode >> 12 != 10 or "target" in node, "a symbolic link has no target")
        return node

    def walk(self):
        """(path, inode) of everything, the root first and then in the order of paths."""
        below = {}
        for parent, name, ino, kind in self.merged(NAME):
            need(0 < len(name) < 65536 and name not in (b".", b"..") and not {0, 47} & {*name}, "an impossible name")
            below.setdefault(parent, []).append((name, ino, kind))
        out, todo, seen = [], [(b".", 1, 4)], set()
        while todo:
            path, ino, kind = todo.pop()
            need(ino in self.nodes() and self.nodes()[ino]["mode"] >> 12 == kind, f"{path!r} has no such inode")
            out.append((path, ino))
            if kind == 4:
                need(ino not in seen, "a directory has two names")
                seen.add(ino)
                todo += [(path + b"/" + n if path != b"." else n, i, k) for n, i, k in below.get(ino, [])]
        return sorted(out)

    def owner(self, kind, number):
        names = {name: value for name, value in self.merged(META)}
        name = names.get(f"{kind}/{number}".encode())
        return name and text(name)

    def listing(self):
        first, hashes = {}, {}
        for path, ino in self.walk():
            node = self.nodes()[ino]
            kind = node["mode"] >> 12
            first.setdefault(ino, path)
            if kind == 8 and ino not in hashes:
                hasher = blake3()
                for piece in self.contents(node):
                    hasher.update(piece)
                hashes[ino] = hasher.hexdigest()
            line = {k: node[k] for k in ("uid", "gid", "mtime", "nlink", "size", "xattrs")}
            line |= dict(path=text(path), type=KINDS[kind], mode=node["mode"] & 0o7777, same=text(first[ino]))
            line |= dict(target=text(node["target"]) if kind == 10 else None, rdev=node.get("rdev"))
            line |= dict(b3=hashes.get(ino), user=self.owner("user", node["uid"]), group=self.owner("group", node["gid"]))
            yield line

    def check(self):
        """Passes everything there is; returns how much it was."""
        for row in (row for _, rows in self.segments() for row in rows):
            self.decoded(row)
        for id_, address, length in self.merged(CHUNK):
            found = int.from_bytes(hash_of(self.tape(address, length))[:8], "big")
            need(found == id_, f"the chunk at {address} has another id than its row")
        commits, head = 1, self.head
        while head["before"][0]:
            at, digest = head["before"]
            head = self.commit(at)
            length = struct.unpack("<Q", self.bytes(at + 16, 8))[0]
            need(hash_of(self.bytes(at + 96, length)) == digest, "the commit before is another one")
            commits += 1
        names = sum(1 for _ in self.listing())
        return dict(names=names, commits=commits, tables=len(self.tables), chunks=len(self.merged(CHUNK)))


def zeros(n):
    for at in range(0, n, MIB):
        yield bytes(min(MIB, n - at))


def text(name):
    return name.decode("utf-8", "surrogateescape")


def main(verb, file, path=None):
    container = Container(file)
    if verb == "list":
        for line in container.listing():
            print(json.dumps(line, sort_keys=True))
    elif verb == "cat":
        wanted = [ino for name, ino in container.walk() if name == os.fsencode(path)]
        need(wanted, "no such file")
        for piece in container.contents(container.nodes()[wanted[0]]):
            sys.stdout.buffer.write(piece)
    else:
        print(json.dumps(container.check()))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (Bad, struct.error) as e:
        sys.exit(f"st_ref.py: {sys.argv[2]}: {e}")
