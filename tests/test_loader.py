"""dlpack.load: what a predictor accepts, what it refuses, and how long its memory lives."""

from __future__ import annotations

import array
import gc
import json
import os
import platform
import shutil
import signal
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nets
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from conftest import DIGITS
from onnx import helper

import dlpack
from dlpack.bundle.foreign import this_computer
from dlpack.bundle.loader import read_manifest
from dlpack.cli import cli
from dlpack.errors import ToolchainError, UsageError
from dlpack.pipeline import build
from dlpack.targets import get_target
from dlpack.verify.check import verify_bundle

SHAPE = (1, 1, 8, 8)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).random(SHAPE, np.float32)


@pytest.fixture(scope="module")
def expected(image: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(DIGITS.read_bytes(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


class OnlyDLPack:
    """What a framework's tensor shows of itself: the DLPack protocol and nothing else."""

    def __init__(self, value: np.ndarray) -> None:
        self._value = value

    def __dlpack__(self, **options: Any) -> Any:
        return self._value.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._value.__dlpack_device__()


def test_inputs_and_outputs_are_described(digits: Path) -> None:
    with dlpack.load(digits) as p:
        assert p.name == "digits"
        assert p.inputs == {"image": ("float32", SHAPE)}
        assert p.outputs == {"probability": ("float32", (1, 10))}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        OnlyDLPack,
        lambda x: memoryview(x),
        lambda x: memoryview(array.array("f", x.ravel().tolist())).cast("B").cast("f", SHAPE),
        lambda x: np.asfortranarray(x.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2),
        lambda x: np.repeat(x, 2, axis=3)[..., ::2],
    ],
    ids=["numpy", "__dlpack__", "memoryview", "array.array", "other strides", "a step"],
)
def test_anything_that_holds_the_values_is_accepted(
    digits: Path, image: np.ndarray, expected: np.ndarray, wrap: Callable[[np.ndarray], Any]
) -> None:
    with dlpack.load(digits) as p:
        np.testing.assert_allclose(p.run({"image": wrap(image)})["probability"], expected, atol=1e-5)
        np.testing.assert_allclose(p({"image": wrap(image)})["probability"], expected, atol=1e-5)


def test_misaligned_memory_is_accepted(digits: Path, image: np.ndarray, expected: np.ndarray) -> None:
    raw = np.zeros(image.nbytes + 1, np.uint8)
    crooked = raw[1:].view(np.float32).reshape(SHAPE)
    crooked[...] = image
    with dlpack.load(digits) as p:
        np.testing.assert_allclose(p.run({"image": crooked})["probability"], expected, atol=1e-5)


@pytest.mark.parametrize(
    "inputs, told",
    [
        ({}, "'image' is missing"),
        ({"image": np.zeros(SHAPE, np.float32), "mask": np.zeros(1)}, "unknown input 'mask'"),
        ({"image": np.zeros((1, 8, 8), np.float32)}, r"of shape \(1, 8, 8\); the model expects float32"),
        ({"image": np.zeros((8, 8, 1, 1), np.float32)}, "of shape"),
        ({"image": np.zeros(SHAPE, np.float64)}, "is float64"),
        ({"image": np.zeros(SHAPE, np.int32)}, "is int32"),
        ({"image": np.zeros(SHAPE, np.dtype(np.float32).newbyteorder())}, "foreign byte order"),
        ({"image": bytes(256)}, "is uint8"),
    ],
)
def test_wrong_inputs_raise_value_error(digits: Path, inputs: dict[str, Any], told: str) -> None:
    with dlpack.load(digits) as p, pytest.raises(ValueError, match=told):
        p.run(inputs)


def test_what_is_no_array_raises_type_error(digits: Path) -> None:
    with dlpack.load(digits) as p:
        with pytest.raises(TypeError, match="'image' is a list"):
            p.run({"image": [[[[0.0] * 8] * 8]]})
        with pytest.raises(TypeError, match=r"a mapping of names to arrays, \{.image.: ...\}, not ndarray"):
            p.run(np.zeros(SHAPE, np.float32))  # type: ignore[arg-type]


def test_a_refused_input_leaves_the_predictor_usable(digits: Path, image: np.ndarray, expected: np.ndarray) -> None:
    with dlpack.load(digits) as p:
        with pytest.raises(ValueError):
            p.run({"image": image[0]})
        np.testing.assert_allclose(p.run({"image": image})["probability"], expected, atol=1e-5)


def test_inputs_are_read_where_they_are(digits: Path, image: np.ndarray, expected: np.ndarray) -> None:
    """Bound once, computed after the caller has changed the values: no copy was made."""
    mine = np.zeros_like(image)
    with dlpack.load(digits) as p:
        p.bind({"image": mine})
        p.compute()
        mine[...] = image
        result = p.run({"image": mine})["probability"].copy()
        mine[...] = 0
        mine[...] = image
        p.compute()
        np.testing.assert_array_equal(p._output(0, "float32", (1, 10)), result)
        np.testing.assert_allclose(result, expected, atol=1e-5)
        for wrapped in (OnlyDLPack(mine), memoryview(mine)):
            p.bind({"image": wrapped})
            mine[...] = 0
            p.compute()
            zero = p._output(0, "float32", (1, 10)).copy()
            mine[...] = image
            p.compute()
            np.testing.assert_allclose(p._output(0, "float32", (1, 10)), expected, atol=1e-5)
            assert not np.allclose(zero, expected, atol=1e-3)


def test_a_bound_input_is_kept_alive(digits: Path, image: np.ndarray, expected: np.ndarray) -> None:
    with dlpack.load(digits) as p:
        p.bind({"image": image.copy()})
        gc.collect()
        p.compute()
        np.testing.assert_allclose(p._output(0, "float32", (1, 10)), expected, atol=1e-5)


def test_outputs_are_new_arrays(digits: Path, image: np.ndarray) -> None:
    with dlpack.load(digits) as p:
        images = [image, np.zeros_like(image), 2 * image]
        kept = [p.run({"image": x})["probability"] for x in images]
        for x, y in zip(images, kept, strict=True):
            np.testing.assert_array_equal(p.run({"image": x})["probability"], y)
        assert not np.array_equal(kept[0], kept[1])


def test_outputs_are_views_until_the_next_run_where_one_asks_for_it(digits: Path, image: np.ndarray) -> None:
    with dlpack.load(digits) as p:
        first = p.run({"image": image}, copy=False)["probability"]
        kept = first.copy()
        second = p.run({"image": np.zeros_like(image)}, copy=False)["probability"]
        assert np.shares_memory(first, second) and not np.array_equal(first, kept)


def test_outputs_go_where_one_wants_them(digits: Path, image: np.ndarray, expected: np.ndarray) -> None:
    mine = np.zeros((1, 10), np.float32)
    with dlpack.load(digits) as p:
        p.bind_outputs({"probability": mine})
        assert p.run({"image": image})["probability"] is mine
        np.testing.assert_allclose(mine, expected, atol=1e-5)
        p.bind_outputs({"probability": None})
        mine[...] = 0
        result = p.run({"image": image})["probability"]
        np.testing.assert_allclose(result, expected, atol=1e-5)
        assert not mine.any()


@pytest.mark.parametrize(
    "name, value, told",
    [
        ("score", np.zeros((1, 10), np.float32), "unknown output 'score'"),
        ("probability", np.zeros(10, np.float32), r"float32 \(1, 10\), not float32 \(10,\)"),
        ("probability", np.zeros((1, 10)), "float64"),
        ("probability", np.zeros((1, 20), np.float32)[:, ::2], "contiguous"),
        ("probability", np.frombuffer(bytes(40), np.float32).reshape(1, 10), "writable"),
    ],
)
def test_an_array_that_does_not_fit_an_output_is_refused(digits: Path, name: str, value: Any, told: str) -> None:
    with dlpack.load(digits) as p, pytest.raises(ValueError, match=told):
        p.bind_outputs({name: value})


def test_threads_may_share_a_predictor(digits: Path) -> None:
    """A call is one whole: nobody else's input gets between an input and its output."""
    images = np.random.default_rng(1).random((8, *SHAPE), np.float32)
    wrong: list[int] = []
    with dlpack.load(digits) as p:
        want = [p.run({"image": x})["probability"] for x in images]

        def work(k: int) -> None:
            for _ in range(300):
                if not np.array_equal(p.run({"image": images[k]})["probability"], want[k]):
                    wrong.append(k)

        threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert wrong == []


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64", "aarch64", "arm64"), reason="no such mode")
def test_denormals_are_flushed_where_one_asks_for_it(tmp_path: Path) -> None:
    """In the runs and nowhere else."""
    graph = nets.model([helper.make_node("Mul", ["x", "x"], ["y"])], {"x": (37,)}, {"y": (37,)}, {})
    onnx.save(graph, tmp_path / "square.onnx")
    x = np.full(37, 1e-20, np.float32)
    with dlpack.load(build(tmp_path / "square.onnx", tmp_path / "square")) as p:
        denormal = p.run({"x": x})["y"]
        assert (denormal > 0).all() and (denormal < np.finfo(np.float32).tiny).all()
        p.set_flush_denormals()
        assert (p.run({"x": x})["y"] == 0).all()
        np.testing.assert_array_equal(x * x, denormal)
        for k in range(len(p.steps)):
            p.run_step(k)
        assert (p._output(0, "float32", (37,)) == 0).all()
        p.set_flush_denormals(False)
        np.testing.assert_array_equal(p.run({"x": x})["y"], denormal)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_lock_held_at_a_fork_does_not_stop_the_new_process(
    digits: Path, image: np.ndarray, expected: np.ndarray
) -> None:
    with dlpack.load(digits) as p:
        held, go = threading.Event(), threading.Event()

        def hold() -> None:
            with p._lock:
                held.set()
                go.wait()

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        assert (
            exit_status(lambda: np.testing.assert_allclose(p.run({"image": image})["probability"], expected, 1e-3)) == 0
        )
        go.set()
        holder.join()


def exit_status(work: Callable[[], Any], seconds: float = 120) -> int | None:
    """How a new process ends that does `work`; None where it has not ended after so many seconds."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def test_two_predictors_side_by_side(digits: Path, image: np.ndarray, expected: np.ndarray) -> None:
    with dlpack.load(digits) as a, dlpack.load(digits) as b:
        mine = a.run({"image": image})["probability"]
        b.run({"image": np.zeros_like(image)})
        np.testing.assert_allclose(mine, expected, atol=1e-5)


def test_a_predictor_per_thread(digits: Path) -> None:
    """Eight threads with a predictor each give what one gives."""
    images = np.random.default_rng(1).random((8, *SHAPE), np.float32)
    with dlpack.load(digits) as p:
        want = [p.run({"image": x})["probability"].copy() for x in images]
    wrong: list[int] = []

    def work(k: int) -> None:
        with dlpack.load(digits) as p:
            for _ in range(200):
                if not np.array_equal(p.run({"image": images[k]})["probability"], want[k]):
                    wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


def test_use_after_close_raises(digits: Path, image: np.ndarray) -> None:
    p = dlpack.load(digits)
    kept = p.run({"image": image})["probability"]
    before = kept.copy()
    p.close()
    p.close()
    inputs = {"image": image}
    for use, arguments in ((p.run, (inputs,)), (p.bind, (inputs,)), (p.compute, ()), (p.__enter__, ())):
        with pytest.raises(ValueError, match="is closed"):
            use(*arguments)
    assert p.run_step(0) is False
    del p, use
    gc.collect()
    np.testing.assert_array_equal(kept, before)


def test_steps_one_by_one_are_a_run(digits: Path, image: np.ndarray, expected: np.ndarray) -> None:
    with dlpack.load(digits) as p:
        p.bind({"image": image})
        assert p.steps and all(p.run_step(k) for k in range(len(p.steps)))
        assert not p.run_step(len(p.steps)) and not p.run_step(-1)
        np.testing.assert_allclose(p._output(0, "float32", (1, 10)), expected, atol=1e-5)


def test_a_bundle_built_again_is_loaded_anew(tmp_path: Path, bundles: Callable[[str], Path], digits: Path) -> None:
    """Under the path of a library that is loaded already."""
    where = tmp_path / "bundle"
    shutil.copytree(digits, where)
    old = dlpack.load(where)
    shutil.rmtree(where)
    shutil.copytree(bundles("conv_net"), where)
    library = read_manifest(where)["library"]
    (where / library).rename(where / "libdigits.so")
    manifest = (where / "manifest.json").read_text().replace(library, "libdigits.so")
    (where / "manifest.json").write_text(manifest)
    with dlpack.load(where) as new, old:
        assert new.name == "conv_net" and new.steps != old.steps


def test_what_cannot_be_loaded_is_told(tmp_path: Path, digits: Path) -> None:
    with pytest.raises(UsageError, match="is not a bundle"):
        dlpack.load(tmp_path)
    broken = shutil.copytree(digits, tmp_path / "broken")
    (broken / read_manifest(broken)["library"]).write_bytes(b"not a library")
    with pytest.raises(UsageError, match="cannot be loaded on this computer"):
        dlpack.load(broken)


LIBRARIES = {
    "macos": (b"\xcf\xfa\xed\xfe" + struct.pack("<II", 0x0100000C, 0), "macOS on 64-bit Arm"),
    "windows": (b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + struct.pack("<HH", 0xAA64, 1),
                "Windows on 64-bit Arm"),
    "linux-armhf": (b"\x7fELF\x01\x01" + bytes(12) + struct.pack("<H", 40), "Linux on 32-bit Arm"),
    "linux-riscv64": (b"\x7fELF\x02\x01" + bytes(12) + struct.pack("<H", 243), "Linux on RISC-V"),
}  # fmt: skip
"""By target the beginning of a library, and what it is for."""


@pytest.mark.parametrize("target", [*LIBRARIES, "android", "cortex-m"])
def test_a_bundle_for_another_machine_says_so(tmp_path: Path, digits: Path, target: str) -> None:
    """What it is for, that it cannot run here, and how to build one that can: in every command that runs it."""
    other = shutil.copytree(digits, tmp_path / "other")
    manifest = read_manifest(other) | {"target": target, "verified_on": ["QEMU's Pony"]}
    library = other / manifest["library"]
    if target in LIBRARIES:
        header, machine = LIBRARIES[target]
        library.write_bytes(header)
        wanted = f"is for {machine} (target {target}), and this computer is {this_computer()}: it cannot run here"
    else:
        del manifest["library"]
        wanted = f"is built for target {target} ({get_target(target).about}): it has no library that can be loaded here"
    (other / "manifest.json").write_text(json.dumps(manifest))
    for command in ("run", "bench"):
        told = CliRunner().invoke(cli, [command, str(other)])
        assert told.exit_code == 2 and wanted in told.stderr
        assert "dlpack build MODEL --target native" in told.stderr
        assert f"dlpack verify {other} runs it on QEMU's Pony" in told.stderr


def test_what_nothing_here_runs_is_not_verified(tmp_path: Path, digits: Path) -> None:
    other = shutil.copytree(digits, tmp_path / "other")
    manifest = read_manifest(other) | {"target": "macos"}
    (other / "manifest.json").write_text(json.dumps(manifest))
    if not get_target("macos").runs_here():
        with pytest.raises(ToolchainError, match=r"is for macOS .*cannot be run on this computer.*--target native"):
            verify_bundle(other)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no such pipes")
def test_a_pipe_in_place_of_the_weights_is_told(tmp_path: Path, side_file_bundle: Path) -> None:
    """Opening one that nobody writes to would block. Nor is a folder or a device a file of weights."""
    bundle = shutil.copytree(side_file_bundle, tmp_path / "bundle")
    weights = bundle / "digits.weights"
    weights.unlink()
    for make in (lambda: os.mkfifo(weights), weights.mkdir, lambda: weights.symlink_to("/dev/zero")):
        make()
        alarm = threading.Timer(20, lambda: os._exit(3))
        alarm.start()
        with pytest.raises(UsageError, match="not a regular file"):
            dlpack.load(bundle)
        alarm.cancel()
        if weights.is_dir():
            weights.rmdir()
        else:
            weights.unlink()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"inputs": None}, "its 'inputs' is NoneType"),
        ({"inputs": [{"name": "a"}]}, "{'name': 'a'} is no input or output"),
        ({"library": 5}, "its 'library' is int"),
        ({"files": {"a": 1}}, "its 'files' are no checksums"),
        ({"shapes": [1]}, "its 'shapes' are no sets of shapes"),
        ("name", "it has no 'name'"),
        ("outputs", "it has no 'outputs'"),
    ],
    ids=str,
)
def test_a_damaged_manifest_is_told(digits: Path, tmp_path: Path, change: dict | str, words: str) -> None:
    """By every command: none ends in a traceback."""
    manifest = json.loads((digits / "manifest.json").read_text())
    manifest = {k: v for k, v in manifest.items() if k != change} if isinstance(change, str) else manifest | change
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    for command in ("inspect", "verify", "run", "bench", "serve"):
        result = CliRunner().invoke(cli, [command, str(tmp_path)])
        assert result.exit_code == 2 and isinstance(result.exception, SystemExit)
        assert f"manifest.json is damaged: {words}" in result.output.replace("\n", " ")
