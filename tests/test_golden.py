"""Golden streams: files made once that must mean the same bits for ever, and the same pixels within rounding.

`golden/<name>.bsq` with its decoded planes in `<name>.yuv.z` (zlib; Y, U, V of each frame) and `golden.json`: hash of
levels and vectors (exact everywhere) and the time stamps. The files are bound to the weights by their hash; after new
weights: BSQ_UPDATE_GOLDEN=1 pytest tests/test_golden.py
"""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from exactness import hashed_bits
from test_codec import frames_of, noise, scene

from bsqcodec.codec import GroupEncoder, check_model, decode_group
from bsqcodec.container import FORMAT_MAJOR, FORMAT_MINOR, Group, StreamHeader, StreamReader, StreamWriter, scan
from bsqcodec.container.chunks import pack_chunk
from bsqcodec.frames import Frame, Track, TrackPacket, VideoInfo

FOLDER = Path(__file__).parent / "golden"
UPDATE = "BSQ_UPDATE_GOLDEN"
LARGEST, TOGETHER = 20_000, 100_000  # bytes
MAX_DIFFERENCE, MIN_PSNR = 2, 50.0  # what float rounding may do to a pixel; bitstream_spec.md, decoding of pixels
TRACK = Track("audio", "pcm_s16le", Fraction(1, 8000), sample_rate=8000, channels=1, layout="mono", frame_size=80)
PACKETS = [TrackPacket(0, bytes(range(n, n + 160)), 80 * n, 80 * n, 80, True) for n in range(5)]

UNKNOWN = pack_chunk(b"zzzz", b"what a later version knows")  # a chunk that decoders must skip


@dataclass(frozen=True)
class Recipe:
    """How a golden file is made; chunk: bytes put behind the header; after: what is done to the file's bytes."""

    frames: Callable[[], list[Frame]]
    crf: float = 30.0
    keyint: int = 32
    tracks: tuple[Track, ...] = ()
    chunk: bytes = b""
    after: Callable[[bytes], bytes] = bytes


def clip(count: int, width: int, height: int, seed: int = 7) -> Callable[[], list[Frame]]:
    return lambda: frames_of([scene(n, width, height, seed) for n in range(count)])


