"""The codec against a decoder that was written from bitstream_spec.md alone: the specification is enough, and right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reference_decoder
import torch
from golden_set import write_weights
from reference_motion import MotionReader
from test_motion import random_field

from bsqcodec.codec import GroupEncoder, decode_group, load_model
from bsqcodec.entropy import BitEncoder
from bsqcodec.frames import Frame, VideoInfo
from bsqcodec.motion import MotionField, MotionState, encode_field
from bsqcodec.motion import default_tables as motion_tables

WIDTH, HEIGHT = 75, 41  # 10 x 6 tokens: more than one window, odd numbers of blocks


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def video(frames: int) -> list[Frame]:
    """Three parts that move in different ways, and a little noise."""
    rng, out = np.random.default_rng(0), []
    for t in range(frames):
        y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
        x = np.where(x < 30, x - 1.5 * t, np.where(y < 20, x + 2.25 * t, x))
        luma = 120 + 60 * np.sin(x / 4) * np.cos(y / 5 + 0.3 * t) + rng.normal(0, 3, y.shape)
        u, v = 128 + 40 * np.sin(x[::2, ::2] / 6), 128 + 30 * np.cos(y[::2, ::2] / 4)
        out.append(Frame(*(np.rint(p).clip(0, 255).astype(np.uint8) for p in (luma, u, v)), pts=t))
    return out


@pytest.mark.parametrize(("kind", "crf"), [("predictive", 3.0), ("predictive", 51.0), ("causal", 28.0)])
def test_a_decoder_from_the_specification_decodes_our_groups(kind: str, crf: float, tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    write_weights(path, "causal" if kind == "causal" else "psnr")
    model, info, frames = load_model(path, device="cpu"), VideoInfo(WIDTH, HEIGHT), video(4)
    encoder = GroupEncoder(model, info, crf=crf, keyint=9)
    groups = [done for frame in frames for done in encoder.push(frame)] + encoder.flush()
    assert len(groups) == 1
    group = groups[0].group
    ours = list(decode_group(model, group, info))
    weights = reference_decoder.Weights(path.read_bytes())
    theirs = reference_decoder.decode_group(weights, WIDTH, HEIGHT, group.qualities, group.motion, group.tokens)
    differing = samples = 0
    for mine, other in zip(ours, theirs, strict=True):
        for a, b in zip((mine.y, mine.u, mine.v), other, strict=True):
            assert a.shape == b.shape
            error = np.abs(a.astype(int) - b)
            assert error.max() <= (0 if kind == "predictive" else 1)  # causal: float32 against float64
            differing, samples = differing + int(error.sum()), samples + error.size
    assert differing <= samples // 2000
    if kind == "predictive":
        planes = groups[0].plane_bits
        assert planes["motion"] > 100 and planes["tokens/sign"] > 20
        assert crf < 4 or planes["tokens/filter"] > 1
        assert crf > 4 or planes["tokens/ge16+"] > 10  # the tables of rare decisions too


@pytest.mark.parametrize("merge", [False, True])
def test_motion_fields_without_order(merge: bool) -> None:
    """Vectors, splits and adaptation far from what video has."""
    rng, (h, w), tables = np.random.default_rng(2), (37, 35), motion_tables(merge)
    encoder, state = BitEncoder(), MotionState(tables)
    fields: list[MotionField] = []
    for limit in (511, 3, 40, 511):
        field = random_field(rng, h, w, limit)
        encode_field(encoder, field, fields[-1] if fields else None, tables, state)
        fields.append(field)
    named = {name.removeprefix("motion."): table for name, table in tables.to_arrays().items()}
    reader = MotionReader(reference_decoder.Bits(encoder.words()), named, h, w, merge)
    for field in fields:
        vectors, split = reader.field()
        assert [vectors[y, x] for y, x in np.ndindex(h, w)] == [tuple(v) for v in field.vectors.reshape(-1, 2).tolist()]
        assert [split.get(place, 0) for place in np.ndindex(19, 18)] == field.split.int().flatten().tolist()
