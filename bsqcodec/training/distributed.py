"""Training in several processes, on one machine or many, as `torchrun` starts them.

torchrun --nproc-per-node 2 -m bsqcodec train --config ... --data ... --out ...

Each process draws its own batches, and gradients are averaged, so N of them train on N times the batch a step. Rank 0
alone makes material, writes checkpoints and logs; with several machines `out` is a folder that all of them see.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bsqcodec.training.tasks import Task

PATIENCE = timedelta(days=30)  # the others wait while rank 0 makes material; torchrun ends them where it dies

Item = TypeVar("Item")


@dataclass(frozen=True)
class Team:
    """The processes that train together. rank: 0..size - 1, of this one."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all have come here."""
        if self.size > 1:
            dist.barrier()

    def first(self, work: Callable[[], None]) -> None:
        """Rank 0 works, the others wait for it."""
        if self.leads:
            work()
        self.wait()

    def draw(self, seed: int, step: int) -> str:
        """What the batch of a step is drawn by: another for each rank; alone, by seed and step as ever."""
        return f"{seed}/{step}" if self.size == 1 else f"{seed}/{step}/{self.rank}"

    def averaged(self, task: Task[Item]) -> Task[Item]:
        """The task with gradients averaged over all; modules begin as rank 0's."""
        if self.size == 1:
            return task
        return replace(task, loss=nn.parallel.DistributedDataParallel(_Whole(task), find_unused_parameters=True))


class _Whole(nn.Module):
    """A task's loss as a module that holds its modules, as DistributedDataParallel wants it."""

    def __init__(self, task: Task[Any]) -> None:
        super().__init__()
        self.modules_of_task = task.modules
        self.loss = task.loss

    def forward(self, batch: Any) -> tuple[Tensor, dict[str, float]]:
        return self.loss(batch)


def team() -> Team:
    """The processes that this one has joined."""
    return Team(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Team()


@contextmanager
def joined() -> Iterator[Team]:
    """Join the other processes where `torchrun` started several: gloo between CPUs, nccl between GPUs."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield team()
        return
    on_gpu = torch.cuda.is_available() and dist.is_nccl_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=PATIENCE)
    try:
        yield team()
    finally:
        dist.destroy_process_group()
