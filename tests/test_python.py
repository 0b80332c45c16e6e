"""The Python API in memory: Encoder, compress and decompress, tensors, the dataset; with the shipped weights."""

from __future__ import annotations

import io
import pickle
from fractions import Fraction
from itertools import islice
from pathlib import Path

import clips
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import bsqcodec
from bsqcodec.codec import group as group_module
from bsqcodec.codec import load_model
from bsqcodec.codec.dissect import TokenCosts, dissect, group_levels, spread
from bsqcodec.codec.model import save_model
from bsqcodec.colour import to_rgb
from bsqcodec.container import Group, StreamReader
from bsqcodec.errors import BitstreamError, TruncatedError, UsageError, VideoError
from bsqcodec.frames import Frame, VideoInfo
from bsqcodec.metrics import frame_psnr
from bsqcodec.prior.network import PriorConfig, PriorNetwork
from bsqcodec.tensors import DeviceFrame, planes_of, rgb_of

WIDTH, HEIGHT, FRAMES = 50, 35, 5
PLAIN = {"device": "cpu", "crf": 30, "keyint": 3}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A smooth picture that moves."""
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    luma = 120 + 70 * np.sin((columns - 2 * number) / 6) * np.cos(rows / 5)
    chroma = 128 + 30 * np.sin((columns[::2, ::2] - 2 * number) / 9)
    return luma.astype(np.uint8), chroma.astype(np.uint8), (256 - chroma).astype(np.uint8)


def rgb_video(frames: int = FRAMES) -> np.ndarray:
    info = VideoInfo(WIDTH, HEIGHT, matrix=1, full_range=False, chroma_location=1)
    return np.stack([to_rgb(*picture(n), info) for n in range(frames)])


@pytest.fixture(scope="module")
def data() -> bytes:
    return bsqcodec.compress([picture(n) for n in range(FRAMES)], fps=Fraction(30000, 1001), **PLAIN)


@pytest.fixture
def stream(tmp_path, data) -> Path:
    (tmp_path / "in.bsq").write_bytes(data)
    return tmp_path / "in.bsq"


def same(one, other) -> bool:
    return all(np.array_equal(np.asarray(getattr(one, p)), np.asarray(getattr(other, p))) for p in "yuv")


# --- Encoder -------------------------------------------------------------------------------------


def test_encoder_makes_what_encode_makes(tmp_path):
    """As long as groups are whole: an encoder of pictures cannot know that the last one will be short."""
    (tmp_path / "in.y4m").write_bytes(clips.y4m_bytes(6))
    bsqcodec.encode(tmp_path / "in.y4m", tmp_path / "a.bsq", **PLAIN)
    with bsqcodec.open(tmp_path / "a.bsq", device="cpu") as video:
        info, expected = video.info, list(video)
    with bsqcodec.Encoder(tmp_path / "b.bsq", info=info, **PLAIN) as encoder:
        assert not (tmp_path / "b.bsq").exists()
        for number in range(6):
            encoder.write(clips.picture(number))
    assert encoder.stats.frames == 6 and encoder.stats.groups == 2
    assert encoder.stats.bytes == (tmp_path / "b.bsq").stat().st_size
    assert encoder.close() is encoder.stats
    with bsqcodec.open(tmp_path / "b.bsq", device="cpu") as video:
        assert video.info == info
        for one, other in zip(video, expected, strict=True):
            assert same(one, other) and one.pts == other.pts
    assert {path.name for path in tmp_path.iterdir()} == {"in.y4m", "a.bsq", "b.bsq"}


def test_encoder_leaves_nothing_behind_when_something_fails(tmp_path):
    def broken():
        with bsqcodec.Encoder(tmp_path / "out.bsq", **PLAIN) as encoder:
            encoder.write(picture(0))
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        broken()
    with pytest.raises(UsageError, match="without a picture"), bsqcodec.Encoder(tmp_path / "out.bsq", **PLAIN):
        pass
    with pytest.raises(bsqcodec.BsqError, match="nothing"):
        bsqcodec.Encoder(tmp_path / "out.bsq", weights=tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


def test_encoder_refuses_what_does_not_fit(tmp_path):
    (tmp_path / "taken.bsq").write_bytes(b"old")
    with pytest.raises(VideoError, match="already exists"):
        bsqcodec.Encoder(tmp_path / "taken.bsq")
    for options, message in (({"crf": 52}, "crf"), ({"fps": 0}, "fps 0"), ({"fps": float("nan")}, "fps nan")):
        with pytest.raises(UsageError, match=message):
            bsqcodec.Encoder(io.BytesIO(), **options)
    with bsqcodec.Encoder(io.BytesIO(), **PLAIN) as encoder:
        with pytest.raises(UsageError, match="before it is closed"):
            _ = encoder.stats
        encoder.write(picture(0))
        for wrong, message in (
            (picture(0, 52), "52x35 behind others of 50x35"),
            (np.zeros((35, 50), np.uint8), r"frame 1: array of uint8 \(35, 50\)"),
            (torch.zeros(1, 35, 50), r"frame 1: tensor of shape"),
            (picture(0)[:2], "a tuple of 2"),
        ):
            with pytest.raises(UsageError, match=message):
                encoder.write(wrong)
        with pytest.raises(UsageError, match="times must grow"):
            encoder.write(picture(1), pts=0)
        encoder.write(picture(1))
    assert encoder.stats.frames == 2
    with pytest.raises(UsageError, match="closed"):
        encoder.write(picture(1))
    with pytest.raises(UsageError, match="info says 8x8"), bsqcodec.Encoder(io.BytesIO(), info=VideoInfo(8, 8)) as e:
        e.write(picture(0))


def test_times_are_kept(data):
    info = VideoInfo(WIDTH, HEIGHT, time_base=Fraction(1, 1000), fps=Fraction(30))
    buffer = io.BytesIO()
    times = [Fraction(0), Fraction(1, 100), Fraction(7, 10)]
    with bsqcodec.Encoder(buffer, info=info, **PLAIN) as encoder:
        for number, time in enumerate(times):
            encoder.write(picture(number), pts=time, duration=Fraction(1, 50))
        encoder.write(picture(3))
    again = bsqcodec.decompress(buffer.getvalue(), device="cpu")
    assert [frame.pts for frame in again] == [*times, times[-1] + Fraction(33, 1000)]
    assert again[0].duration == Fraction(1, 50)
    with bsqcodec.Encoder(copy := io.BytesIO(), info=info, **PLAIN) as encoder:
        for frame in again:
            encoder.write(frame)
    assert [f.pts for f in bsqcodec.decompress(copy.getvalue(), device="cpu")] == [frame.pts for frame in again]
    assert [f.pts for f in bsqcodec.decompress(data, device="cpu")] == [
        Fraction(1001 * n, 30000) for n in range(FRAMES)
    ]


@pytest.fixture(scope="module")
def small_weights(tmp_path_factory):
    """Weights of an untrained model of each kind."""
    from test_tokens import build, default_tables, motion_tables

    folder = tmp_path_factory.mktemp("weights")
    for kind in ("predictive", "causal"):
        torch.manual_seed(5)
        config, tokenizer = build(kind)
        path = folder / f"{kind}.safetensors"
        save_model(path, config, tokenizer, PriorNetwork(config.prior), default_tables(), motion_tables())
    return lambda kind: folder / f"{kind}.safetensors"


@pytest.mark.parametrize("kind", ["predictive", "causal"])
@pytest.mark.parametrize("of", ["numpy", "torch"])
def test_a_buffer_may_be_filled_again(small_weights, kind, of):
    """As programs do that grab pictures: the encoder has what it was given even where it codes later."""
    options = {**PLAIN, "weights": small_weights(kind)}
    expected = bsqcodec.compress([picture(n, 64, 48) for n in range(4)], **options)
    buffer = tuple(torch.empty(p.shape, dtype=torch.uint8) if of == "torch" else p.copy() for p in picture(0, 64, 48))
    with bsqcodec.Encoder(out := io.BytesIO(), **options) as encoder:
        for number in range(4):
            for plane, new in zip(buffer, picture(number, 64, 48), strict=True):
                plane[:] = torch.from_numpy(new) if of == "torch" else new
            encoder.write(buffer)
            for plane in buffer:
                plane[:] = 0
    assert out.getvalue() == expected


@pytest.mark.parametrize("kind", ["predictive", "causal"])
def test_tokens_and_costs_of_models_of_both_kinds(small_weights, kind):
    data = bsqcodec.compress([picture(n) for n in range(4)], **PLAIN, weights=small_weights(kind))
    model = load_model(small_weights(kind), device="cpu")
    info, groups, _ = groups_of(data)
    for group in groups:
        parts = list(dissect(model, group, info))
        own = sum(float(part.token_bits.sum()) for part in parts)
        assert len(parts) == len(group.pts) and own > 0
        assert 0 <= 8 * len(group.tokens) - own <= 64 + 0.002 * own
        assert [part.motion is None for part in parts[1:]] == [kind == "causal"] * (len(parts) - 1)
    tokenizer = bsqcodec.Tokenizer(small_weights(kind), device="cpu")
    with bsqcodec.open(io.BytesIO(data), device="cpu", weights=small_weights(kind)) as video:
        frames = list(video)
        video.seek(0)
        decoded = [frame for part in video.tokens() for frame in tokenizer.decode(part)]
    assert all(same(a, b) for a, b in zip(decoded, frames, strict=True))


# --- compress, decompress ------------------------------------------------------------------------


def test_compress_and_decompress(data):
    frames = bsqcodec.decompress(data, device="cpu")
    assert len(frames) == FRAMES
    for number, frame in enumerate(frames):
        assert frame_psnr(Frame(*picture(number), 0), frame).yuv > 30
    with bsqcodec.open(io.BytesIO(data), device="cpu") as video:
        assert [same(a, b) for a, b in zip(video, frames, strict=True)] == [True] * FRAMES
        video.seek(4)
        assert same(next(iter(video)), frames[4])
    smaller = bsqcodec.compress(frames, **(PLAIN | {"crf": 45}))  # decoded frames go in again
    assert len(smaller) < len(data)
    with pytest.raises(TruncatedError, match="cut short"):
        bsqcodec.decompress(data[:-40], device="cpu")
    with pytest.raises(BitstreamError, match="stream"):
        bsqcodec.decompress(b"no stream at all", device="cpu")


@pytest.mark.parametrize("kind", ["numpy", "torch", "float", "pictures"])
def test_rgb_of_every_kind_gives_the_same_bytes(kind):
    video = rgb_video(2)
    tensor = torch.from_numpy(video).permute(0, 3, 1, 2)
    given = {"numpy": video, "torch": tensor, "float": tensor.double() / 255, "pictures": list(video)}[kind]
    data = bsqcodec.compress(given, **PLAIN)
    assert data == bsqcodec.compress(iter(video), **PLAIN)
    for expected, frame in zip(video, bsqcodec.decompress(data, device="cpu"), strict=True):
        assert (frame.info.matrix, frame.info.full_range, frame.info.source_format) == (1, False, "rgb24")
        assert np.abs(frame.rgb.astype(int) - expected).mean() < 5


# --- tensors -------------------------------------------------------------------------------------


def test_tensors_are_the_frames(data):
    with bsqcodec.open(io.BytesIO(data), device="cpu") as video:
        expected = list(video)
        video.seek(0)
        for frame, other in zip(video.tensors(), expected, strict=True):
            assert isinstance(frame.y, torch.Tensor) and same(frame, other)
            assert (frame.index, frame.pts, frame.duration) == (other.index, other.pts, other.duration)
            assert frame.rgb.shape == (3, HEIGHT, WIDTH) and frame.rgb.dtype == torch.uint8
            difference = frame.rgb.permute(1, 2, 0).numpy().astype(int) - other.rgb
            assert np.abs(difference).max() <= 1
        assert "50x35 on cpu" in repr(frame)
        video.seek(1)
        assert [f.index for f in islice(video, 1)] + [f.index for f in islice(video.tensors(), 2)] == [1, 2, 3]


@pytest.mark.parametrize("way", ["tensors", "tokens"])
def test_other_iterations_end_as_the_usual_one(data, way):
    with bsqcodec.open(io.BytesIO(data[:-40]), device="cpu") as video:
        with pytest.raises(TruncatedError, match="cut short"):
            list(getattr(video, way)())
        video.seek(len(video))
        with pytest.raises(TruncatedError, match="cut short"):
            next(getattr(video, way)())


def test_seeking_while_tensors_come():
    buffer = io.BytesIO()
    with bsqcodec.Encoder(buffer, **PLAIN) as encoder:
        for number in range(FRAMES):
            encoder.write(picture(number))
    seen = []
    with bsqcodec.open(buffer, device="cpu") as video:  # from its beginning, wherever it was left
        for frame in video.tensors():
            seen.append(frame.index)
            if len(seen) in (2, 3):
                video.seek({2: 4, 3: 1}[len(seen)])
    assert seen == [0, 1, 4, 1, 2, 3, 4]
    assert not buffer.closed


def test_tensors_are_used_in_place(monkeypatch, data):
    """No copy between a picture and the model, in either direction."""
    seen = []
    monkeypatch.setattr(group_module, "pad_planes", lambda planes, h, w: seen.append(planes) or planes)
    planes = tuple(torch.from_numpy(plane) for plane in picture(0, 64, 48))
    bsqcodec.compress([planes], **PLAIN)
    assert [plane.data_ptr() for plane in seen[0]] == [plane.data_ptr() for plane in planes]
    frame = DeviceFrame.of(planes, 3, 1)
    assert (frame.pts, frame.duration) == (3, 1)
    assert all(np.shares_memory(getattr(frame, name), plane.numpy()) for name, plane in zip("yuv", planes, strict=True))
    with bsqcodec.open(io.BytesIO(data), device="cpu") as video:
        first = next(video.tensors())
    assert first.y.shape == (HEIGHT, WIDTH) and first.y.stride() == (56, 1)  # a view of 7 tokens a row


@pytest.mark.parametrize("location", range(7))
@pytest.mark.parametrize("known", [{"matrix": 1}, {"matrix": 6, "full_range": True}, {"matrix": 9}, {}])
def test_rgb_of_tensors_is_rgb_of_arrays(location, known):
    generator = np.random.default_rng(location)
    planes = [generator.integers(0, 256, shape, np.uint8) for shape in ((35, 50), (18, 25), (18, 25))]
    info = VideoInfo(50, 35, chroma_location=location, **known)
    mine = rgb_of(tuple(map(torch.from_numpy, planes)), info).permute(1, 2, 0).numpy()
    assert np.abs(mine.astype(int) - to_rgb(*planes, info)).max() <= 1


@pytest.mark.parametrize(
    ("rgb", "yuv"), [((255, 0, 0), (63, 102, 240)), ((0, 0, 255), (32, 240, 118)), ((255,) * 3, (235, 128, 128))]
)
def test_planes_of_flat_colours(rgb, yuv):
    tensor = torch.tensor(rgb, dtype=torch.uint8)[:, None, None].expand(3, 5, 7)
    for given in (tensor, tensor.float() / 255):
        planes = planes_of(given)
        assert [tuple(plane.shape) for plane in planes] == [(5, 7), (3, 4), (3, 4)]
        assert [int(value) for plane in planes for value in plane.unique()] == list(yuv)


def test_rgb_comes_back_through_planes():
    rgb = torch.from_numpy(rgb_video(1)[0]).permute(2, 0, 1)
    info = VideoInfo(WIDTH, HEIGHT, matrix=1, full_range=False, chroma_location=1)
    assert (rgb_of(planes_of(rgb), info).int() - rgb.int()).abs().float().mean() < 1.5


# --- tokens and their costs ----------------------------------------------------------------------


def groups_of(data: bytes) -> tuple[VideoInfo, list[Group], StreamReader]:
    reader = StreamReader(io.BytesIO(data))
    return reader.header.info, [item for item in reader if isinstance(item, Group)], reader


def test_costs_of_tokens_add_up_to_the_stream(data, model):
    info, groups, reader = groups_of(data)
    frames, tokens, motion = [], 0.0, 0.0
    for group in groups:
        parts = list(dissect(model, group, info))
        frames += parts
        own = sum(float(part.token_bits.sum()) for part in parts)
        assert 0 <= 8 * len(group.tokens) - own <= 64 + 0.002 * own
        tokens, motion = tokens + own, motion + sum(part.motion_bits for part in parts)
        assert parts[0].motion is None and all(part.motion is not None for part in parts[1:])
    assert tokens == pytest.approx(sum(bits for _, bits in reader.stats.token_bits), rel=1e-3, abs=4)
    assert motion == pytest.approx(reader.stats.motion_bits, abs=1)
    assert frames[0].token_bits.shape == (5, 7) and frames[0].token_bits.min() > 0
    for part, frame in zip(frames, bsqcodec.decompress(data, device="cpu"), strict=True):
        assert np.array_equal(part.planes[0][:HEIGHT, :WIDTH].numpy(), frame.y)


def test_costs_lie_where_the_detail_is(model):
    y, u, v = (np.full(shape, 128, np.uint8) for shape in ((64, 96), (32, 48), (32, 48)))
    y[24:40, 56:72] = np.random.default_rng(1).integers(0, 256, (16, 16))
    info, groups, _ = groups_of(bsqcodec.compress([(y, u, v)], **PLAIN))
    bits = next(dissect(model, groups[0], info)).token_bits
    dearest = {divmod(int(index), bits.shape[1]) for index in np.argsort(bits, axis=None)[-4:]}
    assert dearest == {(3, 7), (3, 8), (4, 7), (4, 8)}
    assert bits[3:5, 7:9].mean() > 10 * np.median(bits)


def test_shares_of_smaller_sizes_add_up():
    generator = np.random.default_rng(2)
    costs = [generator.random(shape) for shape in ((1, 2), (2, 3), (3, 5), (6, 9))]
    total = spread(costs, (3, 2, 1, 0))
    assert total.shape == (6, 9) and total.sum() == pytest.approx(sum(part.sum() for part in costs))
    assert spread(costs[-1:], (0,)) is not costs[-1] and np.array_equal(spread(costs[-1:], (0,)), costs[-1])


def test_costs_notice_another_order_of_bits():
    class Ones:
        def code(self, plane, bits, p):
            return np.ones(p.shape, np.uint8)

    costs = TokenCosts(Ones(), 2, 2, PriorConfig())
    with pytest.raises(ValueError, match="9 bits of zero where 8"):
        costs.code("zero", None, np.full(9, 5, np.uint16))


def test_tokens_of_a_file_are_those_of_the_tokenizer(data, model):
    info, groups, _ = groups_of(data)
    tokenizer = bsqcodec.Tokenizer(device="cpu")
    with bsqcodec.open(io.BytesIO(data), device="cpu") as video:
        frames = list(video)
        video.seek(1)
        tokens = list(video.tokens())
    assert [len(part.qualities) for part in tokens] == [3, 2]
    decoded = [frame for part in tokens for frame in tokenizer.decode(part)]
    assert all(same(a, b) for a, b in zip(decoded, frames, strict=True))
    assert len(group_levels(model, groups[1], info).fields) == 1


# --- the dataset ---------------------------------------------------------------------------------


def test_clips_of_files(stream, tmp_path, data):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.bsq").write_bytes(data)
    frames = bsqcodec.decompress(data, device="cpu")
    dataset = bsqcodec.BsqDataset(tmp_path, frames=2, stride=1, output="yuv")
    assert len(dataset) == 2 * 4
    assert [(clip.path.name, clip.start) for clip in dataset.clips[3:6]] == [("in.bsq", 3), ("b.bsq", 0), ("b.bsq", 1)]
    for index in (7, 2, 0):
        y, u, v = dataset[index]
        assert y.shape == (2, HEIGHT, WIDTH) and u.shape == v.shape == (2, 18, 25)
        assert np.array_equal(y[1].numpy(), frames[index % 4 + 1].y)
        assert np.array_equal(v[0].numpy(), frames[index % 4].v)
    assert len(bsqcodec.BsqDataset([stream], frames=2)) == 2
    assert bsqcodec.BsqDataset(str(stream), frames=5, transform=torch.Tensor.float)[0].dtype == torch.float32
    tokens = bsqcodec.BsqDataset(stream, output="tokens")
    assert [len(item.qualities) for item in tokens] == [3, 2]


def test_what_a_dataset_cannot_be(tmp_path, stream):
    for options, message in (({"frames": 0}, "frames 0"), ({"stride": 0}, "stride 0"), ({"output": "x"}, "output 'x'")):
        with pytest.raises(UsageError, match=message):
            bsqcodec.BsqDataset(stream, **options)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"there is no \.bsq file"):
        bsqcodec.BsqDataset(tmp_path / "empty")
    with pytest.raises(VideoError, match=r"gone\.bsq"):
        bsqcodec.BsqDataset(tmp_path / "gone.bsq")
    (tmp_path / "text.bsq").write_bytes(b"only text in here, nothing else")
    with pytest.raises(BitstreamError, match=r"text\.bsq"):
        bsqcodec.BsqDataset(tmp_path / "text.bsq")
    with pytest.raises(IndexError):
        bsqcodec.BsqDataset(stream, frames=2)[2]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_give_what_the_parent_gives(stream, method):
    dataset = bsqcodec.BsqDataset(stream, frames=2, stride=1, threads=1)
    alone = [dataset[index] for index in range(4)]
    assert len(pickle.dumps(dataset)) < 10_000  # without the model that it has loaded by now
    loader = DataLoader(dataset, batch_size=2, num_workers=2, multiprocessing_context=method)
    batches = list(loader)
    assert [batch.shape for batch in batches] == [(2, 2, 3, HEIGHT, WIDTH)] * 2
    assert torch.equal(torch.cat(batches), torch.stack(alone))
