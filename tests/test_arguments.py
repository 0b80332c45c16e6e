"""Types of arguments: the Python API's own one-line error for a wrong one, and what is taken as before."""

from __future__ import annotations

import importlib
import inspect
import io
import sys
from fractions import Fraction
from pathlib import Path

import clips
import numpy as np
import pytest
import streams

import bsqcodec
from bsqcodec.arguments import checked
from bsqcodec.errors import UsageError
from bsqcodec.frames import Track, TrackPacket


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Here, with a video and a stream of another in it; the codec room is the stand-in of `tests/fakes`."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "fakes"))
    monkeypatch.setitem(sys.modules, "bsqcodec.codec", importlib.import_module("fake_codec"))
    monkeypatch.chdir(tmp_path)
    Path("in.y4m").write_bytes(clips.y4m_bytes())
    Path("in.bsq").write_bytes(streams.stream([8, 8]))
    return tmp_path


def encode(**options):
    return bsqcodec.encode("in.y4m", "new.bsq", **options)


def decode(**options):
    return bsqcodec.decode("in.bsq", "new.y4m", **options)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: bsqcodec.encode(123, "new.bsq"), "src 123: must be a str or a path"),
        (lambda: bsqcodec.encode("in.y4m", None), "dst None: must be a str or a path"),
        (lambda: bsqcodec.encode(src=b"in.y4m", dst="new.bsq"), "src b'in.y4m': must be a str or a path"),
        (lambda: encode(crf="28"), "crf '28': must be a number or None"),
        (lambda: encode(crf=True), "crf True: must be a number or None"),
        (lambda: encode(keyint=3.5), "keyint 3.5: must be a whole number"),
        (lambda: encode(preset=None), "preset None: must be a str"),
        (lambda: encode(bitrate=[500]), "bitrate [500]: must be a str, a number or None"),
        (lambda: encode(target=38), "target 38: must be a str or None"),
        (lambda: encode(device=0), "device 0: must be a str"),
        (lambda: encode(video_size=(64, 48)), "video_size (64, 48): must be a str or None"),
        (lambda: encode(overwrite="no"), "overwrite 'no': must be True or False"),
        (lambda: encode(on_progress="yes"), "on_progress 'yes': must be a function or None"),
        (lambda: decode(start="abc"), "start 'abc': not a time; write seconds (12.5) or 1:02:03.5"),
        (lambda: decode(duration=float("nan")), "duration nan: not a time; give seconds"),
        (lambda: decode(start=[1]), "start [1]: must be a str, a number or None"),
        (lambda: decode(codec=264), "codec 264: must be a str or None"),
        (lambda: decode(scale=0.5), "scale 0.5: must be a str"),
        (lambda: bsqcodec.open(123), "path 123: must be a str, a path or an open binary file"),
        (lambda: bsqcodec.open("in.bsq", max_frames="9"), "max_frames '9': must be a whole number or None"),
        (lambda: bsqcodec.inspect(None), "path None: must be a str or a path"),
        (lambda: bsqcodec.cut("in.bsq", "new.bsq", limit="8"), "limit '8': must be a whole number or None"),
        (lambda: bsqcodec.join("in.bsq", "new.bsq"), "sources 'in.bsq': must be a list (each a str or a path)"),
        (lambda: bsqcodec.join([1, 2], "new.bsq"), "sources [1, 2]: must be a list (each a str or a path)"),
        (lambda: bsqcodec.Encoder(5), "dst 5: must be a str, a path or an open binary file"),
        (lambda: bsqcodec.Encoder("new.bsq", info=25), "info 25: must be a VideoInfo or None"),
        (lambda: bsqcodec.Encoder("new.bsq", fps="25"), "fps '25': must be a number"),
        (lambda: bsqcodec.compress(5), "frames 5: must be an iterable"),
        (lambda: bsqcodec.compress([], crf="28"), "crf '28': must be a number"),
        (lambda: bsqcodec.decompress("in.bsq"), "data 'in.bsq': must be bytes"),
        (lambda: bsqcodec.decompress(b"", device=None), "device None: must be a str"),
        (lambda: bsqcodec.Tokenizer(tune=1), "tune 1: must be a str"),
        (lambda: bsqcodec.BsqDataset(5), "files 5: must be a str, a path or an iterable"),
        (lambda: bsqcodec.BsqDataset("in.bsq", frames=2.0), "frames 2.0: must be a whole number"),
        (lambda: encode(crf=np.zeros((9, 9))), None),
    ],
)
def test_a_wrong_type_is_one_line_that_names_the_argument(folder, call, says):
    with pytest.raises(UsageError) as caught:
        call()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message == says or (says is None and message.startswith("crf array(") and message.endswith("or None"))
    assert {path.name for path in folder.iterdir()} == {"in.y4m", "in.bsq"}


def test_what_python_checks_itself_stays_its_own():
    with pytest.raises(TypeError, match=r"encode\(\) missing 1 required positional argument: 'dst'"):
        bsqcodec.encode("in.y4m")
    with pytest.raises(TypeError, match="unexpected keyword argument 'cfr'"):
        encode(cfr=28)
    assert list(inspect.signature(bsqcodec.cut).parameters)[:4] == ["src", "dst", "start", "duration"]
    assert bsqcodec.encode.__module__ == "bsqcodec.api" and "Args:" in bsqcodec.encode.__doc__


def test_numbers_of_numpy_and_open_files_are_taken():
    options = {"crf": np.float32(40), "keyint": np.int64(3), "limit": np.uint8(5)}
    assert bsqcodec.encode(Path("in.y4m"), "new.bsq", **options).groups == 2
    with Path("new.bsq").open("rb") as file, bsqcodec.open(file, max_frames=np.int32(9)) as video:
        video.seek(np.int64(4))
        (last,) = video
        with pytest.raises(UsageError, match="frame 'end': must be a whole number"):
            video.seek("end")
    part = {"start": Fraction(1, 25), "duration": np.float64(0.12)}
    assert bsqcodec.decode("new.bsq", "new.y4m", **part).frames == 3
    data = bsqcodec.compress(iter([last]), fps=Fraction(24), keyint=np.int16(2))
    assert len(bsqcodec.decompress(bytearray(data))) == 1
    with bsqcodec.Encoder(io.BytesIO()) as encoder:
        encoder.write(last, pts=0)
        with pytest.raises(UsageError, match="pts 'later': must be a number or None"):
            encoder.write(last, pts="later")


def test_annotations_that_nothing_can_be_told_of_are_not_looked_at():
    @checked
    def function(anything, packet: TrackPacket | Track, **more: int) -> tuple:
        return anything, packet, more

    packet = TrackPacket(0, b"", 0, 0, 0, True)
    assert function([1], packet, b="c") == ([1], packet, {"b": "c"})
    with pytest.raises(UsageError, match="packet None: must be a TrackPacket or a Track"):
        function([1], None)
