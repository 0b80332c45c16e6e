"""The command line through its real entry point. The codec room is the stand-in of `tests/fakes`."""

from __future__ import annotations

import importlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import clips
import numpy as np
import pytest
import rich_click as click
from click.testing import CliRunner

from bsqcodec.cli import about, manual
from bsqcodec.cli.display import clock, describe, size_text
from bsqcodec.cli.tool import cli
from bsqcodec.progress import Progress

FAKES = Path(__file__).parent / "fakes"
ROOT = Path(__file__).parent.parent

# Adding an option is a decision: change this list with it.
FROZEN = {
    "": {"--version", "--help -h"},
    "encode": {
        "IN",
        "OUT",
        "--skip",
        "--limit",
        *("--format", "--video-size", "--framerate", "--pix-fmt"),
        "--overwrite -y",
        "--verify",
        "--crf",
        *("--bitrate -b", "--size", "--target"),
        "--keyint",
        "--preset",
        "--tune",
        "--device",
        "--gpu",
        "--threads",
        "--weights",
        "--jobs",
        "--cluster",
        "--profile",
        "--quiet -q",
        "--verbose -v",
        "--json",
        "--help -h",
    },
    "decode": {
        "IN",
        "OUT",
        "--overwrite -y",
        "--codec",
        "--on-error",
        "--fill",
        "--max-pixels",
        "--max-frames",
        "--start",
        "--duration",
        "--skip",
        "--limit",
        "--keyframes",
        "--scale",
        "--device",
        "--gpu",
        "--threads",
        "--weights",
        "--jobs",
        "--profile",
        "--quiet -q",
        "--verbose -v",
        "--json",
        "--help -h",
    },
    "cut": {
        *("IN", "OUT", "--start", "--duration", "--skip", "--limit", "--overwrite -y"),
        *("--quiet -q", "--verbose -v", "--json", "--help -h"),
    },
    "join": {"IN...", "OUT", "--overwrite -y", "--quiet -q", "--verbose -v", "--json", "--help -h"},
    "info": {"FILE", "--json", "--check", "--help -h"},
    "view": {
        "FILE",
        "ORIGINAL",
        "--out -o",
        "--overwrite -y",
        "--serve",
        "--port",
        "--skip",
        "--limit",
        "--heatmap",
        "--frame",
        "--device",
        "--gpu",
        "--threads",
        "--weights",
        "--quiet -q",
        "--verbose -v",
        "--json",
        "--help -h",
    },
    "compare": {
        "ORIGINAL",
        "FILE...",
        "--skip",
        "--limit",
        "--picture",
        "--frame",
        "--overwrite -y",
        "--metrics",
        "--device",
        "--gpu",
        "--threads",
        "--weights",
        "--quiet -q",
        "--verbose -v",
        "--json",
        "--help -h",
    },
    "bench": {
        "--dataset",
        "--data",
        "--download",
        "--frames",
        "--scale",
        "--anchors",
        "--tune",
        "--preset",
        "--crf",
        "--anchor-crf",
        "--keyint",
        "--metrics",
        "--device",
        "--gpu",
        "--threads",
        "--weights",
        "--jobs",
        "--cluster",
        "--out -o",
        "--dry-run",
        "--quiet -q",
        "--verbose -v",
        "--json",
        "--help -h",
    },
    "completions": {"{bash|zsh|fish}", "--help -h"},
    "train": {"--config", "--data", "--out", "--jobs", "--resume", "--help -h"},
}


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without settings of ours, with the stand-in codec."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("BSQCODEC_")}
    paths = [str(FAKES), str(ROOT), env.get("PYTHONPATH", "")]
    return {**env, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "COLUMNS": "200", **extra}


def run(*args: object, stdin: bytes = b"", **env: str) -> subprocess.CompletedProcess[bytes]:
    """`python -m bsqcodec ARGS` with the stand-in codec."""
    command = [sys.executable, "-m", "bsqcodec", *map(str, args)]
    return subprocess.run(command, input=stdin, capture_output=True, env=environment(**env), timeout=60)


