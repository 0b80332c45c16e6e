"""Training clips that are changed: speed, light, photographs under a camera. Run: pytest tests/test_augmentation.py"""

import random
from itertools import pairwise

import pytest
import torch
from test_training import texture, write_clip

from bsqcodec.training import augmentation
from bsqcodec.training.clips import Excerpts, find_sources


def picture(height, width, seed=0):
    torch.manual_seed(seed)
    coarse = torch.rand(1, 1, height // 8 + 2, width // 8 + 2) * 255
    luma = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0, 0]
    luma = luma.clamp(0, 255).to(torch.uint8)
    return luma, luma[::2, ::2].contiguous(), luma[1::2, 1::2].contiguous()


def test_light_is_the_same_for_all_frames():
    clip = [picture(32, 48)] * 3
    changed = augmentation.jitter_colour(clip, random.Random(2))
    means = [float(y.float().mean()) for y, _, _ in changed]
    assert max(means) - min(means) < 0.2 and abs(means[0] - clip[0][0].float().mean()) > 3
    assert all(
        plane.dtype == torch.uint8 and plane.shape == old.shape for plane, old in zip(changed[0], clip[0], strict=True)
    )


@pytest.mark.parametrize("seed", range(6))
def test_a_filmed_picture_moves_evenly(seed):
    frames = augmentation.camera_motion(picture(160, 224), 6, random.Random(seed))
    assert len(frames) == 6 and [p.shape for p in frames[0]] == [(160, 224), (80, 112), (80, 112)]
    steps = [float((a[0].float() - b[0].float()).abs().mean()) for a, b in pairwise(frames)]
    assert min(steps) > 0 and max(steps) < 3 * min(steps) + 1


def test_a_resting_camera_sees_the_picture(monkeypatch):
    still = picture(128, 160)
    monkeypatch.setattr(augmentation, "PACES", (0.0,))
    for frame in augmentation.camera_motion(still, 2, random.Random(0)):
        for seen, plane in zip(frame, still, strict=True):
            assert (seen.float() - plane.float()).abs().mean() < 1


def test_excerpts_are_augmented_if_asked(tmp_path):
    write_clip(tmp_path / "clip.mkv", texture(0))
    sources = find_sources(tmp_path, False)
    plain = [Excerpts(sources, random.Random(i)).draw((3,)) for i in range(8)]
    changed = [Excerpts(sources, random.Random(i), augmented=True).draw((3,)) for i in range(8)]
    assert all(1 <= len(frames) <= 3 for frames in changed)
    ranges = [{float(frames[0][0].float().mean()) for frames in drawn} for drawn in (plain, changed)]
    assert len(ranges[0]) < len(ranges[1])
