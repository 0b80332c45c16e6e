"""`--profile`: time by stage, and the floor under those that are matrix products. The models are those of `standin`."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from types import SimpleNamespace

import clips
import pytest
import standin
import torch
from click.testing import CliRunner
from test_docs import table
from torch.overrides import TorchFunctionMode

import bsqcodec
from bsqcodec import profile as profiles
from bsqcodec.cli.tool import cli
from bsqcodec.codec.floor import matrix_rate
from bsqcodec.errors import UsageError
from bsqcodec.profile import NETWORKS, STAGES, Profile, StageTime, Stopwatch, stage, staged

CPU = torch.device("cpu")
MODEL = SimpleNamespace(device=CPU)
SETTINGS = {"device": "cpu", "threads": 1}
WIDTH, HEIGHT = 90, 70  # 12 x 9 tokens or so: no whole number of windows, at no size of the pyramid


@pytest.fixture(scope="module", params=["predictive", "causal"])
def weights(request, tmp_path_factory):
    """Models of two blocks, of which the second has shifted windows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(standin.SIZES, "depth", 2)
        patch.setitem(standin.PRIOR, "depth", 2)
        folder = tmp_path_factory.mktemp("weights")
        return standin.standin_weights(folder / "small.safetensors", request.param == "causal")


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "in.y4m"
    path.write_bytes(clips.y4m_bytes(5, WIDTH, HEIGHT))
    return path


@pytest.fixture
def clock(monkeypatch):
    """A clock for `bsqcodec.profile` that the test moves."""
    hands = SimpleNamespace(now=100.0)
    monkeypatch.setattr(profiles, "time", SimpleNamespace(perf_counter=lambda: hands.now))
    return hands


class Products(TorchFunctionMode):
    """Counts the multiply-adds of torch's matrix products by the stage they run in, from their operands alone."""

    def __init__(self):
        super().__init__()
        self.macs = Counter()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        watch = profiles._current.get()
        if watch is not None:
            self.macs[watch._inside[-1]] += self._count(name, args)
        return function(*args, **(kwargs or {}))

    def _count(self, name, args):
        if name == "linear":
            return args[0].numel() * args[1].shape[0]
        if name in ("matmul", "__matmul__", "mm", "bmm"):
            return args[0].numel() * args[1].shape[-1]
        if name == "addmm":
            return args[1].numel() * args[2].shape[-1]
        assert not name.startswith(("einsum", "baddbmm", "_int_mm"))
        return 2 * args[0].numel() * args[1].shape[-2] if name == "scaled_dot_product_attention" else 0


# --- the watch -----------------------------------------------------------------------------------


def test_inner_time_is_taken_from_the_outer_stage(clock):
    with Stopwatch() as watch:
        clock.now += 1000  # before the start
        watch.start(MODEL)
        clock.now += 1
        with stage("prior"):
            clock.now += 10
            with stage("coder"):
                clock.now += 100
            with stage("coder"), stage("prior"):
                clock.now += 20
            clock.now += 40
        clock.now += 2
        watch.stop()
        clock.now += 1000
    assert watch.seconds == {"other": 3, "prior": 70, "coder": 100}


def test_a_stage_ends_with_an_error_too(clock):
    with Stopwatch() as watch, pytest.raises(KeyError):
        watch.start(MODEL)
        with stage("prior"), stage("coder"):
            clock.now += 3
            raise KeyError
    clock.now += 5  # the watch stopped with its block
    assert watch.seconds == {"other": 0, "prior": 0, "coder": 3}
    assert stage("prior") is profiles._OFF


def test_the_time_to_get_items_counts_but_not_what_is_done_with_them(clock):
    def source():
        for item in range(3):
            clock.now += 10
            yield item
        clock.now += 5

    with Stopwatch() as watch:
        watch.start(MODEL)
        for _ in staged("read", source()):
            clock.now += 1
    assert watch.seconds == {"read": 35, "other": 3}


