"""`bsqcodec.Tokenizer`: frames to tokens and back, without entropy coding and without a file.

    tokenizer = bsqcodec.Tokenizer()
    tokens = tokenizer.encode(frames, crf=28)  # one group: the first frame stands alone, the others lean on it
    tokens.unpacked().shape  # (T, h, w, L) bits; packed() holds 8 a byte
    pictures = tokenizer.decode(tokens)

Legend: T frames, H W luma rows and columns, h = ceil(H / 8), w = ceil(W / 8) token rows and columns, C channels and
L bits a token.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bsqcodec.arguments import checked
from bsqcodec.checks import CRF_RANGE
from bsqcodec.errors import UsageError
from bsqcodec.frames import Frame, VideoInfo
from bsqcodec.pictures import AnyPicture, as_frame

if TYPE_CHECKING:
    from torch import Tensor

    from bsqcodec.codec.uncoded import GroupLevels

Levels = npt.NDArray[np.int16]
Bits = npt.NDArray[np.uint8]

TOKEN = 8  # luma samples a token is wide and high
MAX_LEVEL, MAX_VECTOR, MAX_QUALITY = 4095, 511, 255  # largest |level|, |vector component| and quality index
MAX_FRAMES = 65535  # of a group
MAX_INDEX_BITS = 63  # of a token that is one int64


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of one group, and all that a decoder needs besides the model.

    levels: int16 [T, h, w, C], quantised amplitudes (channels by rising frequency), |n| <= 4095; a causal model's are
    +-1, one of its L = C bits each.
    coarse: levels of the first frame at the smaller sizes that it is built from, largest first: 1/2, 1/4 and 1/8, or
    1/4 and 1/8 where the model predicts the full size from those; int16 [h_k, w_k, C] with h_k = ceil(h_(k-1) / 2) for
    1 / 2^k. Empty for a causal model.
    vectors: int16 [T - 1, h, w, 2], (dx, dy) of frames 1 .. T - 1 in quarter luma samples, |component| <= 511; x is
    predicted from x + dx / 4 of the frame before. split: bool [T - 1, ceil(h/2), ceil(w/2)], 16x16 blocks whose four
    vectors may differ. filters: bool [T - 1, ceil(h/4), ceil(w/4)], where the decoder's transformer changes tokens
    without levels. All three have length 0 for a causal model.
    qualities: T quality indices 0..255, 28 of them double the quantisation step. width, height: luma samples.
    """

    levels: Levels
    coarse: tuple[Levels, ...]
    vectors: Levels
    split: npt.NDArray[np.bool_]
    filters: npt.NDArray[np.bool_]
    qualities: tuple[int, ...]
    width: int
    height: int

    @property
    def bits(self) -> Bits:
        """All levels as bits, uint8 [T, h, w, C, 24]: zero, sign, |n| >= 2, 4 .. 2048, digits 2^10 .. 2^0 of |n|.

        A bit that the bits before it imply (`bitstream_spec.md`, 6.3) is 0 and would not be coded.
        """
        import torch

        from bsqcodec.tokenizer.levels import to_bits

        return to_bits(torch.from_numpy(self.levels)).numpy()

    def with_bits(self, bits: Bits) -> Tokens:
        """These tokens with other bits (same shape as `bits`); implied bits are not looked at."""
        import torch

        from bsqcodec.tokenizer.levels import BITS, from_bits

        _check_bits(bits, (*self.levels.shape, BITS))
        return replace(self, levels=from_bits(torch.from_numpy(bits)).numpy())

    @property
    def is_binary(self) -> bool:
        """Whether each channel is one bit, as in the paper's code (a causal model's tokens)."""
        return not self.coarse and bool((np.abs(self.levels) == 1).all())

    def unpacked(self) -> Bits:
        """All bits of each token, uint8 0 or 1, [T, h, w, L].

        A causal model's L = C are the bits of the paper's code; otherwise L = 24 C, the bits of one channel after the
        other. `coarse`, `vectors`, `split` and `filters` are not in it.
        """
        if self.is_binary:
            return (self.levels > 0).astype(np.uint8)
        return self.bits.reshape(*self.levels.shape[:3], -1)

    def packed(self) -> Bits:
        """`unpacked`, 8 bits a byte, the first bit highest: uint8 [T, h, w, ceil(L / 8)], padded with zeros."""
        return np.packbits(self.unpacked(), axis=-1)

    def indices(self) -> npt.NDArray[np.int64]:
        """A causal model's tokens as numbers below 2^L, int64 [T, h, w]; the first bit is the highest.

        Raises UsageError for other models, and for L > 63.
        """
        bits = self.unpacked()
        if not self.is_binary or bits.shape[-1] > MAX_INDEX_BITS:
            raise UsageError(f"indices(): a token has {bits.shape[-1]} bits, which are no one number; use packed()")
        weights = np.int64(1) << np.arange(bits.shape[-1] - 1, -1, -1, dtype=np.int64)
        numbers: npt.NDArray[np.int64] = bits.astype(np.int64) @ weights
        return numbers

    def with_unpacked(self, bits: Bits) -> Tokens:
        """These tokens with other bits, as `unpacked` gives them; implied bits are not looked at."""
        if not self.is_binary:
            return self.with_bits(bits.reshape((*self.levels.shape, -1)) if bits.ndim == 4 else bits)
        _check_bits(bits, self.levels.shape)
        return replace(self, levels=bits.astype(np.int16) * 2 - 1)

    def with_packed(self, data: Bits) -> Tokens:
        """These tokens with other bits, as `packed` gives them."""
        length = self.levels.shape[-1] * (1 if self.is_binary else 24)
        if data.dtype != np.uint8 or data.shape != (*self.levels.shape[:3], -(-length // 8)):
            raise UsageError(f"packed bits of {data.dtype} {data.shape}: must be as packed() gives them")
        return self.with_unpacked(np.unpackbits(data, axis=-1, count=length))

    @staticmethod
    def from_bits(bits: Bits, *, quality: int, width: int, height: int) -> Tokens:
        """Tokens of a causal model from what a generative model made.

        bits: uint8 0 or 1, [T, h, w, L]; quality: the index 0..255 of all frames; width, height: luma samples.
        """
        if bits.ndim != 4:
            raise UsageError(f"bits of shape {bits.shape}: must be [T, h, w, L]")
        _check_bits(bits, bits.shape)
        _, h, w, _ = bits.shape
        levels = bits.astype(np.int16) * 2 - 1
        vectors = np.zeros((0, h, w, 2), np.int16)
        split, filters = (np.zeros((0, -(-h // n), -(-w // n)), np.bool_) for n in (2, 4))
        return Tokens(levels, (), vectors, split, filters, (quality,) * len(bits), width, height)

    def __repr__(self) -> str:
        frames, h, w, channels = self.levels.shape
        return f"Tokens({frames} frames of {self.width}x{self.height}, {h}x{w} tokens of {channels} channels)"


class Tokenizer:
    """Frames to tokens to frames, with the same tokens and pictures as through a file.

    No bit is coded; the prior still runs in `encode`, because it has a say in the choice of levels.
    weights: a weights file, None = those that ship with the package for `tune` ("psnr" or "ms-ssim").
    device: "auto", "cpu" or "cuda:N"; threads: CPU threads, 0 = all.
    Raises UsageError, DeviceError, WeightsMismatchError as `encode` and `decode` do.
    """

    @checked
    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        *,
        tune: str = "psnr",
        device: str = "auto",
        threads: int = 0,
    ) -> None:
        from bsqcodec.codec import load_model

        self._model = load_model(weights, tune=tune, device=device, threads=threads)

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model.name

    @checked
    def encode(self, frames: Sequence[AnyPicture] | npt.NDArray[Any] | Tensor, crf: float = 28.0) -> Tokens:
        """Tokens of 1..65535 frames of one size, as one group.

        frames: a video, RGB uint8 numpy [T, H, W, 3] or torch [T, 3, H, W] (or floating point 0..1), or a sequence of
        pictures of any kind in `bsqcodec.pictures`, such as `DecodedFrame`s or (y, u, v) tuples. crf: quality 0..51,
        lower is better. The whole group is held in memory.
        Raises UsageError where frames or crf are none of this.
        """
        if not CRF_RANGE[0] <= crf <= CRF_RANGE[1]:  # False for NaN too
            raise UsageError(f"crf {crf}: must lie in {CRF_RANGE[0]:g}..{CRF_RANGE[1]:g}")
        pictures = _frames(frames)
        from bsqcodec.codec.group import to_planes
        from bsqcodec.codec.settings import intra_quality
        from bsqcodec.codec.uncoded import analyse
        from bsqcodec.tokenizer.transform import pad_planes

        height, width = pictures[0].y.shape
        h, w = _grid(width, height)
        targets = [pad_planes(to_planes(picture, self._model.device), h, w) for picture in pictures]
        group = analyse(self._model, targets, intra_quality(crf, self._model.config.crf_curve))
        return tokens_of(group, width, height)

    def decode(self, tokens: Tokens) -> list[Frame]:
        """The frames that tokens stand for (`Frame.pts` counts them from 0); the same as out of a file.

        Raises UsageError for tokens that are inconsistent or of another model.
        """
        from bsqcodec.codec.group import to_frame
        from bsqcodec.codec.uncoded import synthesise

        self._check(tokens)
        info = VideoInfo(tokens.width, tokens.height)
        pictures = synthesise(self._model, self._group(tokens))
        return [to_frame(planes, info, i, 1) for i, planes in enumerate(pictures)]

    def _check(self, tokens: Tokens) -> None:
        from bsqcodec.tokenizer.causal import CausalTokenizer

        causal = isinstance(self._model.tokenizer, CausalTokenizer)
        coarse = [level for level in self._model.first_levels[::-1] if level]
        _check_tokens(tokens, self._model.config.prior.channels, causal, coarse)

    def _group(self, tokens: Tokens) -> GroupLevels:
        import torch

        from bsqcodec.codec.uncoded import GroupLevels
        from bsqcodec.motion import MotionField

        device = self._model.device
        fields = [
            MotionField(torch.from_numpy(vectors.astype(np.int32)).to(device), torch.from_numpy(split).to(device))
            for vectors, split in zip(tokens.vectors, tokens.split, strict=True)
        ]
        coarse = [torch.from_numpy(levels).to(device) for levels in tokens.coarse]
        levels = torch.from_numpy(tokens.levels).to(device)
        return GroupLevels(levels, coarse, fields, list(tokens.qualities), list(tokens.filters))


def tokens_of(group: GroupLevels, width: int, height: int) -> Tokens:
    """A group's levels as tokens of a video of width x height luma samples."""
    _, h, w, _ = group.levels.shape
    vectors = np.zeros((len(group.fields), h, w, 2), np.int16)
    split = np.zeros((len(group.fields), -(-h // 2), -(-w // 2)), np.bool_)
    for i, field in enumerate(group.fields):
        vectors[i], split[i] = field.vectors.cpu().numpy(), field.split.cpu().numpy()
    coarse = tuple(levels.cpu().numpy() for levels in group.coarse)
    filters = np.zeros((len(group.fields), -(-h // 4), -(-w // 4)), np.bool_)
    for i, flags in enumerate(group.filters):
        filters[i] = flags
    return Tokens(group.levels.cpu().numpy(), coarse, vectors, split, filters, tuple(group.qualities), width, height)


def _frames(frames: Sequence[AnyPicture] | npt.NDArray[Any] | Tensor) -> list[Frame]:
    """The pictures as frames, checked: how many, and of one size."""
    if not 1 <= len(frames) <= MAX_FRAMES:
        raise UsageError(f"{len(frames)} frames: a group has 1..{MAX_FRAMES}")
    pictures = [as_frame(picture, i, name=f"frame {i}") for i, picture in enumerate(frames)]
    shape = pictures[0].y.shape
    for i, frame in enumerate(pictures):
        if frame.y.shape != shape:
            raise UsageError(f"frame {i}: planes of {frame.y.shape}; frame 0 has {shape}, and a group one size")
    return pictures


def _grid(width: int, height: int) -> tuple[int, int]:
    return -(-height // TOKEN), -(-width // TOKEN)


def _check_bits(bits: Bits, shape: tuple[int, ...]) -> None:
    if bits.shape != shape or bits.dtype != np.uint8 or bits.max(initial=0) > 1:
        raise UsageError(f"bits of {bits.dtype} {bits.shape}: must be uint8 0 or 1 of {shape}")


def _check_tokens(tokens: Tokens, channels: int, causal: bool, halvings: list[int]) -> None:
    """Whether tokens are of one piece, and of a model with `channels` that codes first frames at 1 / 2^k, too."""
    h, w = _grid(tokens.width, tokens.height)
    count = len(tokens.qualities)
    if not count or any(not 0 <= quality <= MAX_QUALITY for quality in tokens.qualities):
        raise UsageError(f"qualities {tokens.qualities}: must be one index of 0..{MAX_QUALITY} for each frame")
    if causal and len(set(tokens.qualities)) != 1:
        raise UsageError(f"qualities {tokens.qualities}: a group of this model has one quality")
    fields = 0 if causal else count - 1
    coarse = [(-(-h // 2**k), -(-w // 2**k), channels) for k in halvings]
    _check_array("levels", tokens.levels, (count, h, w, channels), MAX_LEVEL)
    if len(tokens.coarse) != len(coarse):
        raise UsageError(f"coarse: {len(tokens.coarse)} arrays, this model needs {len(coarse)}")
    for part, shape in zip(tokens.coarse, coarse, strict=True):
        _check_array("coarse", part, shape, MAX_LEVEL)
    _check_array("vectors", tokens.vectors, (fields, h, w, 2), MAX_VECTOR)
    for name, flags, size in (("split", tokens.split, 2), ("filters", tokens.filters, 4)):
        if flags.shape != (fields, -(-h // size), -(-w // size)) or flags.dtype != np.bool_:
            side = size * TOKEN
            raise UsageError(f"{name}: {flags.dtype} {flags.shape}; must be bool, one flag a {side}x{side} block")
    if causal and not tokens.is_binary:
        raise UsageError("levels: these tokens hold amplitudes; this model's are +-1, one bit a channel")


def _check_array(name: str, array: np.ndarray, shape: tuple[int, ...], limit: int) -> None:
    if array.dtype != np.int16 or array.shape != shape:
        raise UsageError(f"{name}: {array.dtype} {array.shape}; these tokens need int16 {shape}")
    if np.abs(array.astype(np.int32)).max(initial=0) > limit:
        raise UsageError(f"{name}: a value lies outside of -{limit}..{limit}")
