"""The loop all trainings share: schedule, checkpoints, resume, a line of progress.

By hand: `python -m bsqcodec.training.loop {tokenizer,prior} --pool DIR... --validation DIR --out DIR --steps N`.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import nn
from tqdm import tqdm

from bsqcodec.integer.arithmetic import keep_exact
from bsqcodec.prior.network import PriorConfig
from bsqcodec.tokenizer.predictive import PredictiveConfig
from bsqcodec.training import checkpoint, distributed
from bsqcodec.training.by_hand import finish
from bsqcodec.training.pool import Pool
from bsqcodec.training.tasks import Loss, Task, decoder_task, prior_task, tokenizer_task

CHECKPOINT_SECONDS = 120
WARM_UP = 100  # steps, or a tenth of a short training
FINAL = 0.02  # learning rate at the end, as a share of its peak
VALIDATION_BATCHES, VALIDATION_BATCH = 12, 8

Item = TypeVar("Item")
Drawn = TypeVar("Drawn", covariant=True)


class Source(Protocol[Drawn]):
    """Where batches come from: `Pool` and its like."""

    def batch(self, size: int, rng: random.Random) -> Drawn: ...
    def refresh(self) -> int: ...


def train(
    task: Task[Item],
    pool: Source[Item],
    validation: Source[Item],
    out: Path,
    *,
    steps: int,
    batch: int,
    seed: int = 0,
    resume: bool = False,
) -> None:
    """Train to `steps`, AdamW with cosine decay, bfloat16 where it pays; writes out/state.pt and out/log.jsonl.

    Batches hang on seed, step and rank alone, so a training that was resumed goes on as if it had not been interrupted.
    Started by `torchrun`, each process draws batches of its own and gradients are averaged; rank 0 alone writes.
    """
    team = distributed.team()
    out.mkdir(parents=True, exist_ok=True)
    optimiser = torch.optim.AdamW(task.groups, betas=(0.9, 0.98), weight_decay=0.0)
    peaks = [float(group["lr"]) for group in optimiser.param_groups]
    first = _restore(task, optimiser, out) if resume else 0
    rng = random.Random("validation")
    fixed = [validation.batch(VALIDATION_BATCH, rng) for _ in range(VALIDATION_BATCHES)]
    together = team.averaged(task)
    if first == 0 and team.leads:
        (out / "log.jsonl").unlink(missing_ok=True)
        _log(out, 0, evaluate(task.loss, fixed))
    saved = time.monotonic()
    bar = tqdm(
        range(first, steps),
        desc=out.name,
        initial=first,
        total=steps,
        mininterval=5,
        ascii=True,
        disable=not team.leads,
    )
    for step in bar:
        for group, peak in zip(optimiser.param_groups, peaks, strict=True):
            group["lr"] = peak * schedule(step, steps)
        parts = _step(together, optimiser, pool.batch(batch, random.Random(team.draw(seed, step))))
        if step % 50 == 0:
            bar.set_postfix({key: f"{number:.3f}" for key, number in parts.items()}, refresh=False)
        if step + 1 == steps or time.monotonic() - saved > CHECKPOINT_SECONDS:
            saved = time.monotonic()
            if team.leads:
                checkpoint.save(out / checkpoint.NAME, task.modules, optimiser, step + 1)
                _log(out, step + 1, evaluate(task.loss, fixed))
            pool.refresh()
    team.wait()


def schedule(step: int, steps: int) -> float:
    """Share of the peak learning rate: linear warm-up, then half a cosine down to FINAL."""
    warm = min(1.0, (step + 1) / min(WARM_UP, max(1, steps // 10)))
    return warm * (FINAL + (1 - FINAL) * 0.5 * (1 + math.cos(math.pi * step / steps)))


def bfloat16_pays() -> bool:
    """Whether this CPU has products in bfloat16; without AVX-512 they are ten times slower than those in float32."""
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def _step(task: Task[Item], optimiser: torch.optim.Optimizer, batch: Item) -> dict[str, float]:
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16_pays()):
        value, parts = task.loss(batch)
    optimiser.zero_grad(set_to_none=True)
    value.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(task.modules.parameters(), 1.0)
    optimiser.step()
    keep_exact(task.modules)
    return parts


def _restore(task: Task[Item], optimiser: torch.optim.Optimizer, out: Path) -> int:
    """Go back to a checkpoint; returns its steps, 0 where there is none."""
    path = out / checkpoint.NAME
    if not path.exists():
        return 0
    checkpoint.load_all(task.modules, path)
    state = checkpoint.read(path)
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def evaluate(loss: Loss[Item], batches: list[Item]) -> dict[str, float]:
    """Mean of a loss's parts over fixed batches."""
    total: dict[str, float] = {}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16_pays()):
        for batch in batches:
            for key, value in loss(batch)[1].items():
                total[key] = total.get(key, 0.0) + value / len(batches)
    return total


def _log(out: Path, step: int, figures: dict[str, float]) -> None:
    line = json.dumps({"step": step, "time": round(time.time())} | {k: round(v, 4) for k, v in figures.items()})
    with (out / "log.jsonl").open("a") as file:
        file.write(line + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("tokenizer", "decoder", "prior"))
    parser.add_argument("--pool", type=Path, nargs="+", required=True)
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="checkpoint to take modules from")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    compiled = not arguments.no_compile
    if arguments.what == "tokenizer":
        task = tokenizer_task(PredictiveConfig(), arguments.rate, compiled)
    elif arguments.what == "decoder":
        task = decoder_task(PredictiveConfig(), arguments.rate, compiled)
    else:
        task = prior_task(PriorConfig(), arguments.rate, compiled)
    if arguments.start:
        checkpoint.load_all(task.modules, arguments.start)
    train(
        task,
        Pool(arguments.pool),
        Pool([arguments.validation]),
        arguments.out,
        steps=arguments.steps,
        batch=arguments.batch,
        seed=arguments.seed,
        resume=arguments.resume,
    )


def _main() -> None:
    with distributed.joined():
        main()


if __name__ == "__main__":
    finish(_main)
