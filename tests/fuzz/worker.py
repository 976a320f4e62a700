"""One mutation after the other in a process of its own, with limits on time and memory and a watch on files.

A mutation goes as far as `Plan` says: the reader of untrusted bytes always runs; the conversion behind it that others
wrote (torch.onnx, tf2onnx), which is slow, for a share; cleaning and reading of the ONNX for each model that is new; a
whole build for some of these.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import hashlib
import importlib
import io
import os
import pkgutil
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import onnx

import dlpack
from dlpack import exporters, pipeline
from dlpack.errors import DlpackError, ToolchainError
from dlpack.source import read_source
from dlpack.stages.prepare import clean_graph
from fuzz.formats import FORMATS, MODULES

LIMIT_S = 10
LIMIT_BYTES = 4 << 30
LARGEST_BUILD = 16 << 20
"""Bytes of all values of a model that is built: to run a larger one takes its time."""

REPLAYED = 10
"""For each PyTorch file that is converted, so many are interpreted on tensors without data."""


@dataclass(frozen=True)
class Plan:
    """`share` of the mutations go through the slow conversion; `builds` of `count` mutations are built."""

    format: str
    seed: int
    count: int
    builds: int
    share: float


@dataclass
class Result:
    """What became of a mutation: `outcome` is the last stage that it reached, or the error that ended it."""

    outcome: str
    seconds: float
    peak: int
    message: str = ""
    finding: str = ""
    """What must not happen; empty where all is well."""


class Enough(BaseException):
    """The reader is done, and this mutation is not to be converted."""


@dataclass
class State:
    """What one process keeps: its folder, its first mutation, what it has built and which models it has seen."""

    folder: Path
    first: int
    built: int = 0
    seen: set[bytes] = field(default_factory=set)
    strays: list[str] = field(default_factory=list)


def run(plan: Plan, k: int, state: State) -> Result:
    """Mutation `k` of the plan."""
    rng = random.Random(f"{plan.format}/{plan.seed}/{k}")
    model_folder = _empty(state.folder / "model")
    path, shapes = FORMATS[plan.format](model_folder, rng)
    before = _files(state.folder)
    finding = message = ""
    began = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    try:
        with _slow_parts(plan.format, rng.random(), plan.share):
            outcome = _stages(plan, k, path, shapes, state)
    except Enough:
        outcome = "read"
    except ToolchainError as e:  # the C++ that was emitted does not compile
        outcome, message, finding = type(e).__name__, str(e), f"{type(e).__name__}: {e}"
    except DlpackError as e:
        outcome, message = type(e).__name__, str(e)
        if _is_memory(e):
            finding = f"asked for more than {LIMIT_BYTES >> 30} GiB: {e}"
    except BaseException as e:  # noqa: BLE001 - whatever else it raises is a finding
        outcome, finding = type(e).__name__, "".join(traceback.format_exception(e))[-3000:]
    signal.setitimer(signal.ITIMER_PROF, 0)
    shutil.rmtree(state.folder / "bundle", ignore_errors=True)
    stray = [*state.strays, *sorted(_files(state.folder) ^ before)]
    if not finding and stray:
        finding = f"files outside the output folder: {stray[:5]}"
    state.strays.clear()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if not finding and peak > LIMIT_BYTES:
        finding = f"took {peak:,} bytes"
    return Result(outcome, time.process_time() - began, peak, message, finding)


def _stages(plan: Plan, k: int, path: Path, shapes: dict[str, tuple[int, ...]], state: State) -> str:
    found = exporters.find_exporter(path)
    source = read_source(path, None, shapes).proto
    digest = hashlib.sha256(source.SerializeToString(deterministic=True)).digest()
    if digest in state.seen:
        return "seen before"
    state.seen.add(digest)
    if found and source.ByteSize() < 1 << 20:
        onnx.checker.check_model(source, full_check=True)
    _, graph = clean_graph(source, {} if found else shapes)
    small = sum(kind.nbytes for kind in graph.types.values()) <= LARGEST_BUILD
    if not small or state.built * plan.count >= plan.builds * (k + 1 - state.first):
        return "accepted"
    state.built += 1
    pipeline.build(path, state.folder / "bundle", pipeline.Options(shapes=shapes))
    return "built"


def _is_memory(error: BaseException) -> bool:
    """Whether a MemoryError stands behind it."""
    chain: list[BaseException] = []  # which may be a ring
    step: BaseException | None = error
    while step is not None and step not in chain:
        chain.append(step)
        step = step.__cause__ or step.__context__
    return any(isinstance(e, MemoryError) for e in chain)


# --- slow parts -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _slow_parts(name: str, chance: float, share: float) -> Iterator[None]:
    """The exporters' own processes in this one; and where `chance` is not below `share`, the reader alone."""
    wanted = chance < share
    with contextlib.ExitStack() as stack:
        if name in ("torchscript", "torch_export") and not wanted:
            instead = _replay if chance < REPLAYED * share else _enough
            stack.enter_context(mock.patch("dlpack.exporters.pytorch.export.to_onnx", instead))
        if name == "skops_file":
            stack.enter_context(mock.patch("dlpack.exporters.sklearn.export.Check", _CheckHere))
        if name in ("keras_archive", "keras_hdf5", "saved_model", "frozen_graph"):
            here = types.SimpleNamespace(run=_tensorflow_here, TimeoutExpired=TimeoutError)
            stack.enter_context(mock.patch("dlpack.exporters.tensorflow.export.subprocess", here))
            if not wanted:
                stack.enter_context(mock.patch("dlpack.exporters.tensorflow.worker.to_onnx", _enough))
                stack.enter_context(mock.patch("dlpack.exporters.tensorflow.keras.as_operators", _enough))
        yield


