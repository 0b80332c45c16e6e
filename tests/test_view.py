"""`bsqcodec view` without a browser: the data of the page, heat maps, the server, errors."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import av
import clips
import numpy as np
import pytest
import view_samples as samples
from click.testing import CliRunner
from PIL import Image

import bsqcodec
from bsqcodec.cli.tool import cli
from bsqcodec.codec.dissect import dissect
from bsqcodec.container import Group, StreamReader
from bsqcodec.errors import UsageError, VideoError
from bsqcodec.view import Options, PageServer, write_heat_map, write_page
from bsqcodec.view.heat import colours, heat_over, place

ON_CPU = Options(device="cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return samples.write_samples(tmp_path_factory.mktemp("view"))


@pytest.fixture
def invoke(monkeypatch):
    for name in [name for name in os.environ if name.startswith("BSQCODEC_")]:
        monkeypatch.delenv(name)
    return lambda *args: CliRunner().invoke(cli, [*map(str, args), "--device", "cpu"])


def data_of(page: Path) -> dict:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.S)
    return json.loads(text)


def inflated(text: str, kind: str, *shape: int) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), kind).reshape(shape)


def film_of(data: dict) -> tuple[list[np.ndarray], list[float]]:
    """Luma and times of the frames of the page's video."""
    with av.open(io.BytesIO(base64.b64decode(data["film"]))) as film:
        frames = list(film.decode(video=0))
    return [frame.to_ndarray()[: frame.height] for frame in frames], [frame.time for frame in frames]


def test_the_page_holds_what_the_stream_holds(made, tmp_path, model):
    seen = []
    viewed = write_page(
        made[0], tmp_path / "a.html", made[1], ON_CPU, on_frame=lambda done, total: seen.append((done, total))
    )
    assert seen == [(n, samples.FRAMES) for n in range(1, samples.FRAMES + 1)]
    assert (viewed.frames, viewed.frames_in_file) == (6, 6)
    assert viewed.bytes == (tmp_path / "a.html").stat().st_size and viewed.psnr < 30
    data = data_of(tmp_path / "a.html")
    bits = inflated(data["bits"], "<u2", 6, 6, 8)
    vectors = inflated(data["vectors"], "<i2", 6, 6, 8, 2)
    reader = StreamReader(io.BytesIO(made[0].read_bytes()))
    groups = [item for item in reader if isinstance(item, Group)]
    parts = [part for group in groups for part in dissect(model, group, reader.header.info)]
    for row, part, own, moved in zip(data["frames"], parts, bits, vectors, strict=True):
        assert np.abs(own / data["bitParts"] - part.token_bits).max() <= 0.5 / data["bitParts"] + 1e-9
        assert row["tokens"] == pytest.approx(part.token_bits.sum(), abs=0.06)
        assert row["motion"] == pytest.approx(part.motion_bits, abs=0.06)
        assert row["first"] == (part.motion is None)
        if part.motion is not None:
            assert np.array_equal(moved, part.motion.vectors.numpy())
        else:
            assert not moved.any()
    assert [row["number"] for row in data["frames"]] == list(range(6))
    assert [row["first"] for row in data["frames"]] == [n % samples.KEYINT == 0 for n in range(6)]
    assert vectors.any() and data["top"] == pytest.approx(max(16, bits.max() / 8))


def test_the_film_shows_the_original_above_the_decoded_frame(made, tmp_path):
    write_page(made[0], tmp_path / "a.html", made[1], ON_CPU)
    data = data_of(tmp_path / "a.html")
    lumas, times = film_of(data)
    assert data["both"] and data["half"] == samples.HEIGHT and len(lumas) == samples.FRAMES
    assert times == pytest.approx([row["time"] for row in data["frames"]], abs=1e-4)
    with bsqcodec.open(made[0], device="cpu") as video:
        for (y, _, _), frame, luma in zip(samples.frames(), video, lumas, strict=True):
            assert np.abs(luma[:48].astype(int) - (255 - y)).mean() < 3
            assert np.abs(luma[48:].astype(int) - frame.y).mean() < 3


def test_a_part_of_the_video_without_its_original(made, tmp_path):
    viewed = write_page(made[0], tmp_path / "a.html", None, Options(skip=2, limit=3, device="cpu"))
    assert (viewed.frames, viewed.frames_in_file, viewed.psnr) == (3, 6, None)
    data = data_of(tmp_path / "a.html")
    assert [row["number"] for row in data["frames"]] == [2, 3, 4]
    assert data["frames"][0]["time"] == 0 and not data["frames"][0]["first"] and data["frames"][2]["first"]
    assert not data["both"]
    lumas, _ = film_of(data)
    assert [int(np.median(luma[:, 40:])) for luma in lumas] == pytest.approx(samples.GREYS[2:5], abs=3)
    assert "Of 6 frames, 2 to 4." in (tmp_path / "a.html").read_text()


