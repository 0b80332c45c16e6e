"""A model of the real kind with small random weights: bits and pictures without sense, but all of the decoder's work.

It decodes a tiny group in milliseconds, where the shipped weights take a hundred times as long.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from bsqcodec.codec import GroupEncoder, Model
from bsqcodec.codec.model import ModelConfig, save_model
from bsqcodec.container import StreamHeader, StreamStats, StreamWriter
from bsqcodec.frames import Frame, Track, TrackPacket, VideoInfo
from bsqcodec.motion import default_tables as motion_tables
from bsqcodec.prior.network import PriorConfig, PriorNetwork
from bsqcodec.prior.tables import default_tables
from bsqcodec.tokenizer.causal import CausalConfig, CausalTokenizer
from bsqcodec.tokenizer.predictive import PredictiveConfig, PredictiveTokenizer

SIZES = {"dim": 8, "depth": 1, "heads": 1, "mlp": 8}
PRIOR = {"embed": 8, "mix": 8, "hidden": 8, **SIZES}
SOUND = Track("audio", "pcm_s16le", Fraction(1, 8000), b"", "eng", 8000, 1, "mono", 0)
TITLES = Track("subtitle", "subrip", Fraction(1, 1000), b"", "deu")


def standin_weights(path: Path, causal: bool = False) -> Path:
    """Write a weights file of a small untrained model, the same each time; returns its path."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        tokenizer: PredictiveTokenizer | CausalTokenizer
        if causal:
            tokenizer = CausalTokenizer(CausalConfig(bits=8, **SIZES))
            prior_config = PriorConfig(channels=8, layout="signs", bands=(4, 8), signed=4, **PRIOR)
        else:
            tokenizer, prior_config = PredictiveTokenizer(PredictiveConfig(**SIZES)), PriorConfig(**PRIOR)
        prior = PriorNetwork(prior_config)
        with torch.no_grad():
            for parameter in prior.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    config = ModelConfig("stand-in", "psnr", tokenizer.config, prior_config)
    save_model(path, config, tokenizer, prior, default_tables(), motion_tables())
    return path


def picture(number: int, width: int, height: int) -> Frame:
    """Frame `number` of a texture that moves by (2, 1) samples a frame, one tick after the other."""
    y, x = np.mgrid[:height, :width]
    luma = 120 + 60 * np.sin((x - 2 * number) / 5) * np.cos((y - number) / 4)
    half = luma[::2, ::2]
    planes = (luma.astype(np.uint8), (64 + half / 2).astype(np.uint8), (255 - half / 3).astype(np.uint8))
    return Frame(*planes, pts=number, duration=1)


def stream(
    model: Model,
    *,
    frames: int = 5,
    width: int = 16,
    height: int = 16,
    keyint: int = 2,
    crf: float = 40,
    times: Sequence[int] | None = None,
    tracks: Sequence[Track] = (),
    complete: bool = True,
) -> bytes:
    """A small .bsq file. times: time stamps of the frames; tracks: each gets packets; complete: with index and tail."""
    info = VideoInfo(width, height)
    encoder = GroupEncoder(model, info, crf=crf, keyint=keyint)
    pictures = [picture(n, width, height) for n in range(frames)]
    if times is not None:
        pictures = [replace(frame, pts=pts) for frame, pts in zip(pictures, times, strict=True)]
    groups = [group.group for frame in pictures for group in encoder.push(frame)]
    groups += [group.group for group in encoder.flush()]
    file = io.BytesIO()
    writer = StreamWriter(file, StreamHeader(info, keyint, model.tune, crf, model.sha256, model.name), tracks)
    writer.write_meta({"title": "stand-in"})
    for group in groups:
        writer.write_packets([packet for track in range(len(tracks)) for packet in _packets(track, group.first_frame)])
        writer.write_group(group)
    if complete:
        writer.close(StreamStats(100, (("zero", 5), ("sign", 7)), (30.0, 31.0, 32.0)))
    return file.getvalue()


def _packets(track: int, first_frame: int) -> list[TrackPacket]:
    step = 320 if track == 0 else 40
    start = first_frame * step
    return [TrackPacket(track, bytes([65 + i]) * 64, start + step * i, start + step * i, step, True) for i in range(2)]