def test_nothing_happens_unless_a_watch_runs_in_this_thread(clock):
    items = [1, 2]
    with Stopwatch(False) as watch:
        watch.start(MODEL)
        assert stage("prior", (1, 2, 3)) is stage("coder") and staged("read", items) is items
    assert not watch.seconds and not watch.pictures

    seen = []
    with Stopwatch() as watch:
        watch.start(MODEL)
        other = threading.Thread(target=lambda: seen.append((stage("prior"), staged("read", items))))
        other.start()
        other.join()
    assert seen == [(profiles._OFF, items)]


def test_borders_wait_for_cuda(monkeypatch):
    waits = []
    monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
    gpu = torch.device("cuda", 1)
    with Stopwatch() as watch:
        watch.start(SimpleNamespace(device=gpu))
        with stage("prior"):
            assert len(waits) == 2
    assert waits == [gpu] * 4


def test_figures_of_a_stage():
    stages = {"encoder": StageTime(3.0, 4 * 10**9), "decoder": StageTime(0.0, 0), "other": StageTime(1.0)}
    found = Profile(4.0, 8, 2, 2e9, stages)
    encoder = {"seconds": 3.0, "share": 0.75, "ms_per_frame": 375.0, "macs": 4 * 10**9}
    assert found.figures("encoder") == {**encoder, "floor_seconds": 2.0, "over_floor": 1.5}
    assert found.figures("decoder")["floor_seconds"] == 0 and found.figures("decoder")["over_floor"] is None
    assert [found.figures("other")[key] for key in ("macs", "floor_seconds", "over_floor")] == [None] * 3


# --- encode and decode ---------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"size": 10**6, "verify": True}])
def test_stages_add_up_to_the_wall_time(clip, tmp_path, weights, options):
    begin = time.perf_counter()
    stats = bsqcodec.encode(clip, tmp_path / "out.bsq", keyint=3, weights=weights, profile=True, **options, **SETTINGS)
    found, passed = stats.profile, time.perf_counter() - begin
    assert tuple(found.stages) == STAGES and all(each.seconds >= 0 for each in found.stages.values())
    assert sum(each.seconds for each in found.stages.values()) == pytest.approx(found.seconds)
    assert stats.seconds <= found.seconds < passed
    assert found.frames == 5 and found.threads == torch.get_num_threads()
    for name in ("read", "encoder", "prior", "coder", "decoder", "write"):
        assert found.stages[name].seconds > 0, name

    stats = bsqcodec.decode(tmp_path / "out.bsq", tmp_path / "out.y4m", weights=weights, profile=True, **SETTINGS)
    found = stats.profile
    assert sum(each.seconds for each in found.stages.values()) == pytest.approx(found.seconds)
    assert 0.5 * stats.seconds < found.seconds <= stats.seconds
    assert found.stages["motion"].seconds == found.stages["encoder"].seconds == 0
    assert found.stages["encoder"].macs == 0 < found.stages["decoder"].macs


def test_a_profile_changes_nothing_else(clip, tmp_path, weights):
    made = []
    for on in (False, True):
        stream, video = tmp_path / f"{on}.bsq", tmp_path / f"{on}.y4m"
        stats = bsqcodec.encode(clip, stream, keyint=3, weights=weights, profile=on, **SETTINGS)
        back = bsqcodec.decode(stream, video, weights=weights, profile=on, **SETTINGS)
        assert (stats.profile is not None) == (back.profile is not None) == on
        made.append((stream.read_bytes(), video.read_bytes(), stats.bits))
    assert made[0] == made[1]


def test_macs_are_those_of_the_products_that_run(clip, tmp_path, weights, monkeypatch):
    """Two groups, of 4 frames and of 1: sizes of first frames, other frames, padding, and groups at once."""
    monkeypatch.setenv("BSQCODEC_KERNEL", "float32")  # int8 takes two products for one, since activations have 13 bits
    stream = tmp_path / "out.bsq"
    with Products() as counted:
        encoded = bsqcodec.encode(clip, stream, keyint=4, weights=weights, profile=True, **SETTINGS).profile
    assert {name: encoded.stages[name].macs for name in NETWORKS} == {name: counted.macs[name] for name in NETWORKS}
    assert all(encoded.stages[name].macs > 10**6 for name in NETWORKS)

    with Products() as counted:
        decoded = bsqcodec.decode(stream, tmp_path / "out.y4m", weights=weights, profile=True, **SETTINGS).profile
    assert {name: decoded.stages[name].macs for name in NETWORKS} == {name: counted.macs[name] for name in NETWORKS}
    assert {name: each.macs for name, each in decoded.stages.items() if name not in NETWORKS} == dict.fromkeys(
        set(STAGES) - set(NETWORKS)
    )


