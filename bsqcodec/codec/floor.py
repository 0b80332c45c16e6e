"""The arithmetic floor of a profile: the multiply-adds of the networks, and how fast this machine does such.

Legend: T frames, h w tokens, D width, S = 64 T tokens in a window, n windows.
"""

from __future__ import annotations

import time

import torch
from torch import nn

from bsqcodec.codec.model import Model
from bsqcodec.integer.arithmetic import Frozen
from bsqcodec.integer.blocks import Block as IntegerBlock
from bsqcodec.integer.windows import WINDOW
from bsqcodec.profile import NETWORKS, STAGES, Grid, Profile, StageTime, Stopwatch
from bsqcodec.tokenizer.network import Block, WindowTransformer
from bsqcodec.tokenizer.reconstruction import Reconstruction

CALIBRATION = 0.3  # s
ROWS = {"cpu": 4096, "cuda": 1 << 17}  # tokens of the product that is timed; a GPU is not filled by a picture's
BATCH = 4  # products timed at once


def profile_of(watch: Stopwatch, model: Model, frames: int) -> Profile:
    """What a watch that has stopped found for a model and a video of so many frames."""
    macs = dict.fromkeys(NETWORKS, 0)
    for (name, grid), count in watch.pictures.items():
        macs[name] += count * sum(network_macs(network, grid) for network in networks(model, name))
    stages = {name: StageTime(watch.seconds[name], macs.get(name)) for name in STAGES}
    config = model.config.tokenizer
    rate = matrix_rate(model.device, config.dim, config.mlp)
    return Profile(sum(watch.seconds.values()), frames, torch.get_num_threads(), rate, stages)


def networks(model: Model, name: str) -> list[nn.Module]:
    """The networks that a stage runs on each picture."""
    tokenizer = model.tokenizer
    found: dict[str, list[nn.Module | None]] = {
        "encoder": [getattr(tokenizer, "analysis", None), tokenizer.encoder],
        "prior": [model.tokens.network],
        "decoder": [tokenizer.decoder],
    }
    return [network for network in found[name] if network is not None]


def network_macs(network: nn.Module, grid: Grid) -> int:
    """Multiply-adds of a network's matrix products over T frames of h x w tokens: each layer sees every token once."""
    t, h, w = grid
    tokens = t * h * w
    total = 0
    for part in network.modules():
        if isinstance(part, nn.Linear | Frozen):
            total += tokens * part.weight.numel()
        elif isinstance(part, Block | IntegerBlock):
            total += _window_macs(part, grid)
        elif isinstance(part, WindowTransformer):
            total -= (tokens - 1) * part.condition.weight.numel()  # of the group, not of a token
        elif isinstance(part, Reconstruction):
            total += tokens * part.synthesis.numel()
    return total


def _window_macs(block: Block | IntegerBlock, grid: Grid) -> int:
    """What attention multiplies besides its layers' tokens: scores and their mix; the integer one's padding too."""
    t, h, w = grid
    windows = -(-(h + block.shift) // WINDOW) * -(-(w + block.shift) // WINDOW)
    size = WINDOW * WINDOW * t
    weight = block.qkv.weight
    padding = windows * size - t * h * w if isinstance(block, IntegerBlock) else 0
    return 2 * windows * size * size * weight.shape[1] + padding * weight.numel()


def matrix_rate(device: torch.device, inner: int, outer: int, seconds: float = CALIBRATION) -> float:
    """Multiply-adds a second of a float32 product [tokens, inner] @ [inner, outer]: the best found in `seconds`."""
    rows = ROWS.get(device.type, ROWS["cpu"])
    left, right = torch.ones(rows, inner, device=device), torch.ones(inner, outer, device=device)
    out = torch.empty(rows, outer, device=device)
    least = float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or least == float("inf"):
        start = time.perf_counter()
        for _ in range(BATCH):
            torch.matmul(left, right, out=out)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        least = min(least, time.perf_counter() - start)
    return BATCH * rows * inner * outer / least
