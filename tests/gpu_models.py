"""Whole models by kernels of GPUs on this computer: ``python tests/gpu_models.py MODEL.onnx ... [--gpu sm_90]``.

Each model's CUDA C runs in the three orders of threads, with seeded inputs, and is compared with onnxruntime: the error
is a part of the output's range; and what the cost model says of the time on the GPU. Exits with 1 where one is off by
more than 1e-4, or a barrier is not met by all threads.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from gpu_text import Runner, compile_for_host, compiled_for, cuda_text, errors

from dlpack.plan.program import CallStep, LoopStep, Program, Step, Tensor
from dlpack.stages.prepare import clean_graph
from dlpack.targets.gpu.machine import GPUS, Gpu

TOLERANCE = 1e-4


def seeded(inputs: Sequence[Tensor]) -> dict[str, np.ndarray]:
    """Inputs that a model can compute with: numbers up to 1, of integers 0 and 1, since they may be indices."""
    random = np.random.default_rng(0)
    return {
        t.name: (random.random(t.shape) if "float" in t.dtype else random.integers(0, 2, t.shape)).astype(t.dtype)
        for t in inputs
    }


def check(path: Path, gpu: Gpu, folder: Path) -> bool:
    """Whether a model is right; prints what was found."""
    model = onnx.load(path)
    _, graph = clean_graph(model, {})
    program = compiled_for(graph, gpu)
    text = str(cuda_text(program))
    library = compile_for_host(program, text, folder, path.stem)
    inputs = seeded(program.inputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    want = session.run(None, inputs)
    right = True
    for order in "fbs":
        runner = Runner(program, library, order)
        start = time.perf_counter()
        error = max(errors(runner.run(inputs), want))
        seconds = time.perf_counter() - start
        right &= error <= TOLERANCE and not runner.faults and not runner.overrun
        print(
            f"{path.stem:24} {gpu.name:8} order {order}: error {error:.1e}, {runner.faults} faults, "
            f"{len(program.kernels)} kernels of {len(text):,} bytes, {runner.launches} launches, {seconds:.1f} s",
            flush=True,
        )
    print(f"{path.stem:24} {gpu.name:8} {microseconds(program):.0f} us by the cost model")
    return right


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--gpu", choices=list(GPUS), default="sm_53")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dlpack-") as folder:
        done = [check(path, GPUS[options.gpu], Path(folder)) for path in options.models]
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
