"""The conformance set `golden/`: how its streams are made, and what they decode to.

`golden/<major>.<minor>/` holds the streams of a format version: `<name>.bsq`, the weights files they were made with
(small untrained models, so that new weights of the package change nothing here), and `golden.json`: hashes of bits and
of frames, and the time stamps. `python tests/golden_set.py` adds the recipes that the set of the present version lacks;
what is there is never written again, and earlier sets are kept.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from exactness import hashed_bits
from test_codec import frames_of, noise, scene

from bsqcodec.codec import GroupEncoder, check_model, decode_group, load_model
from bsqcodec.codec.model import ModelConfig, merging, save_model
from bsqcodec.container import FORMAT_MAJOR, FORMAT_MINOR, Group, StreamHeader, StreamReader, StreamWriter
from bsqcodec.container.chunks import pack_chunk
from bsqcodec.frames import Frame, Track, TrackPacket, VideoInfo
from bsqcodec.motion import default_tables as motion_tables
from bsqcodec.prior.network import PriorConfig, PriorNetwork
from bsqcodec.prior.tables import default_tables
from bsqcodec.tokenizer.causal import CausalConfig, CausalTokenizer
from bsqcodec.tokenizer.predictive import PredictiveConfig, PredictiveTokenizer

FOLDER = Path(__file__).parent / "golden" / f"{FORMAT_MAJOR}.{FORMAT_MINOR}"
SIZES = {"dim": 16, "depth": 2, "heads": 2, "mlp": 24}
PRIOR = {**SIZES, "embed": 8, "mix": 24, "hidden": 16}
TRACK = Track("audio", "pcm_s16le", Fraction(1, 8000), sample_rate=8000, channels=1, layout="mono", frame_size=80)
PACKETS = [TrackPacket(0, bytes(range(n, n + 160)), 80 * n, 80 * n, 80, True) for n in range(5)]
UNKNOWN = pack_chunk(b"zzzz", b"what a later version knows")  # a chunk that decoders must skip


@dataclass(frozen=True)
class Recipe:
    """How a golden file is made; chunk: bytes put behind the header; after: what is done to the file's bytes."""

    frames: Callable[[], list[Frame]]
    crf: float = 30.0
    keyint: int = 32
    tracks: tuple[Track, ...] = ()
    chunk: bytes = b""
    after: Callable[[bytes], bytes] = bytes
    weights: str = "psnr"


def clip(count: int, width: int, height: int, seed: int = 7) -> Callable[[], list[Frame]]:
    return lambda: frames_of([scene(n, width, height, seed) for n in range(count)])


