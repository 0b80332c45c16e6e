"""What a worker is asked to do: code a group, or decode one. Both are pickled on their way."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bsqcodec.codec import EncodedGroup, GroupEncoder, Model, decode_group, load_model
from bsqcodec.codec.settings import is_cut
from bsqcodec.container import Group
from bsqcodec.errors import BitstreamError, BsqError
from bsqcodec.frames import Frame, VideoInfo
from bsqcodec.motion import MotionField
from bsqcodec.presets import Search
from bsqcodec.tokenizer.transform import Planes


@dataclass(frozen=True)
class Setup:
    """How a worker loads its model: `load_model`'s arguments; data: the weights file's bytes where it may be far away.

    sha256: of the weights that the run was started with.
    """

    weights: str | None
    tune: str
    device: str
    threads: int
    sha256: bytes
    data: bytes | None = None

    def load(self) -> Model:
        """The model. Raises BsqError where the worker has other weights than the run."""
        if self.data is not None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "weights.safetensors"
                path.write_bytes(self.data)
                model = load_model(path, tune=self.tune, device=self.device, threads=self.threads)
        else:
            model = load_model(self.weights, tune=self.tune, device=self.device, threads=self.threads)
        if model.sha256 != self.sha256:
            raise BsqError("a worker found other weights than this run has; were they replaced in the meantime?")
        return model


def threads_each(threads: int, jobs: int) -> int:
    """CPU threads of each of `jobs` workers on this machine: as asked for, or the machine's shared out (0)."""
    return threads or max(1, (os.cpu_count() or 1) // jobs)


class Task(Protocol):
    """Something a worker can do with its model."""

    def run(self, model: Model) -> Any: ...


class Workers(Protocol):
    """Does tasks somewhere else, in any order. size: how many at a time."""

    @property
    def size(self) -> int: ...

    def submit(self, task: Task) -> int:
        """Have a task done; returns its ticket."""

    def result(self, ticket: int) -> Any:
        """Wait for a task's result, or raise what the task raised; WorkerError where workers die. Once a ticket."""

    def drop(self, ticket: int) -> None:
        """Nobody will ask for this result."""

    def close(self) -> None:
        """End the workers at once, whatever they are doing."""


@dataclass(frozen=True)
class CodedGroup:
    """What `EncodeTask` came to.

    closed: the group is full or was ended by a cut; otherwise its frames ran out.
    second_cost: cost of the second frame's prediction where a low enough cost before it would make that frame a cut;
    last_cost: of the last frame's prediction, None in a group of one frame.
    """

    encoded: EncodedGroup
    closed: bool
    second_cost: float | None
    last_cost: float | None


@dataclass(frozen=True)
class EncodeTask:
    """Code the group that begins with the first of some frames.

    ahead: frames of the video behind the first one, as `GroupEncoder.push` takes it; search: what may be spent;
    before: the cost of the last prediction before the group, None = not known or none.
    """

    info: VideoInfo
    crf: float
    keyint: int
    first_frame: int
    frames: Sequence[Frame]
    ahead: int
    search: Search
    before: float | None = None

    def run(self, model: Model) -> CodedGroup:
        """The group; frames behind its end are left alone."""
        encoder = _OneGroup(
            model, self.info, crf=self.crf, keyint=self.keyint, first_frame=self.first_frame, search=self.search
        )
        encoder.last_cost = self.before
        try:
            done = [group for frame in self.frames for group in encoder.push(frame, self.ahead)]
            closed = bool(done)
        except _CutFound:
            done, closed = [], True
        (encoded,) = done or encoder.flush()
        return CodedGroup(encoded, closed, encoder.second_cost, encoder.own_cost)


class _CutFound(Exception):
    """The frame that was pushed begins another group."""


class _OneGroup(GroupEncoder):
    """Codes one group and stops at a cut before any work on the frame behind it."""

    second_cost: float | None = None
    own_cost: float | None = None

    def cuts(self, target: Planes, motion: MotionField | None) -> bool:
        if motion is None:
            return False
        if self.own_cost is None and is_cut(target[0], motion.cost, 0.0):
            self.second_cost = motion.cost
        if super().cuts(target, motion):
            raise _CutFound
        self.own_cost = motion.cost
        return False


@dataclass(frozen=True)
class DecodedGroup:
    """What `DecodeTask` came to: the frames up to the damage, and what that is."""

    frames: list[Frame]
    error: BitstreamError | None


@dataclass(frozen=True)
class DecodeTask:
    """Decode the first `count` frames of a group."""

    group: Group
    info: VideoInfo
    count: int

    def run(self, model: Model) -> DecodedGroup:
        """The frames, as far as the group is whole."""
        frames: list[Frame] = []
        try:
            for frame in decode_group(model, self.group, self.info):
                frames.append(frame)
                if len(frames) == self.count:
                    break
        except BitstreamError as error:
            return DecodedGroup(frames, error)
        return DecodedGroup(frames, None)


def attempt(task: Task, setup: Setup, models: dict[Setup, Model]) -> tuple[Any, Exception | None]:
    """Do a task in a worker: (result, None), or (None, what it raised). models: those this process has loaded."""
    try:
        if setup not in models:
            models[setup] = setup.load()
        return task.run(models[setup]), None
    except BsqError as error:
        return None, error
    except Exception as error:  # others may not survive pickling; their text is what a message is made of
        return None, RuntimeError(f"in a worker: {type(error).__name__}: {error}")
