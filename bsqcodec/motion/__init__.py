"""Motion: block search (encoder), exact compensation (both sides), and the vectors' place in the stream."""

from bsqcodec.motion.compensate import MotionField, Planes, compensate
from bsqcodec.motion.overlap import compensate_overlapped
from bsqcodec.motion.search import estimate
from bsqcodec.motion.tables import MotionState, MotionTables, default_tables, empty_counts, tables_from_counts
from bsqcodec.motion.vectors import count_statistics, decode_field, encode_field, field_bits

__all__ = [
    "MotionField",
    "MotionState",
    "MotionTables",
    "Planes",
    "compensate",
    "compensate_overlapped",
    "count_statistics",
    "decode_field",
    "default_tables",
    "empty_counts",
    "encode_field",
    "estimate",
    "field_bits",
    "tables_from_counts",
]
