"""benchmarks/bit_split.py: the parts are those of the file, and of x264's stream."""

from __future__ import annotations

from fractions import Fraction

import bit_split
import clips
import pytest
import x264

import bsqcodec


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("split") / "in.y4m"
    path.write_bytes(clips.y4m_bytes(5, 96, 64))
    return path


def test_parts_of_a_file_add_up(clip, tmp_path):
    stats = bsqcodec.encode(clip, tmp_path / "a.bsq", crf=18, device="cpu")
    parts = bit_split.split(tmp_path / "a.bsq")
    assert 0 < parts.pop("chroma") < sum(parts.values())
    tokens = sum(bits for name, bits in parts.items() if name != "motion")
    spent = sum(bits for name, bits in stats.bits.items() if name.startswith("tokens/"))
    assert tokens == pytest.approx(spent, rel=1e-6)
    assert parts["first frames"] > 0 and parts["zero or not"] > 0


def test_parts_of_x264_add_up_to_its_stream(clip):
    frames = list(x264.read_frames(clip))
    parts = bit_split.split_x264(frames, Fraction(25), crf=18)
    assert 0 < parts.pop("chroma") < sum(parts.values())
    made = x264.encode(frames, Fraction(25), 18)
    assert sum(parts.values()) == pytest.approx(8 * len(made.data), rel=0.2)  # less start codes and parameter sets


def test_shares_leave_chroma_out_of_the_sum():
    shares = bit_split.relative({"first frames": 30.0, "motion": 70.0, "chroma": 25.0})
    assert shares == {"first frames": 0.3, "motion": 0.7, "chroma": 0.25}
    assert bit_split.mean([shares, {"first frames": 0.5}]) == {"first frames": 0.4, "motion": 0.35, "chroma": 0.125}
