"""The codec proper: groups of frames to motion and token streams, and back."""

from bsqcodec.codec.group import EncodedGroup, FrameStats, GroupEncoder, decode_group
from bsqcodec.codec.model import Model, check_model, load_model

__all__ = ["EncodedGroup", "FrameStats", "GroupEncoder", "Model", "check_model", "decode_group", "load_model"]
