"""The .bsq container: what is written is read again, on a pipe and by the index; what cannot be written is refused."""

from __future__ import annotations

import io
import math
import struct
import zlib
from dataclasses import replace
from fractions import Fraction

import pytest
from container_samples import (
    AUDIO,
    HEADER,
    INFO,
    STATS,
    TITLES,
    WHOLE,
    Pipe,
    chunks,
    packets,
    read,
    regular_group,
    write,
)
from hypothesis import given
from hypothesis import strategies as st
from streams import CountingFile, stream

from bsqcodec.container import Group, StreamHeader, StreamReader, StreamWriter
from bsqcodec.container.chunks import pack_chunk
from bsqcodec.container.fields import FieldReader, pack_svarint, pack_varint
from bsqcodec.container.groups import pack_group, parse_group
from bsqcodec.container.packets import batches, pack_packets, parse_packets
from bsqcodec.errors import BitstreamError, UsageError
from bsqcodec.frames import TrackPacket


@pytest.mark.parametrize("pipe", [False, True])
def test_everything_comes_back(pipe: bool) -> None:
    file = Pipe(WHOLE, 7) if pipe else io.BytesIO(WHOLE)
    reader = StreamReader(file)  # type: ignore[arg-type]
    assert reader.version == (2, 0)
    assert reader.header == HEADER
    assert reader.tracks == (AUDIO, TITLES)
    assert reader.meta == {"title": "Größe", "": "empty key"}
    expected = [item for n in range(4) for item in (packets(10 * n, 10), regular_group(32 * n))]
    assert list(reader) == expected
    assert reader.stats == STATS


def test_a_seekable_file_iterates_again_and_while_groups_are_read() -> None:
    reader = StreamReader(io.BytesIO(WHOLE))
    entries = reader.index()
    first = []
    for item in reader:
        first.append(item)
        assert reader.read_group(entries[2]) == regular_group(64)
    assert list(reader) == first


def test_a_stream_may_begin_inside_a_file() -> None:
    file = io.BytesIO(b"something else" + WHOLE)
    file.seek(len(b"something else"))
    reader = StreamReader(file)
    assert [reader.read_group(entry) for entry in reader.index()] == [regular_group(32 * n) for n in range(4)]
    assert len(list(reader)) == 8


def test_bytes_of_the_preamble() -> None:
    assert WHOLE[:12].hex() == "894253510d0a1a0a02000000"
    assert WHOLE[12:16] == b"HEAD"
    assert WHOLE[-28:-20] == b"TAIL\x10\0\0\0"
    body = WHOLE[-28:-4]
    assert zlib.crc32(body) == int.from_bytes(WHOLE[-4:], "little")
    assert zlib.crc32(b"123456789") == 0xCBF43926  # the specification's check value


def test_overhead_of_a_regular_group_is_small() -> None:
    group = regular_group(100_000)
    assert len(pack_chunk(b"GRUP", pack_group(group))) - len(group.motion) - len(group.tokens) <= 40


def test_overhead_of_steady_audio_is_small() -> None:
    steady = [TrackPacket(0, b"x" * 100, 1024 * i, 1024 * i, 1024, True) for i in range(1000)]
    assert len(pack_packets(steady)) <= 1000 * 104


def test_crf_and_ranges_survive() -> None:
    for full_range in (None, False, True):
        header = replace(HEADER, info=replace(INFO, full_range=full_range), crf=0.07, tune="ms-ssim")
        file = io.BytesIO()
        StreamWriter(file, header).close()
        assert StreamReader(io.BytesIO(file.getvalue())).header == header


