"""bsqcodec: a neural video codec with a file format.

    import bsqcodec

    stats = bsqcodec.encode("in.mp4", "out.bsq", crf=28)
    bsqcodec.decode("out.bsq", "out.mp4")
    with bsqcodec.open("out.bsq") as video:
        for frame in video:
            frame.rgb  # uint8 [H, W, 3]
    with bsqcodec.Encoder("out.bsq", fps=30) as encoder:
        encoder.write(picture)  # numpy [H, W, 3], torch [3, H, W], or planes
    tokens = bsqcodec.Tokenizer().encode(frames)
    clips = bsqcodec.BsqDataset("videos/", frames=8)

Importing the package is cheap: the names below are looked up on first use, and torch is
imported only when a model is loaded.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> the module that defines it (PEP 562, see `__getattr__`).
_HOME = {
    "BsqDataset": "bsqcodec.dataset",
    "BsqError": "bsqcodec.errors",
    "DecodeStats": "bsqcodec.results",
    "DecodedFrame": "bsqcodec.decoder",
    "Decoder": "bsqcodec.decoder",
    "EncodeStats": "bsqcodec.results",
    "Encoder": "bsqcodec.encoder",
    "Progress": "bsqcodec.progress",
    "TensorFrame": "bsqcodec.tensors",
    "Tokenizer": "bsqcodec.tokens",
    "Tokens": "bsqcodec.tokens",
    "VideoInfo": "bsqcodec.frames",
    "compress": "bsqcodec.encoder",
    "cut": "bsqcodec.splice",
    "decode": "bsqcodec.api",
    "decompress": "bsqcodec.encoder",
    "encode": "bsqcodec.api",
    "inspect": "bsqcodec.info",
    "join": "bsqcodec.splice",
    "open": "bsqcodec.decoder",
}

__all__ = [
    "BsqDataset",
    "BsqError",
    "DecodeStats",
    "DecodedFrame",
    "Decoder",
    "EncodeStats",
    "Encoder",
    "Progress",
    "TensorFrame",
    "Tokenizer",
    "Tokens",
    "VideoInfo",
    "compress",
    "cut",
    "decode",
    "decompress",
    "encode",
    "inspect",
    "join",
    "open",
]

if TYPE_CHECKING:
    from bsqcodec.api import decode, encode
    from bsqcodec.dataset import BsqDataset
    from bsqcodec.decoder import DecodedFrame, Decoder, open
    from bsqcodec.encoder import Encoder, compress, decompress
    from bsqcodec.errors import BsqError
    from bsqcodec.frames import VideoInfo
    from bsqcodec.info import inspect
    from bsqcodec.progress import Progress
    from bsqcodec.results import DecodeStats, EncodeStats
    from bsqcodec.splice import cut, join
    from bsqcodec.tensors import TensorFrame
    from bsqcodec.tokens import Tokenizer, Tokens


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'bsqcodec' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
