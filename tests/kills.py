"""Is there ever a broken file under the final name of an encode that was killed?

    python tests/kills.py [--times N] [--real] [--seed N]

Starts an encode, ends it with SIGKILL at a random moment of the time it takes, and looks: under the final name there
must be nothing, the file that was there before, or a whole one. Every second encode replaces a file. Prints what was
found; exit code 1 where a file does not verify. Without --real the codec is the stand-in of `fakes`, whose encodes take
a tenth of a second, most of it in reading and writing.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
FRAMES, KEYINT = 12, 3
OLD_CRF, NEW_CRF = "48", "16"


def command(src: Path, dst: Path, crf: str) -> list[str]:
    """The encode that is killed."""
    args = ["encode", str(src), str(dst), "--keyint", str(KEYINT), "--crf", crf, "-y", "-q", "--threads", "1"]
    return [sys.executable, "-m", "bsqcodec", *args]


def start(src: Path, dst: Path, crf: str, real: bool) -> int:
    """Start an encode in another process; returns its number."""
    if real:
        return subprocess.Popen(command(src, dst, crf)).pid
    child = os.fork()  # the stand-in has no threads, and this spares half a second of imports each time
    if child:
        return child
    import bsqcodec

    try:
        bsqcodec.encode(src, dst, crf=float(crf), keyint=KEYINT, overwrite=True)
    finally:
        os._exit(0)


def wait(process: int) -> None:
    os.waitpid(process, 0)


def state(path: Path, old: bytes | None) -> str:
    """What is under the final name: "nothing", "old", "whole" or "BROKEN"."""
    import bsqcodec

    if not path.exists():
        return "nothing" if old is None else "BROKEN"
    if path.read_bytes() == old:
        return "old"
    try:
        summary = bsqcodec.inspect(path, check=True)
    except bsqcodec.BsqError:
        return "BROKEN"
    return "whole" if summary.damage is None and summary.complete and summary.frames == FRAMES else "BROKEN"


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", action="store_true", help="the real codec through the command line; seconds each")
    options = parser.parse_args()
    if not options.real:
        sys.path.insert(0, str(HERE / "fakes"))
        import sitecustomize  # noqa: F401

        os.environ["FAKE_DELAY"] = "0.005"
    import clips

    import bsqcodec.api
    import bsqcodec.info  # noqa: F401

    rng, found = Random(options.seed), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        src, dst = folder / "in.y4m", folder / "out.bsq"
        src.write_bytes(clips.y4m_bytes(FRAMES, 48, 32))
        wait(start(src, dst, OLD_CRF, options.real))
        before = dst.read_bytes()
        begin = time.perf_counter()
        wait(start(src, dst, NEW_CRF, options.real))
        whole = time.perf_counter() - begin
        for number in range(options.times):
            old = before if number % 2 else None
            dst.unlink(missing_ok=True)
            if old is not None:
                dst.write_bytes(old)
            process = start(src, dst, NEW_CRF, options.real)
            time.sleep(rng.uniform(0, 1.2 * whole))
            os.kill(process, signal.SIGKILL)  # it may have ended; until it is waited for, nobody else has its number
            wait(process)
            found[state(dst, old)] += 1
        wait(start(src, dst, NEW_CRF, options.real))  # what the killed ones left is in nobody's way
        left = sorted(path.name for path in folder.iterdir())
        found["BROKEN"] += state(dst, None) != "whole" or left != ["in.y4m", "out.bsq"]
    print(f"{options.times} kills within {1.2 * whole:.2f} s: {dict(found)}; left in the folder: {', '.join(left)}")
    return 1 if found["BROKEN"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
