"""Does any damaged or forged file crash, hang or fill the memory of the decoder, or raise an error that is not ours?

    python tests/fuzz/run.py [--streams N] [--seed N] [--start N] [--timeout S] [--memory MIB] [--out DIR]

Makes N files from a few tiny seeds by the mutations of `mutations.py`, each decided by seed and number alone, and does
one of the things users do with each (`actions.py`), in a worker process with limits. The model is a stand-in with small
random weights, so that the real decoder runs at tens of files a second. Prints a summary as JSON: outcomes by exit
code, slowest, largest memory, what was unexpected. Those files are kept in DIR; `--start N --streams 1` makes one
again. Exit code 1 where anything was unexpected. SIGINT or SIGTERM ends it early, with the summary so far.
Needs Linux, whose /proc tells the memory each file took.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

MIB = 2**20
REPORT = 30.0  # s between lines of progress


@dataclass
class Summary:
    """What came of the files so far."""

    tried: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    mutations: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, -1)  # s, number of the file
    largest: tuple[float, int] = (0.0, -1)  # MiB resident, number of the file
    decoded: int = 0  # groups
    unexpected: list[dict[str, Any]] = field(default_factory=list)

    def add(self, result: dict[str, Any]) -> None:
        self.tried += 1
        self.codes[str(result["code"])] += 1
        self.actions[result["action"]] += 1
        self.mutations.update(result["mutation"].split("+"))
        self.slowest = max(self.slowest, (result["seconds"], result["number"]))
        self.largest = max(self.largest, (result["memory"], result["number"]))
        self.decoded += result["decoded"]
        if "problem" in result:
            self.unexpected.append({key: result[key] for key in ("number", "mutation", "action", "problem")})

    def to_json(self, seconds: float) -> str:
        """The figures, for people and programs."""
        facts = {
            "streams": self.tried,
            "exit_codes": dict(sorted(self.codes.items())),
            "actions": dict(sorted(self.actions.items())),
            "mutations": dict(sorted(self.mutations.items())),
            "groups_decoded": self.decoded,
            "slowest_s": round(self.slowest[0], 3),
            "slowest_stream": self.slowest[1],
            "largest_memory_mib": round(self.largest[0]),
            "largest_stream": self.largest[1],
            "seconds": round(seconds),
            "streams_per_second": round(self.tried / max(seconds, 1e-9), 1),
            "unexpected": self.unexpected,
        }
        return json.dumps(facts, indent=1)


class Worker:
    """The process that does the work; files are numbered, and it reports each before and after."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options, self._folder = options, folder
        self.path = folder / "stream.bsq"

    def run(self, first: int, pipe: Connection) -> None:
        """Files `first` .. the last."""
        from actions import Codec
        from seeds import SEEDS, make_seeds

        logging.disable(logging.ERROR)
        codec, streams = make_seeds(self._folder, Codec)
        codec.install()
        limit = _memory("VmData") + self._options.memory * MIB
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        for number in range(first, self._options.start + self._options.streams):
            rng = Random(f"{self._options.seed}:{number}")
            self._one(number, codec, streams, [seed.weights for seed in SEEDS], rng, pipe)
        pipe.send(None)

    def _one(
        self, number: int, codec: Any, streams: list[bytes], weights: list[int], rng: Random, pipe: Connection
    ) -> None:
        from actions import exercise
        from mutations import mutated

        which, mutation, data = mutated(streams, rng)
        self.path.write_bytes(data)
        result: dict[str, Any] = {"number": number, "mutation": mutation, "action": "?", "code": "unexpected"}
        pipe.send(result)
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again
        start, before = time.perf_counter(), codec.decoded
        try:
            result["action"], result["code"] = exercise(self.path, weights[which], rng)
        except BaseException:
            result["problem"] = traceback.format_exc()
        result["seconds"] = time.perf_counter() - start
        result["memory"], result["decoded"] = _memory("VmHWM") / MIB, codec.decoded - before
        if result["memory"] > self._options.memory:
            result["problem"] = f"{result['memory']:.0f} MiB resident"
        pipe.send(result)


def _memory(name: str) -> int:
    """Bytes of this process, by the name of a field of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


class WorkerError(Exception):
    """The worker ended outside of its work on a file."""


class Fuzzer:
    """Keeps a worker going, and starts another where one hung or died."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder, self.summary = options, folder, Summary()
        self._begin = self._said = time.perf_counter()

    def run(self) -> Summary:
        number, end = self.options.start, self.options.start + self.options.streams
        try:
            while number < end:
                number = self._with_one_worker(number)
        except KeyboardInterrupt:
            print("fuzz: stopped early", file=sys.stderr)
        except WorkerError as error:  # what was found until then is still worth telling
            self.summary.unexpected.append({"number": number, "problem": f"the fuzzer itself failed: {error}"})
        return self.summary

    def _with_one_worker(self, first: int) -> int:
        """Let a worker go until it ends, however; returns the number of the next file."""
        ours, theirs = multiprocessing.Pipe(duplex=False)
        worker = Worker(self.options, self.folder)
        process = multiprocessing.Process(target=worker.run, args=(first, theirs))
        process.start()
        theirs.close()
        pending: dict[str, Any] | None = None
        try:
            while True:
                # loading torch and making the seeds takes longer than any file may
                if not ours.poll(self.options.timeout if pending else 120):
                    return self._lost(pending, f"hangs: over {self.options.timeout} s", first)
                result = ours.recv()
                if result is None:
                    return self.options.start + self.options.streams
                if "seconds" not in result:
                    pending = result
                    continue
                pending = None
                first = result["number"] + 1
                self._take(result, worker.path)
        except EOFError:
            process.join()
            return self._lost(pending, f"the process died with exit code {process.exitcode}", first)
        finally:
            process.kill()
            process.join()

    def _lost(self, pending: dict[str, Any] | None, problem: str, first: int) -> int:
        if pending is None:
            raise WorkerError(problem)
        unknown = {"seconds": self.options.timeout, "memory": 0.0, "decoded": 0}
        self._take({**pending, **unknown, "problem": problem}, self.folder / "stream.bsq")
        return int(pending["number"]) + 1

    def _take(self, result: dict[str, Any], path: Path) -> None:
        self.summary.add(result)
        if "problem" in result:
            self.options.out.mkdir(parents=True, exist_ok=True)
            name = f"{self.options.seed}-{result['number']}"
            (self.options.out / f"{name}.bsq").write_bytes(path.read_bytes())
            (self.options.out / f"{name}.txt").write_text(f"{result['mutation']}\n{result['problem']}\n")
        now = time.perf_counter()
        if now - self._said > REPORT:
            self._said = now
            done, rate = self.summary.tried, self.summary.tried / (now - self._begin)
            unexpected = len(self.summary.unexpected)
            print(f"{done} files, {rate:.0f} a second, {unexpected} unexpected", file=sys.stderr, flush=True)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=100_000, help="files to try")
    parser.add_argument("--seed", type=int, default=1, help="another seed makes other files")
    parser.add_argument("--start", type=int, default=0, help="number of the first file")
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds a file may take")
    parser.add_argument("--memory", type=int, default=1024, help="MiB that the process may have resident")
    parser.add_argument("--out", type=Path, default=Path("fuzz_findings"), help="folder for what was unexpected")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):  # also where a shell started it with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    begin = time.perf_counter()
    shared = Path("/dev/shm")  # spares the disk the syncs of every output
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        summary = Fuzzer(options, Path(folder)).run()
    print(summary.to_json(time.perf_counter() - begin))
    return 1 if summary.unexpected else 0


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")  # torch's threads do not survive a fork
    raise SystemExit(main())
