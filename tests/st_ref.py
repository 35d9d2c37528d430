#!/usr/bin/env python3
"""Reads .st containers, from src/formats/st/FORMAT.md alone. Slow, small, and it verifies every hash it passes.

    st_ref.py list FILE        JSON lines, one for each name, sorted
    st_ref.py cat FILE PATH    the contents of a file
    st_ref.py check FILE       every table, segment and chunk; prints a summary
    st_ref.py verify FILE      the key that signed the newest commit, in hexadecimal, or null

Needs Python 3.11 and the modules `zstandard` and `blake3`, for `verify` also `cryptography`. Does not check limits that only protect a reader's memory.
"""
import bisect
import contextlib
import functools
import json
import lzma
import mmap
import os
import struct
import sys
from collections import namedtuple
from itertools import accumulate, groupby, islice, pairwise

import zstandard
from blake3 import blake3

MAGIC, RECORD_MAGIC, FOOTER_MAGIC = b"\x89STF\r\n\x1a\n", b"\xabSTR", b"STcf"
RECORD, FOOTER = struct.Struct("<4sBBHQQQQ8s32s8s8x"), struct.Struct("<QQ96x4s4x8s")
SEG, TABLE, COMMIT, STATE = 2, 3, 4, 7
KINDS = {1: "fifo", 2: "char", 4: "dir", 6: "block", 8: "file", 10: "symlink", 12: "socket"}
MIB, TAPE_END, WORD = 1 << 20, 1 << 62, (1 << 64) - 1

# Families of rows: columns, their types, how many numbers behind `op` begin the key. A fence is laid out like them.
NAME, NODE, EXTENT, SEGMENT, CHUNK, META, FENCE = 1, 2, 3, 4, 5, 6, "fence"
FAMILIES = {
    NAME: ("op parent name ino kind", "udpdu", 1),
    NODE: ("op ino mode uid gid secs nanos nlink size data extents extra", "uduuuduuuuxb", 1),
    EXTENT: ("op data offset extents", "uddx", 2),
    SEGMENT: ("op address raw_len at payload_len store digest", "ududuuh", 1),
    CHUNK: ("op id address length", "uddu", 1),
    META: ("op name value", "upb", 0),
    FENCE: ("family rows first length digest", "uupuh", 0),
}
ROWS = {family: namedtuple("Row", columns) for family, (columns, _, _) in FAMILIES.items()}
STREAMS = {"u": "n", "d": "n", "b": "nb", "p": "nnb", "h": "b", "x": "nnn"}  # n: of numbers, b: of bytes
DAMAGED = (ValueError, LookupError, struct.error, lzma.LZMAError, zstandard.ZstdError)


def need(true, what):
    if not true:
        raise ValueError(what)


def unzigzag(n):
    return (n >> 1) ^ -(n & 1)


def varints(data, count=None):
    """The first `count` numbers, or all, and the bytes behind them."""
    numbers, value, shift = [], 0, 0
    for at, byte in enumerate(data, 1):
        value, shift = value | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            numbers.append(value)
            value = shift = 0
            if len(numbers) == count:
                return numbers, data[at:]
    need(count is None and shift == 0 and max(numbers, default=0) <= WORD, "a number is cut off or too large")
    return numbers, b""


def pieces(whole, lengths):
    """All of it, in pieces of these lengths."""
    ends = list(accumulate(lengths, initial=0))
    need(ends[-1] == len(whole), "something has another length than its parts together")
    return [whole[start:end] for start, end in pairwise(ends)]


def rows_of(stored, family):
    """The rows of a block."""
    need(stored[0] in (0, 1), "a block of unknown codec")
    (raw_len,), content = varints(stored[1:], 1)
    types = FAMILIES[family][1]
    forms = "".join(STREAMS[kind] for kind in types)
    (count, *lengths), content = varints(undo(stored[0], b"", content, raw_len), 1 + len(forms))
    streams = (varints(data)[0] if form == "n" else data for form, data in zip(forms, pieces(content, lengths)))
    columns = [column(kind, *islice(streams, len(STREAMS[kind]))) for kind in types]
    return [ROWS[family](*values) for _, *values in zip(range(count), *columns, strict=True)]


