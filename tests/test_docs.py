"""What the documents promise: docs/cli.md is the commands', docs/json.md what --json prints, CITATION.cff current."""

from __future__ import annotations

import json
import re
from pathlib import Path

import clips
import pytest
from click.testing import CliRunner

import bsqcodec
from bsqcodec.cli.manual import manual
from bsqcodec.cli.tool import cli

ROOT = Path(__file__).resolve().parent.parent
JSON = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")


def test_cli_md_is_that_of_the_commands():
    made = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert made == manual(), "docs/cli.md is stale; make it again: python -m bsqcodec.cli.manual > docs/cli.md"


def test_cli_md_has_every_command_and_option():
    text = manual()
    for name, command in cli.commands.items():
        section = text.partition(f"\n## `{name}`\n")[2].partition("\n## ")[0]
        assert all(f"`{option}`" in section for p in command.params for option in p.opts if option.startswith("-"))
        assert section.count("\nbsqcodec ") + section.count("| bsqcodec ") >= 2
    assert "Sentinel" not in text and "None" not in text


def table(section: str, heading: str) -> set[str]:
    """The keys of a table: in a section, below a heading or in the table whose first column is so called."""
    part = JSON.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    if f"### {heading}" in part:
        part = part.partition(f"### {heading}\n")[2].partition("\n### ")[0]
    else:
        part = part.partition(f"| {heading} |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    return {key for row in rows for key in re.findall(r"`(\w+)`", row)}


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """The objects that each command prints, by command and type."""
    folder = tmp_path_factory.mktemp("json")
    (folder / "in.y4m").write_bytes(clips.y4m_bytes(3, 48, 32))
    (folder / "negative.y4m").write_bytes(clips.y4m_bytes(3, 48, 32))
    names = {name: str(folder / name) for name in ("in.y4m", "out.bsq", "back.y4m", "page.html", "heat.png")}
    patch = pytest.MonkeyPatch()
    patch.setattr("bsqcodec.cli.display.JSON_INTERVAL", 0.0)
    found = {}

    def run(command: str, *args: str) -> None:
        result = CliRunner().invoke(cli, [command, *(names.get(arg, arg) for arg in args), "--json"])
        text = result.stdout
        items = [json.loads(text)] if command == "info" else list(map(json.loads, text.splitlines()))
        found.update({(command, item.get("type", "object")): item for item in items})

    run("encode", "in.y4m", "out.bsq")
    run("decode", "out.bsq", "back.y4m")
    run("info", "out.bsq")
    run("compare", "in.y4m", "out.bsq")
    run("view", "out.bsq", "in.y4m", "-o", "page.html")
    found["page"] = found["view", "done"]
    run("view", "out.bsq", "--heatmap", "heat.png")
    run("encode", "in.y4m", "out.bsq")  # exists already
    patch.undo()
    return found


@pytest.mark.parametrize(
    ("what", "section", "heading"),
    [
        (("encode", "progress"), "`encode` and `decode`", "`progress`"),
        (("decode", "progress"), "`encode` and `decode`", "`progress`"),
        (("encode", "done"), "`encode` and `decode`", "`done` of `encode`"),
        (("decode", "done"), "`encode` and `decode`", "`done` of `decode`"),
        (("encode", "error"), "`encode` and `decode`", "`error`"),
        (("compare", "file"), "`compare`", "key of `file`"),
        (("info", "object"), "`info`", "key"),
    ],
)
def test_json_md_names_exactly_the_keys(lines, what, section, heading):
    assert table(section, heading) == set(lines[what]) - {"type"}


def test_json_md_names_the_keys_of_view(lines):
    documented = table("`view`", "key of `done`")
    page, heat = set(lines["page"]) - {"type"}, set(lines["view", "done"]) - {"type"}
    assert documented == page | heat and {"page", "heatmap"} <= page & heat
    assert table("`view`", "key of `serving`") == {"url"}
    assert set(lines["view", "progress"]) - {"type"} == table("`encode` and `decode`", "`progress`")


def test_the_example_lines_of_json_md_are_json():
    examples = [line for block in re.findall(r"```json\n(.*?)```", JSON, re.S) for line in block.splitlines()]
    assert len(examples) >= 4 and all("type" in json.loads(line) for line in examples)


def test_citation_is_of_this_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    fields = dict(re.findall(r"^(\w[\w-]*): *(.*)$", text, re.M))
    assert fields["cff-version"] == "1.2.0" and fields["title"] == "bsqcodec"
    assert fields["version"] == bsqcodec.__version__
    assert f'license = "{fields["license"]}"' in (ROOT / "pyproject.toml").read_text()
    assert "2406.07548" in text and {"message", "authors", "type"} <= fields.keys()
