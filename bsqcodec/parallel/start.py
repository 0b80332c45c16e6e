"""From the options of a run to its model and its workers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bsqcodec.errors import UsageError
from bsqcodec.outputs import StrPath

if TYPE_CHECKING:
    from bsqcodec.codec import Model
    from bsqcodec.parallel.tasks import Workers


@dataclass(frozen=True)
class Spread:
    """Where a run's groups are coded. weights, device, threads: those of its model; 0 threads: chosen for the workers.

    device: also several GPUs, "cuda:0,cuda:1"; each then has a process at least. jobs: processes of this machine;
    cluster: instead, a Ray cluster's address, or "auto".
    Raises UsageError for an impossible number of jobs, for a list of anything but different GPUs, and for a cluster
    together with jobs or several devices.
    """

    weights: StrPath | None
    device: str
    threads: int
    jobs: int = 1
    cluster: str | None = None

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise UsageError(f"jobs {self.jobs}: must be 1 or more")
        _check_list(self.device, self.devices)
        if self.cluster is None:
            return
        if self.jobs > 1:
            raise UsageError(f"jobs {self.jobs}, cluster {self.cluster}: contradict each other; give one")
        if len(self.devices) > 1:
            raise UsageError(f"device {self.device}, cluster {self.cluster}: a cluster has GPUs of its own; give one")

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices, one by one."""
        return tuple(self.device.split(","))

    @property
    def processes(self) -> int:
        """Workers on this machine: no device is left idle."""
        return max(self.jobs, len(self.devices))

    @property
    def alone(self) -> bool:
        """Whether this process does it all."""
        return self.processes == 1 and self.cluster is None

    @property
    def name(self) -> str:
        """What was asked for, for messages."""
        if self.cluster is not None:
            return f"cluster {self.cluster}"
        return f"device {self.device}" if len(self.devices) > 1 else f"jobs {self.jobs}"

    def model(self, tune: str) -> Model:
        """This process's own model, on the first device; its note names all of them.

        Raises what `load_model` does, and DeviceError where one of several devices is missing.
        """
        from bsqcodec.codec import load_model

        if len(self.devices) == 1:
            return load_model(self.weights, tune=tune, device=self.device, threads=self.threads)
        from bsqcodec.codec.model import find_device

        notes = [find_device(name)[1] for name in self.devices]
        model = load_model(self.weights, tune=tune, device=self.devices[0], threads=self.threads)
        return replace(model, device_note=", ".join(notes))

    @contextmanager
    def started(self, model: Model) -> Iterator[Workers]:
        """The workers, which have the run's model and end with the block."""
        workers = self._start(model)
        try:
            yield workers
        finally:
            workers.close()

    def _start(self, model: Model) -> Workers:
        from bsqcodec.parallel.tasks import Setup, threads_each

        if self.cluster is not None:
            from bsqcodec.codec.model import shipped_path
            from bsqcodec.parallel.cluster import RayWorkers

            path = shipped_path(model.tune) if self.weights is None else Path(self.weights)
            setup = Setup(None, model.tune, self.device, self.threads or 1, model.sha256, path.read_bytes())
            return RayWorkers(self.cluster, setup)
        from bsqcodec.parallel.local import LocalWorkers

        weights = None if self.weights is None else os.fspath(Path(self.weights).resolve())
        threads = threads_each(self.threads, self.processes)
        in_turn = (self.devices[number % len(self.devices)] for number in range(self.processes))
        return LocalWorkers([Setup(weights, model.tune, device, threads, model.sha256) for device in in_turn])


def _check_list(text: str, devices: tuple[str, ...]) -> None:
    """Raise UsageError for several devices that are not different GPUs.

    The CPU among GPUs would make an encode's bytes hang on which process was free first, since the encoder's floating
    point rounds otherwise there.
    """
    if len(devices) == 1:
        return
    if not all(re.fullmatch(r"cuda:\d+", device) for device in devices):
        raise UsageError(f"device {text}: only GPUs can be several, as in cuda:0,cuda:1")
    if len(set(devices)) < len(devices):
        raise UsageError(f"device {text}: names a GPU twice; for several processes on one, use --jobs")
