"""Stages of a training side by side: each starts in a process of its own as soon as what it needs is done."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess

from bsqcodec.errors import BsqError
from bsqcodec.training.config import Material, Stage, Weights


def needs(stage: Stage) -> set[str]:
    """Names of the stages that must be done before a stage starts."""
    if isinstance(stage, Weights):
        return set()
    names = (stage.tokenizer, stage.prices) if isinstance(stage, Material) else (*stage.pools, stage.start)
    return {name for name in names if name}


def side_by_side(stages: Sequence[Stage], jobs: int, do: Callable[[str], None]) -> None:
    """Call `do(name)` (picklable) for every stage, at most `jobs` at a time; material fills the cores and runs alone.

    Raises BsqError when a stage fails; the others are ended then, and go on from their checkpoints another time.
    """
    context = multiprocessing.get_context("spawn")
    waiting, done = list(stages), set[str]()
    running: dict[str, SpawnProcess] = {}
    try:
        while waiting or running:
            for stage in [s for s in waiting if needs(s) <= done]:
                if len(running) < jobs and not (running and isinstance(stage, Material)):
                    waiting.remove(stage)
                    process = context.Process(target=do, args=(stage.name,), name=stage.name)
                    process.start()
                    running[stage.name] = process
                    if isinstance(stage, Material):
                        break
            done |= _ended(running)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.join()


def _ended(running: dict[str, SpawnProcess]) -> set[str]:
    """Wait for a process to end; returns the names of those that have, taken out of `running`."""
    wait([process.sentinel for process in running.values()])
    ended = {name for name, process in running.items() if process.exitcode is not None}
    for name in ended:
        process = running.pop(name)
        process.join()
        if process.exitcode:
            raise BsqError(f"{name}: the stage failed with exit code {process.exitcode}; run again with --resume")
    return ended
