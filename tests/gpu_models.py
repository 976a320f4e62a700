"""Whole models by kernels of GPUs on this computer: ``python tests/gpu_models.py MODEL.onnx ... [--gpu sm_90]``.

Each model's CUDA C, as it is scheduled for the GPU, runs in the three orders of threads with seeded inputs and is
compared with onnxruntime: the error is a part of the output's range. With --paper the kernels are compiled for the GPU
too, which fails where one takes more than the architecture has, and it is told what they take, and how long a run takes
by the cost model. With --page FILE the models' rows go into that page's tables. Exits with 1 where a model is off by
more than 1e-4, a barrier is not met by all threads, or something is written where nothing belongs.

`script/gpu check` does so with the whole zoo.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from gpu_text import Runner, compile_for_host, compiled_for, cuda_text, errors

from dlpack.graph.ir import Graph
from dlpack.plan.program import CallStep, LoopStep, Program, Step, Tensor
from dlpack.stages.prepare import clean_graph
from dlpack.targets.gpu.host import halo_kernels
from dlpack.targets.gpu.launch import launch_of
from dlpack.targets.gpu.machine import GPUS, Gpu
from dlpack.targets.gpu.nvrtc import Launch, Resources, compile_images

TOLERANCE = 1e-4
TENSORRT_MS = {"squeezenet11": 4.1, "inceptionv1": 12.4, "alexnet": 11.7}
"""Published for a Jetson TX1: TensorRT, float32, a picture of a batch of `TENSORRT_BATCH`."""
TENSORRT_BATCH = 2


@dataclass(frozen=True)
class Shim:
    """What running a model on this computer showed: the largest error of all orders of threads, and whether nothing
    else was wrong."""

    error: float
    kernels: int
    launches: int
    clean: bool


@dataclass(frozen=True)
class Paper:
    """What the compiler and the cost model say of a model on a GPU: `ms` of a run, and of a picture of a batch as
    TensorRT's where that is published; the most registers of a thread and bytes of shared memory of a block, and the
    bytes of registers that all kernels together keep in memory."""

    ms: float
    ms_in_batch: float | None
    registers: int
    shared: int
    spilled: int


def seeded(inputs: Sequence[Tensor]) -> dict[str, np.ndarray]:
    """Inputs that a model can compute with: numbers up to 1, of integers 0 and 1, since they may be indices."""
    random = np.random.default_rng(0)
    return {
        t.name: (random.random(t.shape) if "float" in t.dtype else random.integers(0, 2, t.shape)).astype(t.dtype)
        for t in inputs
    }


def on_this_computer(path: Path, program: Program, folder: Path) -> Shim:
    """Runs a program of the model at `path` in the three orders of threads."""
    library = compile_for_host(program, str(cuda_text(program)), folder, path.stem)
    inputs = seeded(program.inputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    want = session.run(None, inputs)
    error, clean, launches = 0.0, True, 0
    for order in "fbs":
        runner = Runner(program, library, order)
        error = max(error, *errors(runner.run(inputs), want))
        clean &= not runner.faults and not runner.overrun
        launches = runner.launches
    return Shim(error, len(program.kernels), launches, clean)


def on_paper(path: Path, program: Program, gpu: Gpu) -> Paper:
    """Compiles a program of the model at `path` for its GPU. Raises ToolchainError where a kernel takes more than the
    architecture has."""
    takes = resources(program, gpu)
    several = None
    if path.stem in TENSORRT_MS:
        from bench.gpu.build import batched  # of the repository's root, which only --paper needs

        with tempfile.TemporaryDirectory(prefix="dlpack-") as folder:
            graph = graph_in(batched(path, TENSORRT_BATCH, Path(folder)))
        several = microseconds(compiled_for(graph, gpu)) / 1e3 / TENSORRT_BATCH
    return Paper(
        microseconds(program) / 1e3,
        several,
        max(r.registers for r in takes.values()),
        max(r.shared for r in takes.values()),
        sum(r.spills for r in takes.values()),
    )


def resources(program: Program, gpu: Gpu) -> Mapping[str, Resources]:
    """What each of a program's kernels takes, by the compiler's report."""
    borders = halo_kernels(program)
    launches = [Launch(k.name, launch_of(k.kernel).grid, launch_of(k.kernel).block) for k in program.kernels]
    source = "\n\n".join([str(cuda_text(program)), *(text for _, text in borders)]) + "\n"
    (image,) = compile_images(source, [gpu.arch], [*launches, *(launch for launch, _ in borders)])
    return image.kernels


def microseconds(program: Program) -> float:
    """The times that the cost model gives a program's launches, added up."""
    times = {}
    for k in program.kernels:
        found = re.search(r"([\d.]+) us on", k.schedule)
        assert found, k.schedule
        times[k.name] = float(found[1])

    def of(steps: Sequence[Step]) -> float:
        calls = sum(times[s.kernel] for s in steps if isinstance(s, CallStep))
        return calls + sum(s.count * of(s.body) for s in steps if isinstance(s, LoopStep))

    return of(program.steps)


