"""Downloads of datasets, against a server on loopback that behaves as badly as real ones do."""

from __future__ import annotations

import errno
import hashlib
import threading
import types
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bsqcodec.bench import download as module
from bsqcodec.bench.catalogue import DATASETS, Item
from bsqcodec.bench.download import ATTEMPTS, download, plan
from bsqcodec.errors import UsageError, VideoError

SIZE = 3_000_000  # bytes, more than one chunk
ZIP = b"7z\xbc\xaf\x27\x1c"


@dataclass
class Site:
    """What the server holds and how it misbehaves. cuts: bytes of the body after which each next answer breaks off."""

    files: dict[str, bytes] = field(default_factory=dict)
    url: str = ""
    ranges: bool = True
    shift: int = 0  # added to the start of every partial answer
    length: bool = True
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path, Range header


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site, wanted = self.site, self.headers.get("Range")
        site.asked.append((self.path, wanted))
        data = site.files.get(self.path)
        status = site.statuses.pop(0) if site.statuses else 200 if data is not None else 404
        if status != 200 or data is None:
            self.send_error(status)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) + site.shift if wanted and site.ranges else 0
        if start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if site.length:
            self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = start + site.cuts.pop(0) if site.cuts else len(data)
        self.wfile.write(data[start:end])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "*")
    site = Site()
    handler = type("BoundHandler", (Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield site
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def one(site: Site, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The dataset "uvg" as a single file of known size on the site; returns its bytes."""
    data = ZIP + bytes(range(256)) * (SIZE // 256)
    offer(site, monkeypatch, {"a": data})
    return data


def offer(site: Site, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], **changes: object) -> None:
    """Publish files NAME.7z on the site as the clips of "uvg"."""
    items = []
    for name, data in files.items():
        site.files[f"/{name}.7z"] = data
        item = Item(
            name, name, 32, 18, DATASETS["uvg"].items[0].fps, 4, f"{name}.7z", f"{site.url}/{name}.7z", len(data)
        )
        items.append(replace(item, **changes))  # type: ignore[arg-type]
    monkeypatch.setitem(DATASETS, "uvg", replace(DATASETS["uvg"], items=tuple(items)))


def fetch(data: Path, **options: object) -> list[Path]:
    return download("uvg", data, pause=0.001, **options)  # type: ignore[arg-type]


def test_files_come_whole_and_only_what_is_missing(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {name: ZIP + name.encode() * 1000 for name in "abc"}
    offer(site, monkeypatch, files)
    folder = tmp_path / "new" / "folder"
    assert fetch(folder) == [folder / f"{name}.7z" for name in "abc"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {f"{n}.7z": d for n, d in files.items()}
    (folder / "b.7z").unlink()
    (folder / "c.7z").rename(folder / "c.yuv")  # unpacked by hand: there
    site.asked.clear()
    assert fetch(folder) == [folder / "b.7z"]
    assert site.asked == [("/b.7z", None)]
    assert fetch(folder) == []


def test_progress_counts_to_the_end(site: Site, one: bytes, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    fetch(tmp_path, progress=lambda *state: seen.append(state))
    assert {(name, total) for name, _, total in seen} == {("a.7z", len(one))}
    counts = [done for _, done, _ in seen]
    assert counts[0] == 0
    assert counts == sorted(counts)
    assert counts[-1] == len(one)
    assert len(counts) > 2


def test_lost_connections_are_resumed_where_they_broke(site: Site, one: bytes, tmp_path: Path) -> None:
    site.cuts = [1_000_000, 0, 500_000]
    (path,) = fetch(tmp_path)
    assert path.read_bytes() == one
    assert [wanted for _, wanted in site.asked] == [None, "bytes=1000000-", "bytes=1000000-", "bytes=1500000-"]
    assert list(tmp_path.iterdir()) == [path]


def test_another_run_goes_on_with_the_part_that_is_there(site: Site, one: bytes, tmp_path: Path) -> None:
    site.cuts = [1234] + [0] * ATTEMPTS
    with pytest.raises(VideoError, match=rf"failed {ATTEMPTS} times .*run it again to go on where it stopped"):
        fetch(tmp_path)
    assert [(path.name, path.stat().st_size) for path in tmp_path.iterdir()] == [("a.7z.part", 1234)]
    site.cuts.clear()
    site.asked.clear()
    assert plan("uvg", tmp_path).bytes == len(one) - 1234
    (path,) = fetch(tmp_path)
    assert path.read_bytes() == one
    assert site.asked == [("/a.7z", "bytes=1234-")]


def test_an_interruption_keeps_the_part(site: Site, one: bytes, tmp_path: Path) -> None:
    def interrupt(name: str, done: int, total: int | None) -> None:
        if done > 1_500_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path, progress=interrupt)
    (part,) = tmp_path.iterdir()
    assert part.name == "a.7z.part"
    assert one.startswith(part.read_bytes())
    (path,) = fetch(tmp_path)
    assert path.read_bytes() == one


@pytest.mark.parametrize("part", [b"x" * 1000, b"x" * (2 * SIZE), b""], ids=["short", "too long", "empty"])
def test_a_server_without_ranges_sends_it_all_again(site: Site, one: bytes, tmp_path: Path, part: bytes) -> None:
    site.ranges = False
    (tmp_path / "a.7z.part").write_bytes(part)
    (path,) = fetch(tmp_path)
    assert path.read_bytes() == one


def test_a_server_without_ranges_that_breaks_off_is_given_up(site: Site, one: bytes, tmp_path: Path) -> None:
    site.ranges = False
    site.cuts = [700_000] * 50
    with pytest.raises(VideoError, match=f"failed {ATTEMPTS} times"):
        fetch(tmp_path)
    assert len(site.asked) <= ATTEMPTS + 1


def test_another_part_than_asked_for_is_not_taken(site: Site, one: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.7z.part").write_bytes(one[:1000])
    site.shift = 7
    (path,) = fetch(tmp_path)
    assert path.read_bytes() == one
    assert [wanted for _, wanted in site.asked] == ["bytes=1000-", None]


def test_a_part_as_long_as_the_file_is_only_checked(site: Site, one: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.7z.part").write_bytes(one)
    (path,) = fetch(tmp_path)
    assert path.read_bytes() == one
    assert site.asked == []


def test_a_part_that_the_server_cannot_go_on_from_is_dropped(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer(site, monkeypatch, {"a": ZIP + b"new"}, bytes=None)
    (tmp_path / "a.7z.part").write_bytes(b"longer than the file")
    (path,) = fetch(tmp_path)
    assert path.read_bytes() == ZIP + b"new"


def test_passing_errors_are_tried_again(site: Site, one: bytes, tmp_path: Path) -> None:
    site.statuses = [503, 500, 429]
    (path,) = fetch(tmp_path)
    assert path.read_bytes() == one
    assert len(site.asked) == 4


@pytest.mark.parametrize("status", [403, 404, 410])
def test_what_is_not_there_is_said_at_once(site: Site, one: bytes, tmp_path: Path, status: int) -> None:
    site.statuses = [status]
    with pytest.raises(VideoError, match=rf"a\.7z is not there \(HTTP {status} .*look on the page") as caught:
        fetch(tmp_path)
    assert "\n" not in str(caught.value)
    assert len(site.asked) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_size_is_refused_before_it_is_fetched(site: Site, one: bytes, tmp_path: Path) -> None:
    site.files["/a.7z"] = one + b"more"
    with pytest.raises(VideoError, match=rf"is {len(one) + 4} bytes there, {len(one)} published"):
        fetch(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_size_that_is_not_announced_is_found_afterwards(site: Site, one: bytes, tmp_path: Path) -> None:
    site.length = False
    site.files["/a.7z"] = one + b"more"
    with pytest.raises(VideoError, match=rf"has {len(one) + 4} bytes, {len(one)} published; it was removed"):
        fetch(tmp_path)
    assert list(tmp_path.iterdir()) == []
    site.files["/a.7z"] = one
    (path,) = fetch(tmp_path)
    assert path.read_bytes() == one


def test_a_wrong_checksum_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = ZIP + b"right"
    offer(site, monkeypatch, {"a": data}, sha256=hashlib.sha256(data).hexdigest())
    site.files["/a.7z"] = ZIP + b"wrong"
    with pytest.raises(VideoError, match=r"has the SHA-256 .* published; it was removed"):
        fetch(tmp_path)
    assert list(tmp_path.iterdir()) == []
    site.files["/a.7z"] = data
    assert fetch(tmp_path)[0].read_bytes() == data


def test_a_page_in_place_of_an_archive_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    offer(site, monkeypatch, {"a": b"<html>please log in</html>"}, bytes=None)
    with pytest.raises(VideoError, match="is no 7-Zip archive"):
        fetch(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_found_first(
    site: Site, one: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=len(one) - 1))
    with pytest.raises(UsageError, match=rf"{len(one)} bytes to download, {len(one) - 1} free"):
        fetch(tmp_path)
    assert site.asked == []


def test_a_disk_that_fills_up_is_not_tried_again(
    site: Site, one: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_copy", full)
    with pytest.raises(VideoError, match=r"cannot be written .*choose another --data"):
        fetch(tmp_path)
    assert len(site.asked) == 1


def test_nobody_there(tmp_path: Path, site: Site, one: bytes) -> None:
    with pytest.raises(VideoError, match=rf"http://127\.0\.0\.1:9/a\.7z failed {ATTEMPTS} times .*refused"):
        fetch(tmp_path, base_url="http://127.0.0.1:9/")


def test_a_mirror_holds_the_published_names(site: Site, tmp_path: Path) -> None:
    item = DATASETS["kodak"].items[0]
    site.files["/some/where/kodim01.png"] = b"not the photograph"
    with pytest.raises(VideoError, match="published; it was removed") as caught:
        download("kodak", tmp_path, base_url=f"{site.url}/some/where/", pause=0.001)
    assert item.sha256 is not None
    assert item.sha256 in str(caught.value)
    assert site.asked == [("/some/where/kodim01.png", None)]


def test_the_plan_says_what_how_much_from_where_and_under_which_licence(tmp_path: Path) -> None:
    text = str(plan("uvg", tmp_path / "not yet"))
    for part in ("7 files", "3.74 GB", "2 of unknown size", "ultravideo.fi", "CC BY-NC 3.0", "not yet"):
        assert part in text
    assert "\n" not in text
    assert not (tmp_path / "not yet").exists()
    assert "24 files (24 of unknown size) from r0k.us" in str(plan("kodak", tmp_path))
    assert "nothing to download" in str(plan("mini", tmp_path))
    assert download("mini", tmp_path) == []


def test_what_cannot_be_downloaded(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no address that a program may fetch; get the files from https://mcl\.usc"):
        plan("mcl-jcv", tmp_path)
    mirrored = plan("mcl-jcv", tmp_path, base_url="https://mirror.example/mcl")
    assert mirrored.remotes[4].url == "https://mirror.example/mcl/videoSRC05_1920x1080_25.yuv"
    assert mirrored.remotes[4].bytes == 125 * 1920 * 1080 * 3 // 2
    with pytest.raises(UsageError, match="is no dataset that can be downloaded"):
        plan("somewhere", tmp_path)
    with pytest.raises(UsageError, match="must start with http"):
        plan("uvg", tmp_path, base_url="file:///")
