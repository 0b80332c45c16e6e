"""What exact integers cost: the pixel decoder and the prior's trunk of one frame, in the format's arithmetic and in
plain floating point (the same layers, without roundings and limits, softmax by torch), alternating.

    python benchmarks/integer_speed.py [--size 640x360] [--threads N] [--rounds N]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsqcodec.codec.model import load_model, shipped_path
from bsqcodec.heap import keep_freed_memory
from bsqcodec.integer.arithmetic import EXP_SHIFT, Frozen, Ops, Part
from bsqcodec.tokenizer.predictive import PredictiveTokenizer
from bsqcodec.tokenizer.reconstruction import FEATURES


class Plain:
    """Floating point as a codec without promises would run it."""

    def __init__(self) -> None:
        self.scaled: dict[tuple[nn.Module, tuple[Part, ...]], tuple[Tensor, Tensor]] = {}

    def whole(self, x: Tensor) -> Tensor:
        return x

    def linear(self, x: Tensor, layer: nn.Module) -> Tensor:
        assert isinstance(layer, Frozen)
        return F.linear(x, layer.weight, layer.bias)

    def rescale(self, total: Tensor, shift: int, low: int, high: int) -> Tensor:
        total.mul_(2.0**-shift)
        return total.clamp_(min=0) if low == 0 else total

    def narrowed(self, stream: Tensor, shift: int, limit: int) -> Tensor:
        return stream * 2.0**-shift

    def affine(self, x: Tensor, layer: nn.Module, *parts: Part) -> Tensor:
        assert isinstance(layer, Frozen)
        if (layer, parts) not in self.scaled:
            scale = torch.tensor([2.0**-part.shift for part in parts for _ in range(part.columns)])
            self.scaled[layer, parts] = layer.weight * scale[:, None], layer.bias * scale
        total = F.linear(x, *self.scaled[layer, parts])
        return total.clamp_(min=0) if parts[0].low == 0 else total

    def softmax_mix(self, scores: Tensor, values: Tensor) -> Tensor:
        return torch.softmax(scores.mul_(2.0 ** -(EXP_SHIFT + 4)), -1) @ values


def median(times: list[float]) -> str:
    return f"{1000 * statistics.median(times):.1f} ms ({1000 * min(times):.1f} to {1000 * max(times):.1f})"


def compare(name: str, run: Callable[[Ops], object], exact: Ops, rounds: int) -> None:
    """Print the medians of both, and how much more of the frame the exact one gets done in the same time."""
    kinds: tuple[Ops, Ops] = (exact, Plain())
    seconds: tuple[list[float], list[float]] = ([], [])
    for each in kinds:
        run(each)
    for _ in range(rounds):
        for each, times in zip(kinds, seconds, strict=True):
            begin = time.perf_counter()
            run(each)
            times.append(time.perf_counter() - begin)
    ratio = statistics.median(b / a for a, b in zip(*seconds, strict=True))
    print(f"{name}: integers {median(seconds[0])}, floating point {median(seconds[1])}, speed {ratio:.2f} of it")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    model = load_model(shipped_path("psnr"), device="cpu", threads=arguments.threads)
    width, height = (-(-int(n) // 8) for n in arguments.size.split("x"))
    assert isinstance(model.tokenizer, PredictiveTokenizer)
    decoder, prior, exact = model.tokenizer.decoder, model.tokens.network, model.tokens.ops
    features = torch.randint(-500, 500, (1, height, width, FEATURES)).float()
    known = torch.randint(-60, 60, (1, height, width, prior.config.features)).float()

    def pixels(ops: Ops) -> object:
        decoder.ops = ops
        return decoder.correct(features)

    with torch.inference_mode():
        print(f"{arguments.size}, {arguments.threads} thread(s), kernel {type(exact).__name__}")
        compare("pixel decoder's transformer", pixels, exact, arguments.rounds)
        compare("prior's trunk", lambda ops: prior.trunk(known, ops), exact, arguments.rounds)


if __name__ == "__main__":
    main()
