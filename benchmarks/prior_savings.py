"""How much of the tokens' bits the prior saves against coding each decision with its own static frequency.

For every file: each binary decision of the levels (zero, sign, >= 2, ..) in each channel is counted over the whole
file. Coded with the frequency found there, known in advance and for nothing, it would cost its entropy; beside it what
the prior's probabilities cost. Motion and the filter's flags are in neither.
By hand: `python benchmarks/prior_savings.py FILE.bsq...`
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from bsqcodec.codec import load_model
from bsqcodec.codec.dissect import TokenCosts
from bsqcodec.codec.group import decode_planes
from bsqcodec.codec.predictive import TokenModel
from bsqcodec.container import StreamReader
from bsqcodec.entropy import Bits
from bsqcodec.prior.choice import Wish
from bsqcodec.prior.coding import Coder
from bsqcodec.prior.network import PriorConfig
from bsqcodec.tokenizer.transform import PHASES


@dataclass
class Counts:
    """Of the decisions of a file by name and channel: how many there were, how many of them were 1, and their bits."""

    total: defaultdict[str, npt.NDArray[np.int64]]
    ones: defaultdict[str, npt.NDArray[np.int64]]
    bits: float = 0.0

    @staticmethod
    def of(channels: int) -> Counts:
        """Nothing counted yet."""
        return Counts(
            defaultdict(lambda: np.zeros(channels, np.int64)), defaultdict(lambda: np.zeros(channels, np.int64))
        )

    @property
    def static_bits(self) -> float:
        """What all decisions cost with the frequency of each in its channel."""
        bits = 0.0
        for name, total in self.total.items():
            share = self.ones[name][total > 0] / total[total > 0]
            entropy = -sum(p * np.log2(np.where(p > 0, p, 1.0)) for p in (share, 1 - share))
            bits += float((total[total > 0] * entropy).sum())
        return bits


class ByChannel(TokenCosts):
    """A `Coder` that hands on to another, and counts every decision with its channel."""

    def __init__(self, coder: Coder, h: int, w: int, config: PriorConfig, counts: Counts):
        super().__init__(coder, h, w, config)
        self._steps = _channels(h, w, config)
        self._counts, self._width = counts, config.channels

    def book(self, plane: str, owner: npt.NDArray[np.int64], coded: Bits, cost: npt.NDArray[np.float64]) -> None:
        """As the other's, where the owner of a bit is its channel."""
        self._counts.total[plane] += np.bincount(owner, minlength=self._width)
        self._counts.ones[plane] += np.bincount(owner[coded > 0], minlength=self._width)
        self._counts.bits += float(cost.sum())


def _channels(h: int, w: int, config: PriorConfig) -> Iterator[npt.NDArray[np.int64]]:
    """For each phase and band in coding order, the channel of each of its entries."""
    index = np.zeros((h, w))
    for row, column in PHASES:
        tokens = index[row::2, column::2].size
        for band in range(len(config.bands)) if tokens else ():
            yield np.tile(np.arange(*config.band_range(band)), tokens)


@dataclass
class Counting:
    """A `TokenModel` that counts what another one codes."""

    tokens: TokenModel
    counts: Counts = field(init=False)

    def __post_init__(self) -> None:
        self.config = self.tokens.config
        self.counts = Counts.of(self.config.channels)

    def code(self, coder: Coder, features: Tensor, levels: Tensor | None, wanted: Wish | None = None) -> Tensor:
        """As the other."""
        h, w, _ = features.shape
        watched = ByChannel(coder, h, w, self.config, self.counts)
        return self.tokens.code(watched, features, levels, wanted)


def count(path: Path) -> Counts:
    """Decode a file with shipped weights and count. Raises as `bsqcodec.decode`."""
    with path.open("rb") as file:
        reader = StreamReader(file, name=str(path))
        model = load_model(tune=reader.header.tune)
        counting = Counting(model.tokens)
        watched = replace(model, tokens=counting)  # type: ignore[arg-type]
        for entry in reader.index():
            for _ in decode_planes(watched, reader.read_group(entry), reader.header.info):
                pass
    return counting.counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="+")
    files = parser.parse_args().files
    savings = []
    for path in files:
        counts = count(path)
        savings.append(1 - counts.bits / counts.static_bits)
        print(f"{path}: {counts.static_bits / 8:,.0f} bytes -> {counts.bits / 8:,.0f}, {savings[-1]:.1%} saved")
    print(f"mean of {len(files)}: {np.mean(savings):.1%} saved")


if __name__ == "__main__":
    main()
