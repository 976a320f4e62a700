"""A batch: some cases from model to result, compiled as one translation unit and run in a process of their own."""

from __future__ import annotations

import json
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import numpy as np

from conformance.cases import Case, Frozen, freeze
from dlpack.errors import DlpackError

if TYPE_CHECKING:
    from dlpack.kernels.backend import Backend
    from dlpack.plan.program import Program
    from dlpack.targets.cpu.machine import Machine

FRONT_END_SECONDS = 20
RUN_SECONDS = 20
CLEAN_FLAGS = ("-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror")

OUTCOMES = ("passed", "failed", "unsupported", "error", "crash")
"""passed: the outputs are right; failed: they are not; unsupported: a message says so; error: the compiler broke down,
or wrote C++ that does not compile; crash: the compiled code, or the compiler, died or did not end."""


@dataclass(frozen=True)
class Result:
    """What became of a case; `constant` tells that no input was left, so that all was computed at build time."""

    name: str
    operator: str
    domain: str
    outcome: str
    detail: str = ""
    constant: bool = False


@dataclass(frozen=True)
class _Job:
    case: Case
    frozen: Frozen
    program: Program
    label: str
    text: str

    def result(self, outcome: str, detail: str = "") -> Result:
        return result(self.case, outcome, detail, not self.program.inputs)


def result(case: Case, outcome: str, detail: str = "", constant: bool = False) -> Result:
    return Result(case.name, case.operator, case.domain, outcome, detail, constant)


def run_cases(
    cases: Sequence[Case],
    machine: Machine,
    begin: Callable[[Case], None],
    keep: Path | None = None,
    cc: str = "",
    flags: Sequence[str] = (),
) -> list[Result]:
    """The results in the order of the cases. `begin` is told of each before it is compiled; the C++ goes to `keep`.

    `cc` names another compiler than the default one, which is given `flags` too.
    """
    from dlpack.amalgamate.batch import BatchPrinter
    from dlpack.runtime_c import read_runtime
    from dlpack.targets.cpu import schedule  # noqa: F401 - loads TVM, which is not the first case's time

    printer = BatchPrinter(read_runtime())
    results: dict[str, Result] = {}
    jobs: list[_Job] = []
    for case in cases:
        begin(case)
        try:
            with _time_limit(FRONT_END_SECONDS):
                frozen = freeze(case)
                program = compile_case(frozen, machine)
                label = f"case_{len(jobs)}"
                jobs.append(_Job(case, frozen, program, label, printer.program(program, label)))
        except DlpackError as e:
            results[case.name] = result(case, "unsupported", str(e))
        except _TimeoutError:
            results[case.name] = result(case, "error", f"not compiled within {FRONT_END_SECONDS} s")
        except Exception as e:  # noqa: BLE001 - whatever it is, it is a mistake of ours that the table tells
            place = traceback.extract_tb(e.__traceback__)[-1]
            where = f"{Path(place.filename).name}:{place.lineno}"
            results[case.name] = result(case, "error", f"{type(e).__name__} at {where}: {str(e)[:300]}")
    with tempfile.TemporaryDirectory(prefix="dlpack-") as folder:
        for done in _build_and_run(jobs, printer.opening(), keep or Path(folder), Path(folder), cc, flags):
            results[done.name] = done
    return [results[case.name] for case in cases]


def compile_case(frozen: Frozen, machine: Machine) -> Program:
    """The way of `dlpack build`, from a model file to a program for a processor."""
    from dlpack.targets.cpu.schedule import CpuBackend

    return compile_for(frozen, CpuBackend(machine))


def compile_for(frozen: Frozen, backend: Backend) -> Program:
    """The way of `dlpack build`, from a model file to a program."""
    from dlpack import operators
    from dlpack.model.clean import clean
    from dlpack.model.load import load_model
    from dlpack.model.read import read_graph
    from dlpack.plan.compiler import compile_graph

    with tempfile.TemporaryDirectory(prefix="dlpack-") as folder:
        file = Path(folder, "case.onnx")
        file.write_bytes(frozen.model.SerializeToString())
        model = load_model(file)
    model = clean(model, {}, lambda op, domain: not operators.supported(op, domain))
    graph = read_graph(model, operators.supported)
    return compile_graph(graph, "case", backend, winograd=False)


class _TimeoutError(BaseException):
    """Not an Exception, so that nothing on the way takes it for one of its own."""


@contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# --- C++ -------------------------------------------------------------------------------------------------------------