def graph_in(path: Path) -> Graph:
    _, graph = clean_graph(onnx.load(path), {})
    return graph


# --- the page ---------------------------------------------------------------------------------------------------------


def shim_row(path: Path, shim: Shim) -> list[str]:
    return [path.stem, str(shim.kernels), str(shim.launches), f"{shim.error:.1e}"]


def paper_row(path: Path, paper: Paper) -> list[str]:
    published = TENSORRT_MS.get(path.stem)
    batch = f"{paper.ms_in_batch:.2f}" if paper.ms_in_batch else ""
    numbers = [f"{paper.ms:.2f}", batch, f"{published:g}" if published else "", str(paper.registers)]
    return [path.stem, *numbers, f"{paper.shared:,}", str(paper.spilled)]


def written_into(page: str, table: str, row: Sequence[str]) -> str:
    """The page with the row in the table behind the comment ``<!-- table -->``, in place of the one of that name."""
    head = re.compile(r"\|.*\n\|[-:| ]+\n").search(page, page.index(f"<!-- {table} -->"))
    assert head, f"{table}: no table"
    found = re.compile(r"(?:\|.*\n)*").match(page, head.end())
    assert found
    lines = {line.split("|")[1].strip(): line for line in found[0].splitlines()}
    lines[row[0]] = f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in row)}|"
    return page[: head.end()] + "".join(f"{line}\n" for line in lines.values()) + page[found.end() :]


def check(path: Path, gpu: Gpu, paper: bool, page: Path | None = None) -> bool:
    """Whether a model is right, and its kernels fit; prints what was found and writes it into the page."""
    start = time.perf_counter()
    program = compiled_for(graph_in(path), gpu)
    with tempfile.TemporaryDirectory(prefix="dlpack-") as folder:
        shim = on_this_computer(path, program, Path(folder))
    right = shim.error <= TOLERANCE and shim.clean
    rows = {"shim": shim_row(path, shim)}
    told = (
        f"{path.stem:16} {gpu.name:8} error {shim.error:.1e}{'' if shim.clean else ', FAULTS'}, {shim.kernels} "
        f"kernels, {shim.launches} launches, {time.perf_counter() - start:.1f} s"
    )
    if paper:
        takes = on_paper(path, program, gpu)
        right &= takes.shared <= gpu.shared_bytes
        rows["paper"] = paper_row(path, takes)
        told += (
            f"; {takes.ms:.2f} ms by the cost model, {takes.registers} registers, {takes.shared:,} bytes of shared "
            f"memory, {takes.spilled} bytes spilled"
        )
    print(told, flush=True)
    if page:
        text = page.read_text(encoding="utf-8")
        for table, row in rows.items():
            text = written_into(text, table, row)
        page.write_text(text, encoding="utf-8")
    return right


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--gpu", choices=list(GPUS), default="sm_53")
    parser.add_argument("--paper", action="store_true")
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    if options.page and options.gpu != "sm_53":
        parser.error("the page's tables are of sm_53")
    done = [check(path, GPUS[options.gpu], options.paper, options.page) for path in options.models]
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
