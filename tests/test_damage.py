"""Damaged files through the public API: what is whole comes out, what is lost is told. The decoder is the real one."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from random import Random

import av
import numpy as np
import pytest
from clips import read_y4m
from container_samples import chunks
from fuzz.actions import Codec
from standin import SOUND, TITLES, standin_weights, stream

import bsqcodec
import bsqcodec.codec as room
from bsqcodec.container import Group, SalvageReader, StreamReader
from bsqcodec.container.chunks import PREAMBLE, pack_chunk
from bsqcodec.container.extras import pack_index, pack_tail
from bsqcodec.container.fields import pack_varint
from bsqcodec.container.holes import MAX_FILLED
from bsqcodec.errors import (
    BitstreamError,
    BsqError,
    LimitError,
    TruncatedError,
    UnsupportedVersionError,
    UsageError,
    VideoError,
)
from bsqcodec.frames import Track

GROUPS, KEYINT = 20, 2
MODELS = ("predictive", "causal")
Planes = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def codec(tmp_path_factory) -> Codec:
    """The real codec room with small weights, which decodes each group once."""
    folder = tmp_path_factory.mktemp("weights")
    return Codec([standin_weights(folder / f"{kind}.safetensors", causal=kind == "causal") for kind in MODELS])


@pytest.fixture(autouse=True)
def small_codec(codec, monkeypatch, caplog):
    caplog.set_level("ERROR", "bsqcodec")  # that y4m holds no sound
    monkeypatch.setattr(room, "load_model", codec._load)
    monkeypatch.setattr(room, "decode_group", codec._recall)


@pytest.fixture(scope="module")
def whole(codec) -> bytes:
    """20 groups of 2 frames, 16x16, with sound and titles."""
    return stream(codec.models[0], frames=GROUPS * KEYINT, keyint=KEYINT, tracks=(SOUND, TITLES))


class Work:
    """A folder in which files are decoded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def decode(self, data: bytes, **options) -> tuple[bsqcodec.DecodeStats, list[Planes]]:
        (self.folder / "in.bsq").write_bytes(data)
        out = self.folder / "out.y4m"
        options = {"weights": "0", **options}
        stats = bsqcodec.decode(self.folder / "in.bsq", out, overwrite=True, **options)
        return stats, read_y4m(out.read_bytes())

    def play(self, data: bytes, **options) -> bsqcodec.Decoder:
        (self.folder / "in.bsq").write_bytes(data)
        return bsqcodec.open(self.folder / "in.bsq", weights="0", **options)

    def mkv(self, data: bytes, **options) -> tuple[list[Fraction], dict[int, list[bytes]]]:
        """Times of the frames in seconds, and the packets of every other stream."""
        (self.folder / "in.bsq").write_bytes(data)
        out = self.folder / "out.mkv"
        bsqcodec.decode(self.folder / "in.bsq", out, codec="ffv1", weights="0", overwrite=True, **options)
        times: list[Fraction] = []
        packets: dict[int, list[bytes]] = {}
        with av.open(str(out)) as file:
            for packet in file.demux():
                if packet.size and packet.stream.type == "video":
                    times.append(packet.pts * packet.time_base)
                elif packet.size:
                    packets.setdefault(packet.stream.index, []).append(bytes(packet))
        return times, packets


@pytest.fixture
def work(tmp_path) -> Work:
    return Work(tmp_path)


def flipped(data: bytes, *places: int) -> bytes:
    out = bytearray(data)
    for at in places:
        out[at] ^= 0x10
    return bytes(out)


def spans(data: bytes, wanted: bytes) -> list[range]:
    """The bytes of all chunks of a type."""
    return [range(offset, offset + length + 12) for offset, kind, length in chunks(data) if kind == wanted]


def without(data: bytes, span: range) -> bytes:
    return data[: span.start] + data[span.stop :]


def same(one: Planes, other: Planes) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# --- one byte ------------------------------------------------------------------------------------