def started(*args: object, **options) -> subprocess.Popen[bytes]:
    """The same, left running."""
    env = environment(**options.pop("env", {}))
    return subprocess.Popen([sys.executable, "-m", "bsqcodec", *map(str, args)], env=env, **options)


@pytest.fixture
def invoke(monkeypatch):
    """The command in this process: quicker, for everything that needs no pipes."""
    monkeypatch.syspath_prepend(str(FAKES))
    monkeypatch.setitem(sys.modules, "bsqcodec.codec", importlib.import_module("fake_codec"))
    for name in [name for name in os.environ if name.startswith("BSQCODEC_")]:
        monkeypatch.delenv(name)
    return lambda *args, **options: CliRunner().invoke(cli, [str(arg) for arg in args], **options)


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "in.y4m"
    path.write_bytes(clips.y4m_bytes())
    return path


@pytest.fixture
def stream(clip, tmp_path, invoke):
    assert invoke("encode", clip, tmp_path / "made.bsq", "--keyint", 3).exit_code == 0
    return tmp_path / "made.bsq"


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def one_error(stderr: str) -> str:
    """The error line, which must be the only one."""
    lines = [line for line in stderr.splitlines() if not line.startswith("device:")]
    assert len(lines) == 1, stderr
    assert lines[0].startswith("bsqcodec: error: ")
    return lines[0]


# --- the tool ------------------------------------------------------------------------------------


