"""Does a file decode to the same levels, vectors and pixels under every kernel, thread count and instruction set?

    python tests/exactness.py [--weights FILE] [--source CLIP] [--frames N] [--quick]

Encodes one clip under every variant and decodes every file under every variant, each in a process of its own. Prints
the hash of all levels, motion vectors and pixels for each pair (encoder, decoder), then one line for all. Exit code 1
where one file decoded to something else, or the decoder's hash is not that of the encoder's own reconstruction.

The encoder's own transformer is float: under another instruction set it may choose other levels, so different encoders
may write different files. What must hold: a given file means the same everywhere.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "benchmarks" / "data" / "bee_640x360.mp4"
OWN_VARIABLES = ("BSQCODEC_KERNEL", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE")


@dataclass(frozen=True)
class Variant:
    """A way to run: environment and CPU threads."""

    name: str
    environment: dict[str, str] = field(default_factory=dict)
    threads: int = 1


VARIANTS = (
    Variant("1 thread"),
    Variant("2 threads", threads=2),
    Variant("int8", {"BSQCODEC_KERNEL": "int8"}),
    Variant("float32", {"BSQCODEC_KERNEL": "float32"}),
    Variant("aten default", {"ATEN_CPU_CAPABILITY": "default"}),
    Variant("onednn avx2", {"ONEDNN_MAX_CPU_ISA": "AVX2"}),
    Variant("onednn sse41", {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"}),
    Variant("float32 as bf16", {"BSQCODEC_KERNEL": "float32", "ONEDNN_DEFAULT_FPMATH_MODE": "BF16"}),
)
QUICK = ("2 threads", "int8", "float32", "onednn sse41")


class BitHash:
    """SHA-256 of levels, vectors and pixels in the order of the stream."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.pictures = self.fields = 0

    def levels(self, levels: Any) -> None:
        """Levels of one picture, tensor int16 [h, w, C]."""
        self._add("levels", levels.cpu().numpy(), "<i2")
        self.pictures += 1

    def motion(self, motion: Any) -> None:
        """A motion field."""
        self._add("vectors", motion.vectors.cpu().numpy(), "<i4")
        self._add("split", motion.split.cpu().numpy(), "u1")
        self.fields += 1

    def pixels(self, planes: Any) -> None:
        """A reconstructed picture's planes, uint8."""
        for plane in planes:
            self._add("pixels", plane.cpu().numpy(), "u1")

    def _add(self, name: str, values: Any, kind: str) -> None:
        self._hash.update(f"{name} {values.shape}".encode())
        self._hash.update(values.astype(kind).tobytes())

    @property
    def hex(self) -> str:
        return self._hash.hexdigest()[:16]


@contextmanager
def hashed_bits() -> Iterator[BitHash]:
    """Hash everything that is encoded or decoded inside the block."""
    from bsqcodec.codec.predictive import PredictiveCoder
    from bsqcodec.prior.coding import TokenCoder

    group: Any = import_module("bsqcodec.codec.group")
    seen = BitHash()
    refine = PredictiveCoder.refine
    code, encode_field, decode_field = TokenCoder.code, group.encode_field, group.decode_field

    def hashed_code(self: Any, *args: Any, **options: Any) -> Any:
        coded = code(self, *args, **options)
        seen.levels(coded)
        return coded

    def hashed_refine(self: Any, *args: Any, **options: Any) -> Any:
        planes, levels = refine(self, *args, **options)
        seen.pixels(planes)
        return planes, levels

    def hashed_encode(encoder: Any, motion: Any, *rest: Any) -> Any:
        seen.motion(motion)
        return encode_field(encoder, motion, *rest)

    def hashed_decode(*args: Any) -> Any:
        motion = decode_field(*args)
        seen.motion(motion)
        return motion

    TokenCoder.code = hashed_code  # type: ignore[method-assign]
    PredictiveCoder.refine = hashed_refine  # type: ignore[method-assign]
    group.encode_field, group.decode_field = hashed_encode, hashed_decode
    try:
        yield seen
    finally:
        TokenCoder.code = code  # type: ignore[method-assign]
        PredictiveCoder.refine = refine  # type: ignore[method-assign]
        group.encode_field, group.decode_field = encode_field, decode_field


def decoded_hash(path: Path, weights: Path | None, threads: int = 0) -> str:
    """Hash of the levels, vectors and pixels that a file decodes to."""
    import bsqcodec

    with hashed_bits() as seen, bsqcodec.open(path, weights=weights, device="cpu", threads=threads) as video:
        for _frame in video:
            pass
    return seen.hex


