"""Who answers the decisions a field is made of: encoder, decoder, or statistics. All of them count what was decided."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from bsqcodec.entropy import BitDecoder, BitEncoder, cost_bits
from bsqcodec.motion.tables import MERGING, Counts, MotionState, add_decisions, empty_counts

Array = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Coder(Protocol):
    """Settles decisions: told the truth (encoder) or not (decoder), it returns the bits, uint8 [n]. merging: whether
    vectors may equal candidates behind the alternative (`MotionTables.merging`)."""

    merging: bool

    def decide(self, table: str, context: Array, truth: Mask | None) -> npt.NDArray[np.uint8]: ...


class Encoding:
    """Writes the truth with the state's probabilities, and adds up what that takes."""

    def __init__(self, target: BitEncoder, state: MotionState) -> None:
        self._target, self._state, self.seen = target, state, empty_counts(state.merging)
        self.merging, self.bits = state.merging, 0.0

    def decide(self, table: str, context: Array, truth: Mask | None) -> npt.NDArray[np.uint8]:
        bits, probabilities = _known(truth), self._state.probabilities[table][context]
        self._target.encode(bits, probabilities)
        self.bits += cost_bits(bits, probabilities)
        add_decisions(self.seen, table, context, bits)
        return bits


class Decoding:
    """Reads what `Encoding` wrote."""

    def __init__(self, source: BitDecoder, state: MotionState) -> None:
        self._source, self._state, self.seen = source, state, empty_counts(state.merging)
        self.merging = state.merging

    def decide(self, table: str, context: Array, truth: Mask | None) -> npt.NDArray[np.uint8]:
        bits = self._source.decode(self._state.probabilities[table][context])
        add_decisions(self.seen, table, context, bits)
        return bits


class Counting:
    """Neither codes: it counts decisions, and prices them where there are probabilities."""

    def __init__(self, counts: Counts, state: MotionState | None = None) -> None:
        self.seen, self._state, self.bits = counts, state, 0.0
        self.merging = MERGING.keys() <= counts.keys()

    def decide(self, table: str, context: Array, truth: Mask | None) -> npt.NDArray[np.uint8]:
        bits = _known(truth)
        add_decisions(self.seen, table, context, bits)
        if self._state is not None:
            self.bits += cost_bits(bits, self._state.probabilities[table][context])
        return bits


def _known(truth: Mask | None) -> npt.NDArray[np.uint8]:
    if truth is None:
        raise ValueError("an encoder needs the field it is to code")
    return truth.astype(np.uint8)