def test_odd_sizes_and_odd_names(tmp_path):
    path = tmp_path / "<b>&.bsq"
    planes = [plane for plane in clips.picture(0, 35, 27)]
    path.write_bytes(bsqcodec.compress([tuple(planes)], device="cpu"))
    write_page(path, tmp_path / "a.html", None, ON_CPU)
    text, data = (tmp_path / "a.html").read_text(), data_of(tmp_path / "a.html")
    assert "<b>" not in text and "&lt;b&gt;&amp;.bsq" in text
    assert (data["width"], data["height"], data["half"]) == (35, 27, 28)
    assert film_of(data)[0][0].shape == (28, 36)


def test_the_page_asks_for_nothing_from_elsewhere(made, tmp_path):
    write_page(made[0], tmp_path / "a.html", made[1], ON_CPU)
    text = re.sub(r'<script type="application/json".*?</script>', "", (tmp_path / "a.html").read_text(), flags=re.S)
    assert re.findall(r"\b(?:https?:|src=|@import|url\()", text) == []
    assert "default-src 'none'" in text and "{{" not in text


def test_what_cannot_be_viewed_leaves_nothing(made, tmp_path):
    (tmp_path / "short.y4m").write_bytes(clips.y4m_bytes(3, samples.WIDTH, samples.HEIGHT))
    (tmp_path / "small.y4m").write_bytes(clips.y4m_bytes(6))
    before = {path.name for path in tmp_path.iterdir()}
    for original, options, message in (
        (tmp_path / "short.y4m", ON_CPU, r"short\.y4m: has no frame 3"),
        (tmp_path / "small.y4m", ON_CPU, r"small\.y4m: 34x26 px, but .*made\.bsq has 64x48"),
        (None, Options(skip=6, device="cpu"), "there is no frame 6; the last one is 5"),
    ):
        with pytest.raises(UsageError, match=message):
            write_page(made[0], tmp_path / "a.html", original, options)
    with pytest.raises(bsqcodec.BsqError, match=r"negative\.y4m"):
        write_page(made[1], tmp_path / "a.html", None, ON_CPU)
    assert {path.name for path in tmp_path.iterdir()} == before


# --- heat maps -----------------------------------------------------------------------------------


def test_heat_map_is_hot_where_the_bits_are(made, tmp_path):
    seen = write_heat_map(made[0], tmp_path / "heat.png", 1, ON_CPU)
    assert (seen.number, seen.first) == (1, False)
    image = np.asarray(Image.open(tmp_path / "heat.png")).astype(int)
    zoom = image.shape[1] // samples.WIDTH
    assert zoom == 8 and image.shape[0] > zoom * samples.HEIGHT
    picture = image[: zoom * samples.HEIGHT]
    tint = picture - picture.mean(axis=-1, keepdims=True)  # what the grey picture underneath has no part in
    tint = tint.reshape(6, 64, 8, 64, 3).mean((1, 3))  # of each token
    places = np.linspace(0, 1, 200)
    covered = heat_over(np.zeros((1, 1, 3), np.uint8).repeat(8 * 200, 1), 2 ** (places[None] * 8) - 1, 255.0)[0, ::8]
    scale = covered - covered.mean(axis=-1, keepdims=True)
    read = places[np.abs(tint[..., None, :] - scale).sum(-1).argmin(-1)]
    assert np.corrcoef(read.ravel(), np.log2(1 + seen.token_bits.ravel()))[0, 1] > 0.98
    assert np.ptp(seen.token_bits) > 10


def test_colours_of_the_scale():
    bits = np.linspace(0, 300, 50)
    places = place(bits, 200.0)
    assert places[0] == 0 and places[-1] == 1 and (np.diff(places) >= 0).all()
    weights = np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(colours(np.linspace(0, 1, 50)) @ weights) > 0).all()  # lightness tells all of it
    rgb = heat_over(np.full((10, 13, 3), 100, np.uint8), np.array([[0.0, 9.0], [0.0, 0.0]]), 16)
    assert rgb.shape == (10, 13, 3) and len(np.unique(rgb.reshape(-1, 3), axis=0)) == 2


