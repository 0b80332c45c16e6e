"""Where the bits of a clip go, here and in x264: first frames, motion, flags, levels by bit plane, chroma.

    python benchmarks/bit_split.py CLIP... --crf 20,28,36 [--tune psnr] [--out split.json]

Shares of all bits, means over the clips. Of bsqcodec: ideal bits of every decision about tokens, whole bytes of motion,
the container left out. Of x264
(`-preset medium -bf 0`, same crf): its own statistics (tex: coefficients; mv: vectors and references; misc: modes and
headers), and for chroma what the same crf saves once both chroma planes are grey.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections import defaultdict
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import x264
from prior_savings import ByChannel, Counts
from torch import Tensor

import bsqcodec
from bsqcodec.codec import Model, load_model
from bsqcodec.codec.filtering import Flags
from bsqcodec.codec.group import decode_planes
from bsqcodec.codec.predictive import TokenModel
from bsqcodec.container import Group, StreamReader
from bsqcodec.entropy import Bits
from bsqcodec.frames import Frame, VideoInfo
from bsqcodec.prior.choice import Wish
from bsqcodec.prior.coding import Coder
from bsqcodec.prior.network import PriorConfig
from bsqcodec.tokenizer.transform import LUMA, channel_order

Shares = dict[str, float]
SIZES = {"zero": "zero or not", "sign": "signs"}  # the bit planes by name; the others say how large
STATISTICS = re.compile(r"type:(\w).* tex:(\d+) mv:(\d+) misc:(\d+)")
GREY = 128


class _ByPart(ByChannel):
    """A `Coder` that adds the cost of every bit to `parts`, by bit plane and by luma or chroma."""

    def __init__(self, coder: Coder, h: int, w: int, config: PriorConfig, parts: defaultdict[str, float]):
        super().__init__(coder, h, w, config, Counts.of(config.channels))
        self._parts, self._luma = parts, np.array(channel_order()) < LUMA

    def book(self, plane: str, owner: npt.NDArray[np.int64], coded: Bits, cost: npt.NDArray[np.float64]) -> None:
        """As the other's, where the owner of a bit is its channel."""
        luma = self._luma[owner]
        self._parts[SIZES.get(plane, "sizes")] += float(cost.sum())
        self._parts["chroma"] += float(cost[~luma].sum())


@dataclass
class _Watched:
    """A `TokenModel` that adds up what the tokens of another one cost."""

    tokens: TokenModel
    parts: defaultdict[str, float]

    def __post_init__(self) -> None:
        self.config = self.tokens.config

    def code(self, coder: Coder, features: Tensor, levels: Tensor | None, wanted: Wish | None = None) -> Tensor:
        """As the other."""
        h, w, _ = features.shape
        return self.tokens.code(_ByPart(coder, h, w, self.config, self.parts), features, levels, wanted)


def split(path: Path) -> Shares:
    """Bits of a file by part, coded with weights that ship: "first frames" has all planes of those, "chroma" is part of
    the others. Raises as `bsqcodec.decode`."""
    total: defaultdict[str, float] = defaultdict(float)
    with path.open("rb") as file:
        reader = StreamReader(file, name=str(path))
        model = load_model(tune=reader.header.tune)
        for entry in reader.index():
            _add_group(total, model, reader.read_group(entry), reader.header.info)
    return dict(total)


def _add_group(total: defaultdict[str, float], model: Model, group: Group, info: VideoInfo) -> None:
    parts: defaultdict[str, float] = defaultdict(float)
    filters: list[Flags] = []
    watched = replace(model, tokens=_Watched(model.tokens, parts))  # type: ignore[arg-type]
    for number, _ in enumerate(decode_planes(watched, group, info, filters)):
        chroma = parts.pop("chroma", 0.0)
        total["chroma"] += chroma
        if number == 0:
            total["first frames"] += sum(parts.values())
        else:
            for name, bits in parts.items():
                total[name] += bits
        parts.clear()
    total["filter flags"] += float(sum(seen.bits.sum() for seen in filters))
    total["motion"] += 8 * len(group.motion)


def split_x264(frames: list[Frame], rate: Fraction, crf: float) -> Shares:
    """Bits of x264's stream at `rate` frames/s by part, as `split` names them where they are the same."""
    total: defaultdict[str, float] = defaultdict(float)
    for kind, tex, mv, misc in _statistics(frames, rate, crf):
        if kind in "Ii":
            total["first frames"] += tex + mv + misc
        else:
            total["coefficients"] += tex
            total["motion"] += mv
            total["modes, headers"] += misc
    grey = [replace(f, u=np.full_like(f.u, GREY), v=np.full_like(f.v, GREY)) for f in frames]
    without = sum(sum(bits) for _, *bits in _statistics(grey, rate, crf))
    total["chroma"] = max(0.0, sum(total.values()) - without)
    return dict(total)


def _statistics(frames: list[Frame], rate: Fraction, crf: float) -> list[tuple[str, int, int, int]]:
    """Of every frame: type, bits of coefficients, of vectors, of the rest; as x264's first pass writes them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stats"
        options = {"crf": f"{crf:g}", "bf": "0", "x264-params": f"pass=1:stats={path}"}
        context = x264.encoder(frames[0], rate, options)
        for index, frame in enumerate(frames):
            picture = x264.to_picture(frame)
            picture.pts, picture.time_base = index, 1 / rate
            context.encode(picture)
        context.encode(None)
        del context  # which is when x264 closes the file
        text = next(p for p in (path, Path(f"{path}.temp")) if p.exists()).read_text()
    found = STATISTICS.findall(text)
    assert len(found) == len(frames), text[:300]
    return [(kind, int(tex), int(mv), int(misc)) for kind, tex, mv, misc in found]


def relative(parts: Shares) -> Shares:
    """Parts as shares of all bits; chroma is a part of the others."""
    whole = sum(bits for name, bits in parts.items() if name != "chroma")
    return {name: bits / whole for name, bits in parts.items()}


def mean(shares: list[Shares]) -> Shares:
    """The mean of every part; where one is missing it is 0."""
    names = list(dict.fromkeys(name for one in shares for name in one))
    return {name: float(np.mean([one.get(name, 0.0) for one in shares])) for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--crf", type=lambda text: [float(crf) for crf in text.split(",")], default=[20.0, 28.0, 36.0])
    parser.add_argument("--tune", choices=("psnr", "ms-ssim"), default="psnr")
    parser.add_argument("--keyint", type=int, default=32)
    parser.add_argument("--out", type=Path, help="write every clip's shares as JSON")
    arguments = parser.parse_args()
    record: dict[str, dict[str, list[Shares]]] = {}
    for crf in arguments.crf:
        both: dict[str, list[Shares]] = {"bsqcodec": [], "x264": []}
        record[f"{crf:g}"] = both
        for clip in arguments.clips:
            with tempfile.TemporaryDirectory() as folder:
                made = Path(folder) / "clip.bsq"
                bsqcodec.encode(clip, made, crf=crf, keyint=arguments.keyint, tune=arguments.tune)
                both["bsqcodec"].append(relative(split(made)))
            both["x264"].append(relative(split_x264(list(x264.read_frames(clip)), x264.read_rate(clip), crf)))
        for name, shares in both.items():
            parts = ", ".join(f"{part} {share:.1%}" for part, share in mean(shares).items())
            print(f"crf {crf:g}, {name}: {parts}", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
