"""`encode --verify`: decode the finished file again and compare it with what the encoder saw."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bsqcodec.errors import BitstreamError, BsqError
from bsqcodec.frames import Frame
from bsqcodec.outputs import AtomicOutput
from bsqcodec.profile import staged

if TYPE_CHECKING:
    from bsqcodec.codec import Model


def frame_crc(frame: Frame) -> int:
    """CRC-32 of the bytes of y, then u, then v."""
    crc = 0
    for plane in (frame.y, frame.u, frame.v):
        crc = zlib.crc32(plane.tobytes(), crc)
    return crc


def verify_stream(output: AtomicOutput, model: Model, crcs: array[int]) -> None:
    """Decode the unfinished file and compare each frame's CRC-32 with the encoder's.

    Raises BsqError (exit code 1: the encoder or the machine is at fault, not a damaged input) at
    the first difference.
    """
    frames = 0
    try:
        for frames, crc in enumerate(_decoded_crcs(output, model), 1):
            if frames > len(crcs) or crc != crcs[frames - 1]:
                raise _failure(output, f"frame {frames - 1} decodes to other pixels than the encoder saw")
    except BitstreamError as error:
        raise _failure(output, f"cannot be read back ({error})") from error
    if frames != len(crcs):
        raise _failure(output, f"holds {frames} frames of {len(crcs)}")


def _decoded_crcs(output: AtomicOutput, model: Model) -> Iterator[int]:
    from bsqcodec.codec import check_model, decode_group
    from bsqcodec.container import Group, StreamReader

    with output.part.open("rb") as file:
        reader = StreamReader(file, name=output.name)
        check_model(model, reader.header)
        for item in staged("read", reader):
            if isinstance(item, Group):
                yield from map(frame_crc, decode_group(model, item, reader.header.info))


def _failure(output: AtomicOutput, what: str) -> BsqError:
    return BsqError(f"{output.name}: verification failed: {what}; no file was written, please report this")
