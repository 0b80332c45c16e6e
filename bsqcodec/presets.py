"""What an encoder may spend on its search. The format, the decoder and what a crf means are the same for all."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Search:
    """motion: effort of the motion search, 0..2; looks: how often latents are chosen again in the light of what the
    decoder made of them (`bsqcodec.tokenizer.refinement`); again: whether a group is coded a second time, with levels
    priced by how much of it rests on each token (`bsqcodec.codec.worth`)."""

    motion: int
    looks: int
    again: bool = False


PRESETS = {"fast": Search(0, 0), "medium": Search(1, 1), "slow": Search(2, 1, again=True)}
MEDIUM = PRESETS["medium"]
