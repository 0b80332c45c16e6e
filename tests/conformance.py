"""One hash for each golden stream: of its frames, as every decoder makes them.

    python tests/conformance.py [--quick]

Decoders are the package under every kernel, thread count and instruction set of `exactness.py`, each in a process of
its own, and `reference_decoder.py`, which shares no code with it (--quick leaves it out for larger streams). Prints a
line for each stream; exit code 1 where a decoder differs from another or from golden.json. Causal models have no exact
pixels: of them the bits are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from exactness import OWN_VARIABLES, ROOT, VARIANTS, Variant
from golden_set import FOLDER, decoded, reference_frames

SLOW = 3000  # samples of all frames from which the reference decoder is left out by --quick


def package_hashes(threads: int) -> dict[str, str]:
    """Hash of every stream of every set under the settings of this process."""
    from bsqcodec.codec import load_model

    found = {}
    for folder in sets():
        for name, facts in facts_of(folder).items():
            model = load_model(folder / f"{facts['weights']}.safetensors", device="cpu", threads=threads)
            result = decoded((folder / f"{name}.bsq").read_bytes(), name, model).facts()
            found[f"{folder.name}/{name}"] = str(result[_compared(facts)])
    return found


def sets() -> list[Path]:
    """The folders of all format versions."""
    return sorted(path for path in FOLDER.parent.iterdir() if path.is_dir())


def facts_of(folder: Path) -> dict[str, dict[str, str]]:
    """A set's golden.json."""
    facts: dict[str, dict[str, str]] = json.loads((folder / "golden.json").read_text())
    return facts


def _compared(facts: dict[str, str]) -> str:
    return "bits" if facts["weights"] == "causal" else "frames"


def under(variant: Variant) -> dict[str, str] | None:
    """`package_hashes` in a process of its own; None where the machine refuses the variant's kernel."""
    environment = {key: value for key, value in os.environ.items() if key not in OWN_VARIABLES}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(variant.threads)} | variant.environment
    command = [sys.executable, __file__, "--worker", str(variant.threads)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode and "int8 kernel is not exact" in done.stderr:
        return None
    if done.returncode:
        raise SystemExit(f"{variant.name}: {done.stderr.strip()}")
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def reference_hashes(quick: bool) -> dict[str, str]:
    """Hash of every stream's frames by the reference decoder, where it is asked."""
    found = {}
    for folder in sets():
        for name, facts in facts_of(folder).items():
            width, height = facts["size"]
            slow = int(width) * int(height) * len(facts["pts"]) > SLOW
            if facts["weights"] != "causal" and not (quick and slow):
                weights = folder / f"{facts['weights']}.safetensors"
                found[f"{folder.name}/{name}"] = reference_frames((folder / f"{name}.bsq").read_bytes(), weights)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the reference decoder on small streams alone")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        print(json.dumps(package_hashes(arguments.worker)))
        return 0
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        runs = dict(zip((variant.name for variant in VARIANTS), pool.map(under, VARIANTS), strict=True))
    for name in [name for name, found in runs.items() if found is None]:
        print(f"{name}: refused, this machine's int8 product is not exact")
    decoders = {name: found for name, found in runs.items() if found} | {"reference": reference_hashes(arguments.quick)}
    print(f"decoders: {', '.join(decoders)}")
    wrong = 0
    for folder in sets():
        for name, facts in facts_of(folder).items():
            key = f"{folder.name}/{name}"
            found = {decoder: hashes[key] for decoder, hashes in decoders.items() if key in hashes}
            odd = {decoder: value for decoder, value in found.items() if value != facts[_compared(facts)]}
            wrong += bool(odd)
            verdict = f"{len(found)} decoders agree" if not odd else f"DIFFERS: {odd}"
            print(f"{key:<22} {facts[_compared(facts)]}  {_compared(facts):<6}  {verdict}")
    print("all equal" if not wrong else f"{wrong} streams differ")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
