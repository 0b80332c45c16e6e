"""Coding a frame's tokens: four phases of a 2x2 pattern, bands of channels inside a phase, decisions inside a band.

The same steps run when encoding (levels known) and when decoding (levels appear); the coder decides which.
Legend: h w tokens, N tokens of a phase (raster order), n channels of a band.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bsqcodec.entropy import BitDecoder, BitEncoder, cost_bits
from bsqcodec.integer.arithmetic import Ops
from bsqcodec.prior.choice import Wanted, Wish, choose
from bsqcodec.prior.context import ONE, symbols
from bsqcodec.prior.network import NEIGHBOURS, PriorNetwork
from bsqcodec.prior.tables import FIRST_TAIL, Tables
from bsqcodec.profile import stage
from bsqcodec.tokenizer.levels import EXPONENTS
from bsqcodec.tokenizer.transform import PHASES

Bits = np.ndarray  # uint8, 0 or 1


class Coder(Protocol):
    """Writes bits it is given, or reads the bits that are not given."""

    def code(self, plane: str, bits: Bits | None, p: np.ndarray) -> Bits: ...


class Writer:
    """Encodes, and counts the information of every bit plane."""

    def __init__(self, encoder: BitEncoder):
        self.encoder = encoder
        self.plane_bits: defaultdict[str, float] = defaultdict(float)

    def code(self, plane: str, bits: Bits | None, p: np.ndarray) -> Bits:
        assert bits is not None
        if bits.size:
            self.encoder.encode(bits, p)
            self.plane_bits[plane] += cost_bits(bits, p)
        return bits


class Reader:
    """Decodes."""

    def __init__(self, decoder: BitDecoder):
        self.decoder = decoder

    def code(self, plane: str, bits: Bits | None, p: np.ndarray) -> Bits:
        return self.decoder.decode(p) if p.size else np.zeros(0, dtype=np.uint8)


class TokenCoder:
    """Codes the levels of one frame after another with a prior's network and tables."""

    def __init__(self, network: PriorNetwork, ops: Ops, tables: Tables):
        self.network, self.ops, self.tables = network, ops, tables
        self.config = network.config

    def code(self, coder: Coder, features: Tensor, levels: Tensor | None, wanted: Wish | None = None) -> Tensor:
        """features: trunk inputs [h, w, F]; levels int16 [h, w, C] when encoding, None when decoding. Returns levels.

        With `wanted` (encoding, layout "levels") the levels are chosen here, at their true price.
        """
        with torch.inference_mode():
            trunk = self.network.trunk(features.unsqueeze(0), self.ops)[0]
            h, w, _ = trunk.shape
            known = torch.zeros(h, w, self.config.channels, dtype=torch.int16, device=trunk.device)
            seen = torch.zeros(h + 2, w + 2, self.config.embed, device=trunk.device)  # embeddings, a border of zeros
            for phase, (row, column) in enumerate(PHASES):
                if row >= h or column >= w:
                    continue
                mixed = self._mix(trunk[row::2, column::2], seen, phase)
                target = None if levels is None else levels[row::2, column::2].flatten(0, 1)
                part = self._code_tokens(coder, mixed, target, wanted.part(phase) if wanted else None)
                grid = part.reshape(*trunk[row::2, column::2].shape[:2], -1)
                if wanted:
                    wanted.took(phase, grid)
                known[row::2, column::2] = grid
                embedded = self.network.embedding(symbols(grid, self.config.signed), self.ops)
                seen[1 + row : 1 + h : 2, 1 + column : 1 + w : 2] = embedded
            return known

    def _mix(self, trunk: Tensor, seen: Tensor, phase: int) -> Tensor:
        """Tokens of a phase [N, M]: trunk output and the embeddings of coded neighbours."""
        row, column = PHASES[phase]
        h, w, _ = trunk.shape
        near = [
            seen[1 + row + dy : 1 + row + dy + 2 * h - 1 : 2, 1 + column + dx : 1 + column + dx + 2 * w - 1 : 2]
            for dy, dx in NEIGHBOURS
        ]
        flag = torch.zeros(h, w, len(PHASES), device=trunk.device)
        flag[..., phase] = ONE
        return self.network.mixed(trunk, torch.cat(near, dim=-1), flag, self.ops).flatten(0, 1)

    def _code_tokens(self, coder: Coder, mixed: Tensor, target: Tensor | None, wanted: Wanted | None) -> Tensor:
        """Tokens of a phase, band after band: int16 [N, C]; target [N, C] and wanted are of the same tokens."""
        known = torch.zeros(mixed.shape[0], self.config.channels, dtype=torch.int16, device=mixed.device)
        for band in range(len(self.config.bands)):
            start, end = self.config.band_range(band)
            before = symbols(known, self.config.signed)[:, self._before(start)] if start else None
            sums = self.network.logits(mixed, before, band, self.ops)
            with stage("coder"):
                given = self._levels(target, wanted, (start, end), sums)
                code = self._code_levels if self.config.layout == "levels" else self._code_signs
                known[:, start:end] = torch.from_numpy(code(coder, sums, given)).to(known.device)
        return known

    def _levels(
        self, target: Tensor | None, wanted: Wanted | None, band: tuple[int, int], sums: Tensor
    ) -> np.ndarray | None:
        """Levels of a band [N, n]: chosen, given, or None when decoding."""
        own = slice(*band)
        if wanted is not None:
            return choose(wanted.latents[:, own], wanted.points[own], wanted.prices[:, own], sums, self.tables)
        return None if target is None else target[:, own].cpu().numpy()

    def _before(self, start: int) -> Tensor:
        signs = torch.arange(self.config.channels, self.config.channels + self.config.signed)
        return torch.cat([torch.arange(start), signs])

    def _code_signs(self, coder: Coder, sums: Tensor, levels: np.ndarray | None) -> np.ndarray:
        """Layout "signs": one bit a channel, level = +-1."""
        p = self.tables.probabilities(sums[..., 0])
        bits = None if levels is None else (levels > 0).astype(np.uint8).ravel()
        coded = coder.code("sign", bits, p.ravel())
        return (coded.astype(np.int16) * 2 - 1).reshape(p.shape)

    def _code_levels(self, coder: Coder, sums: Tensor, levels: np.ndarray | None) -> np.ndarray:
        """Layout "levels": sums [N, n, 6] -> int16 [N, n]."""
        zero_p = self.tables.probabilities(sums[..., 0]).ravel()
        given = None if levels is None else levels.ravel()
        zero = coder.code("zero", None if given is None else (given == 0).astype(np.uint8), zero_p)
        where = np.flatnonzero(zero == 0)
        out = np.zeros(zero_p.size, dtype=np.int16)
        if where.size:
            some = sums.reshape(-1, sums.shape[-1])[torch.from_numpy(where).to(sums.device), 1:]
            out[where] = self._code_nonzero(
                coder, self.tables.probabilities(some), None if given is None else given[where]
            )
        return out.reshape(sums.shape[:2])

    def _code_nonzero(self, coder: Coder, p: np.ndarray, levels: np.ndarray | None) -> np.ndarray:
        """p [m, 5]: sign, ge2, ge4, ge8, three. Returns int16 [m]."""
        size = None if levels is None else np.abs(levels.astype(np.int32))
        sign = coder.code("sign", None if levels is None else (levels > 0).astype(np.uint8), p[:, 0])
        exponent = self._code_exponents(coder, p, size)
        magnitude = self._code_mantissas(coder, p, exponent, size)
        return np.where(sign > 0, magnitude, -magnitude).astype(np.int16)

    def _code_exponents(self, coder: Coder, p: np.ndarray, size: np.ndarray | None) -> np.ndarray:
        """The thermometer ge2, ge4, ...: position of each level's leading one."""
        exponent = np.zeros(len(p), dtype=np.int32)
        alive = np.arange(len(p))
        for k in range(1, EXPONENTS):
            if not alive.size:
                break
            if k < FIRST_TAIL:
                chance = p[alive, k]
            else:
                chance = np.full(alive.size, self.tables.exponent[k - FIRST_TAIL], dtype=np.uint16)
            name = f"ge{1 << k}" if k < FIRST_TAIL else "ge16+"
            bits = coder.code(name, None if size is None else (size[alive] >= 1 << k).astype(np.uint8), chance)
            alive = alive[bits > 0]
            exponent[alive] = k
        return exponent

    def _code_mantissas(self, coder: Coder, p: np.ndarray, exponent: np.ndarray, size: np.ndarray | None) -> np.ndarray:
        """Digits below the leading one, most significant first; the single digit of 2..3 is the network's."""
        magnitude = (np.int32(1) << exponent).astype(np.int32)
        for digit in range(EXPONENTS - 2, -1, -1):
            where = np.flatnonzero(exponent > digit)
            if not where.size:
                continue
            chance = self.tables.mantissa[exponent[where], digit]
            if digit == 0:
                chance = np.where(exponent[where] == 1, p[where, 4], chance)
            bits = None if size is None else ((size[where] >> digit) & 1).astype(np.uint8)
            coded = coder.code("mantissa", bits, np.ascontiguousarray(chance))
            magnitude[where] |= coded.astype(np.int32) << digit
        return magnitude


def all_neighbours(embedded: Tensor) -> Tensor:
    """Training's view of all phases at once: embeddings [B, h, w, E] -> earlier phases' neighbours [B, h, w, 8 E]."""
    _, h, w, _ = embedded.shape
    rank = torch.zeros(2, 2, dtype=torch.long)
    for phase, (row, column) in enumerate(PHASES):
        rank[row, column] = phase
    rank = rank.repeat(h // 2 + 2, w // 2 + 2).to(embedded.device)[1 : h + 3, 1 : w + 3]
    own = rank[1 : 1 + h, 1 : 1 + w]
    padded = F.pad(embedded, (0, 0, 1, 1, 1, 1))
    near = []
    for dy, dx in NEIGHBOURS:
        earlier = rank[1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w] < own
        near.append(padded[:, 1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w] * earlier[..., None])
    return torch.cat(near, dim=-1)


def phase_flags(h: int, w: int, device: torch.device) -> Tensor:
    """[h, w, 4] one-hot times 64 of each token's phase."""
    flags = torch.zeros(h, w, len(PHASES), device=device)
    for phase, (row, column) in enumerate(PHASES):
        flags[row::2, column::2, phase] = ONE
    return flags
