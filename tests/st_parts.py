"""The small parts of a .st reader: numbers, codecs, filters, and the columns of table blocks. See st_ref.py."""
import lzma
import struct

import zstandard
from blake3 import blake3

NAME, NODE, EXTENT, SEGMENT, CHUNK, META = 1, 2, 3, 4, 5, 6
COLUMNS = {NAME: "udpdu", NODE: "uduuuduuuuxb", EXTENT: "uddx", SEGMENT: "ududuuh", CHUNK: "uddu", META: "upb"}
KEYS = {NAME: 2, NODE: 1, EXTENT: 2, SEGMENT: 1, CHUNK: 1, META: 1}
FENCE = "uupuh"
STREAMS = {"u": 1, "d": 1, "b": 2, "p": 3, "h": 1, "x": 3}
MIB, HUGE, WORD = 1 << 20, 1 << 62, (1 << 64) - 1


class Bad(Exception):
    """The container breaks the rules or its bytes are damaged."""


def need(true, what):
    if not true:
        raise Bad(what)


def hash_of(data):
    return blake3(data).digest()


def check_of(data):
    return hash_of(data)[:8]


def signed(n):
    """A number modulo 2^64 as one with a sign."""
    return n - (1 << 64) if n >> 63 else n


def unzigzag(n):
    return (n >> 1) ^ -(n & 1)


def vi(data, at):
    value = 0
    for i in range(10):
        need(at < len(data), "a varint ends too early")
        byte, at = data[at], at + 1
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            need(value <= WORD, "a varint has more than 64 bits")
            return value, at
    raise Bad("a varint has more than 10 bytes")


class Stream:
    """A stretch of bytes that is read front to back, and to its end."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def vi(self):
        value, self.at = vi(self.data, self.at)
        return value

    def take(self, n):
        need(n <= len(self.data) - self.at, "a field goes beyond its stream")
        self.at += n
        return self.data[self.at - n : self.at]

    def done(self):
        return self.at == len(self.data)


def unzstd(data, raw_len, base=None, kind=zstandard.DICT_TYPE_RAWCONTENT):
    extra = {"dict_data": zstandard.ZstdCompressionDict(base, dict_type=kind)} if base else {}
    try:
        known = zstandard.frame_content_size(data)
        need(known in (-1, raw_len), "a zstd frame has another length")
        raw = zstandard.ZstdDecompressor(**extra).decompress(data, max_output_size=raw_len, allow_extra_data=False)
    except zstandard.ZstdError as e:
        raise Bad(f"zstd: {e}") from None
    need(len(raw) == raw_len, "a zstd frame has another length")
    return raw


def unxz(data, raw_len):
    try:
        xz = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=256 * MIB)
        raw = xz.decompress(data, raw_len + 1)
    except lzma.LZMAError as e:
        raise Bad(f"xz: {e}") from None
    need(len(raw) == raw_len and xz.eof and not xz.unused_data, "an xz stream has another length")
    return raw


def undo_delta(raw, params):
    skip, distance = struct.unpack("<IB", params)
    need(distance > 0, "a filter with distance 0")
    skip = min(skip, len(raw))
    count = (len(raw) - skip) // 2
    words = list(struct.unpack_from(f"<{count}H", raw, skip))
    for i in range(distance, count):
        words[i] = (words[i - distance] + unzigzag(words[i])) & 0xFFFF
    return raw[:skip] + struct.pack(f"<{count}H", *words) + raw[skip + 2 * count :]


def undo_fields(raw, params):
    skip, widths = min(struct.unpack_from("<I", params)[0], len(raw)), params[4:]
    need(widths and all(widths), "a filter without fields")
    count = (len(raw) - skip) // sum(widths)
    out, source, column = bytearray(raw), skip, skip
    for width in widths:
        for byte in range(width):
            at = column + byte
            out[at : at + count * sum(widths) : sum(widths)] = raw[source + byte : source + count * width : width]
        source, column = source + count * width, column + width
    end = skip + count * sum(widths)
    return bytes(out[:end]) + raw[end:]


def columns(content, types, max_rows=65536):
    """The rows of a block."""
    head = Stream(content)
    rows = head.vi()
    need(rows <= max_rows, "a block has too many rows")
    lengths = [head.vi() for _ in range(sum(STREAMS[t] for t in types))]
    streams = iter([Stream(head.take(n)) for n in lengths])
    need(head.done(), "a block has bytes behind its streams")
    decoded = [column(t, [next(streams) for _ in range(STREAMS[t])], rows) for t in types]
    return list(zip(*decoded))


def column(kind, streams, rows):
    first, out, text = streams[0], [], 0
    cursor, before = 0, b""
    for _ in range(rows):
        if kind == "u":
            out.append(first.vi())
        elif kind == "d":
            cursor = (cursor + unzigzag(first.vi())) & WORD
            out.append(cursor)
        elif kind == "b":
            out.append(streams[1].take(first.vi()))
        elif kind == "h":
            out.append(first.take(32))
        elif kind == "p":
            shared = first.vi()
            need(shared <= len(before), "a name shares more than there is")
            before = before[:shared] + streams[2].take(streams[1].vi())
            text += len(before)
            need(text <= 64 * MIB, "the names of a block are too long together")
            out.append(before)
        else:
            extents, cursor = extents_of(streams, cursor)
            out.append(extents)
    need(all(s.done() for s in streams), "a stream has bytes behind its last row")
    return out


def extents_of(streams, cursor):
    count, out = streams[0].vi(), []
    need(count <= 4, "a row has more than 4 extents")
    for _ in range(count):
        code, length = streams[1].vi(), streams[2].vi()
        if code == 1:
            out.append((0, length))
            continue
        address = cursor if code == 0 else (cursor + unzigzag(code - 1)) & WORD
        need(4096 <= address < HUGE and length < HUGE, "an extent lies outside of the tape")
        out.append((address, length))
        cursor = address + length
    return out, cursor


def block(stored, types):
    head = Stream(stored)
    codec, raw_len = head.take(1)[0], head.vi()
    need(codec in (0, 1) and raw_len <= 64 * MIB, "a block of unknown codec or too large")
    content = head.data[head.at :]
    raw = unzstd(content, raw_len) if codec else content
    need(len(raw) == raw_len, "a block has another length")
    return columns(raw, types, 65536 if types != FENCE else MIB)


def key_of(family, row):
    fields = row[1 : 1 + KEYS[family]]
    return bytes([family]) + b"".join(f if isinstance(f, bytes) else f.to_bytes(8, "big") for f in fields)
