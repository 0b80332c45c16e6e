"""bitstream_spec.md against the code: the tables of fixed chunks, its limits and its check values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from container_samples import AUDIO, HEADER, INFO

from bsqcodec.container import types
from bsqcodec.container.chunks import PREAMBLE, SIGNATURE
from bsqcodec.container.extras import TAIL_SIZE, pack_tail
from bsqcodec.container.fields import FieldReader
from bsqcodec.container.header import pack_header, pack_track
from bsqcodec.entropy import BitEncoder

SPEC = (Path(__file__).parent.parent / "bitstream_spec.md").read_text(encoding="utf-8")


def table(kind: str) -> Iterator[tuple[str, str]]:
    """(field, type) of each row of a chunk's table."""
    section = re.split(rf"^### [\d.]+ `{kind}`,", SPEC, flags=re.MULTILINE)[1].split("\n#", 1)[0]
    rows = re.findall(r"^\| (\w+) \| `([^`]+)` \|", section, re.MULTILINE)
    assert rows, kind
    return iter(rows)


def read_by_table(kind: str, payload: bytes) -> dict[str, object]:
    """What someone who knows only the table makes of a payload; all bytes must be used."""
    fields, values = FieldReader(payload), dict[str, object]()
    for name, what in table(kind):
        if what == "string":
            values[name] = fields.string(name)
        elif what == "varint":
            values[name] = fields.varint()
        elif what == "fraction":
            values[name] = Fraction(fields.uint(4), fields.uint(4))
        elif what.startswith("bytes["):
            size = what[6:-1]
            values[name] = fields.take(int(size) if size.isdecimal() else int(str(values[size])))
        else:
            values[name] = fields.uint(int(what[1:]) // 8)
    assert fields.left == 0
    return values


def test_head_table() -> None:
    values = read_by_table("HEAD", pack_header(HEADER))
    for name in ("width", "height", "time_base", "fps", "sample_aspect_ratio", "primaries", "transfer", "matrix"):
        assert values[name] == getattr(INFO, name), name
    assert (values["rotation"], values["full_range"], values["chroma_location"]) == (3, 2, 1)
    assert (values["keyint"], values["tune"], values["crf"], values["arithmetic"]) == (32, 0, 2735, 2)
    assert values["weights_sha256"] == HEADER.weights_sha256
    assert (values["source_format"], values["model"]) == (INFO.source_format, HEADER.model)
    assert values["tool"] == HEADER.tool


def test_trak_table() -> None:
    values = read_by_table("trak", pack_track(AUDIO))
    assert values.pop("kind") == 0
    assert values.pop("extradata_size") == len(AUDIO.extradata)
    assert values == {name: getattr(AUDIO, name) for name in values} and len(values) == 8


def test_tail_table() -> None:
    assert read_by_table("TAIL", pack_tail(77, 1234)) == {"frames": 77, "index_offset": 1234}
    assert TAIL_SIZE + 12 == int(re.search(r"Always (\d+) bytes", SPEC)[1])  # type: ignore[index]


def test_preamble() -> None:
    assert SIGNATURE.hex(" ").upper() in SPEC
    assert f"{PREAMBLE[8:].hex(' ')}               major, minor" in SPEC


@pytest.mark.parametrize(
    ("row", "limit"),
    [
        ("frames in a group", types.MAX_GROUP_FRAMES),
        ("payload of a chunk", types.MAX_CHUNK),
        ("tracks", types.MAX_TRACKS),
        ("packets in a chunk", types.MAX_PACKETS),
        ("short strings", types.MAX_NAME),
        ("codec extradata", types.MAX_EXTRADATA),
    ],
)
def test_limits(row: str, limit: int) -> None:
    text = re.search(rf"^\| {row} \| (\d+)(?:\^(\d+))?", SPEC, re.MULTILINE)
    assert text is not None
    assert int(text[1]) ** int(text[2] or 1) == limit


def test_range_coder_check_value() -> None:
    row = re.search(r"^Bits ([\d, ]+) with P = ([\d, ]+) give the bytes `(\w+)`", SPEC, re.MULTILINE)
    assert row is not None
    bits, p = ([int(n) for n in row[i].split(",")] for i in (1, 2))
    coder = BitEncoder()
    coder.encode(np.array(bits, np.uint8), np.array(p, np.uint16))
    assert coder.words().hex() == row[3]
