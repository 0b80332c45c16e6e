"""Does a file mean the same on a GPU and on the CPU?

    python tests/gpu_check.py [--gpu 0] [--source CLIP] [--frames N]

Encodes a clip on both, decodes both files on both, and prints the hash of all frames for each pair (encoder, decoder)
with the seconds it took. Exit code 1 where one file decoded to different frames, 3 without such a GPU.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from pathlib import Path

from exactness import CLIP

import bsqcodec
from bsqcodec.errors import DeviceError

GROUP = 8  # frames


def frames_hash(path: Path, device: str) -> str:
    """Hash of the frames that a file decodes to on a device."""
    digest = hashlib.sha256()
    with bsqcodec.open(path, device=device) as video:
        for frame in video:
            for plane in (frame.y, frame.u, frame.v):
                digest.update(plane.tobytes())
    return digest.hexdigest()[:16]


def check(devices: list[str], source: Path, frames: int, folder: Path) -> dict[str, dict[str, str]]:
    """Hashes by encoder and decoder; prints a line for each step."""
    found: dict[str, dict[str, str]] = {}
    for encoder in devices:
        path = folder / f"{encoder.replace(':', '')}.bsq"
        started = time.perf_counter()
        bsqcodec.encode(source, path, crf=30, keyint=GROUP, limit=frames, device=encoder)
        print(f"encoded on {encoder:<8} {time.perf_counter() - started:7.2f} s  {path.stat().st_size} bytes")
        found[encoder] = {}
        for decoder in devices:
            started = time.perf_counter()
            found[encoder][decoder] = frames_hash(path, decoder)
            print(f"  decoded on {decoder:<8} {time.perf_counter() - started:7.2f} s  {found[encoder][decoder]}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", type=int, default=0, help="number of the GPU")
    parser.add_argument("--source", type=Path, default=CLIP, help="any video (default: the shipped clip)")
    parser.add_argument("--frames", type=int, default=2 * GROUP)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = check([f"cuda:{arguments.gpu}", "cpu"], arguments.source, arguments.frames, Path(folder))
        except DeviceError as error:
            print(error, file=sys.stderr)
            return 3
    differing = [encoder for encoder, hashes in found.items() if len(set(hashes.values())) > 1]
    print(f"different frames from the file of {', '.join(differing)}" if differing else "each file has one hash")
    return int(bool(differing))


if __name__ == "__main__":
    sys.exit(main())
