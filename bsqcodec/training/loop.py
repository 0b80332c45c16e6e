"""The loop both trainings share: schedule, checkpoints, resume, a line of progress.

Run as `python -m bsqcodec.training.loop {tokenizer,prior} --pool DIR... --validation DIR --out DIR --steps N`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from bsqcodec.prior.network import PriorConfig, PriorNetwork
from bsqcodec.tokenizer.predictive import PredictiveConfig, PredictiveTokenizer
from bsqcodec.training.pool import Batch, Pool
from bsqcodec.training.prior import prior_bits
from bsqcodec.training.tokenizer import Laplace, tokenizer_loss

CHECKPOINT_SECONDS = 120
WARM_UP = 100  # steps

Loss = Callable[[Batch], tuple[Tensor, dict[str, float]]]


def train(
    modules: nn.ModuleDict,
    groups: list[dict[str, object]],
    loss: Loss,
    pool: Pool,
    validation: Pool,
    out: Path,
    *,
    steps: int,
    batch: int,
    resume: bool = False,
) -> None:
    """Train to `steps`, AdamW with cosine decay, bfloat16 autocast; writes out/state.pt and out/log.jsonl."""
    out.mkdir(parents=True, exist_ok=True)
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0)
    peaks = [float(group["lr"]) for group in optimiser.param_groups]
    first = 0
    if resume and (out / "state.pt").exists():
        state = torch.load(out / "state.pt", weights_only=True)
        modules.load_state_dict(state["modules"])
        optimiser.load_state_dict(state["optimiser"])
        first = int(state["step"])
    fixed = [validation.batch(8) for _ in range(12)]
    saved = time.monotonic()
    bar = tqdm(range(first, steps), initial=first, total=steps, mininterval=20, ascii=True)
    for step in bar:
        factor = min(1.0, (step + 1) / WARM_UP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group, peak in zip(optimiser.param_groups, peaks, strict=True):
            group["lr"] = peak * factor
        with torch.autocast("cpu", torch.bfloat16):
            value, parts = loss(pool.batch(batch))
        optimiser.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimiser.step()
        if step % 50 == 0:
            bar.set_postfix({key: f"{number:.3f}" for key, number in parts.items()})
        last = step + 1 == steps
        if last or time.monotonic() - saved > CHECKPOINT_SECONDS:
            saved = time.monotonic()
            _checkpoint(modules, optimiser, step + 1, out)
            _log(out, step + 1, evaluate(loss, fixed))
            pool.refresh()


def evaluate(loss: Loss, batches: list[Batch]) -> dict[str, float]:
    """Mean of a loss's parts over fixed batches."""
    total: dict[str, float] = {}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for batch in batches:
            for key, value in loss(batch)[1].items():
                total[key] = total.get(key, 0.0) + value / len(batches)
    return total


def _checkpoint(modules: nn.ModuleDict, optimiser: torch.optim.Optimizer, step: int, out: Path) -> None:
    part = out / "state.pt.part"
    torch.save({"modules": modules.state_dict(), "optimiser": optimiser.state_dict(), "step": step}, part)
    part.replace(out / "state.pt")


def _log(out: Path, step: int, figures: dict[str, float]) -> None:
    line = json.dumps({"step": step, "time": round(time.time())} | {k: round(v, 4) for k, v in figures.items()})
    with (out / "log.jsonl").open("a") as file:
        file.write(line + "\n")


def tokenizer_parts(learning_rate: float) -> tuple[nn.ModuleDict, list[dict[str, object]], Loss]:
    """Modules, parameter groups and loss of the tokenizer's training."""
    tokenizer, laplace = PredictiveTokenizer(PredictiveConfig()), Laplace()
    tokenizer.encoder.compile(dynamic=False)
    tokenizer.decoder.compile(dynamic=False)
    gentle = [tokenizer.analysis.weight, tokenizer.synthesis.weight]  # warm-started: a large rate destroys them
    networks = [*tokenizer.encoder.parameters(), *tokenizer.decoder.parameters()]
    groups: list[dict[str, object]] = [
        {"params": networks, "lr": learning_rate},
        {"params": gentle, "lr": learning_rate * 0.01},
        {"params": [tokenizer.offset], "lr": learning_rate},
        {"params": list(laplace.parameters()), "lr": 2e-3},
    ]
    return (
        nn.ModuleDict({"tokenizer": tokenizer, "laplace": laplace}),
        groups,
        lambda batch: tokenizer_loss(batch, tokenizer, laplace),
    )


def prior_parts(learning_rate: float) -> tuple[nn.ModuleDict, list[dict[str, object]], Loss]:
    """Modules, parameter groups and loss of the prior's training."""
    network = PriorNetwork(PriorConfig())
    compiled = torch.compile(prior_bits, dynamic=False)

    def loss(batch: Batch) -> tuple[Tensor, dict[str, float]]:
        value, parts = compiled(batch, network)
        names = ("zero", "sign", "ge2", "ge4", "ge8", "three")
        return value, {"bits": float(value.detach())} | dict(zip(names, parts.tolist(), strict=False))

    return nn.ModuleDict({"prior": network}), [{"params": list(network.parameters()), "lr": learning_rate}], loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("tokenizer", "prior"))
    parser.add_argument("--pool", type=Path, nargs="+", required=True)
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="state.pt to take modules from")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    modules, groups, loss = (tokenizer_parts if arguments.what == "tokenizer" else prior_parts)(arguments.rate)
    if arguments.start:
        modules.load_state_dict(torch.load(arguments.start, weights_only=True)["modules"])
    pool, validation = Pool(arguments.pool, arguments.seed), Pool([arguments.validation], 1234)
    train(
        modules,
        groups,
        loss,
        pool,
        validation,
        arguments.out,
        steps=arguments.steps,
        batch=arguments.batch,
        resume=arguments.resume,
    )


if __name__ == "__main__":
    main()
