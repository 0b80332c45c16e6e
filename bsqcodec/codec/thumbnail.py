"""First frames of groups at a fraction of their size: scale recursion that stops early."""

from __future__ import annotations

from dataclasses import replace

from bsqcodec.codec import pyramid
from bsqcodec.codec.group import to_frame
from bsqcodec.codec.model import Model
from bsqcodec.codec.predictive import PredictiveCoder
from bsqcodec.container import Group
from bsqcodec.entropy import BitDecoder
from bsqcodec.errors import UsageError
from bsqcodec.frames import Frame, VideoInfo
from bsqcodec.prior.coding import Reader
from bsqcodec.tokenizer.causal import CausalTokenizer
from bsqcodec.tokenizer.transform import token_grid


def check_scales(model: Model) -> None:
    """Raise UsageError where the model does not code first frames by scale recursion."""
    if isinstance(model.tokenizer, CausalTokenizer):
        raise UsageError(f"the model {model.name} has no smaller sizes; leave --scale out")


def decode_thumbnail(model: Model, group: Group, info: VideoInfo, level: int) -> Frame:
    """A group's first frame at 1 / 2^level of its size, sides rounded up; level 0 .. `pyramid.LEVELS` - 1.

    A size that the model does not code is made from the full one.
    """
    assert not isinstance(model.tokenizer, CausalTokenizer)
    h, w = token_grid(info.width, info.height)
    coder = PredictiveCoder(model.tokenizer, model.tokens, h, w, model.device)
    coded = level in model.first_levels
    planes = coder.first(Reader(BitDecoder(group.tokens)), group.qualities[0], None, level if coded else 0)
    if not coded:
        planes = pyramid.build(planes, h, w)[level]
    small = replace(info, width=-(-info.width // 2**level), height=-(-info.height // 2**level))
    return to_frame(planes, small, group.pts[0], group.durations[0])