def test_200_single_bytes_cost_one_group_each_at_most(work, whole):
    """Exactly one group where the byte lies in one, a clean error where it lies in the header, else no frame."""
    _, good = work.decode(whole)
    assert len(good) == GROUPS * KEYINT
    groups, header = spans(whole, b"GRUP"), range(0, spans(whole, b"HEAD")[0].stop)
    rng, counts = Random(5), {"header": 0, "group": 0, "other": 0}
    # groups have not the most bytes of so small a file, the header hardly any
    places = [rng.choice(rng.choice(groups)) for _ in range(100)] + [rng.choice(header) for _ in range(20)]
    places += [rng.randrange(len(whole)) for _ in range(80)]
    for at in places:
        damaged = bytearray(whole)
        damaged[at] ^= rng.randrange(1, 256)
        hit = [number for number, span in enumerate(groups) if at in span]
        if at in header and at not in range(9, 12):  # minor version and reserved bytes mean nothing to a reader
            with pytest.raises((BitstreamError, UnsupportedVersionError), match=r"in\.bsq: byte") as caught:
                work.decode(bytes(damaged), on_error="conceal")
            assert caught.value.exit_code in (3, 4)
            counts["header"] += 1
            continue
        stats, frames = work.decode(bytes(damaged), on_error="conceal")
        assert len(frames) == len(good)
        lost = {number // KEYINT for number, pair in enumerate(zip(frames, good, strict=True)) if not same(*pair)}
        assert lost <= set(hit)
        assert stats.lost_frames == stats.concealed_frames == KEYINT * len(hit)
        assert [(loss.first_frame, loss.frames) for loss in stats.damage if loss.frames] == [
            (KEYINT * number, KEYINT) for number in hit
        ]
        assert len(stats.damage) == (at not in range(9, 12))
        counts["group" if hit else "other"] += 1
        _, kept = work.decode(bytes(damaged), on_error="skip")
        expected = [frame for number, frame in enumerate(good) if number // KEYINT not in hit]
        assert len(kept) == len(expected) and all(map(same, kept, expected))
    assert sum(counts.values()) == 200 and min(counts.values()) > 3, counts


def test_fail_is_what_happens_unless_asked(work, whole):
    for at in (spans(whole, b"GRUP")[4][30], spans(whole, b"pckt")[4][30], spans(whole, b"indx")[0][9]):
        with pytest.raises(BitstreamError, match="CRC mismatch"):
            work.decode(flipped(whole, at))
        assert not (work.folder / "out.y4m").exists()


# --- what stands in ------------------------------------------------------------------------------


def test_freeze_repeats_the_last_picture_and_grey_is_grey(work, whole):
    _, good = work.decode(whole)
    lost = flipped(whole, spans(whole, b"GRUP")[0][50], spans(whole, b"GRUP")[3][50], spans(whole, b"GRUP")[4][50])
    _, frozen = work.decode(lost, on_error="conceal")
    assert all((plane == 128).all() for frame in frozen[:2] for plane in frame)  # nothing to freeze yet
    assert all(same(frame, good[5]) for frame in frozen[6:10])
    assert all(map(same, frozen[2:6] + frozen[10:], good[2:6] + good[10:]))
    _, grey = work.decode(lost, on_error="conceal", fill="grey")
    assert all((plane == 128).all() for frame in grey[:2] + grey[6:10] for plane in frame)


def test_times_and_sound_are_kept(work, whole):
    lost = flipped(whole, spans(whole, b"GRUP")[3][50])
    times, packets = work.mkv(whole)
    skipped = work.mkv(lost, on_error="skip")
    assert skipped == (times[:6] + times[8:], packets)
    assert len(packets) == 2 and len(packets[1]) == 2 * GROUPS
    assert work.mkv(lost, on_error="conceal") == (times, packets)
    silent = flipped(whole, spans(whole, b"pckt")[3][50])
    kept_times, kept = work.mkv(silent, on_error="skip")
    assert kept_times == times
    assert kept[1] == packets[1][:6] + packets[1][8:]


@pytest.mark.parametrize("hit", [0, 1, 2])
def test_irregular_times_come_from_the_damaged_group_itself(work, codec, hit):
    times = (0, 3, 4, 11, 30, 31, 50)
    data = stream(codec.models[0], frames=7, keyint=3, times=times)
    lost = flipped(data, spans(data, b"GRUP")[hit].stop - 8)
    with work.play(lost, on_error="conceal") as video:
        assert [frame.pts for frame in video] == [Fraction(pts, 25) for pts in times]


def test_times_that_are_lost_as_well_are_spread_evenly(work, codec):
    data = stream(codec.models[0], frames=6, keyint=2, times=(0, 10, 20, 30, 40, 50))
    with work.play(without(data, spans(data, b"GRUP")[1]), on_error="conceal") as video:
        assert [frame.pts * 25 for frame in video] == [0, 10, 20, 30, 40, 50]
        video.seek(0)
        assert [frame.concealed for frame in video] == [False, False, True, True, False, False]


# --- more than a byte ----------------------------------------------------------------------------

DAMAGES: dict[str, tuple[Callable[[bytes, list[range]], bytes], set[int], int]] = {
    "length": (lambda d, g: flipped(d, g[5].start + 4), {5}, 1),
    "huge length": (lambda d, g: flipped(d, g[5].start + 7), {5}, 1),
    "type": (lambda d, g: flipped(d, g[5].start), {5}, 1),
    "neighbours": (lambda d, g: flipped(d, g[5][40], g[6][40]), {5, 6}, 1),
    "apart": (lambda d, g: flipped(d, g[5][40], g[9][40]), {5, 9}, 2),
    "first": (lambda d, g: flipped(d, g[0][40]), {0}, 1),
    "last": (lambda d, g: flipped(d, g[-1][40]), {GROUPS - 1}, 1),
    "inserted": (lambda d, g: d[: g[5][20]] + b"\0" * 7 + d[g[5][20] :], {5}, 1),
    "deleted": (lambda d, g: d[: g[5][20]] + d[g[5][23] :], {5}, 1),
    "zeroed": (lambda d, g: d[: g[5][9]] + bytes(len(d[g[5][9] : g[8][9]])) + d[g[8][9] :], {5, 6, 7, 8}, 1),
    "left out": (lambda d, g: without(d, g[5]), {5}, 1),
    "twice": (lambda d, g: d[: g[5].stop] + d[g[5].start :], set(), 0),
    "swapped": (
        lambda d, g: d[: g[5].start] + d[g[6].start : g[6].stop] + d[g[5].stop : g[6].start]
        + d[g[5].start : g[5].stop] + d[g[6].stop :],
        {5},
        1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_stays_local(work, whole, name):
    damage, lost, places = DAMAGES[name]
    _, good = work.decode(whole)
    stats, frames = work.decode(damage(whole, spans(whole, b"GRUP")), on_error="conceal")
    assert len(frames) == len(good)
    wrong = {number // KEYINT for number, pair in enumerate(zip(frames, good, strict=True)) if not same(*pair)}
    assert wrong <= lost
    assert stats.lost_frames == KEYINT * len(lost)
    assert len([loss for loss in stats.damage if loss.frames]) == places
    assert stats.damage


def test_a_damaged_track_loses_that_track_alone(work, whole):
    times, packets = work.mkv(whole)
    first, second = spans(whole, b"trak")
    assert work.mkv(flipped(whole, first[12]), on_error="skip") == (times, {1: packets[2]})
    assert work.mkv(flipped(whole, second[12]), on_error="skip") == (times, {1: packets[1]})
    # where its length is damaged, how many tracks were there is not known: none of those behind it is trusted
    assert work.mkv(flipped(whole, first.start + 4), on_error="skip") == (times, {})


def test_nothing_left(work, codec):
    data = stream(codec.models[0], frames=1)
    for on_error in ("skip", "conceal"):
        options = {"on_error": on_error}
        (group,) = spans(data, b"GRUP")
        if on_error == "skip":
            with pytest.raises(BitstreamError, match="not one frame"):
                work.decode(flipped(data, group[20]), **options)
        else:
            stats, frames = work.decode(flipped(data, group[20]), **options)
            assert len(frames) == stats.lost_frames == 1


def test_words_that_make_no_sense_behind_a_right_crc(work, whole, monkeypatch):
    """The decoder gives up in the middle of a group: its frames so far are kept."""
    decode = room.decode_group

    def fails(model, group, info):
        for number, frame in enumerate(decode(model, group, info), group.first_frame):
            if number == 9:
                raise BitstreamError("the words do not fit")
            yield frame

    _, good = work.decode(whole)
    monkeypatch.setattr(room, "decode_group", fails)
    with pytest.raises(BitstreamError, match=r"in\.bsq: group of frames 8-9: the words do not fit"):
        work.decode(whole)
    stats, frames = work.decode(whole, on_error="conceal")
    assert stats.lost_frames == 1 and len(frames) == len(good)
    assert same(frames[9], good[8]) and same(frames[10], good[10])
    with work.play(whole, on_error="skip") as video:
        assert [frame.index for frame in video] == [n for n in range(GROUPS * KEYINT) if n != 9]


# --- cut short -----------------------------------------------------------------------------------


def test_a_file_cut_anywhere_plays_up_to_the_cut(work, whole):
    _, good = work.decode(whole)
    ends = [span.stop for span in spans(whole, b"GRUP")]
    for cut in range(ends[0], len(whole), 97):
        expected = KEYINT * sum(end <= cut for end in ends)
        stats, frames = work.decode(whole[:cut], on_error="skip")
        assert len(frames) == expected and all(map(same, frames, good))
        assert stats.damage and "cut short" in stats.damage[-1].message
        with work.play(whole[:cut]) as video:
            assert len(video) == expected and not video.complete
            played = 0
            with pytest.raises(TruncatedError, match=r"in\.bsq: byte"):
                for frame in video:
                    played += same((frame.y, frame.u, frame.v), good[frame.index])
            assert played == expected
        with pytest.raises(TruncatedError):
            work.decode(whole[:cut])


def test_a_file_without_index_seeks_by_scanning(work, whole):
    (index,), (tail,) = spans(whole, b"indx"), spans(whole, b"TAIL")
    _, good = work.decode(whole)
    no_index = whole[: index.start] + pack_chunk(b"TAIL", pack_tail(GROUPS * KEYINT, 0))
    for data in (no_index, whole[: index.start], whole[: tail.start], flipped(whole, index[12])):
        with work.play(data) as video:
            for number in (33, 4, 0, 39):
                video.seek(number)
                frame = next(iter(video))
                assert frame.index == number and same((frame.y, frame.u, frame.v), good[number])
    with work.play(no_index) as video:
        assert video.complete and len(list(video)) == GROUPS * KEYINT


def test_open_warns_of_a_missing_end(work, whole, caplog):
    """Also those who seek and never come to the end."""
    caplog.set_level("WARNING", "bsqcodec")
    for on_error in ("fail", "skip"):
        with work.play(whole, on_error=on_error) as video:
            assert video.complete and not caplog.records
        with work.play(whole[:-5], on_error=on_error) as video:
            assert not video.complete
            video.seek(3)
            video.seek(4)
            assert len(caplog.records) == 1
            assert "the end of the file was not found; 40 frames can be played" in caplog.text
        caplog.clear()


def test_what_tail_and_index_promise(work, whole):
    groups, (index,), (tail,) = spans(whole, b"GRUP"), spans(whole, b"indx"), spans(whole, b"TAIL")
    shorter = without(whole, groups[-1])
    for data in (shorter, without(shorter, spans(shorter, b"TAIL")[0])):  # either says how many frames there were
        stats, frames = work.decode(data, on_error="conceal")
        assert (stats.lost_frames, len(frames)) == (2, 40)
        assert same(frames[39], frames[37])
    for promised in (3, 2**63):
        stats, frames = work.decode(
            whole[: index.start] + pack_chunk(b"TAIL", pack_tail(promised, 0)), on_error="conceal"
        )
        assert (stats.lost_frames, len(frames)) == (0, 40)
        assert f"{promised} frames expected, 40 found" in stats.damage[0].message
    assert tail.stop == len(whole)


# --- bsqcodec.open -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [b"pckt", b"indx", b"stat", b"TAIL", b"trak", b"meta"])
def test_open_checks_chunks_that_frames_do_not_need(work, whole, kind):
    damaged = flipped(whole, spans(whole, kind)[0][11])
    if kind in (b"trak", b"meta"):  # in front of the first group: nothing is played
        with pytest.raises(BitstreamError, match=kind.decode()):
            work.play(damaged)
    else:
        with work.play(damaged) as video:
            seen = []
            with pytest.raises(BitstreamError, match=kind.decode()):
                seen.extend(frame.index for frame in video)
            assert len(video) == GROUPS * KEYINT
    with work.play(damaged, on_error="skip") as video:
        assert len(list(video)) == GROUPS * KEYINT
        assert [loss.frames for loss in video.losses] == [0]


def test_open_puts_up_with_damage(work, whole):
    _, good = work.decode(whole)
    lost = flipped(whole, spans(whole, b"GRUP")[3][50])
    with work.play(lost) as video:
        seen = []
        with pytest.raises(BitstreamError, match="CRC mismatch"):
            for frame in video:
                seen.append(frame.index)
        assert seen == list(range(6))
    with work.play(lost, on_error="skip") as video:
        assert [frame.index for frame in video] == [n for n in range(40) if n not in (6, 7)]
        video.seek(7)
        assert next(iter(video)).index == 8
        assert [(loss.first_frame, loss.frames) for loss in video.losses] == [(6, 2)]
    with work.play(lost, on_error="conceal") as video:
        everything = list(video)
        assert [frame.index for frame in everything] == list(range(40))
        assert [frame.index for frame in everything if frame.concealed] == [6, 7]
        video.seek(7)  # without the frames before
        frame = next(iter(video))
        assert frame.concealed and np.array_equal(frame.y, good[5][0])


# --- found by fuzzing -----------------------------------------------------------------------------


def with_header_field(data: bytes, offset: int, value: bytes) -> bytes:
    """Other bytes in HEAD's payload, CRC right."""
    head = spans(data, b"HEAD")[0]
    payload = bytearray(data[head.start + 8 : head.stop - 4])
    payload[offset : offset + len(value)] = value
    return data[: head.start] + pack_chunk(b"HEAD", bytes(payload)) + data[head.stop :]


@pytest.mark.parametrize("offset", [4, 8, 12, 16, 20, 24])
def test_fractions_beyond_those_of_ffmpeg(work, whole, offset):
    """Time base, frame rate and aspect ratio are u32 here, and int in FFmpeg: an OverflowError once."""
    forged = with_header_field(whole, offset, b"\xfb\xff\xff\xff")
    with pytest.raises(VideoError, match=r"out\.mkv: cannot be written .*does not fit"):
        work.mkv(forged)
    assert not list(work.folder.glob("out.mkv*"))
    assert len(work.decode(forged)[1]) == GROUPS * KEYINT


def test_codes_that_nobody_knows(work, whole):
    """Colour codes and the chroma location come straight from the file: an IndexError once."""
    times, packets = work.mkv(whole)
    for offset in range(28, 34):  # rotation, primaries, transfer, matrix, range, chroma location
        forged = with_header_field(whole, offset, b"\xff")
        assert work.mkv(forged) == (times, packets)
        with work.play(forged) as video:
            assert next(iter(video)).rgb.shape == (16, 16, 3)


@pytest.mark.parametrize("offset", [2**62, 2**63 - 1, 2**63, 2**63 + 2**62])
def test_an_index_that_leads_out_of_the_file(work, whole, offset):
    """Or further than a file can seek."""
    (index,) = spans(whole, b"indx")
    entries = StreamReader(io.BytesIO(whole)).index()
    half = replace(entries[-1], offset=offset // 2)  # a step is below 2^63
    forged = pack_index([*entries[:-2], replace(half, frames=KEYINT), replace(half, offset=offset)])
    data = whole[: index.start] + pack_chunk(b"indx", forged)
    data += pack_chunk(b"TAIL", pack_tail(GROUPS * KEYINT, index.start))
    with work.play(data) as video:
        video.seek(39)
        assert next(iter(video)).index == 39


@pytest.mark.parametrize("kind", ["audio", "subtitle"])
@pytest.mark.parametrize("name", ["libx264", "pcm_s16le", "subrip", "png", "", "no such codec"])
def test_tracks_of_any_codec(work, codec, kind, name):
    """A track may call a video encoder audio: an AttributeError once. What FFmpeg cannot carry is dropped."""
    track = Track(kind, name, Fraction(1, 8000), b"", "", 8000, 1, "mono", 0)
    times, packets = work.mkv(stream(codec.models[0], frames=2, tracks=(track,)))
    assert len(times) == 2
    assert not packets or (kind, name) in (("audio", "pcm_s16le"), ("subtitle", "subrip"))


# --- limits --------------------------------------------------------------------------------------


def test_limits(work, whole):
    for on_error in ("fail", "skip", "conceal"):
        for limit in ({"max_pixels": 255}, {"max_frames": 39}):
            with pytest.raises(LimitError, match=f"limit of .*raise --{next(iter(limit)).replace('_', '-')}"):
                work.decode(whole, on_error=on_error, **limit)
            with pytest.raises(LimitError), work.play(whole, on_error=on_error, **limit) as video:
                list(video)
        assert work.decode(whole, on_error=on_error, max_pixels=256, max_frames=40)[0].frames == 40
    for bad in ({"on_error": "ignore"}, {"fill": "black"}, {"max_pixels": 0}, {"max_frames": 0}):
        with pytest.raises(UsageError, match=next(iter(bad))):
            work.decode(whole, **bad)


def test_a_causal_model_holds_a_group_in_memory_so_its_frames_count(codec, work):
    data = stream(codec.models[1], frames=4, keyint=4)
    for on_error in ("fail", "conceal"):
        with pytest.raises(LimitError, match="group of frames 0-3: 1024 pixels"):
            work.decode(data, weights="1", max_pixels=1023, on_error=on_error)
    assert work.decode(data, weights="1", max_pixels=1024)[0].frames == 4


def test_a_forged_frame_number_does_not_ask_for_endless_pictures(work, codec):
    data = stream(codec.models[0], frames=2, keyint=1)
    last = spans(data, b"GRUP")[1]
    payload = data[last.start + 8 : last.stop - 4]
    beyond = payload[:1] + b"\xff" * 8 + b"\x7f" + payload[2:]  # first_frame = 2^63 - 1
    with work.play(data[: last.start] + pack_chunk(b"GRUP", beyond), on_error="conceal") as video:
        assert len(list(video)) == 1
    forged = payload[:1] + pack_varint(2**62) + payload[2:]
    with work.play(data[: last.start] + pack_chunk(b"GRUP", forged), on_error="conceal") as video:
        assert [frame.index for frame in video] == [0, 2**62]  # no time between them for any other
        (loss,) = [loss for loss in video.losses if loss.frames]
        assert loss.frames == 2**62 - 1 and len(video) == 2**62 + 1
    hour = stream(codec.models[0], frames=2, keyint=1, times=(0, 90_000))
    payload = hour[spans(hour, b"GRUP")[1].start + 8 : spans(hour, b"GRUP")[1].stop - 4]
    long = hour[: spans(hour, b"GRUP")[1].start] + pack_chunk(b"GRUP", payload[:1] + pack_varint(90_000) + payload[2:])
    with work.play(long, on_error="conceal") as video:
        indices = [frame.index for frame in video]
    assert indices == [*range(MAX_FILLED + 1), 90_000]


def test_looking_for_the_next_chunk_takes_bounded_time(whole):
    """A file full of chunk types that each claim the rest of it: each CRC must not cost the whole file."""
    trap = b"GRUP" + (2**21).to_bytes(4, "little")
    front = whole[: spans(whole, b"GRUP")[0].start]
    file = CountingFile(front + trap * 400_000)
    reader = SalvageReader(file, name="x.bsq")
    assert [item for item in reader if isinstance(item, Group)] == []
    assert file.read_bytes < 20 * len(file.getvalue()) + 2**25


class CountingFile(io.BytesIO):
    """Counts the bytes that are read."""

    read_bytes = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.read_bytes += len(data)
        return data


def test_a_pipe_cannot_be_salvaged_directly(whole):
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    with pytest.raises(UsageError, match="pipe"):
        SalvageReader(Pipe(whole))


def test_salvaging_a_whole_file_is_reading_it(whole):
    reader = SalvageReader(io.BytesIO(whole))
    assert list(reader) == list(StreamReader(io.BytesIO(whole)))
    assert reader.losses == []
    assert reader.segments() == StreamReader(io.BytesIO(whole)).index()


def test_a_newer_file_is_refused_not_salvaged(whole):
    place = spans(whole, b"GRUP")[3].start
    newer = whole[:place] + pack_chunk(b"NewX", b"what must be known") + whole[place:]
    with pytest.raises(UnsupportedVersionError, match="NewX"):
        list(SalvageReader(io.BytesIO(newer)))
    assert PREAMBLE == whole[:12]
    with pytest.raises(BsqError):
        SalvageReader(io.BytesIO(b"RIFF" + whole))


@pytest.mark.parametrize("option", [{"start": 0.1}, {"limit": 3}, {"keyframes": True}])
def test_parts_and_previews_of_damaged_files_are_refused(work, whole, option):
    with pytest.raises(UsageError, match="decoded whole"):
        work.decode(whole, on_error="conceal", **option)


def test_tensors_and_tokens_want_whole_files(work, whole):
    with work.play(whole, on_error="conceal") as video:
        for iterate in (video.tensors, video.tokens):
            with pytest.raises(UsageError, match="whole files only"):
                next(iterate())
