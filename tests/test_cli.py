"""The command line: what it prints, its exit codes, and that nothing half-written is left."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import DIGITS
from processes import Lines, hear_interrupts, run, running, started, until

from dlpack.bundle.loader import load, read_kernels
from dlpack.cli import cli
from dlpack.errors import UsageError

STAGES = ["read", "clean", "reference", "compile", "emit", "toolchain", "verify"]


def dlpack(*arguments: str | Path) -> Result:
    """Runs the command in this process; a bug shows as its exception."""
    result = CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="dlpack")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "dlpack.cli", *map(str, arguments)]


def left_in(folder: Path) -> list[str]:
    """All that lies in a folder, hidden files too."""
    return sorted(p.name for p in folder.iterdir())


# --- help and listing -------------------------------------------------------------------------------------------------


def test_help_is_quick_to_come() -> None:
    """--help loads neither TVM nor onnx nor numpy."""
    code = (
        "import sys; from dlpack.cli import cli\n"
        "try: cli(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'tvm', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = run([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
    for name in ("build", "inspect", "verify", "bench", "targets"):
        assert name in done.stdout


def test_every_command_has_help() -> None:
    for name in cli.commands:
        result = dlpack(name, "--help")
        assert result.exit_code == 0
        assert result.output.startswith(f"Usage: dlpack {name}")


def test_targets_are_listed_with_what_is_missing() -> None:
    rows = {row["name"]: row for row in json.loads(dlpack("targets", "--json").stdout)}
    assert rows["native"]["missing"] is None and rows["native"]["runs_here"]
    assert rows.keys() >= {"native", "source", "x86-64-v3", "x86-64-v4", "linux-arm64"}
    assert "native" in dlpack("targets").stdout


def test_what_is_wrong_is_said_before_the_model_is_read(tmp_path: Path) -> None:
    for wrong in ("cortex-m --core m5", "source --machine neon64"):
        told = dlpack("build", DIGITS, "-o", tmp_path / "b", "--target", *wrong.split()).stderr
        assert told.startswith("error: --") and "unknown" in told
    told = dlpack("build", tmp_path / "No Such.onnx", "-o", tmp_path / "b").stderr
    assert told.startswith("error:") and "no such file" in told
    told = dlpack("export", DIGITS, "-o", tmp_path / "x.onnx").stderr
    assert "this is an ONNX model already" in told and "Caffe" not in told


def test_one_target_is_told_whole() -> None:
    told = dlpack("targets", "android").stdout
    assert "neon_i8mm" in told and "--android-weights" in told
    assert json.loads(dlpack("targets", "android", "--json").stdout)["name"] == "android"
    assert "did you mean 'android'" in dlpack("targets", "androit").output


def test_what_to_install_keeps_its_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name in brackets is an extra of a package, and no markup of the terminal's."""
    monkeypatch.setattr("dlpack.targets.gpu.nvrtc._library_path", lambda: None)
    for command in (("targets", "cuda"), ("targets", "jetson-tx1"), ("doctor",)):
        assert "dlpack-aot[cuda]" in dlpack(*command).stdout
    assert "in part: install" in dlpack("targets", "jetson-tx1").stdout
    (found,) = (t for t in json.loads(dlpack("doctor", "--json").stdout)["targets"] if t["target"] == "jetson-tx1")
    assert found["missing"] is None and "--cores-only" in found["limited"]


def test_doctor_names_every_emulator() -> None:
    tools = {t["tool"]: t["purpose"] for t in json.loads(dlpack("doctor", "--json").stdout)["tools"]}
    assert "rv32" in tools["qemu-riscv32"] and "windows" in tools["wine"] and "cortex-m" in tools["qemu-system-arm"]


# --- build ------------------------------------------------------------------------------------------------------------


def test_build_prints_a_line_per_stage(tmp_path: Path) -> None:
    """Where stderr is no terminal: plain lines with the seconds; stdout tells where the bundle is."""
    result = dlpack("build", DIGITS, "-o", tmp_path / "digits")
    assert result.exit_code == 0
    *lines, after = result.stderr.splitlines()
    assert after == f"next: dlpack run {tmp_path / 'digits'}"
    assert [line.split()[0] for line in lines] == STAGES
    assert all(re.fullmatch(r"\w+ +\d+\.\d\d s  .*", line) for line in lines)
    assert "\x1b" not in result.output
    assert result.stdout == f"{tmp_path / 'digits'} is ready for native\n"
    assert left_in(tmp_path) == ["digits"]


