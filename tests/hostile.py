#!/usr/bin/env python3
"""Makes containers whose hashes are right and whose contents are not: hostile.py FOLDER.

The name of a file tells what a reader owes it: `refused-…` means that opening, walking or reading must give an error
somewhere, `survives-…` that whatever it does, it does without harm.
"""
import lzma
import os
import struct
import sys
import zlib

import zstandard

from st_craft import DIR, FILE, LINK, Writer, block, column, content, extent, fence_row, field, meta, name, node
from st_craft import hash_of, key_of, root, vi, xattr

MIB, HUGE = 1 << 20, 1 << 62
CASES = {}


def case(function):
    """A function that fills a writer; what follows is a table (of the rows it returns) and a commit."""

    def made(*args):
        w = Writer()
        rows = function(w, *args)
        if rows is not None:
            w.table(rows)
            w.commit()
        return bytes(w.data)

    CASES[function.__name__.replace("_", "-")] = made
    return made


def one_file(**what):
    return [root(), name(1, b"file", 2), node(2, **what)]


def with_segment(segment, length=100, address=4096):
    return [*one_file(size=length, extents=[(address, length)]), segment]


@case
def survives_a_file_of_the_largest_size(w):
    return one_file(size=HUGE)


@case
def survives_an_extent_behind_the_end_of_its_file(w):
    return [*one_file(size=5, extents=[(4096, 100)]), w.segment(4096, bytes(range(100)))]


@case
def survives_directories_in_circles(w):
    return [root(3), name(1, b"dir", 2, 4), node(2, DIR), name(2, b"again", 2, 4), name(2, b"root", 1, 4)]


@case
def survives_a_name_of_another_kind_than_its_inode(w):
    return [root(), name(1, b"a", 2, 4), node(2), name(1, b"b", 3, 8), node(3, DIR), name(3, b"c", 2, 10)]


@case
def survives_a_link_that_is_a_directory_elsewhere(w):
    link = node(2, LINK, size=7, extra=field(1, b"../out"))
    return [root(), name(1, b"x", 2, 4), link, name(2, b"inside", 3), node(3), name(1, b"y", 2, 10)]


@case
def survives_times_at_both_ends(w):
    ends = [name(1, b"first", 3), node(3, mtime=(-(1 << 63), 0)), name(1, b"last", 4)]
    return [root(), *ends, node(4, mtime=((1 << 63) - 1, 999_999_999))]


@case
def survives_many_rows_in_a_block(w):
    rows = [(0, 1, b"%05d" % i, 2, 8) for i in range(65536)]
    blocks = [(1, rows), (2, [r for _, r in (root(), node(2, nlink=65536))])]
    stored = [(f, rows, block(content(f, rows))) for f, rows in blocks]
    w.blocks([(s, fence_row(f, len(rows), key_of(f, rows[0]), s)) for f, rows, s in stored])
    w.commit()


@case
def survives_a_record_of_unknown_type(w):
    w.record(99, b"what is this?")
    return [root()]


@case
def survives_overlapping_segments(w):
    segments = [w.segment(4096, bytes(range(200))), w.segment(4146, bytes(range(100)))]
    return [*one_file(size=150, extents=[(4096, 150)]), *segments]


@case
def survives_an_extent_of_no_length(w):
    inline = one_file(size=300, extents=[(4096, 10), (4096, 0), (0, 20), (4096, 0)])
    rows = [*inline, w.segment(4096, bytes(100))]
    return [*rows, name(1, b"rows", 3), node(3, size=300, data=7), extent(7, 0, 4096, 0), extent(7, 50, 4096, 9)]