def cut() -> list[Frame]:
    dark = [tuple(plane // 3 for plane in scene(n, 48, 32, seed=9)) for n in range(2)]
    return frames_of([scene(n, 48, 32, seed=8) for n in range(3)] + dark)


def irregular() -> list[Frame]:
    times, durations = (0, 3, 4, 11), (3, 1, 7, 0)
    return [replace(f, pts=t, duration=d) for f, t, d in zip(clip(4, 32, 24)(), times, durations, strict=True)]


def minor_ahead(data: bytes) -> bytes:
    """The same file from a later minor version of the format."""
    assert data[8:10] == bytes([FORMAT_MAJOR, FORMAT_MINOR])
    return data[:9] + bytes([FORMAT_MINOR + 1]) + data[10:]


RECIPES = {
    "one_16x16": Recipe(clip(1, 16, 16)),
    "smallest_1x1": Recipe(clip(2, 1, 1)),
    "three_33x17": Recipe(clip(3, 33, 17)),
    "windows_140x70": Recipe(clip(2, 140, 70), crf=40),
    "long": Recipe(clip(20, 24, 16), crf=36),
    "cut": Recipe(cut),
    "crf0": Recipe(clip(2, 24, 16), crf=0),
    "crf16": Recipe(clip(3, 40, 24), crf=16),
    "crf44": Recipe(clip(3, 72, 40), crf=44),
    "crf51": Recipe(clip(6, 72, 40), crf=51),
    "vfr": Recipe(irregular),
    "audio": Recipe(clip(2, 24, 24), tracks=(TRACK,)),
    "odd_71x59": Recipe(clip(4, 71, 59)),
    "keyint1": Recipe(clip(3, 24, 24), keyint=1),
    "noise": Recipe(lambda: frames_of([noise(n, 24, 16) for n in range(2)]), crf=40),
    "ms_ssim": Recipe(clip(3, 40, 24), weights="ms-ssim"),
    "causal": Recipe(clip(3, 40, 24), weights="causal"),
    "overlap": Recipe(clip(4, 40, 24), weights="overlap"),
    "merge": Recipe(clip(4, 140, 70), crf=40, weights="merge"),
    "phases": Recipe(clip(3, 72, 40), weights="phases"),
    "phases_1x1": Recipe(clip(2, 1, 1), weights="phases"),
    "phases_rate": Recipe(clip(2, 40, 24), crf=8, weights="phases"),
    "ancillary": Recipe(clip(2, 24, 16), chunk=UNKNOWN),
    "minor_ahead": Recipe(clip(2, 24, 16), after=minor_ahead),
}


def write_weights(path: Path, name: str) -> None:
    """A small untrained model, every part of which has some effect. name: as recipes have it."""
    torch.manual_seed(1)
    tokenizer: PredictiveTokenizer | CausalTokenizer
    if name == "causal":
        tokenizer, prior = (
            CausalTokenizer(CausalConfig(18, **SIZES)),
            PriorConfig(18, "signs", (6, 12, 18), 18, **PRIOR),
        )
    else:
        special: dict[str, Any] = {
            "ms-ssim": {"falloff": 1.2, "chroma_step": 0.7},
            "overlap": {"overlap": True},
            "merge": {"overlap": True, "merge": True},
            "phases": {"phases": 16},
        }.get(name, {})
        tokenizer, prior = PredictiveTokenizer(PredictiveConfig(**SIZES, **special)), PriorConfig(**PRIOR)
        torch.nn.init.uniform_(tokenizer.decoder.offset, -0.2, 0.1)
    network = PriorNetwork(prior)
    with torch.no_grad():
        for key, parameter in (*tokenizer.decoder.named_parameters(), *network.named_parameters()):
            if key.endswith("bias"):
                parameter.normal_(std=0.2)
        for key, parameter in tokenizer.decoder.named_parameters():
            if key.endswith(("out.weight", "down.weight", "head.weight")):
                parameter.normal_(std=0.03)
            if key.startswith("phases.") and key.endswith(("filters", ".weight")):
                parameter.normal_(std=0.06 if "weight" in key else 0.01)
        for band in range(len(prior.bands)):  # most levels are 0: streams stay small
            network.heads[band].bias[:: prior.decisions] += 2.0 if name != "causal" else 0.0
    tune = "ms-ssim" if name == "ms-ssim" else "psnr"
    config = ModelConfig(f"golden-{name}", tune, tokenizer.config, prior)
    save_model(path, config, tokenizer, network, default_tables(), motion_tables(merging(tokenizer.config)))


def weights_path(recipe: Recipe, folder: Path = FOLDER) -> Path:
    return folder / f"{recipe.weights}.safetensors"


def make(recipe: Recipe, model: Any) -> bytes:
    """The bytes of a golden file, the same each time on one machine."""
    frames = recipe.frames()
    height, width = frames[0].y.shape
    info = VideoInfo(width, height)
    file = io.BytesIO()
    header = StreamHeader(info, recipe.keyint, model.tune, recipe.crf, model.sha256, model.name, tool="golden")
    writer = StreamWriter(file, header, recipe.tracks)
    encoder = GroupEncoder(model, info, crf=recipe.crf, keyint=recipe.keyint)
    groups = [group for frame in frames for group in encoder.push(frame)] + encoder.flush()
    writer._put(recipe.chunk)
    if recipe.tracks:
        writer.write_packets(PACKETS)
    for group in groups:
        writer.write_group(group.group)
    writer.close()
    return recipe.after(file.getvalue())


@dataclass(frozen=True)
class Decoded:
    """What a golden file decodes to."""

    bits: str
    frames: list[Frame]
    groups: list[int]
    packets: list[TrackPacket]

    @property
    def planes(self) -> bytes:
        return b"".join(plane.tobytes() for f in self.frames for plane in (f.y, f.u, f.v))

    def facts(self) -> dict[str, object]:
        """The entry of golden.json."""
        return {
            "bits": self.bits,
            "frames": hashlib.sha256(self.planes).hexdigest()[:16],
            "size": [self.frames[0].y.shape[1], self.frames[0].y.shape[0]],
            "groups": self.groups,
            "pts": [frame.pts for frame in self.frames],
            "durations": [frame.duration for frame in self.frames],
        }


def decoded(data: bytes, name: str, model: Any) -> Decoded:
    """A file decoded by the package."""
    reader = StreamReader(io.BytesIO(data), name=name)
    check_model(model, reader.header)
    frames: list[Frame] = []
    packets: list[TrackPacket] = []
    groups: list[int] = []
    with hashed_bits() as seen:
        for item in reader:
            if isinstance(item, Group):
                frames += decode_group(model, item, reader.header.info)
                groups.append(len(item.pts))
            else:
                packets += item
    return Decoded(seen.hex, frames, groups, packets)


def reference_frames(data: bytes, weights: Path) -> str:
    """Hash of a file's frames as `reference_decoder` makes them, as in golden.json."""
    import reference_decoder

    reader = StreamReader(io.BytesIO(data))
    info, digest = reader.header.info, hashlib.sha256()
    model = reference_decoder.Weights(weights.read_bytes())
    for item in reader:
        if isinstance(item, Group):
            streams = item.qualities, item.motion, item.tokens
            for planes in reference_decoder.decode_group(model, info.width, info.height, *streams):
                for plane in planes:
                    digest.update(plane.astype(np.uint8).tobytes())
    return digest.hexdigest()[:16]


def write() -> None:
    """Add to the set of the present version what it lacks. Nothing that exists is touched: it must decode for ever."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    known = FOLDER / "golden.json"
    facts = json.loads(known.read_text()) if known.exists() else {}
    missing = {name: recipe for name, recipe in RECIPES.items() if name not in facts}
    if not missing:
        raise SystemExit(f"{FOLDER}: has every recipe; what is there is never written again")
    for name, recipe in missing.items():
        path = weights_path(recipe)
        if not path.exists():
            write_weights(path, recipe.weights)
        model = load_model(path, device="cpu")
        data = make(recipe, model)
        with (FOLDER / f"{name}.bsq").open("xb") as file:
            file.write(data)
        facts[name] = decoded(data, name, model).facts() | {"weights": recipe.weights}
    known.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(write())