def test_build_json_is_a_line_per_event(tmp_path: Path) -> None:
    result = dlpack("build", DIGITS, "-o", tmp_path / "x", "--target", "source", "--json")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [e["stage"] for e in events[:-1]] == [s for s in STAGES if s != "toolchain"]
    assert all(e["seconds"] >= 0 for e in events[:-1])
    assert events[-1] == {"bundle": str(tmp_path / "x"), "target": "source"}
    assert result.stderr == ""


def test_two_targets_make_two_bundles(tmp_path: Path) -> None:
    result = dlpack("build", DIGITS, "-o", tmp_path, "--target", "source", "--target", "linux-arm64")
    assert result.exit_code == 0
    assert left_in(tmp_path) == ["linux-arm64", "source"]
    report = (tmp_path / "linux-arm64" / "report.html").read_text()
    where = json.loads((tmp_path / "linux-arm64" / "manifest.json").read_text())["verified_on"]
    assert ("On QEMU&#x27;s Cortex-A57" if where else "Not run on this machine") in report


def test_labels_go_into_the_manifest(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("none\none\n\ntwo\n")
    assert dlpack("build", DIGITS, "-o", tmp_path / "x", "--target", "source", "--labels", labels).exit_code == 0
    assert json.loads((tmp_path / "x" / "manifest.json").read_text())["labels"] == ["none", "one", "two"]


@pytest.mark.parametrize(("count", "warned"), [(9, True), (10, False), (11, True)])
def test_labels_that_fit_no_output_are_told(tmp_path: Path, count: int, warned: bool) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"class {k}\n" for k in range(count)))
    done = dlpack("build", DIGITS, "-o", tmp_path / "x", "--target", "source", "--labels", labels)
    text = f"there are {count} labels, but no output has as many classes (probability 1x10): check the labels"
    assert done.exit_code == 0 and (text in done.output) == warned


# --- errors -----------------------------------------------------------------------------------------------------------


def fails(tmp_path: Path, code: int, *arguments: str | Path) -> str:
    """The message of a build that has to fail with this exit code and leave nothing, not even the parent folder."""
    where = tmp_path / "made" / "for" / "it"
    before = left_in(tmp_path)
    result = dlpack("build", *arguments, "-o", where)
    assert result.exit_code == code, result.output
    assert left_in(tmp_path) == before
    message = result.stderr
    assert "Traceback" not in message
    as_json = [json.loads(x) for x in dlpack("build", *arguments, "-o", where, "--json").stdout.splitlines()]
    assert as_json[-1]["exit_code"] == code and as_json[-1]["error"]
    assert left_in(tmp_path) == before
    return message


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--shape", "image"], "write it as INPUT=1x3x224x224"),
        (["--shape", "image=1xtwo"], "write it as INPUT=1x3x224x224"),
        (["--shape", "image=1x-1x8x8"], "write it as INPUT=1x3x224x224"),
        (["--shape", "image=1x1x9x9"], "fixes that input to"),
        (["--shape", "picture=1x1x8x8"], "it has 'image'"),
        (["--shape", "image=1x1x8x8", "--shape", "image=1x1x8x8"], "twice"),
        (["--target", "toaster"], "unknown target 'toaster'"),
        (["--labels", "no-such-file.txt"], "no-such-file.txt"),
        (["--labels", os.devnull], "is empty"),
    ],
)
def test_usage_errors_exit_with_2(tmp_path: Path, arguments: list[str], told: str) -> None:
    assert told in fails(tmp_path, 2, DIGITS, *arguments)


def test_a_missing_model_exits_with_2(tmp_path: Path) -> None:
    assert "no such file" in fails(tmp_path, 2, tmp_path / "absent.onnx")


def test_unknown_options_exit_with_2() -> None:
    assert dlpack("build", DIGITS, "--frobnicate").exit_code == 2
    assert dlpack("frobnicate").exit_code == 2


def test_an_output_folder_that_is_no_bundle_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("dear reader")
    result = dlpack("build", DIGITS, "-o", tmp_path / "letters")
    assert result.exit_code == 2 and "not a bundle" in result.stderr
    assert left_in(tmp_path) == ["letters"] and left_in(tmp_path / "letters") == ["letter.txt"]
    result = dlpack("build", DIGITS, "-o", tmp_path / "letters" / "letter.txt")
    assert result.exit_code == 2 and "is not a folder" in result.stderr