ticks = st.integers(-(2**62), 2**62)
frame = st.tuples(ticks, st.integers(0, 2**40), st.integers(0, 255), st.integers(0, 2**32 - 1))
words = st.binary(max_size=64).map(lambda data: data[: len(data) // 4 * 4])


@given(st.lists(frame, min_size=1, max_size=40), words, words, st.booleans(), st.integers(0, 2**60))
def test_any_group_comes_back(
    frames: list[tuple[int, int, int, int]], motion: bytes, tokens: bytes, crcs: bool, first: int
) -> None:
    pts, durations, qualities, sums = zip(*frames, strict=True)
    group = Group(first, pts, durations, qualities, motion, tokens, sums if crcs else None)
    assert parse_group(FieldReader(pack_group(group))) == group


packet = st.builds(
    TrackPacket,
    st.integers(0, 2),
    st.binary(max_size=20),
    st.none() | st.integers(-(2**40), 2**40),
    st.none() | st.integers(-(2**40), 2**40),
    st.integers(0, 2**30),
    st.booleans(),
)


@given(st.lists(packet, max_size=30))
def test_any_packets_come_back(some: list[TrackPacket]) -> None:
    assert parse_packets(FieldReader(pack_packets(some)), 3) == some


@given(st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1))
def test_numbers_come_back(natural: int, signed: int) -> None:
    fields = FieldReader(pack_varint(natural) + pack_svarint(signed))
    assert (fields.varint(), fields.svarint(), fields.left) == (natural, signed, 0)


def test_numbers_on_paper() -> None:
    assert [pack_varint(n).hex() for n in (0, 127, 128, 300)] == ["00", "7f", "8001", "ac02"]
    assert [pack_svarint(n)[0] for n in (0, -1, 1, -2, 2)] == [0, 1, 2, 3, 4]
    for bad in (b"\xff" * 11, b"\xff" * 9 + b"\x7f", b"\x80"):
        with pytest.raises(BitstreamError):
            FieldReader(bad).varint()


def test_long_batches_are_split() -> None:
    some = [TrackPacket(0, b"x" * 600, i, i, 1, True) for i in range(10)]
    runs = batches(some, 2000)
    assert [len(run) for run in runs] == [3, 3, 3, 1]
    assert [packet for run in runs for packet in run] == some


def test_index_with_and_without_tail() -> None:
    with_tail = StreamReader(io.BytesIO(WHOLE)).index()
    assert [(entry.first_frame, entry.frames, entry.first_pts) for entry in with_tail] == [
        (32 * n, 32, 32 * n * 1001) for n in range(4)
    ]
    assert all(WHOLE[entry.offset :][:4] == b"GRUP" for entry in with_tail)
    for data in (write(close=False), WHOLE + b"something after", WHOLE[:-28]):
        assert StreamReader(io.BytesIO(data)).index() == with_tail
    damaged = bytearray(WHOLE)
    damaged[damaged.rindex(b"indx") + 9] ^= 1
    assert StreamReader(io.BytesIO(bytes(damaged))).index() == with_tail
    with pytest.raises(UsageError, match="pipe"):
        StreamReader(Pipe(WHOLE)).index()  # type: ignore[arg-type]


def test_index_of_a_cut_file_holds_whole_groups() -> None:
    offsets = [offset for offset, kind, _ in chunks(WHOLE) if kind == b"GRUP"]
    for cut in (offsets[2] + 3, offsets[2] + 30, offsets[2] + 400):
        assert len(StreamReader(io.BytesIO(WHOLE[:cut])).index()) == 2


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"first_frame": 5}, "must begin at frame 0"),
        ({"pts": ()}, "0 frames"),
        ({"durations": (1,)}, "duration"),
        ({"tokens": b"abc"}, "32-bit"),
        ({"frame_crcs": (1, 2)}, "CRCs"),
        ({"qualities": (256,) * 32}, "quality"),
        ({"pts": (2**63,) * 32}, "64-bit"),
    ],
)
def test_groups_that_cannot_be_written(change: dict[str, object], text: str) -> None:
    file = io.BytesIO()
    writer = StreamWriter(file, HEADER)
    before = file.tell()
    with pytest.raises(UsageError, match=text):
        writer.write_group(replace(regular_group(0), **change))  # type: ignore[arg-type]
    assert file.tell() == before
    writer.write_group(regular_group(0))  # the writer is still in order
    writer.close()
    writer.close()
    with pytest.raises(UsageError, match="closed"):
        writer.write_meta({})
    assert read(file.getvalue()) == [regular_group(0)]


@pytest.mark.parametrize(
    "header",
    [
        replace(HEADER, info=replace(INFO, width=65536)),
        replace(HEADER, info=replace(INFO, height=0)),
        replace(HEADER, info=replace(INFO, rotation=45)),
        replace(HEADER, info=replace(INFO, fps=Fraction(0))),
        replace(HEADER, keyint=0),
        replace(HEADER, keyint=65536),
        replace(HEADER, tune="grain"),
        replace(HEADER, crf=math.nan),
        replace(HEADER, weights_sha256=b""),
        replace(HEADER, model="x" * 256),
        replace(HEADER, tool="\ud800"),
    ],
)
def test_headers_that_cannot_be_written(header: StreamHeader) -> None:
    file = io.BytesIO()
    with pytest.raises(UsageError):
        StreamWriter(file, header)
    assert file.getvalue() == b""


def test_a_group_longer_than_keyint_is_refused() -> None:
    writer = StreamWriter(io.BytesIO(), replace(HEADER, keyint=8))
    with pytest.raises(UsageError, match="8 at most"):
        writer.write_group(regular_group(0, 9))


def test_struct_reading_of_a_group_by_hand() -> None:
    """The bytes of a small group, as a reader written from the specification alone would take them."""
    group = Group(3, (10, 12, 14), (2, 2, 2), (7, 9, 9), b"\1\0\0\0", b"\2\0\0\0\3\0\0\0", (1, 2, 3))
    expected = bytes([0x10, 3, 3, 1, 2, 20, 4, 2, 7, 9]) + struct.pack("<6I", 1, 2, 3, 1, 2, 3)
    assert pack_group(group) == expected


def test_opening_reads_the_index_and_no_chunk_in_between() -> None:
    """Of a file with 20 times the groups only 20 times the index is read, in as many steps."""

    class Steps(CountingFile):
        steps = 0

        def read(self, size: int | None = -1, /) -> bytes:
            self.steps += 1
            return super().read(size)

    found = []
    for groups in (25, 500):
        file = Steps(stream([8] * groups, words=300))
        assert len(StreamReader(file).index()) == groups
        found.append((file.steps, file.count / groups))
    assert found[0][0] == found[1][0] < 30
    assert found[1][1] < found[0][1] < 40  # bytes a group; each has 1,300
