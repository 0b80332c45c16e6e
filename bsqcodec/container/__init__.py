"""The `.bsq` container, format version 1.0: framing, header, groups, packets, index. No torch in here.

`StreamWriter` and `StreamReader` are the two ends, `SalvageReader` takes damaged files, `scan` reports on a file.
The bytes are specified in bitstream_spec.md, chapters 3 and 4.
"""

from bsqcodec.container.holes import Gap
from bsqcodec.container.reader import StreamReader
from bsqcodec.container.report import Damage, GroupReport, StreamReport, scan
from bsqcodec.container.salvage import Loss, SalvageReader
from bsqcodec.container.types import (
    FORMAT_MAJOR,
    FORMAT_MINOR,
    INTEGER_ARITHMETIC,
    MAX_GROUP_FRAMES,
    MAX_PIXELS,
    TUNES,
    Group,
    IndexEntry,
    StreamHeader,
    StreamStats,
)
from bsqcodec.container.writer import StreamWriter

__all__ = [
    "FORMAT_MAJOR",
    "FORMAT_MINOR",
    "INTEGER_ARITHMETIC",
    "MAX_GROUP_FRAMES",
    "MAX_PIXELS",
    "TUNES",
    "Damage",
    "Gap",
    "Group",
    "GroupReport",
    "IndexEntry",
    "Loss",
    "SalvageReader",
    "StreamHeader",
    "StreamReader",
    "StreamReport",
    "StreamStats",
    "StreamWriter",
    "scan",
]