@pytest.mark.parametrize("data", [b"", b"not a model at all", b"\x08\x09\x3a\xff\xff\xff\xff\x07"])
def test_a_file_that_is_not_onnx_exits_with_3(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(data)
    assert "model.onnx" in fails(tmp_path, 3, tmp_path / "model.onnx")


def test_a_damaged_archive_exits_with_2(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"PK\x03\x04 a zip file")
    assert "a zip archive that is cut off or damaged" in fails(tmp_path, 2, tmp_path / "model.onnx")


def test_all_unsupported_nodes_are_listed_at_once(tmp_path: Path, model_files: dict[str, Path]) -> None:
    message = fails(tmp_path, 3, model_files["unsupported_net"])
    for node, operator in (("first", "Frobnicate"), ("second", "Grommet"), ("third", "Frobnicate")):
        assert any(f"'{node}'" in line and operator in line for line in message.splitlines()), message
    assert "'fine'" not in message


def test_a_compiler_that_is_not_there_exits_with_4(tmp_path: Path) -> None:
    assert "'no-such-compiler' was not found" in fails(tmp_path, 4, DIGITS, "--cc", "no-such-compiler -O3")


def test_a_compiler_that_fails_exits_with_4(tmp_path: Path) -> None:
    assert "the compiler failed" in fails(tmp_path, 4, DIGITS, "--cc", "false")


def test_a_wrong_predictor_exits_with_1_and_makes_no_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlpack.verify import run

    honest = run._outputs
    monkeypatch.setattr(run, "_outputs", lambda *a: {n: x + 0.01 for n, x in honest(*a).items()})
    assert "probability: relative error" in fails(tmp_path, 1, DIGITS)


def test_a_failed_build_leaves_the_old_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = tmp_path / "digits"
    assert dlpack("build", DIGITS, "-o", where, "--target", "source").exit_code == 0
    before = {p.name: p.read_bytes() for p in where.iterdir()}
    assert dlpack("build", DIGITS, "-o", where, "--cc", "false").exit_code == 4

    def replace(source: Path, target: Path, honest=os.replace) -> None:  # os.replace has no short type
        if Path(target) == where and "-old" not in Path(source).name:
            raise OSError(5, "Input/output error")
        honest(source, target)

    monkeypatch.setattr(os, "replace", replace)
    assert dlpack("build", DIGITS, "-o", where, "--target", "source").exit_code == 2
    assert {p.name: p.read_bytes() for p in where.iterdir()} == before
    assert left_in(tmp_path) == ["digits"]


# --- interruption and bad disks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage, number", [("read", signal.SIGINT), ("emit", signal.SIGINT), ("emit", signal.SIGTERM)])
def test_an_interrupted_build_leaves_nothing(tmp_path: Path, stage: str, number: signal.Signals) -> None:
    """Ctrl-C (or kill) after `stage`: exit code 130, and neither the bundle nor temporary folders."""
    words = command("build", DIGITS, "-o", tmp_path / "deep" / "digits")
    with started(words, stderr=subprocess.PIPE, text=True, preexec_fn=hear_interrupts) as process:
        lines = Lines(process.stderr)
        told = [lines.next(120)]
        while told[-1] and not told[-1].startswith(stage):
            told.append(lines.next(120))
        process.send_signal(number)
        while told[-1]:
            told.append(lines.next(60))
        message = "".join(line or "" for line in told)
        assert process.wait(timeout=60) == 130, message
    assert "interrupted" in message and "Traceback" not in message
    time.sleep(0.3)  # for a compiler that lived on
    assert left_in(tmp_path) == []


def test_an_interrupt_inside_exec_has_the_same_exit_code(tmp_path: Path) -> None:
    """There modules make their dataclasses while they are imported; of `python -m` CPython then ends by the signal."""
    (tmp_path / "main.py").write_text(
        "from unittest.mock import patch\n"
        "from dlpack import cli\n"
        "def interrupted(*args, **options): exec('raise KeyboardInterrupt')\n"
        "with patch('dlpack.pipeline.build_each', interrupted): cli.main()\n"
    )
    words = [sys.executable, "-m", "main", "build", str(DIGITS)]
    done = run(words, cwd=tmp_path)
    assert done.returncode == 130 and "interrupted" in done.stderr


def test_an_interrupt_ends_all_of_the_compiler(tmp_path: Path) -> None:
    """Also a process that the compiler started and that would write the library later."""
    script, began = tmp_path / "cc", tmp_path / "began"
    script.write_text(
        f"#!/bin/sh\n(sleep 600; touch {tmp_path}/late) &\necho $! >{began}.new\nmv {began}.new {began}\nwait\n"
    )
    script.chmod(0o755)
    words = command("build", DIGITS, "-o", tmp_path / "digits", "--cc", script)
    with started(words, stderr=subprocess.DEVNULL, preexec_fn=hear_interrupts) as process:
        until(began.exists, "the compiler's start", 120)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        late = int(began.read_text())
        until(lambda: not running(late), "the end of what the compiler started", 10)
    began.unlink()
    assert left_in(tmp_path) == ["cc"]


def test_an_unwritable_output_folder_exits_with_2(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = dlpack("build", DIGITS, "-o", tmp_path / "file" / "digits")
    assert result.exit_code == 2 and "cannot write in" in result.stderr
    assert left_in(tmp_path) == ["file"]


def test_a_read_only_output_folder_exits_with_2(tmp_path: Path) -> None:
    folder = Path("/proc") if os.geteuid() == 0 and sys.platform == "linux" else tmp_path / "locked"
    if folder.parent == tmp_path:
        folder.mkdir(mode=0o555)
    result = dlpack("build", DIGITS, "-o", folder / "digits")
    assert result.exit_code == 2 and "cannot write in" in result.stderr


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A disk of `request.param` KiB; mounting one needs root."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={request.param}k", "none", str(disk)]
    if not shutil.which("mount") or run(mount).returncode:
        pytest.skip("mounting is not permitted here; test_a_file_size_limit_exits_with_2 stands for this one")
    try:
        yield disk
    finally:
        run(["umount", disk], check=True)


@pytest.mark.parametrize("small_disk", [64, 400], indirect=True, ids=["in the .cc", "in the library"])
def test_a_full_disk_exits_with_2(small_disk: Path) -> None:
    result = dlpack("build", DIGITS, "-o", small_disk / "digits")
    assert result.exit_code == 2, result.output
    assert "No space left" in result.stderr
    assert left_in(small_disk) == []


def test_a_file_size_limit_exits_with_2(tmp_path: Path) -> None:
    """Writing fails in the middle of a file, as on a full disk."""
    done = run(
        command("build", DIGITS, "-o", tmp_path / "digits", "--target", "source"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert done.returncode == 2, done.stderr
    assert "cannot write" in done.stderr and "Traceback" not in done.stderr
    assert left_in(tmp_path) == []


# --- inspect, verify, bench -------------------------------------------------------------------------------------------


def test_inspect_shows_a_model() -> None:
    facts = json.loads(dlpack("inspect", DIGITS, "--json").stdout)
    assert facts["inputs"] == [{"name": "image", "dtype": "float32", "shape": [1, 1, 8, 8]}]
    assert facts["outputs"] == [{"name": "probability", "dtype": "float32", "shape": [1, 10]}]
    assert {"operator": "Conv", "count": 2, "supported": True} in facts["operators"]
    assert (facts["opset"], facts["macs"]) == ("ai.onnx opset 17", 66600)
    text = dlpack("inspect", DIGITS).stdout
    assert "1 x 1 x 8 x 8" in text and "66,600" in text


def test_inspect_shows_a_bundle(digits: Path) -> None:
    facts = json.loads(dlpack("inspect", digits, "--json").stdout)
    manifest = json.loads((digits / "manifest.json").read_text())
    assert facts["inputs"] == manifest["inputs"] and facts["target"] == "native"
    assert facts["kernels"] == len(read_kernels(digits))
    assert facts["arena_lower_bound"] <= facts["arena_bytes"] <= facts["arena_naive"]
    assert "arena lower bound" in dlpack("inspect", digits).stdout
    assert dlpack("inspect", digits, "--shape", "image=1x1x8x8").exit_code == 2


def test_inspect_lists_what_cannot_be_compiled(model_files: dict[str, Path]) -> None:
    """What stops a build is a row here, and the exit code is 0."""
    result = dlpack("inspect", model_files["unsupported_net"], "--json")
    assert result.exit_code == 0
    rows = {r["operator"]: (r["count"], r["supported"]) for r in json.loads(result.stdout)["operators"]}
    assert rows == {"com.example.Frobnicate": (2, False), "com.example.Grommet": (1, False), "Relu": (1, True)}


def test_inspect_shows_open_dimensions(tmp_path: Path) -> None:
    import nets
    import onnx
    from onnx import helper

    net = nets.model([helper.make_node("Relu", ["x"], ["y"])], {"x": ("batch", 4)}, {"y": ("batch", 4)})
    onnx.save(net, tmp_path / "open.onnx")
    facts = json.loads(dlpack("inspect", tmp_path / "open.onnx", "--json").stdout)
    assert facts["inputs"][0]["shape"] == ["batch", 4] and "macs" not in facts
    facts = json.loads(dlpack("inspect", tmp_path / "open.onnx", "--shape", "x=3x4", "--json").stdout)
    assert facts["inputs"][0]["shape"] == facts["outputs"][0]["shape"] == [3, 4]


def test_an_open_batch_is_one_and_that_is_said() -> None:
    import nets
    from onnx import helper

    from dlpack.source import close_batch

    for dim, taken in (("batch", True), ("s0", True), ("steps", False)):
        net = nets.model([helper.make_node("Relu", ["x"], ["y"])], {"x": (dim, 4)}, {"y": (dim, 4)})
        assert close_batch(net, {"x": (3, 4)}) == ()
        assert bool(close_batch(net, {})) == taken
        assert net.graph.input[0].type.tensor_type.shape.dim[0].dim_value == taken
    for dims, bucketed, taken in ((("batch", "n"), "x", True), (("batch", "n"), "", False), (("batch", 4), "x", False)):
        net = nets.model([helper.make_node("Relu", ["x"], ["y"])], {"x": dims}, {"y": dims})
        assert bool(close_batch(net, {}, bucketed)) == taken


@pytest.mark.parametrize("arguments", [[], ["--model", DIGITS]])
def test_verify_shows_the_errors_per_output(digits: Path, arguments: list[str | Path]) -> None:
    """Against the outputs stored in the bundle, and against onnxruntime run again."""
    result = dlpack("verify", digits, *arguments, "--json")
    assert result.exit_code == 0
    (row,) = json.loads(result.stdout)
    assert row["name"] == "probability" and row["passed"] and row["relative"] < 1e-4
    assert "probability" in dlpack("verify", digits, *arguments).stdout


def test_verify_exits_with_1_when_an_output_differs(tmp_path: Path, digits: Path) -> None:
    bundle = shutil.copytree(digits, tmp_path / "digits")
    with np.load(bundle / "reference.npz") as stored:
        arrays = dict(stored)
    arrays["out_0"] = arrays["out_0"] + np.float32(1e-3)
    np.savez(bundle / "reference.npz", **arrays)
    result = dlpack("verify", bundle)
    assert result.exit_code == 1 and "reference.npz has changed since the build" in result.stderr.replace("\n", " ")
    manifest = json.loads((bundle / "manifest.json").read_text())
    del manifest["files"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    result = dlpack("verify", bundle)
    assert result.exit_code == 1 and "wrong" in result.stdout


@pytest.mark.parametrize("name", ["verify", "bench", "inspect"])
def test_a_folder_that_is_no_bundle_exits_with_2(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    result = dlpack(name, tmp_path / "empty")
    assert result.exit_code == 2 and "is not a bundle" in result.stderr
    (tmp_path / "manifest.json").write_text("[]")
    assert dlpack(name, tmp_path).exit_code == 2


def test_a_bundle_that_nothing_here_runs_is_told_so(tmp_path: Path) -> None:
    built = dlpack("build", DIGITS, "-o", tmp_path / "x", "--target", "macos")
    assert built.exit_code == 0 and "compiled but not run: nothing here runs target macos" in built.stderr
    result = dlpack("verify", tmp_path / "x")
    assert result.exit_code == 4 and "cannot be run on this computer: nothing here runs target macos" in result.stderr
    with pytest.raises(UsageError):
        load(tmp_path / "x")


def test_bench_times_calls_and_kernels(digits: Path) -> None:
    result = dlpack("bench", digits, "--vs", "onnxruntime", "--model", DIGITS, "--rounds", "3", "--json")
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert [row["name"] for row in facts["runs"]] == ["dlpack", "onnxruntime"]
    assert all(0 < row["minimum_ms"] <= row["median_ms"] for row in facts["runs"])
    assert facts["ratios"]["onnxruntime"] > 0
    names = {row["name"] for row in facts["kernels"]}
    assert names >= {k["name"] for k in read_kernels(digits)}
    assert sum(row["share"] for row in facts["kernels"]) == pytest.approx(1)
    both = dlpack("bench", digits, "--rounds", "2", "--compare", digits).stdout
    assert "CPU ms" in both and f"ratio to {digits}: " in both


def test_bench_against_onnxruntime_needs_the_model(digits: Path) -> None:
    assert dlpack("bench", digits, "--vs", "onnxruntime").exit_code == 2
    assert dlpack("bench", digits, "--rounds", "0").exit_code == 2