def test_the_rate_is_of_this_machine():
    rate = matrix_rate(CPU, 64, 64, seconds=0.05)
    assert 1e6 < rate < 1e15


@pytest.mark.parametrize("spread", [{"jobs": 2}, {"cluster": "auto"}])
def test_a_profile_of_several_processes_is_refused(clip, tmp_path, spread):
    name, value = next(iter(spread.items()))
    with pytest.raises(UsageError, match=f"^{name} {value}: a profile is of one process; ") as caught:
        bsqcodec.encode(clip, tmp_path / "out.bsq", profile=True, **spread)
    assert "\n" not in str(caught.value)
    if name == "jobs":
        with pytest.raises(UsageError, match="one process"):
            bsqcodec.decode(clip, tmp_path / "out.y4m", profile=True, jobs=2)
    assert [path.name for path in tmp_path.iterdir()] == ["in.y4m"]


# --- the command line ----------------------------------------------------------------------------


@pytest.fixture
def invoke(weights):
    place = ("--weights", str(weights), "--device", "cpu", "--threads", "1", "-y")
    return lambda *args: CliRunner().invoke(cli, [*map(str, args), *place])


def test_the_table_is_on_standard_error_behind_the_summary(invoke, clip, tmp_path):
    encoded = invoke("encode", clip, tmp_path / "out.bsq", "--profile")
    decoded = invoke("decode", tmp_path / "out.bsq", tmp_path / "out.y4m", "--profile")
    for result, absent in ((encoded, set()), (decoded, {"motion", "encoder", "refinement"})):
        assert result.exit_code == 0 and result.stdout == ""
        lines = result.stderr.partition(" fps\n")[2].splitlines()
        rows = {line.split()[0]: line.split()[1:] for line in lines}
        assert next(iter(rows)) == "stage" and list(rows)[-2:] == ["total", "floor:"]
        shown = set(rows) - {"stage", "total", "floor:"}
        assert shown <= set(STAGES) - absent and {*NETWORKS, "coder"} - absent <= shown
        assert sum(float(rows[name][0]) for name in shown) == pytest.approx(float(rows["total"][0]), abs=0.006)
        assert {len(rows[name]) for name in shown & set(NETWORKS)} == {6}
        assert {len(rows[name]) for name in shown - set(NETWORKS)} == {3}
    quiet = invoke("encode", clip, tmp_path / "out.bsq", "--profile", "-q")
    assert (quiet.exit_code, quiet.output) == (0, "")


def test_json_has_the_keys_that_json_md_names(invoke, clip, tmp_path):
    section = "`encode` and `decode`"
    for command in (("encode", clip, tmp_path / "out.bsq"), ("decode", tmp_path / "out.bsq", tmp_path / "out.y4m")):
        done = json.loads(invoke(*command, "--profile", "--json").stdout.splitlines()[-1])
        found = done["profile"]
        stage_keys = set(found["stages"]["other"])
        assert tuple(found["stages"]) == STAGES and table(section, "`profile`") == set(found) | stage_keys
        assert all(set(each) == stage_keys for each in found["stages"].values())
        assert sum(each["seconds"] for each in found["stages"].values()) == pytest.approx(found["seconds"], abs=1e-4)
        assert sum(each["share"] for each in found["stages"].values()) == pytest.approx(1, abs=1e-4)
        assert json.loads(invoke(*command, "--json").stdout.splitlines()[-1])["profile"] is None


def test_jobs_and_a_profile_are_one_line_and_exit_code_2(clip, tmp_path):
    result = CliRunner().invoke(cli, ["encode", str(clip), str(tmp_path / "out.bsq"), "--profile", "--jobs", "2"])
    line = "bsqcodec: error: jobs 2: a profile is of one process; leave that or --profile out\n"
    assert (result.exit_code, result.stderr, result.stdout) == (2, line, "")
