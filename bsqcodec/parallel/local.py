"""Workers that are processes of this machine, each with its model and a pipe."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from bsqcodec.codec import Model
from bsqcodec.errors import WorkerError
from bsqcodec.heap import keep_freed_memory
from bsqcodec.parallel.tasks import Setup, Task, attempt
from bsqcodec.signals import held

_PATIENCE = 5.0  # seconds a process that was told to end is waited for


class LocalWorkers:
    """A process for each of `setups`.

    One that dies ends the run: on one machine the cause is mostly memory, and would return.

    They are started afresh rather than forked, since torch's threads and CUDA do not survive a fork. They end with
    this process, however that ends, since they read from its pipe.
    """

    def __init__(self, setups: Sequence[Setup]) -> None:
        self.size = len(setups)
        self._waiting: deque[tuple[int, Task]] = deque()
        self._results: dict[int, tuple[Any, Exception | None]] = {}
        self._dropped: set[int] = set()  # being worked on, for nobody
        self._tickets = 0
        self._idle: list[Connection] = []
        self._busy: dict[Connection, int] = {}
        self._processes: dict[Connection, SpawnProcess] = {}
        try:
            for setup in setups:
                self._start(setup)
        except BaseException:
            self.close()
            raise

    def _start(self, setup: Setup) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, setup), daemon=True)
        with held(signal.SIGINT):  # which reaches all processes of a terminal; the run's own ends these
            process.start()
            self._processes[ours] = process
        theirs.close()
        self._idle.append(ours)

    def submit(self, task: Task) -> int:
        """See `Workers`."""
        self._tickets += 1
        self._waiting.append((self._tickets, task))
        self._hand_out()
        return self._tickets

    def result(self, ticket: int) -> Any:
        """See `Workers`. Raises WorkerError where a process died."""
        while ticket not in self._results:
            self._receive()
        value, error = self._results.pop(ticket)
        if error is not None:
            raise error
        return value

    def drop(self, ticket: int) -> None:
        """See `Workers`."""
        if ticket in self._busy.values():
            self._dropped.add(ticket)
        self._results.pop(ticket, None)
        self._waiting = deque(item for item in self._waiting if item[0] != ticket)

    def close(self) -> None:
        """See `Workers`."""
        for connection, process in self._processes.items():
            process.terminate()
            connection.close()
        for process in self._processes.values():
            process.join(_PATIENCE)
        self._processes.clear()

    def _hand_out(self) -> None:
        while self._waiting and self._idle:
            connection = self._idle.pop()
            ticket, task = self._waiting.popleft()
            self._busy[connection] = ticket
            try:
                connection.send((ticket, task))
            except OSError as error:
                raise self._died(connection) from error

    def _receive(self) -> None:
        """Wait for results and hand out what is next."""
        for connection in wait(list(self._busy)):
            assert isinstance(connection, Connection)
            try:
                ticket, *answer = connection.recv()
            except (EOFError, OSError) as error:
                raise self._died(connection) from error
            del self._busy[connection]
            self._idle.append(connection)
            if ticket not in self._dropped:
                self._results[ticket] = (answer[0], answer[1])
            self._dropped.discard(ticket)
        self._hand_out()

    def _died(self, connection: Connection) -> WorkerError:
        process = self._processes[connection]
        process.join(_PATIENCE)
        code = process.exitcode
        how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
        return WorkerError(f"a worker process ended {how}; if memory ran out, use fewer --jobs")


def _work(connection: Connection, setup: Setup) -> None:
    """A worker's life: tasks until the pipe ends."""
    keep_freed_memory()
    models: dict[Setup, Model] = {}
    try:
        while True:
            ticket, task = connection.recv()
            connection.send((ticket, *attempt(task, setup, models)))
    except (EOFError, OSError):  # the run is over
        return
