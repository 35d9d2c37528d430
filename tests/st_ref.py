#!/usr/bin/env python3
"""Reads .st containers, from src/formats/st/FORMAT.md alone. Slow, small, and it verifies every hash it passes.

    st_ref.py list FILE        JSON lines, one for each name, sorted
    st_ref.py cat FILE PATH    the contents of a file
    st_ref.py check FILE       every table, segment and chunk, and all parity; prints a summary
    st_ref.py verify FILE      the key that signed the newest commit, in hexadecimal, or null

    --password-file F, --identity F, --keyfile F    for one that is sealed: a passphrase, a secret key of age, a keyfile
    --base PATH    a container or a store that one lies over that is thin; may be given several times

Needs Python 3.11 and the modules `zstandard` and `blake3`; for `verify` and for what is sealed `cryptography`, too. Does not check limits that only protect a reader's memory.
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
GROUP = struct.Struct("<8sBBBBHHQQQQQQ16s32s64x16s")
KEYS, SEG, TABLE, COMMIT, PARITY, STATE, SEALED = 1, 2, 3, 4, 5, 7, 2
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


@functools.cache
def wide_field():
    """The logarithms of all numbers of GF(2^16), and the numbers of all logarithms."""
    basis = [1, 0xACCA, 0x3C0E, 0x163E, 0xC582, 0xED2E, 0x914C, 0x4012, 0x6C98, 0x10D8, 0x6A72, 0xB900, 0xFDB8, 0xFB34]
    basis += [0xFF38, 0x991E]
    power, element = [0] * 65536, 1
    for n in range(65535):
        power[element] = n
        element = element << 1 ^ (0x1002D if element >> 15 else 0)
    elements = [0]
    for base in basis:
        elements += [element ^ base for element in elements]
    logs, numbers = [power[element] for element in elements], [0] * 65535
    for number in range(1, 65536):
        numbers[logs[number]] = number
    return logs, numbers


def wide_parity(cells, m):
    """The first 64 bytes of each cell of parity, by the formula."""
    logs, numbers = wide_field()
    size = 1 << (m - 1).bit_length()
    symbols = [[low | high << 8 for low, high in zip(cell[:32], cell[32:64])] for cell in cells]
    for i in range(m):
        found = [0] * 32
        for j, cell in enumerate(symbols):
            block, own = size + j // size * size, size + j
            others = [other for other in range(block, block + size) if other != own]
            factor = sum(logs[i ^ other] - logs[own ^ other] for other in others)
            found = [had ^ (numbers[(logs[n] + factor) % 65535] if n else 0) for had, n in zip(found, cell)]
        yield bytes(n & 255 for n in found) + bytes(n >> 8 for n in found)


def narrow_parity(cells, m):
    """The same in GF(2^8): the matrix is made whole above by adding columns to each other."""
    exp = list(accumulate(range(254), lambda n, _: n << 1 ^ (0x11D if n >> 7 else 0), initial=1))
    log = {n: i for i, n in enumerate(exp)}
    times = lambda a, b: exp[(log[a] + log[b]) % 255] if a and b else 0  # noqa: E731
    k = len(cells)
    matrix = [[exp[log[a] * b % 255] if a else int(b == 0) for b in range(k)] for a in range(k + m)]
    for top in range(k):
        swap = next(b for b in range(top, k) if matrix[top][b])
        for row in matrix:
            row[top], row[swap] = row[swap], row[top]
        inverse, pivot = exp[-log[matrix[top][top]] % 255], list(matrix[top])
        for row in matrix:
            row[top] = times(row[top], inverse)
            row[:] = [n ^ times(row[top], pivot[b]) if b != top else n for b, n in enumerate(row)]
    for row in matrix[k:]:
        yield bytes(functools.reduce(int.__xor__, map(times, row, column)) for column in zip(*(c[:64] for c in cells)))


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
    def __init__(self, path, secrets=(), bases=()):
        self.secrets, self.seal, self.bases = secrets, None, bases
        self.file = mmap.mmap(os.open(path, os.O_RDONLY), 0, access=mmap.ACCESS_READ)
        for at, said, check in self.witnesses():
            self.uid = self.header(self.start)
            with contextlib.suppress(*DAMAGED):
                self.uid, features, self.before, self.places, items = self.commit(at)
                self.newest = at
                if blake3(self.uid + said).digest(8) == check:
                    break
        else:
            raise ValueError("no commit is whole")
        need(not features & ~3 and features & 1 == bool(self.seal), "made by a newer version")
        self.newest_group = self.behind(at, int.from_bytes(items.get(2, b""), "little"))
        tables = [self.table(*place) for place in self.places]
        rows = sorted(functools.reduce(dict.__or__, tables, {}).items())  # the newest row of a key counts
        self.live = {family: [row for key, row in rows if key[0] == family and row.op == 0] for family in ROWS}
        self.thin = bool(features & 2)
        self.stores = {row.name: row.value for row in self.live[META] if row.name.startswith(b"store/")}
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
            need(major == 1 and not incompat & ~3, "made by a newer version")
            return uid

    def verified(self, at, length, digest):
        data = self.file[self.start + at : self.start + at + length]
        need(blake3(data).digest() == digest, f"the {length} bytes at {at} are damaged")
        return data

    def record(self, at, kinds, digest=None):
        """The payload of a record, whose hash something else may tell too."""
        head = self.file[self.start + at : self.start + at + 96]
        magic, of_kind, flags, _, own, length, _, _, half_uid, said, check = RECORD.unpack(head)
        right = (magic, own, said, at % 64) == (RECORD_MAGIC, at, digest or said, 0)
        need(right and of_kind in kinds, f"no record at {at}")
        payload = self.verified(at + 96, length, said)
        uid = self.uid or payload[:16]  # without a header, the commit that is read first tells it
        need(half_uid == uid[:8] and blake3(uid + head[:80]).digest(8) == check, f"the record at {at} is damaged")
        if flags & SEALED and of_kind in (COMMIT, STATE):
            return self.unlocked(payload)
        need(of_kind == KEYS or bool(flags & SEALED) == bool(self.seal), f"the record at {at} is not sealed as the others")
        return payload

    def unlocked(self, payload):
        """What a sealed commit says, whose front tells where the keys are."""
        uid, keys = struct.unpack_from("<16sQ", payload)
        if not self.seal:
            from st_seal import Seal  # needs a module that nobody needs for what is in clear

            self.uid = self.uid or uid
            self.seal = Seal(self.keys(keys), self.secrets)
            head = self.file[self.start : self.start + 4096]
            need(not self.header(self.start) or self.seal.fits(head), "the header of the file was changed")
        commit = self.seal.open("commit", b"commit" + payload[:24], payload[24:])
        need((commit[:16], commit[152:160]) == (uid, payload[16:24]), "a commit is sealed in another way")
        return commit

    def keys(self, at):
        """The keys at an offset: the same twice, one behind the other."""
        for copy in range(at, at + (1 << 19), 64):
            with contextlib.suppress(*DAMAGED):
                return self.record(copy, (KEYS,))
        raise ValueError("the keys are lost")

    def opened(self, piece, kind, stored):
        return self.seal.open(kind, piece, stored) if self.seal else stored

    def commit(self, at, digest=None):
        """What the commit there says, if it is whole: uid, features, (offset and hash of the one before), tables."""
        payload = self.record(at, (COMMIT, STATE) if digest else (COMMIT,), digest)
        front = struct.unpack_from("<16s16xQ32sQ32s16xQ24xI", payload)
        uid, *before, tail, tail_hash, features, count = front
        need(self.uid in (None, uid) and tail <= at, "a commit of another container, or of an impossible tail")
        self.verified(tail, at - tail, tail_hash)
        item, items = 168 + 64 * count, {}
        tables = list(struct.iter_unpack("<QQQQ32s", payload[168:item]))
        for table, _, blocks_len, fence_len, fence_hash in tables:
            self.verified(table + 96 + blocks_len, fence_len, fence_hash)
        while item < len(payload):
            kind, _, length = struct.unpack_from("<HHI", payload, item)
            features, items[kind] = features | kind & 0x8000, payload[item + 8 : item + 8 + length]  # critical
            item += 8 + length
        need(item == len(payload), "a commit is cut off")
        return uid, features, before, tables, items

    def behind(self, commit, newest):
        """Where the body of the newest parity group is: in the PARITY records behind a commit, or where that says."""
        at = commit
        with contextlib.suppress(*DAMAGED):
            while True:
                at += -(-(224 + struct.unpack_from("<Q", self.file, self.start + at + 16)[0]) // 64) * 64
                self.record(at, (PARITY,))
                need(struct.unpack_from("<Q", self.file, self.start + at + 32)[0] == commit, "of another commit")
                newest = at + 96
        return newest

    def group(self, at):
        """Verifies all of a parity group but the parity itself, of which it verifies the front of the first row."""
        head = self.file[self.start + at :][:192]
        magic, version, algorithm, log2, flags, k, m, rows, start, end, own, length, prev, uid, digest, check = (
            GROUP.unpack(head)
        )
        right = (magic, version, flags, own, uid) == (b"\xabSTPAR\x1a\n", 1, 0, at, self.uid)
        need(right and check == blake3(uid + head[:176]).digest(16), f"no parity at {at}")
        cell, cells = 1 << log2, max(1, -(-(end - start) >> log2))
        need((rows, k) == (-(-cells // k), -(-cells // rows)) and 6 <= log2 <= 12, "an impossible geometry")
        data = self.verified(start, end - start, digest).ljust(k * rows * cell, b"\0")
        listed = -(-8 * (k + m) * rows // 64) * 64
        body = self.file[self.start + at :][:length]
        _, a, parity, b, last = pieces(body, [192, listed, m * rows * cell, listed, 192])
        columns = [(data + parity)[i : i + rows * cell] for i in range(0, (k + m) * rows * cell, rows * cell)]
        hashes = [[blake3(column[i : i + cell]).digest(8) for i in range(0, rows * cell, cell)] for column in columns]
        hashes = b"".join(map(b"".join, hashes)).ljust(listed, b"\0")
        need((a, b, last) == (hashes, hashes, head), f"the parity at {at} is damaged")
        made = {1: wide_parity, 2: narrow_parity}[algorithm](columns[:k], m)
        need(list(made) == [column[:64] for column in columns[k:]], f"the parity at {at} is another")
        return prev

    def table(self, at, payload_len, blocks_len, fence_len, _):
        """The rows of a table, by their keys."""
        payload, found, last = self.record(at, (TABLE,)), {}, b""
        blocks, fence, lengths = pieces(payload, [blocks_len, fence_len, payload_len - blocks_len - fence_len])
        need(struct.unpack("<QQ", lengths) == (blocks_len, fence_len), "a table ends otherwise than it should")
        fence = rows_of(self.opened(b"fence", "table", fence), FENCE)
        for told, stored in zip(fence, pieces(blocks, [row.length for row in fence])):
            need(blake3(stored).digest() == told.digest, "a block is damaged")
            rows = rows_of(self.opened(b"block", "table", stored), told.family) if told.family in ROWS else []
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
        need(depth <= 2, "bases have bases have bases")
        stored, own_seal, shift = self.elsewhere(row) if row.store else (self.record(row.at, (SEG,), row.digest), True, 0)
        payload = self.opened(b"segment", "segment", stored) if own_seal else stored
        address, raw_len, stage_count, base_count = struct.unpack_from("<QQBxH", payload)
        need((address + shift, raw_len, len(stored)) == (row.address, row.raw_len, row.payload_len), "another segment")
        at, stages = 24 + 16 * base_count, []
        bases = struct.iter_unpack("<QQ", payload[24:at])
        bases = [b"".join(self.tape(base + shift, length, depth + 1)) for base, length in bases]
        for stage in range(stage_count):
            codec, length = struct.unpack_from("<HH", payload, at)
            need((codec < 16) == (stage == stage_count - 1), "the last stage, and no other, is a codec")
            stages.append((codec, payload[at + 4 : at + 4 + length]))
            at += 4 + length
        raw = payload[at:]
        for codec, params in stages[::-1] or [(0, b"")]:
            raw = undo(codec, params, raw, raw_len, b"".join(bases))
        return raw

    def elsewhere(self, row):
        """The payload of a segment in another container or a store, whether it has the seal of this one, its shift."""
        entry = self.stores.get(b"store/%d" % row.store, b"")
        need(self.thin and len(entry) >= 28, f"nothing tells what the base {row.store} is")
        kind, flags, uid, shift = struct.unpack_from("<BBxx16sQ", entry)
        need(kind in (1, 2), "a base of an unknown kind")
        name, payload = row.digest.hex(), None
        for base in self.bases:
            with contextlib.suppress(OSError), open(os.path.join(base, "stmount-store") if kind == 2 else base, "rb") as file:
                if kind == 1 and file.read(32)[16:] == uid:
                    file.seek(row.at + 96)
                    payload = file.read(row.payload_len)
                elif kind == 2 and b"uid " + uid.hex().encode() in file.read().splitlines():
                    with open(os.path.join(base, name[:2], name), "rb") as of:
                        payload = of.read()
        words = f"{[None, 'container', 'store'][kind]} {uid.hex()}"
        need(payload is not None, f"it is thin, and needs the {words}: --base")
        need(blake3(payload).digest() == row.digest, f"a segment in the {words} is damaged, or not there any more")
        return payload, flags & 1, shift

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
            commits, (_, _, before, *_) = commits + 1, self.commit(*before)
        at, groups = self.newest_group, 0
        while at not in (0, WORD):
            at, groups = self.group(at), groups + 1
        found = dict(tables=len(self.places), chunks=len(self.live[CHUNK]), groups=groups)
        return dict(names=names, commits=commits) | found


def arguments(words):
    """The words that are no options, and the secrets and the bases that the options name."""
    plain, bases, files, words = [], [], {}, iter(words)
    for word in words:
        if word == "--base":
            bases.append(next(words))
            continue
        if word in ("--password-file", "--identity", "--keyfile"):
            with open(next(words), "rb") as file:
                files[word] = file.read()
        else:
            plain.append(word)
    passphrase = files.get("--password-file", b"").split(b"\n")[0]
    secrets = [("passphrase", [passphrase])] if passphrase else []
    if "--keyfile" in files:
        secrets.append(("keyfile", [files["--keyfile"]]))
        secrets += [("both", [passphrase, files["--keyfile"]])] if passphrase else []
    if "--identity" in files:
        from st_seal import age_identity

        secrets.append(("x25519", [age_identity(files["--identity"].decode())]))
    return plain, secrets, bases


if __name__ == "__main__":
    (verb, file, *path), secrets, bases = arguments(sys.argv[1:])
    try:
        container = Container(file, secrets, bases)
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
