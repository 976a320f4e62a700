"""A sample of ONNX's node tests by kernels of GPUs, whose CUDA C runs on this computer (`gpu_text`).

``python -m conformance.gpu STEP FIRST``, from tests/: every STEP-th case from number FIRST on; 1 0 for all.
With ``--pack FOLDER`` behind it the cases do not run here: FOLDER gets a file of each, which `bench.gpu` runs on a GPU;
the repository's root must be in PYTHONPATH then.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from gpu_text import Runner, compile_for_host, cuda_text, prepared

from conformance.batch import compile_for
from conformance.cases import INEXACT, Case, Frozen, freeze, select
from conformance.differences import difference
from dlpack.bundle.arrays import cut_to
from dlpack.bundle.texts import encoded, is_text
from dlpack.errors import DlpackError
from dlpack.plan.program import Program, Tensor
from dlpack.targets.gpu.machine import GENERIC, SM_53, SM_90, Gpu
from dlpack.targets.gpu.nvrtc import compile_images
from dlpack.targets.gpu.schedule import GpuBackend

RIGHT = ("right", "constant", "inexact", "unsupported")
"""What may become of a case."""


def _compiled(case: Case, gpu: Gpu) -> tuple[Frozen, Program] | str:
    """The case with the inputs that it needs as constants, and its program; or why there is nothing to run."""
    if case.name in INEXACT:
        return "inexact"
    frozen = freeze(case)
    try:
        program = compile_for(frozen, GpuBackend(gpu))
    except DlpackError as e:
        return f"unsupported: {e}"
    return (frozen, program) if program.inputs else "constant"


def outcome(case: Case, folder: Path, gpu: Gpu = SM_53) -> str:
    """What becomes of a case: "right", "constant", "inexact" (the expected values are), "unsupported: ..." as for
    processors, or what is wrong."""
    made = _compiled(case, gpu)
    if isinstance(made, str):
        return made
    frozen, program = made
    library = compile_for_host(program, str(cuda_text(program)), folder, case.name)
    for inputs, outputs in zip(frozen.inputs, frozen.outputs, strict=True):
        runner = Runner(program, library)
        given = {t.name: _array(t, inputs[t.name]) for t in program.inputs}
        got = {t.name: x for t, x in zip(program.outputs, runner.run(given), strict=True)}
        shapes = {t.name: got[t.true_shape] for t in program.outputs if t.true_shape}
        got |= {name: cut_to(got[name], shape) for name, shape in shapes.items()}
        for name, want in zip(frozen.expected, outputs, strict=True):
            found = difference(got[name], np.asarray(want), case.rtol, case.atol)
            if found:
                return f"wrong: {found}"
        if runner.faults:
            return "wrong: a barrier that not all threads come to"
    return "right"


def one_of_each() -> list[Case]:
    """For each operator the first of its tests whose values are exact."""
    found: dict[tuple[str, str], Case] = {}
    for case in select():
        if case.name not in INEXACT:
            found.setdefault((case.domain, case.operator), case)
    return list(found.values())


def packed(case: Case, folder: Path, gpu: Gpu = SM_90) -> str:
    """Writes the files CASE.npz, for each of its data sets one, as `bench.gpu.kernels` reads them; "right" if there are
    such, else what `outcome` says."""
    from bench.gpu.kernels import plan_of, write

    made = _compiled(case, gpu)
    if isinstance(made, str):
        return made
    frozen, program = made
    compiled = compile_images(str(cuda_text(program)), list(dict.fromkeys([gpu.arch, GENERIC.arch])))
    images = {image.name: image.data for image in compiled}
    tensors, names = program.outputs, [t.name for t in program.outputs]
    expected = [
        [names.index(name), names.index(shape) if (shape := tensors[names.index(name)].true_shape) else -1]
        for name in frozen.expected
    ]
    plan = {**plan_of(program), "expected": expected, "rtol": case.rtol, "atol": case.atol}
    for number, (inputs, outputs) in enumerate(zip(frozen.inputs, frozen.outputs, strict=True)):
        arrays = prepared(program)
        for k, t in enumerate(program.inputs):
            arrays[f"in_{k}"] = _bytes(t, inputs[t.name])
        for k, (name, want) in enumerate(zip(frozen.expected, outputs, strict=True)):
            arrays[f"out_{k}"] = _bytes(tensors[names.index(name)], want)
        path = folder / f"{case.name}{f'_{number}' if number else ''}.npz"
        write(path, plan, images, arrays)
    return "right"


def _array(t: Tensor, value: Any) -> np.ndarray[Any, Any]:
    """A value as a kernel sees it: strings as rows of bytes."""
    return encoded(t.name, value, t.dtype) if is_text(t.dtype) else np.asarray(value)


def _bytes(t: Tensor, value: Any) -> np.ndarray[Any, Any]:
    return np.frombuffer(np.ascontiguousarray(_array(t, value)).tobytes(), np.uint8)


def main() -> int:
    step, first, *rest = sys.argv[1:]
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="dlpack-") as scratch:
        folder, do = Path(scratch), outcome
        if rest:
            folder, do = Path(rest[1]), packed
            folder.mkdir(parents=True, exist_ok=True)
        for case in select()[int(first) :: int(step)]:
            try:
                done = do(case, folder)
            except (Exception, SystemExit) as e:  # noqa: BLE001 - one case's trouble is that case's
                done = f"error: {type(e).__name__}: {str(e)[-300:]}"
            kind = done.split(":")[0]
            counts[kind] += 1
            if kind not in RIGHT:
                print(f"{case.name}: {done}", flush=True)
    print(dict(counts))
    return 0 if counts.keys() <= set(RIGHT) else 1


if __name__ == "__main__":
    sys.exit(main())