# --- the server ----------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path):
    (tmp_path / "page.html").write_text("<p>here</p>")
    with PageServer(tmp_path / "page.html") as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("method", "path", "host", "status", "body"),
    [
        ("GET", "/", None, 200, b"<p>here</p>"),
        ("HEAD", "/", None, 200, b""),
        ("GET", "/page.html", None, 404, None),
        ("GET", "/../../etc/passwd", None, 404, None),
        ("GET", "/", "evil.example", 403, None),
        ("POST", "/", None, 501, None),
    ],
)
def test_the_server_gives_one_page_to_this_machine(server, method, path, host, status, body):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request(method, path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    assert answer.status == status
    if body is not None:
        assert answer.read() == body and answer.headers["Content-Type"] == "text/html; charset=utf-8"
    connection.close()


def test_a_port_that_is_taken(server, tmp_path):
    with pytest.raises(VideoError, match=f"port {server.server_port}: .*another --port"):
        PageServer(tmp_path / "page.html", server.server_port)


def test_serve_until_ctrl_c(made, tmp_path):
    command = [sys.executable, "-m", "bsqcodec", "view", made[0], "-o", tmp_path / "a.html"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, "--serve", "--json", "--limit", "2"], stdout=subprocess.PIPE, env=env)
    assert process.stdout is not None
    serving = next(item for item in map(json.loads, process.stdout) if item["type"] == "serving")
    host, port = re.fullmatch(r"http://([\d.]+):(\d+)/", serving["url"]).groups()
    assert host == "127.0.0.1"
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request("GET", "/")
    assert connection.getresponse().read() == (tmp_path / "a.html").read_bytes()
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert json.loads(rest.splitlines()[-1])["type"] == "done"


# --- the command ---------------------------------------------------------------------------------


def test_the_command_names_the_page_after_the_file(made, tmp_path, invoke):
    path = tmp_path / "some.bsq"
    path.write_bytes(made[0].read_bytes())
    result = invoke("view", path, made[1], "--limit", 2)
    assert (result.exit_code, result.stdout) == (0, "")
    assert re.search(r"some\.html: 2 of 6 frames, .*, PSNR \d+\.\d\d dB", result.stderr)
    assert len(data_of(tmp_path / "some.html")["frames"]) == 2
    again = invoke("view", path, "--limit", 2)
    assert again.exit_code == 1 and "already exists" in again.stderr
    result = invoke("view", path, "-y", "--limit", 1, "--json")
    done = json.loads(result.stdout.splitlines()[-1])
    size = (tmp_path / "some.html").stat().st_size
    assert done == {
        "type": "done",
        "page": str(tmp_path / "some.html"),
        "heatmap": None,
        "frames": 1,
        "frames_in_file": 6,
        "bytes": size,
        "psnr": None,
    }


def test_the_command_writes_heat_maps(made, tmp_path, invoke):
    result = invoke("view", made[0], "--heatmap", tmp_path / "heat.png", "--frame", 5, "--json")
    assert result.exit_code == 0, result.stderr
    done = json.loads(result.stdout)
    assert (done["type"], done["frame"], done["page"]) == ("done", 5, None)
    assert done["token_bits"] > 0 and done["motion_bits"] > 0
    assert Image.open(tmp_path / "heat.png").format == "PNG"
    assert [path.name for path in tmp_path.iterdir()] == ["heat.png"]


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("made", "--heatmap", "a.jpg"), 2, "ends in .png"),
        (("made", "-o", "a.png"), 2, "ends in .html"),
        (("made", "--heatmap", "a.png", "--serve"), 2, "leave out"),
        (("made", "--heatmap", "a.png", "--frame", 6), 2, "there is no frame 6; the last one is 5"),
        (("made", "-q", "-v"), 2, "contradict"),
        (("negative", "made"), 2, "give it first"),
        (("negative",), 3, "negative.y4m"),
        (("gone.bsq",), 1, "gone.bsq: cannot read"),
        (("made", "gone.mp4", "-o", "a.html"), 1, "gone.mp4: no such file"),
    ],
)
def test_mistakes_are_one_line(made, tmp_path, invoke, monkeypatch, args, code, says):
    monkeypatch.chdir(tmp_path)
    names = {"made": made[0], "negative": made[1]}
    result = invoke("view", *(names.get(arg, arg) for arg in args))
    assert result.exit_code == code, result.stderr
    lines = [line for line in result.stderr.splitlines() if not line.startswith("device:")]
    assert len(lines) == 1 and lines[0].startswith("bsqcodec: error: ") and says in lines[0]
    assert list(tmp_path.iterdir()) == []