def encode_here(source: Path, out: Path, weights: Path | None, threads: int, frames: int) -> str:
    """Encode in this process; the hash of what went into the file."""
    import bsqcodec

    with hashed_bits() as seen:
        bsqcodec.encode(
            source,
            out,
            crf=30,
            keyint=max(2, frames // 2),
            limit=frames,
            weights=weights,
            device="cpu",
            threads=threads,
        )
    return seen.hex


def int8_products_are_right() -> bool:
    """Whether int8 products equal int64 ones on shapes and values of all kinds."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for rows, wide, out in ((1, 8, 8), (3, 240, 192), (17, 192, 576), (64, 384, 192), (900, 456, 256), (31, 128, 576)):
        for low, high in ((-127, 128), (126, 128), (-127, -125)):
            left, right = (
                torch.randint(low, high, (n, wide), generator=generator, dtype=torch.int8) for n in (rows, out)
            )
            right = right.abs()  # one sign a side: the pairs that old instructions clip
            if not torch.equal(torch._int_mm(left, right.t()).long(), left.long() @ right.long().t()):
                return False
    return True


def worker(job: dict[str, Any]) -> None:
    """One process's work, as JSON on the command line; one JSON line as the answer."""
    import torch

    from bsqcodec.codec import load_model
    from bsqcodec.integer.arithmetic import int8_is_exact

    if job["do"] == "kernel":
        print(json.dumps({"claimed": int8_is_exact(torch.device("cpu")), "right": int8_products_are_right()}))
        return
    weights = Path(job["weights"]) if job["weights"] else None
    model = load_model(weights, device="cpu", threads=job["threads"])
    answer: dict[str, Any] = {
        "kernel": model.tokens.ops.name,  # type: ignore[attr-defined]
        "isa": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }
    if job["do"] == "encode":
        out = Path(job["out"])
        answer["hash"] = encode_here(Path(job["source"]), out, weights, job["threads"], job["frames"])
    else:
        answer["hashes"] = [decoded_hash(Path(path), weights, job["threads"]) for path in job["files"]]
    print(json.dumps(answer))


def start(variant: Variant, **job: Any) -> dict[str, Any] | None:
    """Run a worker under a variant; None where the machine refuses the variant's kernel by name."""
    environment = {key: value for key, value in os.environ.items() if key not in OWN_VARIABLES}
    path = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH", "")]))
    threads = {"OMP_NUM_THREADS": str(variant.threads)}
    command = [sys.executable, __file__, "--worker", json.dumps({**job, "threads": variant.threads})]
    environment |= {"PYTHONPATH": path} | threads | variant.environment
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode and "int8 kernel is not exact" in done.stderr and "BSQCODEC_KERNEL" in variant.environment:
        return None
    if done.returncode:
        raise SystemExit(f"{variant.name}: {done.stderr.strip()}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@dataclass
class Result:
    """hashes[encoder][decoder]; encoded[encoder] is what the encoder says it wrote; runs: how each decoder ran."""

    hashes: dict[str, dict[str, str]] = field(default_factory=dict)
    encoded: dict[str, str] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    @property
    def agree(self) -> bool:
        """Whether every file meant the bits its encoder wrote, to every decoder."""
        return bool(self.hashes) and all(
            set(found.values()) == {self.encoded[name]} for name, found in self.hashes.items()
        )

    @property
    def hash(self) -> str:
        """One hash for all files; the files' own where there is but one."""
        different = sorted(set(self.encoded.values()))
        return different[0] if len(different) == 1 else hashlib.sha256("".join(different).encode()).hexdigest()[:16]


def matrix(variants: list[Variant], source: Path, weights: Path | None, frames: int, folder: Path) -> Result:
    """Encode under every variant, decode every file under every variant."""
    result, files = Result(), {}
    shared = {"weights": str(weights) if weights else ""}
    for number, variant in enumerate(variants):
        out = folder / f"{number}.bsq"
        answer = start(variant, do="encode", source=str(source), out=str(out), frames=frames, **shared)
        if answer is None:
            result.refused.append(variant.name)
            continue
        files[variant.name] = out
        result.encoded[variant.name] = answer["hash"]
        result.hashes[variant.name] = {}
    for variant in variants:
        if variant.name in result.refused:
            continue
        answer = start(variant, do="decode", files=[str(path) for path in files.values()], **shared)
        assert answer is not None
        result.runs[variant.name] = answer
        for name, found in zip(files, answer["hashes"], strict=True):
            result.hashes[name][variant.name] = found
    return result


def show(result: Result) -> None:
    """One line a pair, then one for all."""
    for name, answer in result.runs.items():
        print(f"{name:<16} kernel {answer['kernel']}, {answer['isa']}, {answer['threads']} thread(s)")
    for name in result.refused:
        print(f"{name:<16} refused: this machine's int8 product is not exact")
    for encoder, found in result.hashes.items():
        for decoder, value in found.items():
            verdict = "" if value == result.encoded[encoder] else f"  DIFFERS from {result.encoded[encoder]}"
            print(f"{encoder:<16} {decoder:<16} {value}{verdict}")
    pairs, files = sum(map(len, result.hashes.values())), len(set(result.encoded.values()))
    if result.agree:
        print(f"{pairs} pairs agree, {files} different file(s): {result.hash}")
    else:
        print("the bits are NOT the same everywhere")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="weights file, default: those of the package")
    parser.add_argument("--source", type=Path, default=CLIP, help="clip to encode")
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(json.loads(args.worker))
        return 0
    variants = [variant for variant in VARIANTS if not args.quick or variant.name in QUICK]
    with tempfile.TemporaryDirectory() as folder:
        result = matrix(variants, args.source, args.weights, args.frames, Path(folder))
    show(result)
    return 0 if result.agree else 1


if __name__ == "__main__":
    sys.exit(main())