def _build_and_run(
    jobs: list[_Job], opening: str, texts: Path, folder: Path, cc: str, flags: Sequence[str]
) -> Iterator[Result]:
    """Compiles all jobs in one file; those that the compiler refuses are reported and left out of the next try."""
    library = folder / "batch.so"
    while jobs:
        errors = _compile(jobs, opening, texts / "batch.cc", library, cc, flags)
        if not errors:
            yield from _run(jobs, library, folder)
            return
        refused = [job for job in jobs if job.label in errors]
        for job in refused:
            yield job.result("error", f"C++: {errors[job.label]}")
        jobs = [job for job in jobs if job.label not in errors]
        if not refused:  # an error in no particular case: halve until one is left
            (message,) = errors.values()
            if len(jobs) == 1:
                yield jobs[0].result("error", f"C++: {message}")
                return
            half = len(jobs) // 2
            yield from _build_and_run(jobs[:half], opening, texts, folder, cc, flags)
            yield from _build_and_run(jobs[half:], opening, texts, folder, cc, flags)
            return


def _compile(
    jobs: list[_Job], opening: str, source: Path, library: Path, cc: str, more_flags: Sequence[str]
) -> dict[str, str]:
    """The first error by the label of its case, or by "" where it names none; empty when all compiled."""
    from dlpack.targets.native import TARGET
    from dlpack.targets.toolchains.compiler import compiler_command

    parts = [opening, *(f'#line 1 "{job.label}"\n{job.text}' for job in jobs)]
    source.write_text("\n".join(parts), encoding="utf-8")
    flags = (*TARGET.builds[0].flags, *CLEAN_FLAGS, "-O1", *more_flags, *(() if cc else ("-ferror-limit=0",)))
    command = compiler_command(source, library, "", flags, cc or None)
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode == 0:
        return {}
    errors: dict[str, str] = {}
    label = ""
    for line in done.stderr.splitlines():
        match = re.match(r"(\S+?):\d+:\d+: (?:fatal )?(error|note): (.*)", line)
        if not match:
            continue
        if match[2] == "error":
            label = match[3]
        if match[1].startswith("case_"):  # an error within the runtime names its case in a note
            errors.setdefault(match[1], label or match[3])
    return errors or {"": " ".join(done.stderr.splitlines()[-3:])[-300:]}


# --- running ---------------------------------------------------------------------------------------------------------


def _run(jobs: list[_Job], library: Path, folder: Path) -> Iterator[Result]:
    """Runs the jobs in another process; where it dies, it died of the job that it had begun, and the rest goes on."""
    data = folder / "jobs.pickle"
    while jobs:
        data.write_bytes(pickle.dumps([_order(job) for job in jobs]))
        command = [sys.executable, "-m", "conformance.execute", str(library), str(data), str(RUN_SECONDS)]
        here = str(Path(__file__).resolve().parent.parent)
        limit_s = RUN_SECONDS * len(jobs) + 60  # each has RUN_SECONDS; what loads and compares them has the rest
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=limit_s, check=False)
        lines = done.stdout.splitlines()
        for job, line in zip(jobs, lines, strict=False):
            detail = json.loads(line)
            yield job.result("failed" if detail else "passed", detail)
        jobs = jobs[len(lines) :]
        if not jobs:
            return
        yield jobs[0].result("crash", _death(done.returncode, done.stderr))
        jobs = jobs[1:]


def _order(job: _Job) -> dict[str, object]:
    """What conformance.execute needs to know of a job; no class of ours, so that it need not import the compiler."""
    program = job.program
    return {
        "entry": job.label,
        "arena": program.arena.size,
        "weights": program.weights,
        "inputs": [(t.name, t.dtype, t.shape) for t in program.inputs],
        "outputs": [(t.name, t.dtype, t.shape) for t in program.outputs],
        "true_shapes": {t.name: t.true_shape for t in program.outputs if t.true_shape},
        "expected": list(job.frozen.expected),
        "data": [
            ({name: np.asarray(value) for name, value in inputs.items()}, outputs)
            for inputs, outputs in zip(job.frozen.inputs, job.frozen.outputs, strict=True)
        ],
        "rtol": job.case.rtol,
        "atol": job.case.atol,
    }


def _death(code: int, stderr: str) -> str:
    if code == -signal.SIGALRM:
        return f"the compiled code did not end within {RUN_SECONDS} s"
    if code < 0:
        return f"the compiled code died of {signal.Signals(-code).name}"
    return " ".join(stderr.strip().splitlines()[-1:])[-300:] or f"exit code {code}"
