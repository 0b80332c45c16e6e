"""First frames at a fraction of their size, with the real model."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from test_codec import causal_weights, encoded, frames_of, scene

import bsqcodec
from bsqcodec.codec import decode_group, load_model
from bsqcodec.codec.thumbnail import check_scales, decode_thumbnail
from bsqcodec.container import Group
from bsqcodec.entropy import BitDecoder
from bsqcodec.errors import UsageError
from bsqcodec.frames import VideoInfo
from bsqcodec.previews import Preview

WIDTH, HEIGHT = 98, 66  # not whole tokens at any size


def hills(shift: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture without fine detail, which would be another picture at every size: waves of 45 pixels and more."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = 40 * np.sin(0.09 * (x + shift)) * np.cos(0.11 * y) + 30 * np.sin(0.05 * (x + y))
    luma = np.round(waves + 120).astype(np.uint8)
    small = luma[::2, ::2]
    return luma, 64 + small // 2, 255 - small // 3


@pytest.fixture(scope="module")
def group(model) -> Group:
    return encoded(model, frames_of([hills(n) for n in range(2)]), crf=16)[0].group


def shrunk(plane: np.ndarray, factor: int) -> np.ndarray:
    """Means of factor x factor samples, the border repeated."""
    rows, columns = (-(-side // factor) for side in plane.shape)
    padding = (rows * factor - plane.shape[0], columns * factor - plane.shape[1])
    wide = np.pad(plane, ((0, padding[0]), (0, padding[1])), mode="edge").astype(float)
    return wide.reshape(rows, factor, columns, factor).mean((1, 3))


def test_full_size_is_the_first_frame_itself(model, group):
    info = VideoInfo(WIDTH, HEIGHT)
    whole, thumbnail = next(decode_group(model, group, info)), decode_thumbnail(model, group, info, 0)
    for name in ("y", "u", "v"):
        np.testing.assert_array_equal(getattr(thumbnail, name), getattr(whole, name))


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_thumbnail_is_the_picture_made_smaller(model, group, level):
    info = VideoInfo(WIDTH, HEIGHT)
    whole, small = next(decode_group(model, group, info)), decode_thumbnail(model, group, info, level)
    wanted = shrunk(whole.y, 2**level)
    assert small.y.shape == wanted.shape
    assert small.u.shape == small.v.shape == tuple((side + 1) // 2 for side in wanted.shape)
    error = np.sqrt(((small.y - wanted) ** 2).mean())
    assert error < 0.1 * wanted.std(), (error, wanted.std())


def test_fewer_tokens_are_decoded_for_it(model, group, monkeypatch):
    """What makes it fast: the words of larger sizes are not touched."""
    read = []
    original = BitDecoder.decode

    def counted(self, *args):
        bits = original(self, *args)
        read.append(len(bits))
        return bits

    monkeypatch.setattr(BitDecoder, "decode", counted)
    counts = []
    for level in sorted(model.first_levels):
        read.clear()
        decode_thumbnail(model, group, VideoInfo(WIDTH, HEIGHT), level)
        counts.append(sum(read))
    assert len(counts) > 2
    for larger, smaller in pairwise(counts):
        assert smaller < 0.6 * larger, counts


def test_decode_writes_small_keyframes(model, weights, tmp_path):
    from test_codec import write_y4m

    write_y4m(tmp_path / "in.y4m", [scene(n, WIDTH, HEIGHT) for n in range(4)])
    bsqcodec.encode(tmp_path / "in.y4m", tmp_path / "a.bsq", keyint=2, device="cpu", weights=weights)
    options = {"device": "cpu", "weights": weights, "keyframes": True}
    stats = bsqcodec.decode(tmp_path / "a.bsq", tmp_path / "small.y4m", scale="1/4", **options)
    assert stats.frames == 2
    assert (tmp_path / "small.y4m").read_bytes().startswith(b"YUV4MPEG2 W25 H17 ")


def test_models_without_sizes_say_so(tmp_path):
    model = load_model(causal_weights(tmp_path / "paper.safetensors"), device="cpu")
    with pytest.raises(UsageError, match="no smaller sizes"):
        check_scales(model)
    with pytest.raises(UsageError, match="no smaller sizes"):
        Preview.of(True, "1/2").decoder(model, VideoInfo(64, 48), lambda group: iter(()))