def cut() -> list[Frame]:
    dark = [tuple(plane // 3 for plane in scene(n, 48, 32, seed=9)) for n in range(2)]
    return frames_of([scene(n, 48, 32, seed=8) for n in range(3)] + dark)


def irregular() -> list[Frame]:
    times, durations = (0, 3, 4, 11), (3, 1, 7, 0)
    return [replace(f, pts=t, duration=d) for f, t, d in zip(clip(4, 32, 24)(), times, durations, strict=True)]


def minor_ahead(data: bytes) -> bytes:
    """The same file from a later minor version of the format."""
    assert data[8:10] == bytes([FORMAT_MAJOR, FORMAT_MINOR])
    return data[:9] + bytes([FORMAT_MINOR + 1]) + data[10:]


RECIPES = {
    "one_16x16": Recipe(clip(1, 16, 16)),
    "three_33x17": Recipe(clip(3, 33, 17)),
    "cut": Recipe(cut),
    "crf0": Recipe(clip(2, 24, 16), crf=0),
    "crf16": Recipe(clip(3, 40, 24), crf=16),
    "crf44": Recipe(clip(3, 72, 40), crf=44),
    "crf51": Recipe(clip(3, 72, 40), crf=51),
    "vfr": Recipe(irregular),
    "audio": Recipe(clip(2, 24, 24), tracks=(TRACK,)),
    "odd_71x59": Recipe(clip(4, 71, 59)),
    "keyint1": Recipe(clip(3, 24, 24), keyint=1),
    "noise": Recipe(lambda: frames_of([noise(n, 24, 16) for n in range(2)]), crf=40),
    "ancillary": Recipe(clip(2, 24, 16), chunk=UNKNOWN),
    "minor_ahead": Recipe(clip(2, 24, 16), after=minor_ahead),
}


def make(recipe: Recipe, model) -> bytes:
    """The bytes of a golden file, the same each time on one machine."""
    frames = recipe.frames()
    height, width = frames[0].y.shape
    info = VideoInfo(width, height)
    file = io.BytesIO()
    header = StreamHeader(info, recipe.keyint, model.tune, recipe.crf, model.sha256, model.name, tool="golden")
    writer = StreamWriter(file, header, recipe.tracks)
    encoder = GroupEncoder(model, info, crf=recipe.crf, keyint=recipe.keyint)
    groups = [group for frame in frames for group in encoder.push(frame)] + encoder.flush()
    writer._put(recipe.chunk)
    if recipe.tracks:
        writer.write_packets(PACKETS)
    for group in groups:
        writer.write_group(group.group)
    writer.close()
    return recipe.after(file.getvalue())


@dataclass(frozen=True)
class Decoded:
    """What a golden file decodes to."""

    bits: str
    frames: list[Frame]
    groups: list[int]
    packets: list[TrackPacket]

    @property
    def planes(self) -> bytes:
        return b"".join(plane.tobytes() for f in self.frames for plane in (f.y, f.u, f.v))

    def facts(self) -> dict[str, object]:
        """The entry of golden.json."""
        return {
            "bits": self.bits,
            "size": [self.frames[0].y.shape[1], self.frames[0].y.shape[0]],
            "groups": self.groups,
            "pts": [frame.pts for frame in self.frames],
            "durations": [frame.duration for frame in self.frames],
        }


def decoded(data: bytes, name: str, model) -> Decoded:
    reader = StreamReader(io.BytesIO(data), name=name)
    check_model(model, reader.header)
    frames: list[Frame] = []
    packets: list[TrackPacket] = []
    groups: list[int] = []
    with hashed_bits() as seen:
        for item in reader:
            if isinstance(item, Group):
                frames += decode_group(model, item, reader.header.info)
                groups.append(len(item.pts))
            else:
                packets += item
    return Decoded(seen.hex, frames, groups, packets)


def difference(got: bytes, expected: bytes) -> tuple[int, float]:
    """Largest difference of two pictures' samples, and their PSNR in dB."""
    one, other = (np.frombuffer(data, np.uint8).astype(int) for data in (got, expected))
    assert one.shape == other.shape
    error = float(((one - other) ** 2).mean())
    return int(np.abs(one - other).max()), 10 * np.log10(255**2 / error) if error else 100.0


def close(got: bytes, expected: bytes) -> bool:
    largest, psnr = difference(got, expected)
    return largest <= MAX_DIFFERENCE and psnr >= MIN_PSNR


@pytest.fixture(scope="module")
def expected(model):
    """golden.json, made anew first where BSQ_UPDATE_GOLDEN is set."""
    if os.environ.get(UPDATE):
        update(model)
    return json.loads((FOLDER / "golden.json").read_text())


def update(model) -> None:
    facts = {}
    for path in [*FOLDER.glob("*.bsq"), *FOLDER.glob("*.yuv.z")]:
        path.unlink()
    for name, recipe in RECIPES.items():
        data = make(recipe, model)
        result = decoded(data, name, model)
        (FOLDER / f"{name}.bsq").write_bytes(data)
        (FOLDER / f"{name}.yuv.z").write_bytes(zlib.compress(result.planes, 9))
        facts[name] = result.facts()
    text = json.dumps({"weights": model.sha256.hex(), "files": facts}, indent=1)
    (FOLDER / "golden.json").write_text(text + "\n")


def test_golden_files_belong_to_these_weights(expected, model):
    assert expected["weights"] == model.sha256.hex(), f"other weights: {UPDATE}=1 pytest {Path(__file__).name}"
    assert expected["files"].keys() == RECIPES.keys()


@pytest.mark.parametrize("name", RECIPES)
def test_golden_file(expected, model, name):
    data = (FOLDER / f"{name}.bsq").read_bytes()
    result = decoded(data, name, model)
    assert result.facts() == expected["files"][name]
    reference = zlib.decompress((FOLDER / f"{name}.yuv.z").read_bytes())
    assert close(result.planes, reference), difference(result.planes, reference)
    assert result.packets == (PACKETS if RECIPES[name].tracks else [])
    report = scan(io.BytesIO(data), check=True)
    assert report.damage is None
    # the source is in the recipe, so that golden pixels are pictures and not whatever came out once
    source = b"".join(plane.tobytes() for f in RECIPES[name].frames() for plane in (f.y, f.u, f.v))
    assert difference(reference, source)[1] > (12 if name in ("noise", "crf51") else 20)


def test_golden_files_are_what_they_are_called(expected):
    facts = expected["files"]
    assert facts["one_16x16"]["groups"] == [1]
    assert facts["three_33x17"]["size"] == [33, 17]
    assert facts["cut"]["groups"] == [3, 2]
    assert facts["keyint1"]["groups"] == [1, 1, 1]
    assert facts["vfr"]["pts"] == [0, 3, 4, 11]
    assert facts["ancillary"]["bits"] == facts["minor_ahead"]["bits"]
    assert b"zzzz" in (FOLDER / "ancillary.bsq").read_bytes()
    assert (FOLDER / "minor_ahead.bsq").read_bytes()[9] == FORMAT_MINOR + 1
    sizes = [(FOLDER / f"{name}.bsq").stat().st_size for name in ("crf16", "crf44", "crf51")]
    assert sizes == sorted(sizes, reverse=True)
    different = {facts[name]["bits"] for name in RECIPES}
    assert len(different) == len(RECIPES) - 1


def test_golden_files_are_small(expected):
    streams = [path.stat().st_size for path in FOLDER.glob("*.bsq")]
    assert len(streams) == len(RECIPES)
    assert max(streams) <= LARGEST
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= TOGETHER


def test_the_comparison_can_fail():
    picture = bytes(range(256)) * 20
    samples = np.frombuffer(picture, np.uint8)
    assert close(picture, picture)
    few = samples.copy()
    few[128::256] += 2
    assert close(few.tobytes(), picture)
    few[128] += 1
    assert not close(few.tobytes(), picture)
    assert not close((samples ^ 1).tobytes(), picture)  # every sample off by one: 48 dB


def test_making_is_deterministic(model):
    recipe = RECIPES["three_33x17"]
    assert make(recipe, model) == make(recipe, model)
