"""report.html: the whole benchmark as one page that needs no server, no network and no other file.

The page is `page/report.html.j2` (Jinja2, every text escaped) with `report.css` and `report.js` written into it; what
it shows is gathered in `contents`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bsqcodec.bench.contents import contents
from bsqcodec.bench.pictures import Picture
from bsqcodec.bench.series import Record
from bsqcodec.errors import UsageError
from bsqcodec.outputs import AtomicOutput

PAGE = Path(__file__).parent / "page"


def write_report(out: Path, records: Sequence[Record], pictures: Sequence[Picture], about: dict[str, Any]) -> Path:
    """Write `report.html` into the folder `out` and return its path.

    about: what the records do not say; every key may be left out.
        title, dataset: str; home, licence: of the dataset, str; command: how the run was started, str;
        made: date, str (default: that of the newest record); commit: str;
        machine: str or dict of str (default: that of the records); versions: dict of library to version;
        anchor: codec key that rates are compared with first (default "x264:paper");
        notes, failures: list of str.
    Raises UsageError when there is no record, the anchor is unknown, or Jinja2, Pillow or bjontegaard are missing;
    VideoError when the file cannot be written.
    """
    if not records:
        raise UsageError("there is no measured point to report; run the benchmark first")
    text = _render(contents(list(records), list(pictures), about))
    path = out / "report.html"
    with AtomicOutput(path, overwrite=True) as output:
        output.part.write_text(text, encoding="utf-8")
    return path


def _render(values: dict[str, Any]) -> str:
    try:
        import jinja2
        from markupsafe import Markup
    except ImportError:
        raise UsageError("the report needs Jinja2; install it with: pip install 'bsqcodec[bench]'") from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["svg"] = Markup  # for what `charts` made, and nothing else
    parts = {name: Markup((PAGE / f"report.{name}").read_text(encoding="utf-8")) for name in ("css", "js")}
    return environment.get_template("report.html.j2").render(values, **parts)
