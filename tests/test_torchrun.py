"""Training in two processes that `torchrun` starts: one killed, then resumed to the weights of a whole training."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bsqcodec.training import checkpoint
from bsqcodec.training.distributed import Team

# What each process does: a small regression, with a checkpoint each step; where "hold" is given, it waits there.
SCRIPT = """
import os, sys, time
from pathlib import Path
import torch
from torch import nn
from bsqcodec.training import loop
from bsqcodec.training.distributed import joined
from bsqcodec.training.tasks import Task

out, steps, hold = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
loop.CHECKPOINT_SECONDS = -1

class Draws:
    def batch(self, size, rng):
        seed = rng.randrange(2**30)
        with (out.parent / f"{out.name}-draws").open("a") as file:
            file.write(f"{team.rank} {seed}\\n")
        if hold and (out / "log.jsonl").exists() and len((out / "log.jsonl").open().readlines()) > hold:
            time.sleep(60)
        return torch.randn(size, 3, generator=torch.Generator().manual_seed(seed))

    def refresh(self):
        return 0

with joined() as team:
    (out.parent / f"pid{team.rank}").write_text(str(os.getpid()))
    torch.manual_seed(team.rank)  # another start for each, which must not matter
    model = nn.Linear(3, 1)
    def loss(batch):
        value = ((model(batch) - batch.sum(1, keepdim=True)) ** 2).mean()
        return value, {"error": float(value.detach())}
    task = Task(nn.ModuleDict({"model": model}), [{"params": list(model.parameters()), "lr": 0.05}], loss)
    loop.train(task, Draws(), Draws(), out, steps=steps, batch=4, seed=7, resume=True)
"""


def command(folder: Path, out: str, steps: int, hold: int = 0) -> list[str]:
    script = folder / "train.py"
    script.write_text(SCRIPT)
    runner = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [*runner, str(script), str(folder / out), str(steps), str(hold)]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read(out / checkpoint.NAME)["modules"]


@pytest.mark.slow
def test_two_processes_killed_and_resumed_end_where_a_whole_training_does(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command(tmp_path, "whole", 6), check=True, capture_output=True, env=environment)
    with subprocess.Popen(
        command(tmp_path, "cut", 6, hold=3), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    ) as run:
        deadline = time.monotonic() + 120
        while checkpoint.steps_done(tmp_path / "cut" / checkpoint.NAME) < 3 and time.monotonic() < deadline:
            assert run.poll() is None
            time.sleep(0.05)
        os.kill(int((tmp_path / "pid1").read_text()), signal.SIGKILL)
        assert run.wait(60) != 0  # the other is ended, rather than waiting for ever
    assert 3 <= checkpoint.steps_done(tmp_path / "cut" / checkpoint.NAME) < 6
    subprocess.run(command(tmp_path, "cut", 6), check=True, capture_output=True, env=environment)
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    lines = [json.loads(line)["step"] for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert lines == [0, 1, 2, 3, 4, 5, 6]  # one process writes
    draws = [line.split() for line in (tmp_path / "whole-draws").read_text().splitlines()]
    own = [{seed for rank, seed in draws if rank == wanted} for wanted in ("0", "1")]
    validation = own[0] & own[1]
    assert len(own[0] - validation) == len(own[1] - validation) == 6  # batches of one's own, but the same validation


def test_alone_batches_are_drawn_as_ever():
    assert random.Random(Team().draw(7, 3)).random() == random.Random("7/3").random()
    assert len({Team(rank, 2).draw(7, 3) for rank in range(2)} | {Team().draw(7, 3)}) == 3
