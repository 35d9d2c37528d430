"""Writes .st containers by hand, right ones and wrong ones: what is given is what is written, with right hashes."""
import struct

import zstandard
from blake3 import blake3

from st_ref import CHUNK, EXTENT, FAMILIES, FENCE, META, NAME, NODE, SEGMENT, STREAMS, WORD

DIR, FILE, LINK = 0o040755, 0o100644, 0o120777
KEYS, SEG, TABLE, COMMIT = 1, 2, 3, 4
TIME = 1_700_000_000


def hash_of(data):
    return blake3(data).digest()


def check_of(data):
    return blake3(data).digest(8)


def vi(n):
    out = b""
    while n >= 0x80:
        out, n = out + bytes([n & 0x7F | 0x80]), n >> 7
    return out + bytes([n])


def zigzag(n):
    n &= WORD
    return (n << 1 ^ -(n >> 63)) & WORD


def column(kind, values):
    """The streams of a column."""
    one, two, three = bytearray(), bytearray(), bytearray()
    cursor, before = 0, b""
    for value in values:
        if kind == "u":
            one += vi(value)
        elif kind == "d":
            one += vi(zigzag(value - cursor))
            cursor = value
        elif kind == "b":
            one, two = one + vi(len(value)), two + value
        elif kind == "h":
            one += value
        elif kind == "p":
            shared = next((i for i, (a, b) in enumerate(zip(before, value)) if a != b), min(len(before), len(value)))
            one, two, three = one + vi(shared), two + vi(len(value) - shared), three + value[shared:]
            before = value
        else:
            one += vi(len(value))
            for address, length in value:
                distance = zigzag(address - cursor)
                two += vi(1 if address == 0 else distance and distance + 1)
                three += vi(length)
                cursor = cursor if address == 0 else address + length
    return [one, two, three][: len(STREAMS[kind])]


def content(family, rows):
    """The content of a block, or, of the family FENCE, of a fence."""
    streams = [s for kind, values in zip(FAMILIES[family][1], zip(*rows)) for s in column(kind, values)]
    return vi(len(rows)) + b"".join(vi(len(s)) for s in streams) + b"".join(streams)


def block(raw, compress=True, claim=None):
    stored = zstandard.compress(raw, 19) if compress else raw
    return bytes([int(compress)]) + vi(len(raw) if claim is None else claim) + stored


def node(ino, mode=FILE, size=0, extents=(), data=0, extra=b"", nlink=1, mtime=(TIME, 5), uid=0, gid=0):
    return NODE, (0, ino, mode, uid, gid, mtime[0] & WORD, mtime[1], nlink, size, data, list(extents), extra)


def root(nlink=2):
    return node(1, DIR, nlink=nlink)


def name(parent, text, ino, kind=8):
    return NAME, (0, parent, text, ino, kind)


def extent(data, offset, address, length):
    return EXTENT, (0, data, offset, [(address, length)])


def chunk(raw, address):
    return CHUNK, (0, int.from_bytes(hash_of(raw)[:8], "big"), address, len(raw))


def meta(key, value):
    return META, (0, key, value)


def delete(row):
    """The row that deletes what another one puts."""
    family, fields = row
    return family, (1, *fields[1:])


def field(tag, value):
    return bytes([tag]) + vi(len(value)) + value


def xattr(key, value):
    return field(3, vi(len(key)) + key + value)


def key_of(family, row):
    numbers = FAMILIES[family][2]
    name = row[1 + numbers] if family in (NAME, META) else b""
    return struct.pack(f">B{numbers}Q", family, *row[1 : 1 + numbers]) + name


def fence_row(family, rows, first, stored):
    return family, rows, first, len(stored), hash_of(stored)


