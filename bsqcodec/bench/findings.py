"""What the benchmark found, in words and as BD-rate tables for the report: plain data, no HTML."""

from __future__ import annotations

from typing import Any

from bsqcodec.bench.series import Record, clips_of, codecs_of, is_ours, label_of
from bsqcodec.bench.tables import BdTable

MINUS = "\N{MINUS SIGN}"
Tables = dict[tuple[str, str], BdTable]  # by (metric, anchor)


def signed(value: float) -> str:
    """A percentage for people: "+12.3 %", with a real minus and a space that does not break."""
    return f"{value:+.1f}\N{NO-BREAK SPACE}%".replace("-", MINUS)


def mean_text(table: BdTable, codec: str) -> str:
    """The mean of a column, or how many clips have a figure, "2 of 3"."""
    mean = table.mean(codec)
    return table.mean_text(codec) if mean is None else signed(mean)


def summary(records: list[Record], tables: Tables, metrics: dict[str, str], anchor: str | None) -> str:
    """One sentence for every setting of bsqcodec: its rate against the first anchor."""
    clips, ours = clips_of(records), [c for c in codecs_of(records) if is_ours(c)]
    over = f"Over {len(clips)} clip{'s' if len(clips) != 1 else ''}"
    if anchor is None or not ours:
        return f"{over}, {len(records)} points of {len(codecs_of(records))} codecs; there is nothing to compare."
    return " ".join(
        f"{over}, {_sentence(records, tables, metrics, codec, anchor)}." for codec in ours if codec != anchor
    )


def _sentence(records: list[Record], tables: Tables, metrics: dict[str, str], codec: str, anchor: str) -> str:
    means = [(metrics[metric], tables[metric, anchor].mean(codec)) for metric in metrics if metric != "psnr_rgb"]
    (first, *rest) = [(name, _difference(mean)) for name, mean in means if mean is not None] or [("", "")]
    if not first[0]:
        return f"no mean BD-rate of {codec} against {anchor} can be given; the notes say why"
    others = "".join(f", and {difference} at equal {name}" for name, difference in rest)
    return f"{codec} needs {first[1]} bits than {anchor} ({label_of(records, anchor)}) at equal {first[0]}{others}"


def _difference(percent: float) -> str:
    return f"{abs(percent):.1f}\N{NO-BREAK SPACE}% {'more' if percent >= 0 else 'fewer'}"


def headline(tables: Tables, codecs: list[str], metrics: dict[str, str], anchors: list[str]) -> list[dict[str, Any]]:
    """bsqcodec against each anchor: the mean of every metric."""
    rows = []
    for codec in filter(is_ours, codecs):
        for anchor in (a for a in anchors if a != codec):
            cells = [mean_text(tables[metric, anchor], codec) for metric in metrics]
            rows.append({"codec": codec, "anchor": anchor, "cells": cells})
    return rows


def bd(table: BdTable, metrics: dict[str, str]) -> dict[str, Any]:
    """A BD-rate table as rows of cells, the smallest rate of each row marked."""
    rows = []
    for clip in table.clips:
        values = {codec: table.cells[clip, codec].percent for codec in table.codecs}
        cells = [_bd_cell(values[c], table.cells[clip, c].overlap, table.cells[clip, c].reason) for c in table.codecs]
        rows.append({"clip": clip, "cells": _marked(cells, list(values.values()))})
    means = [table.mean(codec) for codec in table.codecs]
    totals = [{"text": mean_text(table, c), "overlap": "", "reason": ""} for c in table.codecs]
    return {
        "metric": table.metric,
        "name": metrics[table.metric],
        "anchor": table.anchor,
        "codecs": table.codecs,
        "rows": rows,
        "mean": _marked(totals, means),
    }


def _bd_cell(percent: float | None, overlap: float, reason: str) -> dict[str, Any]:
    text = "\N{EN DASH}" if percent is None else signed(percent)
    return {"text": text, "overlap": f"{overlap:.0%}", "reason": reason}


def _marked(cells: list[dict[str, Any]], values: list[float | None]) -> list[dict[str, Any]]:
    """The cells with `best` on the smallest value; the anchor's own 0 % competes."""
    best = min((v for v in values if v is not None), default=0.0)
    return [cell | {"best": v is not None and v == best and v < 0} for cell, v in zip(cells, values, strict=True)]


def refusals(tables: Tables, metrics: dict[str, str]) -> list[str]:
    """Every BD-rate that could not be given; a pair of codecs is told once, whichever of them is the anchor."""
    found: dict[tuple[frozenset[str], str], dict[str, list[str]]] = {}
    for (metric, anchor), table in tables.items():
        for clip, codec, reason in table.refusals():
            text = f"{clip}, {codec} against {anchor}: {reason}"
            told = found.setdefault((frozenset((codec, anchor)), clip), {})
            if not any(metric in chosen for chosen in told.values()):
                told.setdefault(text, []).append(metric)
    lines = (line for told in found.values() for line in told.items())
    return [f"{text} ({', '.join(metrics[metric] for metric in chosen)})" for text, chosen in lines]
