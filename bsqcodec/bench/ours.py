"""bsqcodec as a codec of the benchmark: it encodes and decodes through the public API only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import bsqcodec
from bsqcodec.bench.codecs import OURS, Encoded
from bsqcodec.frames import Frame
from bsqcodec.presets import MEDIUM, PRESETS

# Rooms of the package whose sources decide what a stream holds.
CODING = {
    "codec",
    "container",
    "entropy.py",
    "integer",
    "motion",
    "presets.py",
    "prior",
    "tokenizer",
    "video",
    "weights",
}


@dataclass(frozen=True)
class Bsqcodec:
    """bsqcodec with one tune and preset; implements `bsqcodec.bench.codecs.Codec`.

    tune, preset, device, weights: as for `bsqcodec.encode`. The setting's name is the tune, and where the preset is not
    medium that too: "psnr-slow".
    """

    tune: str = "psnr"
    preset: str = "medium"
    device: str = "auto"
    weights: str | None = None

    name = OURS
    suffix = ".bsq"
    own_keyint = True
    qualities = (20.0, 24.0, 28.0, 32.0, 36.0, 40.0)
    quality_range = (0.0, 51.0)

    @property
    def setting(self) -> str:
        return self.tune if PRESETS[self.preset] == MEDIUM else f"{self.tune}-{self.preset}"

    @property
    def label(self) -> str:
        preset = "" if PRESETS[self.preset] == MEDIUM else f", preset {self.preset}"
        return f"bsqcodec, tune {self.tune}{preset}"

    def check(self) -> None:
        """Raise the BsqError that every encode would end with: no such weights, no such device."""
        from bsqcodec.codec import load_model

        load_model(self.weights, tune=self.tune, device=self.device)

    def options(self, quality: float, *, keyint: int, threads: int) -> str:
        """The options of `bsqcodec encode`; of the weights only the file's name, their hash is in `library`."""
        weights = f" --weights {Path(self.weights).name}" if self.weights else ""
        return (
            f"--crf {quality:g} --tune {self.tune} --preset {self.preset} --keyint {keyint} "
            f"--device {self.device} --threads {threads}{weights}"
        )

    def identity(self) -> str:
        """A hash of the weights that ship and of the sources that decide what a stream holds, and of other weights."""
        other = f", weights {_hash_of(Path(self.weights))}" if self.weights else ""
        return f"bsqcodec {_package_hash()}{other}"

    def encode(
        self, source: Path, out: Path, quality: float, *, keyint: int, threads: int = 1, limit: int | None = None
    ) -> Encoded:
        """See `Codec.encode`.

        Bits of a frame are those of its motion and tokens by the model's probabilities; header, index and rounding to
        whole words are no frame's.
        """
        stats = bsqcodec.encode(
            source,
            out,
            crf=quality,
            keyint=keyint,
            tune=self.tune,
            preset=self.preset,
            device=self.device,
            threads=threads,
            limit=limit,
            overwrite=True,
            weights=self.weights,
        )
        summary = bsqcodec.inspect(out)
        parts = (
            f"bsqcodec {bsqcodec.__version__}",
            f"format {summary.format_version}",
            f"weights {summary.model} {summary.weights_id}",
            f"torch {version('torch')} on {_used(self.device)}",
        )
        return Encoded(stats.seconds, tuple(stats.frame_bits), ", ".join(parts), psnr_yuv=stats.psnr)

    def decode(self, stream: Path, *, threads: int = 1) -> Iterator[Frame]:
        """See `Codec.decode`. The model is loaded here and now, before the first frame is asked for."""
        decoder = bsqcodec.open(stream, device=self.device, threads=threads, weights=self.weights)
        return _frames(decoder)


def _frames(decoder: bsqcodec.Decoder) -> Iterator[Frame]:
    with decoder:
        for picture in decoder:
            yield Frame(picture.y, picture.u, picture.v, picture.index, 1)


def _used(device: str) -> str:
    """The device that "auto" is; torch is loaded by now."""
    import torch

    return device if device != "auto" else "cuda:0" if torch.cuda.is_available() else "cpu"


@lru_cache
def _package_hash() -> str:
    """First 12 hex digits of a SHA-256."""
    package = Path(bsqcodec.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        name = path.relative_to(package)
        if path.suffix in (".py", ".safetensors") and name.parts[0] in CODING:
            digest.update(name.as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