def column(kind, first, second=(), third=()):
    """The values of a column, from its streams."""
    values, before, cursor = first if kind == "u" else [], b"", 0
    match kind:
        case "d":
            values = [value & WORD for value in accumulate(map(unzigzag, first))]
        case "b":
            values = pieces(second, first)
        case "h":
            values = pieces(first, [32] * (len(first) // 32))
        case "p":
            for shared, rest in zip(first, pieces(third, second), strict=True):
                need(shared <= len(before), "a name shares more than there is")
                before = before[:shared] + rest
                values.append(before)
        case "x":
            for code, length in zip(second, third, strict=True):
                address = 0 if code == 1 else (cursor + unzigzag(code - 1)) & WORD if code else cursor
                need(code == 1 or 4096 <= address <= TAPE_END, "an extent lies outside of the tape")
                values.append((address, length))
                cursor = address + length if address else cursor
            values = pieces(values, first)
    return values


def undo(codec, params, data, raw_len, bases=b""):
    """Undoes a stage of a segment."""
    need(codec in (0, 1, 2, 3, 4, 17, 18), f"unknown codec {codec}")
    skip, sizes = int.from_bytes(params[:4], "little"), params[4:]
    need(codec < 16 or sizes and all(sizes), "a filter of no distance or width")
    head, body, raw = data[:skip], data[skip:], data
    match codec:
        case 1 | 2 | 3:
            kind = zstandard.DICT_TYPE_FULLDICT if codec == 3 else zstandard.DICT_TYPE_RAWCONTENT
            dictionary = zstandard.ZstdCompressionDict(bases, dict_type=kind) if codec > 1 else None
            raw = zstandard.ZstdDecompressor(dictionary).decompress(data, raw_len, allow_extra_data=False)
        case 4:
            raw = lzma.decompress(data, lzma.FORMAT_XZ)
        case 17:
            (distance,), words = sizes, list(struct.unpack_from(f"<{len(body) // 2}H", body))
            for i in range(distance, len(words)):
                words[i] = (words[i - distance] + unzigzag(words[i])) & 0xFFFF
            raw = head + struct.pack(f"<{len(words)}H", *words) + body[2 * len(words) :]
        case 18:
            count, odd = divmod(len(body), sum(sizes))
            *fields, rest = pieces(body, [*(count * size for size in sizes), odd])
            records = zip(*(pieces(field, [size] * count) for field, size in zip(fields, sizes)))
            raw = head + b"".join(map(b"".join, records)) + rest
    need(len(raw) == raw_len, "a stage or a block has another length")
    return raw


def verified_by(key, signature, message):
    """The key, if it has signed this."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature as e:
        raise ValueError("the signature is wrong") from e
    return key.hex()


class Container:
    def __init__(self, path):
        self.file = mmap.mmap(os.open(path, os.O_RDONLY), 0, access=mmap.ACCESS_READ)
        for at, said, check in self.witnesses():
            self.uid = self.header(self.start)
            with contextlib.suppress(*DAMAGED):
                self.uid, features, self.before, self.places = self.commit(at)
                self.newest = at
                if blake3(self.uid + said).digest(8) == check:
                    break
        else:
            raise ValueError("no commit is whole")
        need(not features, "made by a newer version")
        tables = [self.table(*place) for place in self.places]
        rows = sorted(functools.reduce(dict.__or__, tables, {}).items())  # the newest row of a key counts
        self.live = {family: [row for key, row in rows if key[0] == family and row.op == 0] for family in ROWS}
        self.extents = {data: list(rows) for data, rows in groupby(self.live[EXTENT], lambda row: row.data)}
        segments = [[row for key, row in table.items() if key[0] == SEGMENT and row.op == 0] for table in tables]
        self.segments = [rows for rows in segments[::-1] if rows]  # of the newest table first

    def witnesses(self):
        """What tells of a commit: its offset, the bytes that say so, their check. The footer, then records backward."""
        at, end, magic, check = FOOTER.unpack(self.file[-128:])
        if magic == FOOTER_MAGIC and end <= len(self.file):
            self.start = 0 if self.header(0) else len(self.file) - end
            if self.start + end == len(self.file):
                yield at, self.file[-128:-8], check
        self.start, at = 0, len(self.file)
        while (at := self.file.rfind(RECORD_MAGIC, 4096, at + 3)) > 0:
            head = self.file[at : at + 96].ljust(96)
            _, kind, _, _, own, _, _, before, _, _, check = RECORD.unpack(head)
            if at % 64 == 0 and own == at:
                yield at if kind == COMMIT else before, head[:80], check

    def header(self, at):
        """The uid that a header there tells, if it is whole."""
        head = self.file[at : at + 4096]
        if head.startswith(MAGIC) and blake3(head[:4064]).digest() == head[4064:]:
            major, uid, incompat = struct.unpack_from("<H6x16sQ", head, 8)
            need(major == 1 and not incompat, "made by a newer version")
            return uid

    def verified(self, at, length, digest):
        data = self.file[self.start + at : self.start + at + length]
        need(blake3(data).digest() == digest, f"the {length} bytes at {at} are damaged")
        return data

    def record(self, at, kinds, digest=None):
        """The payload of a record, whose hash something else may tell too."""
        head = self.file[self.start + at : self.start + at + 96]
        magic, of_kind, _, _, own, length, _, _, half_uid, said, check = RECORD.unpack(head)
        right = (magic, own, said, at % 64) == (RECORD_MAGIC, at, digest or said, 0)
        need(right and of_kind in kinds, f"no record at {at}")
        payload = self.verified(at + 96, length, said)
        uid = self.uid or payload[:16]  # without a header, the commit that is read first tells it
        need(half_uid == uid[:8] and blake3(uid + head[:80]).digest(8) == check, f"the record at {at} is damaged")
        return payload

    def commit(self, at, digest=None):
        """What the commit there says, if it is whole: uid, features, (offset and hash of the one before), tables."""
        payload = self.record(at, (COMMIT, STATE) if digest else (COMMIT,), digest)
        uid, *before, tail, tail_hash, features, count = struct.unpack_from("<16s16xQ32sQ32s16xQ24xI", payload)
        need(self.uid in (None, uid) and tail <= at, "a commit of another container, or of an impossible tail")
        self.verified(tail, at - tail, tail_hash)
        item = 168 + 64 * count
        tables = list(struct.iter_unpack("<QQQQ32s", payload[168:item]))
        for table, _, blocks_len, fence_len, fence_hash in tables:
            self.verified(table + 96 + blocks_len, fence_len, fence_hash)
        while item < len(payload):
            kind, _, length = struct.unpack_from("<HHI", payload, item)
            features, item = features | kind & 0x8000, item + 8 + length  # critical
        need(item == len(payload), "a commit is cut off")
        return uid, features, before, tables

    def table(self, at, payload_len, blocks_len, fence_len, _):
        """The rows of a table, by their keys."""
        payload, found, last = self.record(at, (TABLE,)), {}, b""
        blocks, fence, lengths = pieces(payload, [blocks_len, fence_len, payload_len - blocks_len - fence_len])
        need(struct.unpack("<QQ", lengths) == (blocks_len, fence_len), "a table ends otherwise than it should")
        fence = rows_of(fence, FENCE)
        for told, stored in zip(fence, pieces(blocks, [row.length for row in fence])):
            need(blake3(stored).digest() == told.digest, "a block is damaged")
            rows = rows_of(stored, told.family) if told.family in ROWS else []
            for i, row in enumerate(rows):
                numbers = row[1 : 1 + FAMILIES[told.family][2]]
                key = struct.pack(f">B{len(numbers)}Q", told.family, *numbers) + getattr(row, "name", b"")
                need(last < key and row.op in (0, 1), "rows are out of order, or of unknown operation")
                need(i or (told.rows, told.first) == (len(rows), key), "a fence does not fit its block")
                found[key], last = row, key
        return found

    @functools.lru_cache(maxsize=8)
    def segment(self, row, depth=0):
        """The raw bytes of a segment."""
        need(depth <= 2 and row.store == 0, "bases have bases have bases, or a segment is in another container")
        payload = self.record(row.at, (SEG,), row.digest)
        address, raw_len, stage_count, base_count = struct.unpack_from("<QQBxH", payload)
        need((address, raw_len, len(payload)) == (row.address, row.raw_len, row.payload_len), "another segment")
        at, stages = 24 + 16 * base_count, []
        bases = [b"".join(self.tape(*base, depth + 1)) for base in struct.iter_unpack("<QQ", payload[24:at])]
        for stage in range(stage_count):
            codec, length = struct.unpack_from("<HH", payload, at)
            need((codec < 16) == (stage == stage_count - 1), "the last stage, and no other, is a codec")
            stages.append((codec, payload[at + 4 : at + 4 + length]))
            at += 4 + length
        raw = payload[at:]
        for codec, params in stages[::-1] or [(0, b"")]:
            raw = undo(codec, params, raw, raw_len, b"".join(bases))
        return raw

    def tape(self, address, length, depth=0):
        """A stretch of the tape, or of zeros for the address 0, in pieces."""
        while length:
            piece = bytes(min(length, MIB))
            if address:
                last = (rows[bisect.bisect(rows, address, key=lambda row: row.address) - 1] for rows in self.segments)
                row = next((row for row in last if row.address <= address < row.address + row.raw_len), None)
                need(row, f"no segment holds the tape address {address}")
                piece = self.segment(row, depth)[address - row.address :][:length]
                address += len(piece)
            length -= len(piece)
            yield piece

    def contents(self, node):
        """The bytes of a file, in pieces."""
        stretches, at, left = [] if node.data else node.extents, 0, node.size
        for row in self.extents.get(node.data, []) if node.data else []:
            need(at <= row.offset and len(row.extents) == 1, "extents overlap, or a row has many")
            stretches += [(0, row.offset - at), *row.extents]
            at = row.offset + row.extents[0][1]
        for address, length in [*stretches, (0, left)]:
            yield from self.tape(address, min(length, left))
            left -= min(length, left)

    def walk(self):
        """(path, inode) of everything, in the order of paths."""
        nodes, below = {row.ino: row for row in self.live[NODE]}, {}
        for row in self.live[NAME]:
            need(row.name not in (b"", b".", b"..") and not {0, 47} & {*row.name}, f"{row.name!r} is no name")
            below.setdefault(row.parent, []).append(row)
        found, todo = [], [(b".", 1, 4)]
        while todo:
            path, ino, kind = todo.pop()
            need(ino in nodes and nodes[ino].mode >> 12 == kind and kind in KINDS, f"{path!r} has no such inode")
            need(nodes[ino].size <= TAPE_END and nodes[ino].nanos < 10**9, f"{path!r} has impossible attributes")
            found.append((path, nodes[ino]))
            front = path + b"/" if ino != 1 else b""
            todo += [(front + row.name, row.ino, row.kind) for row in below.pop(ino, [])]
        return sorted(found)

    def listing(self):
        paths, hashes, first = self.walk(), {}, {}
        owners = {row.name: os.fsdecode(row.value) for row in self.live[META]}
        for _, node in sorted(paths, key=lambda each: each[1].extents):  # in the order of the tape
            if KINDS[node.mode >> 12] == "file" and node.ino not in hashes:
                hasher = blake3()
                for piece in self.contents(node):
                    hasher.update(piece)
                hashes[node.ino] = hasher.hexdigest()
        for path, node in paths:
            line = dict(uid=node.uid, gid=node.gid, nlink=node.nlink, size=node.size, mode=node.mode & 0o7777)
            line |= dict(path=os.fsdecode(path), same=os.fsdecode(first.setdefault(node.ino, path)))
            line |= dict(user=owners.get(b"user/%d" % node.uid), group=owners.get(b"group/%d" % node.gid))
            mtime = (node.secs - (node.secs >> 63 << 64)) * 10**9 + node.nanos
            yield line | dict(type=KINDS[node.mode >> 12], b3=hashes.get(node.ino), mtime=mtime) | self.extra(node)

    def extra(self, node):
        found, rest = dict(target=None, rdev=None, xattrs={}), node.extra
        while rest:
            tag, ((length,), rest) = rest[0], varints(rest[1:], 1)
            value, rest = pieces(rest, [length, max(0, len(rest) - length)])
            if tag == 1:
                found["target"] = os.fsdecode(value)
            elif tag == 2:
                found["rdev"], _ = varints(value, 2)
                need(max(found["rdev"]) < 1 << 32, "an impossible device number")
            elif tag == 3:
                (length,), value = varints(value, 1)
                need(0 < length < 256 and 0 not in value[:length], "an attribute has an impossible name")
                found["xattrs"][os.fsdecode(value[:length])] = value[length:].hex()
        need(found["target"] is not None or KINDS[node.mode >> 12] != "symlink", "a symbolic link has no target")
        return found

    def signer(self):
        """The key that signed the newest commit; None when nobody did."""
        head = self.file[self.start + self.newest :][:96]
        length, payload = RECORD.unpack(head)[5], self.record(self.newest, (COMMIT,))
        end = self.start + self.newest + (96 + length + 128 + 63) // 64 * 64
        footer, said = self.file[end - 128 : end], dict(self.items(payload)).get(3)
        own, logical_end, magic, check = FOOTER.unpack(footer.ljust(128))
        whole = (own, logical_end, magic) == (self.newest, end - self.start, FOOTER_MAGIC)
        whole = whole and blake3(self.uid + footer[:120]).digest(8) == check
        if said is None:
            need(not whole or not any(footer[16:112]), "a signature that the commit knows nothing of")
            return None
        need(whole and footer[16:48] == said, "the signature is missing")
        message = blake3(self.uid + head[:80], derive_key_context="stmount st v1 sign").digest()
        return verified_by(said, footer[48:112], message)

    @staticmethod
    def items(payload):
        """The items of a commit."""
        (count,) = struct.unpack_from("<I", payload, 160)
        at = 168 + 64 * count
        while at < len(payload):
            kind, _, length = struct.unpack_from("<HHI", payload, at)
            yield kind, payload[at + 8 : at + 8 + length]
            at += 8 + length

    def check(self):
        """Passes everything there is; returns how much it was."""
        for row in self.live[SEGMENT]:
            self.segment(row)
        for row in sorted(self.live[CHUNK], key=lambda row: row.address):
            found = int.from_bytes(blake3(b"".join(self.tape(row.address, row.length))).digest(8), "big")
            need(found == row.id, f"the chunk at {row.address} has another id than its row")
        commits, before, names = 1, self.before, len(list(self.listing()))
        while before[0]:
            commits, (_, _, before, _) = commits + 1, self.commit(*before)
        return dict(names=names, commits=commits, tables=len(self.places), chunks=len(self.live[CHUNK]))


if __name__ == "__main__":
    verb, file, *path = sys.argv[1:]
    try:
        container = Container(file)
        if verb == "list":
            sys.stdout.writelines(json.dumps(line, sort_keys=True) + "\n" for line in container.listing())
        elif verb == "cat":
            sys.stdout.buffer.writelines(container.contents(dict(container.walk())[os.fsencode(path[0])]))
        elif verb == "verify":
            print(json.dumps(container.signer()))
        else:
            print(json.dumps(container.check()))
    except DAMAGED as e:
        sys.exit(f"st_ref.py: {file}: {e}")