def test_no_new_options():
    commands = {"": cli, **cli.commands}
    for name, command in commands.items():
        context = click.Context(command, **command.context_settings)
        names = {
            parameter.make_metavar(context).strip("[]")
            if isinstance(parameter, click.Argument)
            else " ".join(sorted(parameter.opts, key=len, reverse=True))
            for parameter in command.get_params(context)
        }
        assert names == FROZEN[name]
    assert commands.keys() == FROZEN.keys()


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_help_has_two_examples_and_a_line_for_every_option(invoke, name):
    result = invoke(name, "-h", env={"COLUMNS": "200"})
    assert result.exit_code == 0
    examples = result.stdout.partition("Examples:")[2]
    assert len(re.findall(rf"bsqcodec {name} ", examples)) == 2
    for parameter in cli.commands[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.help
            assert parameter.help.split(";")[0].split(" (")[0].rstrip(".") in result.stdout


@pytest.mark.parametrize(
    ("args", "env"),
    [
        (("--help",), {}),
        (("--version",), {}),
        (("info", "made.bsq"), {}),
        (("encode", "-h"), {}),
        (("view", "-h"), {}),
        (("completions", "bash"), {}),
        ((), {"_BSQCODEC_COMPLETE": "bash_complete", "COMP_WORDS": "bsqcodec encode --cr", "COMP_CWORD": "2"}),
    ],
)
def test_answers_without_torch_and_at_once(stream, args, env):
    """Processor time, which other programs do not change; on an idle machine it is what passes."""
    watch = (
        "import atexit, sys, time; "
        "atexit.register(lambda: print('torch' in sys.modules, time.process_time(), file=sys.stderr))"
    )
    code = f"{watch}; from bsqcodec.cli import main; raise SystemExit(main())"
    seconds = []
    for _ in range(3):
        command = [sys.executable, "-c", code, *args]
        done = subprocess.run(command, capture_output=True, text=True, cwd=stream.parent, env=environment(**env))
        torch, spent = done.stderr.split()
        assert (done.returncode, torch) == (0, "False")
        assert done.stdout
        seconds.append(float(spent))
    assert min(seconds) < 0.4  # importing torch alone takes longer than this


@pytest.mark.parametrize(
    ("user", "wanted"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_threads_spin_briefly_unless_the_user_says_otherwise(user, wanted):
    env = {key: value for key, value in environment().items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    env |= user
    code = "import os; from bsqcodec.cli import main; main(['--version']); print(os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.splitlines()[-1] == wanted


def test_version_names_bitstream_libraries_and_device(invoke):
    text = invoke("--version").stdout
    assert re.match(r"bsqcodec \d+\.\d+\.\d+ \(bitstream 2\.\d+\)\n", text)
    libraries = ("torch", "av", "constriction", "numpy", "safetensors", "FFmpeg", "Python")
    assert all(re.search(rf"\b{library} \d", text) for library in libraries)
    import av
    import torch

    assert f"FFmpeg {av.ffmpeg_version_info}\n" in text
    (device,) = re.findall(r"^device: (\S+?),? .*\(auto: .+\)$", text, re.M)
    assert device == ("cuda:0" if torch.cuda.is_available() else "cpu")


def test_the_cuda_version_of_torch_is_read_without_it():
    import torch

    assert about.torch_cuda() == torch.version.cuda


class Nvml:
    """A stand-in for NVIDIA's management library on a machine with two GPUs."""

    def __init__(self, status=0):
        self.status = status
        self.down = 0

    def nvmlInit_v2(self):
        return self.status

    def nvmlShutdown(self):
        self.down += 1

    def nvmlDeviceGetCount_v2(self, count):
        count._obj.value = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, handle):
        handle._obj.value = 100 + index.value
        return 0

    def nvmlDeviceGetName(self, handle, text, length):
        text.value = f"GPU {handle.value}".encode()
        return 0 if handle.value == 100 else 1


def test_gpus_by_name(monkeypatch):
    nvml = Nvml()
    assert about.gpus(lambda name: nvml) == ["GPU 100", "NVIDIA GPU"] and nvml.down == 1
    assert about.gpus(lambda name: Nvml(9)) == []
    assert about.gpus(lambda name: object()) == []  # a library without these functions

    def absent(name):
        raise OSError(name)

    assert about.gpus(absent) == []
    monkeypatch.setattr(about, "torch_cuda", lambda: "12.8")
    monkeypatch.setattr(about, "gpus", lambda: ["A", "B"])
    for chosen, says in ((None, "A and 1 more"), ("1", "B,"), ("1,0", "B and 1 more"), ("GPU-3f", "NVIDIA GPU")):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if chosen is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
        assert about.device().startswith(f"cuda:0 (auto: {says}") and about.device().endswith("CUDA 12.8)")
    for chosen in ("", "-1", "7", "x,0"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
        assert about.device().endswith("threads (auto: no NVIDIA GPU for CUDA 12.8)")


# --- completion ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("",), {"encode", "decode", "info", "view", "compare", "bench", "train", "completions"}),
        (("en",), {"encode"}),
        (("encode", "--cr"), {"--crf"}),
        (("encode", "--tune", ""), {"psnr", "ms-ssim"}),
        (("completions", ""), {"bash", "zsh", "fish"}),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(words, expected, shell):
    line = " ".join(("bsqcodec", *words))
    env = {"_BSQCODEC_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    if shell == "fish":
        env["COMP_CWORD"] = words[-1]
    done = run(**env)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    found = lines[1::3] if shell == "zsh" else [line.partition(",")[2].partition("\t")[0] for line in lines]
    assert set(found) - {"-h", "--help"} >= expected and (len(expected) > 3 or set(found) == expected)


@pytest.mark.parametrize(
    "words", ["encode ", "encode in.mp4 ", "decode in.bsq ", "info ", "view ", "compare a ", "encode --weights "]
)
def test_files_are_completed_by_the_shell(words):
    env = {"COMP_WORDS": f"bsqcodec {words}", "COMP_CWORD": str(len(words.split()) + 1)}
    done = run(_BSQCODEC_COMPLETE="bash_complete", **env)
    assert done.stdout.startswith(b"file,")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_script_works_in_bash(tmp_path):
    (tmp_path / "bsqcodec").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bsqcodec "$@"\n')
    (tmp_path / "bsqcodec").chmod(0o755)
    (tmp_path / "script").write_bytes(run("completions", "bash").stdout)
    lines = (
        f'PATH="{tmp_path}:$PATH"; source "{tmp_path}/script"',
        "COMP_WORDS=(bsqcodec view --he); COMP_CWORD=2; _bsqcodec_completion bsqcodec",
        'echo "${COMPREPLY[@]}"; complete -p bsqcodec',
    )
    command = ["bash", "--norc", "-c", "; ".join(lines)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60)
    reply, registered = done.stdout.splitlines()
    assert reply.split() == ["--heatmap", "--help"]
    assert "-F _bsqcodec_completion bsqcodec" in registered


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_scripts_of_other_shells(shell):
    text = run("completions", shell).stdout.decode()
    assert f"_BSQCODEC_COMPLETE={shell}_complete" in text
    assert text.startswith("#compdef bsqcodec") or shell == "fish"


def test_a_shell_that_is_not_known(invoke):
    result = invoke("completions", "tcsh")
    assert result.exit_code == 2 and "bash" in one_error(result.stderr)


# --- encode, decode, info ------------------------------------------------------------------------


def test_files_there_and_back(clip, tmp_path):
    done = run("encode", clip, tmp_path / "out.bsq", "--crf", "7.9", "--verify")
    assert (done.returncode, done.stdout) == (0, b"")
    talk = done.stderr.decode().splitlines()
    assert talk[0] == "device: cpu (auto: no CUDA)"
    assert re.search(r"out\.bsq: 7 frames in 1 groups, .* kbit/s, .* bit/pixel, PSNR 100\.00 dB", talk[-1])
    done = run("decode", tmp_path / "out.bsq", tmp_path / "back.y4m", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    for number, planes in enumerate(clips.read_y4m((tmp_path / "back.y4m").read_bytes())):
        for got, expected in zip(planes, clips.picture(number), strict=True):
            np.testing.assert_array_equal(got, expected)
    assert files(tmp_path) == {"in.y4m", "out.bsq", "back.y4m"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_an_input_like_any_other(clip, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = started("encode", pipe, tmp_path / "out.bsq", "-q")
    pipe.write_bytes(clip.read_bytes())
    assert process.wait(timeout=60) == 0
    assert run("encode", clip, tmp_path / "file.bsq", "-q").returncode == 0
    assert (tmp_path / "out.bsq").read_bytes() == (tmp_path / "file.bsq").read_bytes()


def test_pipes_all_the_way():
    coded = run("encode", "-", "-", "--crf", 0, stdin=clips.y4m_bytes())
    assert coded.returncode == 0, coded.stderr
    decoded = run("decode", "-", "-", stdin=coded.stdout)
    assert decoded.returncode == 0, decoded.stderr
    frames = clips.read_y4m(decoded.stdout)
    assert len(frames) == clips.FRAMES
    np.testing.assert_array_equal(frames[-1][0], clips.picture(clips.FRAMES - 1)[0])


def test_truncated_pipe_exits_3():
    coded = run("encode", "-", "-", "--keyint", 2, stdin=clips.y4m_bytes()).stdout
    cut = run("decode", "-", "-", stdin=coded[: len(coded) // 2])
    assert cut.returncode == 3
    assert "cut short" in one_error(cut.stderr.decode())


def test_mp4_out(stream, tmp_path, invoke):
    assert invoke("decode", stream, tmp_path / "back.mp4").exit_code == 0
    assert b"ftyp" in (tmp_path / "back.mp4").read_bytes()[:16]
    result = invoke("decode", stream, tmp_path / "back.mp4", "--codec", "ffv1", "-y")
    assert result.exit_code == 2
    assert ".part" not in one_error(result.stderr)


def test_json_lines(clip, tmp_path, monkeypatch, invoke):
    monkeypatch.setattr("bsqcodec.cli.display.JSON_INTERVAL", 0.0)
    result = invoke("encode", clip, tmp_path / "out.bsq", "--json", "--keyint", 3)
    objects = [json.loads(line) for line in result.stdout.splitlines()]
    assert {item["type"] for item in objects[:-1]} == {"progress"}
    assert objects[0]["frames"] == 1
    done = objects[-1]
    assert (done["type"], done["frames"], done["groups"]) == ("done", clips.FRAMES, 3)
    assert done["bytes"] == (tmp_path / "out.bsq").stat().st_size
    assert {"psnr", "psnr_y", "psnr_u", "psnr_v", "kbps", "bpp", "fps", "seconds", "bits"} <= done.keys()
    result = invoke("decode", tmp_path / "out.bsq", tmp_path / "back.y4m", "--json")
    assert json.loads(result.stdout.splitlines()[-1])["type"] == "done"
    result = invoke("encode", clip, tmp_path / "out.bsq", "--json")
    failed = json.loads(result.stdout)
    assert (failed["type"], failed["exit_code"], result.exit_code) == ("error", 1, 1)
    assert "already exists" in failed["message"]
    assert "already exists" in one_error(result.stderr)


def test_info(stream, tmp_path, invoke):
    text = invoke("info", stream)
    assert text.exit_code == 0
    assert "34x26" in text.stdout
    data = json.loads(invoke("info", stream, "--json", "--check").stdout)
    assert (data["frames"], data["checked"], data["damage"]) == (clips.FRAMES, True, None)
    assert data["token_bits"].keys() == {"1"}
    assert sum(data["bytes"].values()) == stream.stat().st_size
    broken = bytearray(stream.read_bytes())
    broken[len(broken) // 2] ^= 1
    (tmp_path / "broken.bsq").write_bytes(broken)
    result = invoke("info", tmp_path / "broken.bsq", "--check")
    assert result.exit_code == 3
    assert "34x26" in result.stdout
    assert "broken.bsq: byte" in one_error(result.stderr)
    (tmp_path / "text.bsq").write_bytes(b"only text in here, nothing else")
    for name, code in (("text.bsq", 3), ("gone.bsq", 1)):
        result = invoke("info", tmp_path / name)
        assert (result.exit_code, result.stdout) == (code, "")
        assert name in one_error(result.stderr)


def test_encode_and_info_report_the_same_psnr(clip, tmp_path, invoke):
    result = invoke("encode", clip, tmp_path / "out.bsq", "--crf", 40, "--json")
    done = json.loads(result.stdout.splitlines()[-1])
    recorded = json.loads(invoke("info", tmp_path / "out.bsq", "--json").stdout)["psnr"]
    assert recorded == pytest.approx([done["psnr_y"], done["psnr_u"], done["psnr_v"]], abs=1e-3)


def test_train_hands_its_options_over(tmp_path, invoke, monkeypatch):
    calls = []
    monkeypatch.setitem(sys.modules, "bsqcodec.training", SimpleNamespace(run=lambda *args: calls.append(args)))
    (tmp_path / "base.toml").write_text("")
    options = ("--config", tmp_path / "base.toml", "--data", tmp_path, "--out", tmp_path / "out")
    assert invoke("train", *options).exit_code == 0
    assert invoke("train", *options, "--resume").exit_code == 0
    assert calls == [(tmp_path / "base.toml", tmp_path, tmp_path / "out", resume, 1) for resume in (False, True)]
    assert invoke("train", "--config", tmp_path / "gone.toml", *options[2:]).exit_code == 2
    assert invoke("train").exit_code == 2


# --- options -------------------------------------------------------------------------------------


def test_environment_sets_options_and_the_command_line_wins(clip, tmp_path, invoke):
    env = {"BSQCODEC_KEYINT": "2", "BSQCODEC_QUIET": "1", "BSQCODEC_VERSION": "1.0"}
    result = invoke("encode", clip, tmp_path / "a.bsq", env=env)
    assert (result.exit_code, result.stderr) == (0, "")
    groups = [json.loads(invoke("info", tmp_path / "a.bsq", "--json").stdout)["group_count"]]
    invoke("encode", clip, tmp_path / "b.bsq", "--keyint", 7, env=env)
    groups.append(json.loads(invoke("info", tmp_path / "b.bsq", "--json").stdout)["group_count"])
    assert groups == [4, 1]


@pytest.mark.parametrize(
    ("options", "env", "code", "says"),
    [
        (("--gpu", 0), {}, 1, "cuda:0"),
        (("--device", "cuda:1"), {}, 1, "cuda:1"),
        (("--device", "cuda"), {}, 1, "cuda:0"),
        (("--gpu", 1, "--device", "cpu"), {}, 2, "contradict"),
        (("--gpu", 1, "--device", "cuda:1"), {}, 1, "cuda:1"),
        (("--device", "cpu"), {"BSQCODEC_GPU": "3"}, 0, ""),
        (("--gpu", 2), {"BSQCODEC_DEVICE": "cpu"}, 1, "cuda:2"),
        (("--gpu", "3,1"), {}, 1, "cuda:3"),
        (("--device", "cuda, cuda:1"), {}, 1, "cuda:0"),
        (("--gpu", "0,1", "--device", "cuda:0,cuda:1"), {}, 1, "cuda:0"),
        (("--gpu", "0,1", "--device", "cuda:0"), {}, 2, "contradict"),
        (("--gpu", "0,"), {}, 2, "such as 0,1"),
        (("--gpu", "1,1"), {}, 2, "twice"),
        (("--device", "cpu,cuda:0"), {}, 2, "only GPUs"),
        ((), {"BSQCODEC_GPU": "3"}, 1, "cuda:3"),
        (("--device", "tpu"), {}, 2, "cuda:N"),
    ],
)
def test_device(clip, tmp_path, invoke, options, env, code, says):
    result = invoke("encode", clip, tmp_path / "out.bsq", *options, env=env)
    assert result.exit_code == code
    if code:
        assert says in one_error(result.stderr)
    assert (tmp_path / "out.bsq").exists() == (code == 0)


@pytest.mark.parametrize(
    "options",
    [
        *(("--crf", 52), ("--crf", -0.1), ("--crf", "nan"), ("--crf", "x"), ("--keyint", 0), ("--keyint", 65536)),
        *(("--skip", -1), ("--limit", 0), ("--tune", "vmaf"), ("--threads", -1), ("--gpu", -1), ("--bogus",)),
        *(("-q", "-v"), ("third",)),
    ],
)
def test_usage_errors_exit_2(clip, tmp_path, invoke, options):
    result = invoke("encode", clip, tmp_path / "out.bsq", *options)
    assert result.exit_code == 2, result.stderr
    assert result.stdout == ""
    one_error(result.stderr)
    assert files(tmp_path) == {"in.y4m"}


def test_usage_errors_of_the_tool():
    for args in ((), ("transmogrify",), ("encode",)):
        assert run(*args).returncode == 2
    assert "transmogrify" in one_error(run("transmogrify").stderr.decode())


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_json_and_data_do_not_share_stdout(clip, stream, invoke, command):
    result = invoke(command, clip if command == "encode" else stream, "-", "--json")
    assert result.exit_code == 2
    assert "standard output" in one_error(result.stderr)


def test_tune_without_weights(clip, tmp_path, invoke):
    result = invoke("encode", clip, tmp_path / "out.bsq", "--tune", "ms-ssim")
    assert result.exit_code == 2
    assert "no weights" in one_error(result.stderr)


def test_verbosity(clip, tmp_path, invoke):
    quiet = invoke("encode", clip, tmp_path / "a.bsq", "-q")
    normal = invoke("encode", clip, tmp_path / "b.bsq")
    details = invoke("encode", clip, tmp_path / "c.bsq", "-v")
    assert quiet.stderr == ""
    assert "model:" not in normal.stderr
    assert "model: fake" in details.stderr
    assert "tokens/1" in details.stderr


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_option_has_its_variable(name, monkeypatch):
    """BSQCODEC_ and the long name in capitals, whatever the parameter is called in the code."""
    command = cli.commands[name]
    context = click.Context(command, **command.context_settings)
    options = [option for option in command.params if isinstance(option, click.Option)]
    for option in options:
        variable = "BSQCODEC_" + max(option.opts, key=len).lstrip("-").replace("-", "_").upper()
        monkeypatch.setenv(variable, "set")
        assert option.resolve_envvar_value(context) == "set", variable
        assert variable == manual.variable(option)
    assert options or name == "completions"


def terminal_output(*args: object, **env: str) -> bytes:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    process = started(*args, env={"TERM": "xterm-256color", **env}, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # how Linux says that the other side is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    process.wait(timeout=30)
    return shown


@pytest.mark.parametrize("args", [("--help",), ("encode", "-h"), ("encode", "gone.mp4", "a.bsq"), ("frobnicate",)])
def test_no_color(args, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    colour = rb"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9\d|10[0-7])(?:;\d+)*m"
    if "-h" in args[-1]:
        assert re.search(colour, terminal_output(*args))
    assert not re.search(colour, terminal_output(*args, NO_COLOR="1"))


# --- endings -------------------------------------------------------------------------------------


def test_bad_inputs_exit_1_and_leave_nothing(tmp_path, invoke):
    (tmp_path / "text.mp4").write_text("this is not a video\n" * 50)
    (tmp_path / "empty.mp4").write_bytes(b"")
    before = files(tmp_path)
    for name in ("text.mp4", "empty.mp4", "gone.mp4", "."):
        result = invoke("encode", tmp_path / name, tmp_path / "out.bsq")
        assert result.exit_code == 1, name
        assert str(tmp_path) in one_error(result.stderr)
    assert files(tmp_path) == before


def test_output_errors(clip, tmp_path, invoke):
    (tmp_path / "old.bsq").write_bytes(b"old")
    for out, code in ((tmp_path / "old.bsq", 1), (clip, 2), (tmp_path / "no" / "out.bsq", 1), (tmp_path, 1)):
        result = invoke("encode", clip, out)
        assert result.exit_code == code
        assert str(out) in one_error(result.stderr)
    assert invoke("encode", clip, tmp_path / "old.bsq", "-y").exit_code == 0
    assert (tmp_path / "old.bsq").read_bytes() != b"old"


def test_broken_streams(stream, tmp_path, invoke):
    good = stream.read_bytes()
    newer = good[:8] + b"\x09" + good[9:]
    cases = {"signature": (b"X" + good[1:], 3), "newer": (newer, 4), "cut": (good[:-40], 3), "empty": (b"", 3)}
    for name, (data, code) in cases.items():
        (tmp_path / f"{name}.bsq").write_bytes(data)
        result = invoke("decode", tmp_path / f"{name}.bsq", tmp_path / "back.y4m")
        assert result.exit_code == code, name
        assert f"{name}.bsq" in one_error(result.stderr)
    result = invoke("decode", stream, tmp_path / "back.y4m", "--weights", "other.safetensors")
    assert result.exit_code == 4
    one_error(result.stderr)
    assert not any(name.startswith("back") for name in files(tmp_path))


def test_verify_failure_exits_1(clip, tmp_path, invoke):
    result = invoke("encode", clip, tmp_path / "out.bsq", "--verify", env={"FAKE_FLIP": "1"})
    assert result.exit_code == 1
    assert "verification failed" in one_error(result.stderr)
    assert files(tmp_path) == {"in.y4m"}


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ValueError("odd\nthing"), "ValueError: odd thing; -vv for the traceback"),
        (MemoryError(), "out of memory"),
        (EOFError("early"), "EOFError: early"),
        (OSError(5, "Input/output error", "disk.bsq"), "disk.bsq: Input/output error"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_any_exception_is_one_line(clip, tmp_path, invoke, monkeypatch, error, says):
    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr("bsqcodec.api.encode", fail)
    result = invoke("encode", clip, tmp_path / "out.bsq")
    assert result.exit_code == (130 if isinstance(error, KeyboardInterrupt) else 1)
    assert says in one_error(result.stderr)
    loud = invoke("encode", clip, tmp_path / "out.bsq", "-vv")
    assert "Traceback (most recent call last)" in loud.stderr
    assert loud.stderr.splitlines()[-1] == result.stderr.splitlines()[-1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("command", ["encode", "decode"])
def test_signals_remove_the_unfinished_file(clip, stream, tmp_path, number, code, command):
    src, out = (clip, tmp_path / "out.bsq") if command == "encode" else (stream, tmp_path / "out.mp4")
    before = files(tmp_path)
    process = started(command, src, out, "-v", env={"FAKE_DELAY": "5"}, stderr=subprocess.PIPE)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(b"model:"):  # loaded, so the unfinished file exists
            break
    assert files(tmp_path) == before | {out.name + ".part"}
    time.sleep(0.2)
    process.send_signal(number)
    _, rest = process.communicate(timeout=30)
    assert process.returncode == code
    assert len(rest.splitlines()) == 1, rest
    assert b"no output was written" in rest
    assert files(tmp_path) == before


def test_a_reader_that_leaves_ends_the_run_quietly(tmp_path):
    (tmp_path / "long.y4m").write_bytes(clips.y4m_bytes(200, 64, 64))
    assert run("encode", tmp_path / "long.y4m", tmp_path / "long.bsq").returncode == 0
    process = started("decode", tmp_path / "long.bsq", "-", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(9) == b"YUV4MPEG2"
    process.stdout.close()
    assert process.stderr is not None
    talk = process.stderr.read().decode()
    assert process.wait(timeout=30) == 1
    assert "rror" not in talk
    assert "Traceback" not in talk


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk_is_one_line(clip):
    done = run("encode", clip, "/dev/full")
    assert done.returncode == 1
    assert "/dev/full: No space left" in one_error(done.stderr.decode())


# --- progress ------------------------------------------------------------------------------------


def test_progress_line():
    progress = Progress(30, 120, 10.0, 3.0, 50_000, 333.3, 200_000, 30.0)
    assert describe(progress) == "30/120 frames, 25%, 3 fps, 333 kbit/s, 200 kB expected, ETA 0:30"
    assert describe(Progress(30, None, 10.0, 3.0)) == "30 frames, 3 fps"
    assert [clock(s) for s in (0, 62, 3723)] == ["0:00", "1:02", "1:02:03"]
    assert [size_text(n) for n in (5, 1234, 56_700_000, 2e9)] == ["5 B", "1.23 kB", "56.7 MB", "2 GB"]


def test_plain_lines_without_a_terminal(clip, tmp_path, invoke, monkeypatch):
    monkeypatch.setattr("bsqcodec.cli.display.LINE_INTERVAL", 0.0)
    result = invoke("encode", clip, tmp_path / "out.bsq")
    lines = [line for line in result.stderr.splitlines() if line.startswith("encoded ")]
    assert len(lines) == clips.FRAMES + 1
    assert lines[0].startswith("encoded 1")
    assert re.fullmatch(r"encoded 7/7 frames, 100%, .* fps, .* kbit/s, .* expected, ETA 0:00", lines[-1])
    assert "\x1b" not in result.stderr


def test_a_bar_on_a_terminal(clip, tmp_path):
    ours, theirs = pty.openpty()
    process = started("encode", clip, tmp_path / "out.bsq", env={"FAKE_DELAY": "0.1", "TERM": "xterm"}, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # how Linux says that the other side is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.wait(timeout=30) == 0
    assert b"\x1b[" in shown
    assert re.search(rb"[1-7](/7)? frames, .* fps", shown)
    assert "7 frames in 1 groups" in shown.decode()