class Writer:
    """Appends to a container, or begins one. `tables` are what the next commit names."""

    def __init__(self, data=None, uid=bytes(range(16))):
        self.uid, self.seq, self.last, self.last_hash, self.tables = uid, 1, 0, bytes(32), []
        self.data = bytearray(data or self.header())

    def header(self, major=1, incompat=0):
        head = b"\x89STF\r\n\x1a\n" + struct.pack("<HHI", major, 0, 0) + self.uid
        head += struct.pack("<QQQBBB", incompat, 0, 0, 1, 0, 6)
        head = head.ljust(4064, b"\0")
        return head + hash_of(head)

    def record(self, kind, payload, flags=0, footer=b""):
        at = len(self.data)
        head = struct.pack("<4sBBHQQQQ", b"\xabSTR", kind, flags, 0, at, len(payload), self.seq, self.last)
        head += self.uid[:8] + hash_of(payload)
        self.data += head + check_of(self.uid + head) + bytes(8) + payload
        self.data += bytes(-len(self.data) % 64)
        return at

    def segment(self, address, raw, stages=((1, b""),), bases=(), data=None, **claims):
        """Appends a segment; returns its row. Filters in `stages` are to be run by the caller, in `data`."""
        if data is None:
            data = zstandard.compress(raw, 19) if stages else raw
        raw_len = claims.get("raw_len", len(raw))
        payload = struct.pack("<QQBBHI", address, raw_len, len(stages), 0, len(bases), 0)
        payload += b"".join(struct.pack("<QQ", *base) for base in bases)
        payload += b"".join(struct.pack("<HH", codec, len(params)) + params for codec, params in stages) + data
        at = self.record(SEG, payload)
        payload_len = claims.get("payload_len", len(payload))
        return SEGMENT, (0, address, raw_len, claims.get("at", at), payload_len, claims.get("store", 0), hash_of(payload))

    def table(self, rows, block_rows=1024, compress=True, sort=True):
        """Appends a table of (family, row)."""
        rows = sorted(rows, key=lambda row: key_of(*row)) if sort else rows
        blocks = []
        for family in sorted({family for family, _ in rows}):
            of = [row for f, row in rows if f == family]
            for i in range(0, len(of), block_rows):
                piece = of[i : i + block_rows]
                stored = block(content(family, piece), compress)
                blocks.append((family, len(piece), key_of(family, piece[0]), stored))
        self.blocks([(stored, fence_row(*rest, stored)) for *rest, stored in blocks], compress)

    def blocks(self, blocks, compress=True, fence=None):
        """Appends a table of finished blocks: (bytes, row of the fence)."""
        body = b"".join(stored for stored, _ in blocks)
        # A wrong fence may be given, ready made.
        fence = fence or block(content(FENCE, [row for _, row in blocks]), compress)
        payload = body + fence + struct.pack("<QQ", len(body), len(fence))
        at = self.record(TABLE, payload)
        self.tables.append(struct.pack("<QQQQ", at, len(payload), len(body), len(fence)) + hash_of(fence))

    def commit(self, totals=(1, 0), tail=None, items=b"", next_ino=1000, tables=None, incompat=0):
        at, tables = len(self.data), self.tables if tables is None else tables
        tail = at if tail is None else tail
        payload = self.uid + struct.pack("<QQQ", self.seq, TIME * 10**9, self.last) + self.last_hash
        payload += struct.pack("<Q", tail) + hash_of(bytes(self.data[tail:at]))
        payload += struct.pack("<QQQQQQII", 1 << 40, next_ino, incompat, 0, 0, 0, len(tables), 0) + b"".join(tables)
        payload += struct.pack("<HHIQQ", 1, 0, 16, *totals) + items
        self.record(COMMIT, payload)
        footer = struct.pack("<QQ", at, len(self.data) + 128) + bytes(96) + b"STcf" + bytes(4)
        self.data += footer + check_of(self.uid + footer)
        self.seq, self.last, self.last_hash = self.seq + 1, at, hash_of(payload)
        return bytes(self.data)


def delta(raw, skip, distance):
    """The filter 17: its parameters, and what it makes of the bytes."""
    count = (len(raw) - skip) // 2
    words = struct.unpack_from(f"<{count}H", raw, skip)
    steps = [(w - words[i - distance]) & 0xFFFF if i >= distance else w for i, w in enumerate(words)]
    coded = [(s << 1 ^ (0xFFFF if s >> 15 else 0)) & 0xFFFF if i >= distance else s for i, s in enumerate(steps)]
    return struct.pack("<IB", skip, distance), raw[:skip] + struct.pack(f"<{count}H", *coded) + raw[skip + 2 * count :]


def split(raw, skip, widths):
    """The filter 18, likewise."""
    record, body = sum(widths), raw[skip:]
    whole = len(body) // record * record
    out, at = raw[:skip], 0
    for width in widths:
        out, at = out + b"".join(body[i + at : i + at + width] for i in range(0, whole, record)), at + width
    return struct.pack("<I", skip) + bytes(widths), out + body[whole:]
