"""Probabilities of the decisions that code vectors: integer tables, their fitting, their adaptation. Normative.

A table gives P in 1..65535 per context, p(bit = 1) = P / 65536. Inside a group the probabilities follow the group's own
statistics in integer arithmetic (`MotionState`); every group starts from the tables again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Counts = dict[str, npt.NDArray[np.int64]]  # per table [contexts, 2]: how often each bit was 0 and 1
Contexts = npt.NDArray[np.int64]

# Number of contexts of every table, as the product of what a context is made of (first factor slowest).
CONTEXTS = {
    "same": 5 * 3 * 5 * 5,  # pass kind, previous field (none, agrees, differs), agreeing neighbours, spread
    "alternative": 5 * 5,  # pass kind, spread
    "split": 4 * 2 * 3 * 5,  # phase, previous split, split neighbours (0, 1, more), neighbours with the same base
    "sub_same": 3 * 3 * 2,  # sub-block - 1, earlier sub-blocks that left the base, an alternative exists
    "sub_alternative": 3 * 3,  # sub-block - 1, earlier sub-blocks that left the base
    "zero": 16 * 2,  # class, component
    "sign": 2 * 2 * 3,  # base or sub-block, component, sign of (alternative - prediction)
    "exponent": 16 * 9,  # class, exponent reached
    "mantissa": 10 * 9,  # exponent, bit position
}
MERGES = 3  # candidates behind the alternative that a vector may equal
MERGING = {"merge": MERGES * 5 * 5}  # of weights whose vectors merge, beside the others: candidate, pass kind, spread
PRIOR_WEIGHT = 16  # decisions that a table's probability is worth against the group's own
MEMORY = 512  # counted decisions per context, above which the counts are halved
LOWEST, HIGHEST = 64, 65536 - 64  # of an adapted P


@dataclass(frozen=True)
class MotionTables:
    """Starting probabilities: uint16 [contexts] for every name of `CONTEXTS`, where vectors merge also of `MERGING`."""

    probabilities: Mapping[str, npt.NDArray[np.uint16]]

    @property
    def merging(self) -> bool:
        """Whether vectors may equal candidates behind the alternative."""
        return MERGING.keys() <= self.probabilities.keys()

    def to_arrays(self, prefix: str = "motion.") -> dict[str, npt.NDArray[np.uint16]]:
        """The tables as named arrays, for a weights file."""
        return {prefix + name: np.array(table) for name, table in self.probabilities.items()}

    @staticmethod
    def from_arrays(
        arrays: Mapping[str, npt.NDArray[np.uint16]], merging: bool = False, prefix: str = "motion."
    ) -> MotionTables:
        """Inverse of `to_arrays`; ValueError for a table that is missing, of another size or type, or holds a 0."""
        tables = {}
        for name, size in _contexts(merging).items():
            table = arrays.get(prefix + name)
            if table is None or table.dtype != np.uint16 or table.shape != (size,) or not table.all():
                raise ValueError(f"{prefix + name} must be {size} uint16 values from 1 up; use other weights")
            tables[name] = np.array(table)
        return MotionTables(tables)


class MotionState:
    """What a group has seen so far: counts per context and the probabilities that follow from them."""

    def __init__(self, tables: MotionTables) -> None:
        self._tables = tables
        self._counts = empty_counts(tables.merging)
        self.merging = tables.merging
        self.probabilities = {name: np.array(table) for name, table in tables.probabilities.items()}

    def update(self, seen: Counts) -> None:
        """Take in the decisions of one frame."""
        for name, table in self._tables.probabilities.items():
            counts = self._counts[name]
            counts += seen[name]
            while (full := counts.sum(1) > MEMORY).any():
                counts[full] >>= 1
            self.probabilities[name] = _blend(table, counts)


def _blend(table: npt.NDArray[np.uint16], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
    """P of a context that was seen counts [contexts, 2] times; untouched where it never was."""
    total = counts.sum(1)
    mixed = (table.astype(np.int64) * PRIOR_WEIGHT + (counts[:, 1] << 16)) // (PRIOR_WEIGHT + total)
    return np.where(total > 0, mixed.clip(LOWEST, HIGHEST), table).astype(np.uint16)


def empty_counts(merging: bool = False) -> Counts:
    """No decisions yet. merging: of fields whose vectors merge."""
    return {name: np.zeros((size, 2), np.int64) for name, size in _contexts(merging).items()}


def _contexts(merging: bool) -> dict[str, int]:
    return CONTEXTS | MERGING if merging else CONTEXTS


def add_decisions(counts: Counts, name: str, context: Contexts, bits: npt.NDArray[np.uint8]) -> None:
    """Count decisions [n] into `counts`, in place."""
    seen = np.bincount(2 * context + bits, minlength=counts[name].size)
    counts[name] += seen.reshape(-1, 2)


def tables_from_counts(counts: Counts) -> MotionTables:
    """Fit tables: the relative frequency of each context, pulled to its table's mean where it was hardly seen."""
    tables = {}
    for name, seen in counts.items():
        mean = (seen[:, 1].sum() + 1) / (seen.sum() + 2)
        p = (seen[:, 1] + 2 * mean) / (seen.sum(1) + 2)
        tables[name] = np.rint(p * 65536).clip(LOWEST, HIGHEST).astype(np.uint16)
    return MotionTables(tables)