def _enough(*_given: Any, **_more: Any) -> Any:
    raise Enough


def _replay(module: Any, inputs: dict[str, Any], **_given: Any) -> Any:
    """Runs the module on tensors without data, as torch.export does first."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from dlpack.exporters.pytorch.convert import _explained

    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
            module(*(mode.from_tensor(value) for value in inputs.values()))
    except Exception as e:
        raise _explained(e) from e
    raise Enough


class _CheckHere(contextlib.AbstractContextManager["_CheckHere"]):
    """In place of `Check` of `sklearn/check.py`: predictions in this process, whose imports are done."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __exit__(self, *_: object) -> None:
        pass

    def survives(self) -> None:
        """A crash is told by whoever forked this process."""

    def predictions(self) -> dict[str, Any]:
        from dlpack.errors import ModelError
        from dlpack.exporters.sklearn.worker import predict

        try:
            return predict(self.path)
        except Exception as e:  # its process would end with it
            raise ModelError(f"scikit-learn ended while it predicted: {e}") from e


def _tensorflow_here(_command: list[str], input: bytes, **_given: Any) -> Any:
    """In place of subprocess.run: the worker's `main` in this process, whose imports are done."""
    from dlpack.exporters.tensorflow import worker

    with mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO(input))):
        worker.main()
    return types.SimpleNamespace(stderr=b"", returncode=0)


# --- the process ------------------------------------------------------------------------------------------------------


def prepare(name: str) -> None:
    """Imports what the format needs and makes its sound models, before processes are forked."""
    for module in MODULES.get(name, ()):
        importlib.import_module(module)
    for found in pkgutil.walk_packages(dlpack.__path__, "dlpack."):
        with contextlib.suppress(ImportError):  # what runs in Pyodide alone
            importlib.import_module(found.name)
    with tempfile.TemporaryDirectory() as folder:
        FORMATS[name](Path(folder), random.Random(0))


def work(plan: Plan, numbers: range, state: State, tell: Callable[[dict[str, Any]], None]) -> None:
    """Runs the mutations `numbers`; tells of each when it begins and what became of it."""
    faulthandler.enable()
    faulthandler.register(signal.SIGPROF, chain=True)
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_BYTES + (2 << 30), resource.RLIM_INFINITY))
    for name in ("cwd", "tmp"):
        _empty(state.folder / name)
    os.chdir(state.folder / "cwd")
    os.environ["TMPDIR"], tempfile.tempdir = str(state.folder / "tmp"), None
    sys.dont_write_bytecode = True
    sys.addaudithook(functools.partial(_watch, state))
    for k in numbers:
        tell({"begins": k})
        result = run(plan, k, state)
        tell({"number": k, **result.__dict__})
        if result.peak > LIMIT_BYTES:  # the peak of a process never sinks: the next begins in another
            return


def _watch(state: State, event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: notes files that Python opens for writing outside of the worker's folder."""
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        path = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes) else ""
        if path and path != os.devnull and not os.path.realpath(path).startswith(f"{state.folder}/"):
            state.strays.append(path)


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _files(folder: Path) -> set[tuple[str, int]]:
    """Everything in the folder, with the time when it was written."""
    return {(str(path), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}
