"""Damage of every kind ends in one clear error of ours, after the whole groups before it."""

from __future__ import annotations

import io

import pytest
from container_samples import (
    SMALL,
    WHOLE,
    Pipe,
    chunks,
    exercise,
    read,
    with_payload,
    write,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from bsqcodec.container import Group, StreamReader, scan
from bsqcodec.container.chunks import PREAMBLE, pack_chunk
from bsqcodec.container.fields import pack_varint
from bsqcodec.errors import BitstreamError, BsqError, TruncatedError, UnsupportedVersionError


@pytest.mark.parametrize("pipe", [False, True])
def test_every_cut_yields_the_whole_groups_then_says_so(pipe: bool) -> None:
    ends = [offset + length + 12 for offset, kind, length in chunks(WHOLE) if kind == b"GRUP"]
    first_body = next(offset for offset, kind, _ in chunks(WHOLE) if kind == b"pckt")
    for cut in range(0, len(WHOLE), 13):
        groups: list[Group] = []
        with pytest.raises(BitstreamError) as caught:
            file = Pipe(WHOLE[:cut]) if pipe else io.BytesIO(WHOLE[:cut])
            for item in StreamReader(file, name="x.bsq"):  # type: ignore[arg-type]
                groups += [item] if isinstance(item, Group) else []
        assert len(groups) == sum(end <= cut for end in ends)
        assert "x.bsq: byte " in str(caught.value) and "\n" not in str(caught.value)
        if cut:
            assert isinstance(caught.value, TruncatedError)
        if cut > first_body:
            assert "cut short" in str(caught.value) or "ends inside" in str(caught.value)


def test_every_flipped_byte_is_noticed() -> None:
    data = write(2)
    for at in range(12, len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x40
        with pytest.raises(BsqError, match="byte"):
            read(bytes(damaged))


def test_a_damaged_group_is_named() -> None:
    offset = [offset for offset, kind, _ in chunks(WHOLE) if kind == b"GRUP"][3]
    damaged = bytearray(WHOLE)
    damaged[offset + 200] ^= 1
    with pytest.raises(BitstreamError) as caught:
        read(bytes(damaged))
    message = f"x.bsq: byte {offset}: group 3 (frames 96-127): CRC mismatch; the file is damaged"
    assert str(caught.value) == message
    report = scan(io.BytesIO(bytes(damaged)), check=True, name="x.bsq")
    assert report.damage is not None and not report.complete
    assert (report.damage.offset, report.damage.chunk, report.damage.group) == (offset, "GRUP", 3)
    assert report.damage.frames == (96, 127) and report.damage.message == message and not report.damage.truncated
    assert sum(report.bytes.values()) == report.size == len(WHOLE)


def test_not_a_bsq_file() -> None:
    for data in (b"", b"RIFF....AVI ", b"\x89PNG\r\n\x1a\n" + WHOLE[8:], WHOLE.replace(b"\r\n", b"\n", 1)):
        with pytest.raises(BitstreamError, match=r"x.bsq: byte 0: not a .bsq file"):
            read(data)


def test_versions() -> None:
    newer_minor = WHOLE[:9] + b"\x07\xff\xff" + WHOLE[12:]  # the reserved bytes are ignored
    assert read(newer_minor) == read(WHOLE)
    with pytest.raises(UnsupportedVersionError, match=r"format version 3\.0.*update"):
        read(WHOLE[:8] + b"\x03" + WHOLE[9:])
    with pytest.raises(UnsupportedVersionError, match=r"format version 1\.0.*draft"):
        read(WHOLE[:8] + b"\x01" + WHOLE[9:])


@pytest.mark.parametrize("before", [b"GRUP", b"TAIL", b"trak"])
def test_unknown_chunks(before: bytes) -> None:
    offset = next(offset for offset, kind, _ in chunks(WHOLE) if kind == before)
    skipped = WHOLE[:offset] + pack_chunk(b"newX", b"whatever" * 300_000) + WHOLE[offset:]
    assert read(skipped) == read(WHOLE) == read(skipped, pipe=True)
    index_shifted = before != b"TAIL"  # the groups are no longer where the index says
    assert (scan(io.BytesIO(skipped), check=True).damage is not None) == index_shifted
    refused = WHOLE[:offset] + pack_chunk(b"NewX", b"whatever") + WHOLE[offset:]
    with pytest.raises(UnsupportedVersionError, match="NewX"):
        read(refused)


def test_later_versions_may_append_fields() -> None:
    longer = WHOLE
    for kind in (b"HEAD", b"trak", b"meta", b"pckt", b"GRUP", b"stat"):
        offset, _, length = next(chunk for chunk in chunks(longer) if chunk[1] == kind)
        longer = with_payload(longer, kind, longer[offset + 8 : offset + 8 + length] + b"\x77\x88")
    assert read(longer) == read(WHOLE)


def head_payload(**changes: bytes) -> bytes:
    """HEAD's payload with bytes replaced: name `at_N` = offset N."""
    offset, _, length = chunks(WHOLE)[0]
    payload = bytearray(WHOLE[offset + 8 : offset + 8 + length])
    for name, value in changes.items():
        at = int(name.removeprefix("at_"))
        payload[at : at + len(value)] = value
    return bytes(payload)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"at_0": b"\0\0"}, BitstreamError, "0x360"),
        ({"at_0": b"\xff\xff\xff\xff"}, BitstreamError, "limit"),
        ({"at_8": b"\0\0\0\0"}, BitstreamError, "time base"),
        ({"at_34": b"\0\0"}, BitstreamError, "keyint 0"),
        ({"at_36": b"\x09"}, UnsupportedVersionError, "tune 9"),
        ({"at_39": b"\x01"}, UnsupportedVersionError, "arithmetic 1"),
        ({"at_74": b"\xff\xfe"}, BitstreamError, "UTF-8"),
    ],
)
def test_bad_headers(changes: dict[str, bytes], error: type[BsqError], text: str) -> None:
    with pytest.raises(error, match=text):
        read(with_payload(WHOLE, b"HEAD", head_payload(**changes)))