def default_tables(merging: bool = False) -> MotionTables:
    """Tables fitted to natural video; each byte b of `_DEFAULT` means P = 256 b + 128."""
    tables = {}
    for name, size in _contexts(merging).items():
        levels = np.frombuffer(bytes.fromhex(_DEFAULT[name]), np.uint8)
        if len(levels) != size:
            raise ValueError(f"default table {name} has {len(levels)} entries, not {size}")
        tables[name] = levels.astype(np.uint16) * np.uint16(256) + np.uint16(128)
    return MotionTables(tables)


_DEFAULT = {
    "same": (
        "6ca7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a76ca7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7"
        "a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a79554280f08dc988a82b3efbca39b93dfa7a7a7a7"
        "a76c4d160deaab839d7bf7bdd3cec7faeaf4c6e2f9a7a7a7a7a7a7a7a7a72c37261404a88462532bc1b6825543b8a7a7a7a7"
        "a7a7a7a7a79a643b1d10e194849157f8d7dcbe84f7a7a7a7a7a75e2b1105f392765174f9b4b7dfb9fbeaf8f0e2fba7a7a7a7"
        "a7a7a7a7a74c5b351f0eb494737969e7d0978eb1e8a7a7a7a7a7a7a7a7a783592f1f12e07c607a5ba7cfcddabcfba7a7a7a7"
        "a756280e04f28e726658fca299d4b8a7e3e7f0e8fda7a7a7a7a7a7a7a7a741522e170eb5825b6a49a7c399abbcf1a7a7a7a7"
        "a7a7a7a7a7a77c6a4c2be5baacafb5faeaf1ebddfda7a7a7a7a72a190702a7725a625bfdb1c0cca7fdf0f7f6edfea7a7a7a7"
        "a7a7a7a7a7a761563421bfb1b1b1aff4e9d6e7d9faa7a7a7a7"
    ),
    "alternative": "113f3f3f3f265a251305287f30190b318d33230d229857321a",
    "merge": (
        "1818181818113d1e140c14462619100a452a1e12074e312619181818181818160d0907181e130c07181e150e08182014110c"
        "1818181818180d060404180a070403180a0704031806070504"
    ),
    "split": (
        "3e120a030017171717171717171717b172635c23171717171717171717173f110c040017171717171717171717b667696b3f"
        "17171717171717171717110805020039211b110a9b5145391e62334a3a087c69677c53ca9f9da1a2100605010040271e0f0a"
        "9c58312f1851392e471b805363704fcd9c839599"
    ),
    "sub_same": "a54552525252715552515252005252905223",
    "sub_alternative": "1e1f1f23141f1f381f",
    "zero": "537e5884476a2d451f311a1e15190d0e465e4a5e25341821141a141511121011",
    "sign": "a98f6ca88460c0864ab98249",
    "exponent": (
        "7f8f8eaca28e7b481a4a567f969a9c6d46475944618d96b87f3d2c884f4e899aa9803220bc815e6694987e5019cfb4927e71"
        "9d7d4c1ce0d0bba47d887f4f08ede8e1d9cbb08a4f19859fb1beb8b88429237e789cb6b9a9811b2b99728abcbeb076251ed1"
        "a670a7bca882290cdeddc171afa0881e1ae7e6ded4779e792818ecebe6e4d16e792e20f0eee9ece8d997471d"
    ),
    "mantissa": (
        "6d6d6d6d6d6d6d6d6d566d6d6d6d6d6d6d6d645b6d6d6d6d6d6d6d746d5f6d6d6d6d6d6d79756c676d6d6d6d6d7a75757267"
        "6d6d6d6d7d7e7877766a6d6d6d7d7d7b7b726a516d6d7f7e847b77746b526d708774797b653e2006"
    ),
}