@case
def survives_a_dictionary_of_two_lengths(w):
    text = b"".join(b"%d bottles, " % i for i in range(900))
    segments, names = [w.segment(4096, text)], []
    for i, length in enumerate([5000, 9000]):
        raw, at = text[length - 1000 : length], 100_000 + 1000 * i
        words = zstandard.ZstdCompressionDict(text[:length], dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        data = zstandard.ZstdCompressor(dict_data=words, write_checksum=True).compress(raw)
        segments.append(w.segment(at, raw, stages=((3, b""),), bases=[(4096, length)], data=data))
        names += [name(1, b"%d" % i, 2 + i), node(2 + i, size=1000, extents=[(at, 1000)])]
    return [root(), *names, *segments]


@case
def survives_wide_and_narrow_owners(w):
    return one_file(uid=2**32 - 1, gid=2**32 - 1, nlink=2**32 - 1)


@case
def survives_a_root_that_is_a_file(w):
    return [node(1, FILE), name(1, b"below", 2), node(2)]


@case
def refused_a_size_over_the_limit(w):
    return one_file(size=HUGE + 1)


@case
def refused_an_extent_beyond_the_tape(w):
    return [*one_file(size=100, extents=[(1 << 40, 100)]), w.segment(4096, bytes(100))]


@case
def refused_an_extent_over_the_limit(w):
    return one_file(size=100, extents=[(HUGE + 1, 100)])


@case
def refused_extents_whose_sum_is_too_large(w):
    return one_file(size=100, extents=[(4096, HUGE), (4096, HUGE), (4096, HUGE), (4096, HUGE)])


@case
def refused_five_extents(w):
    return one_file(size=500, extents=[(4096, 100)] * 5)


@case
def refused_overlapping_extents(w):
    rows = [extent(7, 0, 4096, 60), extent(7, 50, 4096, 50), w.segment(4096, bytes(100))]
    return [*one_file(size=100, data=7), *rows]


@case
def refused_overlapping_extents_of_more_than_64_bits(w):
    return [*one_file(size=100, data=7), *(extent(7, i, 4096, HUGE) for i in range(5))]


@case
def refused_damaged_files_below_a_circle_of_long_names(w):
    files = [name(2, b"%d" % i, 3) for i in range(500)]
    circle = [root(), name(1, b"dir", 2, 4), node(2, DIR), name(2, b"n" * 65535, 2, 4)]
    return [*circle, *files, node(3, size=9, extents=[(5000, 9)])]


@case
def refused_no_segment_at_all(w):
    return one_file(size=100, extents=[(4096, 100)])


@case
def refused_no_root(w):
    return [node(2), name(1, b"file", 2)]


@case
def refused_a_missing_inode(w):
    return [root(), name(1, b"file", 2)]


def bad_name(text):
    return lambda w: [root(), name(1, text, 2), node(2)]


for label, bad in dict(slash=b"a/b", up=b"..", dot=b".", empty=b"", nul=b"a\0b", absolute=b"/etc").items():
    bad_name_case = bad_name(bad)
    bad_name_case.__name__ = f"refused_the_name_{label}"
    case(bad_name_case)


@case
def refused_a_segment_that_is_its_own_base(w):
    return with_segment(w.segment(4096, bytes(100), stages=((2, b""),), bases=[(4096, 100)]))


@case
def refused_bases_in_a_circle(w):
    one = w.segment(4096, bytes(100), stages=((2, b""),), bases=[(5000, 100)])
    other = w.segment(5000, bytes(100), stages=((2, b""),), bases=[(4096, 100)])
    return [*with_segment(one), other, name(1, b"other", 3), node(3, size=100, extents=[(5000, 100)])]


@case
def refused_a_dictionary_that_is_itself(w):
    return with_segment(w.segment(4096, bytes(100), stages=((3, b""),), bases=[(4096, 100)]))


@case
def refused_bases_three_deep(w):
    segments = [w.segment(4096, bytes(100))]
    for i in range(1, 4):
        segments.append(w.segment(4096 + 100 * i, bytes(100), stages=((2, b""),), bases=[(3996 + 100 * i, 100)]))
    return [*one_file(size=100, extents=[(4396, 100)]), *segments]


@case
def refused_bases_that_are_too_long(w):
    return with_segment(w.segment(4096, bytes(100), stages=((2, b""),), bases=[(1 << 40, 2 * MIB)] * 64))


@case
def refused_bases_whose_sum_wraps(w):
    return with_segment(w.segment(4096, bytes(100), stages=((2, b""),), bases=[(8192, 1 << 63)] * 2))


@case
def refused_too_many_bases(w):
    return with_segment(w.segment(4096, bytes(100), stages=((2, b""),), bases=[(8192, 1)] * 65))


@case
def refused_rows_out_of_order(w):
    w.table([root(), name(1, b"b", 2), name(1, b"a", 2), node(2)], sort=False)
    w.commit()


@case
def refused_a_key_twice(w):
    return [root(), name(1, b"a", 2), name(1, b"a", 3), node(2), node(3)]


@case
def refused_blocks_out_of_order(w):
    w.table([root(), name(1, b"b", 2), name(1, b"a", 2), node(2)], sort=False, block_rows=1)
    w.commit()


def refused_blocks_elsewhere(first, then):
    """Two blocks of segments at these addresses, which begin at 8000 and 9000 as the fence has it."""

    def made(w):
        file = [root(), name(1, b"file", 2), node(2, size=20, extents=[(8000, 10), (9000, 10)])]
        blocks = [(family, key_of(*rows[0]), rows) for family, rows in ((1, file[1:2]), (2, file[::2]))]
        for begin, addresses in ((8000, first), (9000, then)):
            blocks.append((4, key_of(4, (0, begin)), [w.segment(address, bytes(10)) for address in addresses]))
        pairs = []
        for family, key, rows in blocks:
            stored = block(content(family, [row for _, row in rows]))
            pairs.append((stored, fence_row(family, len(rows), key, stored)))
        w.blocks(pairs)
        w.commit()

    return made


for label, where in dict(before=([8000], [4096]), behind=([8000, 9500], [9000])).items():
    elsewhere = refused_blocks_elsewhere(*where)
    elsewhere.__name__ = f"refused_rows_{label}_their_block"
    case(elsewhere)


@case
def refused_an_unknown_operation(w):
    return [root(), (1, (2, 1, b"a", 2, 8))]


def raw_table(w, family, raw, rows, first, **how):
    """A table of a block made by hand and the root."""
    stored, at_root = block(raw, **how), block(content(2, [root()[1]]))
    pair = [(stored, fence_row(family, rows, first, stored)), (at_root, fence_row(2, 1, key_of(2, root()[1]), at_root))]
    w.blocks(sorted(pair, key=lambda p: p[1][0]))
    w.commit()


def shared_names(rows, length):
    """Three streams of names of this length that share all but their last six bytes."""
    first = vi(0) + vi(length - 6) * (rows - 1), vi(length) + vi(6) * (rows - 1)
    return [*first, b"n" * (length - 6) + b"".join(b"%06d" % i for i in range(rows))]


def joined(rows, streams):
    return vi(rows) + b"".join(vi(len(s)) for s in streams) + b"".join(streams)


@case
def refused_names_that_share_four_gigabytes(w):
    rows = 65536
    streams = [bytes(rows), vi(2) + bytes(rows - 1), *shared_names(rows, 65535), vi(4) + bytes(rows - 1), b"\x08" * rows]
    raw_table(w, 1, joined(rows, streams), rows, bytes([1]) + struct.pack(">Q", 1) + b"n" * 65529 + b"000000")


@case
def refused_values_whose_names_share_four_gigabytes(w):
    rows = 65536
    raw = joined(rows, [bytes(rows), *shared_names(rows, 65535), bytes(rows), b""])
    raw_table(w, 6, raw, rows, b"\6" + b"n" * 65529 + b"000000")


@case
def refused_a_fence_whose_keys_share_gigabytes(w):
    rows = 200_000
    keys = shared_names(rows, 65535)
    keys[2] = b"\1" + keys[2][1:]
    w.blocks([(b"", None)], fence=block(joined(rows, [b"\1" * rows, b"\1" * rows, *keys, bytes(rows), bytes(32 * rows)])))
    w.commit()


@case
def refused_more_rows_than_a_block_may_have(w):
    rows = 65537
    streams = [bytes(rows), b"\2" + bytes(rows - 1), bytes(rows), b"\1" * rows, b"a" * rows, bytes(rows), b"\x08" * rows]
    raw_table(w, 1, joined(rows, streams), rows, bytes([1]) + struct.pack(">Q", 1) + b"a")


@case
def refused_a_block_that_claims_too_much(w):
    raw_table(w, 1, bytes(100), 1, b"\1", claim=33 * MIB)


@case
def refused_a_block_that_is_a_bomb(w):
    raw_table(w, 1, bytes(1 << 30), 1, b"\1", claim=1000)


@case
def refused_a_block_of_the_largest_size_of_zeros(w):
    raw_table(w, 1, bytes(32 * MIB), 1, b"\1" + bytes(8))


@case
def refused_streams_longer_than_the_block(w):
    raw_table(w, 1, vi(1) + vi((1 << 64) - 1) * 7, 1, b"\1" + bytes(8))


@case
def refused_a_segment_over_the_limit(w):
    return with_segment(w.segment(4096, bytes(100), raw_len=65 * MIB))


@case
def refused_a_segment_whose_payload_is_not_there(w):
    return with_segment(w.segment(4096, bytes(100), payload_len=60 * MIB, raw_len=60 * MIB))


@case
def refused_a_segment_at_the_end_of_numbers(w):
    return with_segment(w.segment(4096, bytes(100), at=2**64 - 64))


@case
def refused_a_segment_that_is_a_bomb(w):
    return with_segment(w.segment(4096, bytes(100), data=zstandard.compress(bytes(1 << 30))))


@case
def refused_a_segment_that_is_shorter_than_it_says(w):
    return with_segment(w.segment(4096, bytes(100), data=zstandard.compress(bytes(99))))


@case
def refused_a_segment_in_another_container(w):
    return with_segment(w.segment(4096, bytes(100), store=1))


@case
def refused_another_segment_than_was_said(w):
    _, row = w.segment(4096, bytes(100))
    return with_segment((4, (row[0], 4097, *row[2:])), 99, 4097)


@case
def refused_two_segments_in_one_record(w):
    row = w.segment(4096, bytes(100))
    other = (4, (0, 5000, 200, *row[1][3:]))
    behind = [name(1, b"other", 3), node(3, size=50, extents=[(5100, 50)])]
    return [*one_file(size=100, extents=[(4096, 100)]), *behind, row, other]


@case
def refused_an_xz_stream_with_a_large_dictionary(w):
    stream = bytearray(lzma.compress(bytes(100), check=lzma.CHECK_NONE))
    size = (stream[12] + 1) * 4
    stream[16] = 40  # the dictionary: 4 GiB
    stream[12 + size - 4 : 12 + size] = struct.pack("<I", zlib.crc32(stream[12 : 12 + size - 4]))
    return with_segment(w.segment(4096, bytes(100), stages=((4, b""),), data=bytes(stream)))


@case
def refused_an_xz_stream_that_is_a_bomb(w):
    bomb = lzma.compress(bytes(256 * MIB), check=lzma.CHECK_NONE, preset=0)
    return with_segment(w.segment(4096, bytes(100), stages=((4, b""),), data=bomb))


STAGES = dict(
    an_unknown_codec=((77, b""),),
    a_private_codec=((0x8000, b""),),
    two_compressing_stages=((1, b""), (1, b"")),
    nine_stages=((17, struct.pack("<IB", 0, 1)),) * 8 + ((0, b""),),
    differences_of_distance_none=((17, struct.pack("<IB", 0, 0)), (0, b"")),
    differences_without_parameters=((17, b""), (0, b"")),
    fields_without_widths=((18, bytes(4)), (0, b"")),
    fields_of_no_width=((18, bytes(4) + b"\0\0"), (0, b"")),
    a_base_that_is_missing=((2, b""),),
    a_dictionary_that_is_missing=((3, b""),),
)
for label, stages in STAGES.items():
    stages_case = lambda w, stages=stages: with_segment(w.segment(4096, bytes(100), stages, data=bytes(100)))  # noqa: E731
    stages_case.__name__ = f"refused_{label}"
    case(stages_case)


@case
def refused_a_segment_that_ends_in_its_stages(w):
    payload = struct.pack("<QQBBHI", 4096, 100, 8, 0, 64, 0)
    at = w.record(2, payload)
    return with_segment((4, (0, 4096, 100, at, len(payload), 0, hash_of(payload))))


@case
def refused_fields_that_are_cut_off(w):
    return one_file(extra=b"\3\xff\xff\xff\x0f")


@case
def refused_an_attribute_of_an_impossible_name(w):
    return one_file(extra=xattr(b"n" * 300, b"v"))


@case
def refused_a_link_without_a_target(w):
    return [root(), name(1, b"link", 2, 10), node(2, LINK, size=3)]


@case
def refused_a_device_of_too_large_a_number(w):
    return [root(), name(1, b"device", 2, 2), node(2, 0o020600, extra=field(2, vi(1 << 40) + vi(1)))]


@case
def refused_an_unknown_kind_of_inode(w):
    return one_file(mode=0o030644)


@case
def refused_too_many_nanoseconds(w):
    return one_file(mtime=(0, 10**9))


@case
def refused_too_many_tables(w):
    w.table([root()])
    w.commit(tables=w.tables * 4097)


@case
def refused_one_large_fence_in_many_tables(w):
    w.table([root()])
    w.blocks([], fence=block(bytes(60 * MIB)))
    w.commit(tables=w.tables[:1] + w.tables[1:] * 4000)


@case
def refused_a_table_beyond_the_end(w):
    w.commit(tables=[struct.pack("<QQQQ", 1 << 60, 100, 50, 34) + bytes(32)])


@case
def refused_a_fence_over_the_limit(w):
    w.commit(tables=[struct.pack("<QQQQ", 4096, 1 << 40, 50, 1 << 39) + bytes(32)])


@case
def refused_a_fence_beyond_the_end(w):
    w.table([root()])
    w.commit(tables=[w.tables[0][:24] + struct.pack("<Q", 60 * MIB) + w.tables[0][32:]])


@case
def refused_blocks_longer_than_the_table(w):
    stored = block(content(2, [root()[1]]))
    row = (2, 1, key_of(2, root()[1]), 1 << 62, hash_of(stored))
    w.blocks([(stored, row)])
    w.commit()


@case
def refused_a_fence_of_other_rows_than_its_block(w):
    stored = block(content(2, [root()[1]]))
    w.blocks([(stored, fence_row(2, 7, key_of(2, root()[1]), stored))])
    w.commit()


@case
def refused_a_critical_item(w):
    w.table([root()])
    w.commit(items=struct.pack("<HHI", 0x8001, 0, 0))


@case
def refused_an_item_that_is_cut_off(w):
    w.table([root()])
    w.commit(items=struct.pack("<HHI", 7, 0, 1 << 31))


@case
def refused_names_and_inodes_that_do_not_meet(w):
    there = [root(3), name(1, b"dir", 2, 4), node(2, DIR, nlink=2), name(2, b"file", 3), node(3)]
    dangling = [name(2, b"nothing", 9), name(1, b"no dir", 10, 4), name(77, b"outside", 4), node(4)]
    nameless = [node(5), node(6, DIR, nlink=2), name(6, b"below", 11), node(11), node(7, nlink=0), meta(b"orphan/7", b"")]
    return [*there, *dangling, *nameless, node(8, nlink=0)]


@case
def refused_an_unknown_feature(w):
    w.table([root()])
    w.commit(incompat=1 << 40)


@case
def refused_a_tail_over_the_limit(w):
    w.table([root()])
    w.commit(tail=2**64 - 1)


@case
def refused_a_higher_version(w):
    w.data[:] = w.header(major=2)
    return [root()]


if __name__ == "__main__":
    for label, make in CASES.items():
        with open(os.path.join(sys.argv[1], label + ".st"), "wb") as file:
            file.write(make())