def test_a_forged_length_allocates_nothing() -> None:
    forged = WHOLE[:-28] + b"GRUP" + (2**30).to_bytes(4, "little") + b"short"
    with pytest.raises(TruncatedError):
        read(forged)
    with pytest.raises(BitstreamError, match="limit"):
        read(WHOLE[:-28] + b"GRUP" + (2**30 + 1).to_bytes(4, "little") + b"short")
    for kind, payload in ((b"indx", pack_varint(2**28) + b"\0" * 30), (b"pckt", pack_varint(2**18) + b"\0" * 30)):
        with pytest.raises(BitstreamError, match=r"(groups|packets) in"):
            scan_error(with_payload(WHOLE, kind, payload))


def scan_error(data: bytes) -> None:
    damage = scan(io.BytesIO(data), check=True).damage
    if damage:
        raise BitstreamError(damage.message)


def test_chunks_out_of_place() -> None:
    head, track = (WHOLE[offset : offset + length + 12] for offset, _, length in (chunks(WHOLE)[0], chunks(WHOLE)[1]))
    for extra in (head, track):
        with pytest.raises(BitstreamError, match="out of place"):
            read(WHOLE[:-28] + extra + WHOLE[-28:])
    with pytest.raises(BitstreamError, match="must come first"):
        read(PREAMBLE + track)
    groups = [(offset, length) for offset, kind, length in chunks(WHOLE) if kind == b"GRUP"]
    offset, length = groups[1]
    with pytest.raises(BitstreamError, match="begins at frame 32"):
        read(WHOLE[:offset] + WHOLE[offset + length + 12 :])
    offset, length = groups[3]
    with pytest.raises(BitstreamError, match="128 frames expected, 96 found"):
        read(WHOLE[:offset] + WHOLE[offset + length + 12 :])


@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=6))
@settings(deadline=None, max_examples=150)
def test_mutations_raise_only_our_errors(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SMALL)
    for at, value in changes:
        data[at] = value
    exercise(bytes(data))


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_forged_payloads_with_right_crcs_raise_only_our_errors(data: st.DataObject) -> None:
    offset, kind, length = data.draw(st.sampled_from(chunks(SMALL)))
    payload = bytearray(SMALL[offset + 8 : offset + 8 + length])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(payload), 80)))
        cut = data.draw(st.sampled_from([0, 1, 2, 8, 100]))
        payload[at : at + cut] = data.draw(
            st.binary(max_size=12) | st.sampled_from([b"\xff" * 9 + b"\x01", b"\xff" * 4, b"\x80" * 12, b"\0"])
        )
    exercise(SMALL[:offset] + pack_chunk(kind, bytes(payload)) + SMALL[offset + length + 12 :])


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_spliced_chunks_raise_only_our_errors(data: st.DataObject) -> None:
    pieces = [SMALL[offset : offset + length + 12] for offset, _, length in chunks(SMALL)]
    order = data.draw(st.lists(st.sampled_from(pieces), max_size=8))
    exercise(PREAMBLE + b"".join(order) + data.draw(st.binary(max_size=10)))


@given(st.binary(max_size=200), st.sampled_from([b"", PREAMBLE, SMALL[:300]]))
@settings(deadline=None, max_examples=100)
def test_garbage_raises_only_our_errors(garbage: bytes, front: bytes) -> None:
    exercise(front + garbage)
