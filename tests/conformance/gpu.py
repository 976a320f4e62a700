"""A sample of ONNX's node tests by kernels of GPUs, whose CUDA C runs on this computer (`gpu_text`).

``python -m conformance.gpu STEP FIRST``, from tests/: every STEP-th case from number FIRST on; 1 0 for all.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from gpu_text import Runner, compile_for_host, cuda_text

from conformance.batch import compile_for
from conformance.cases import INEXACT, Case, freeze, select
from conformance.differences import difference
from dlpack.errors import DlpackError
from dlpack.targets.gpu.machine import SM_53, Gpu
from dlpack.targets.gpu.schedule import GpuBackend

RIGHT = ("right", "constant", "inexact", "unsupported")
"""What may become of a case."""


def outcome(case: Case, folder: Path, gpu: Gpu = SM_53) -> str:
    """What becomes of a case: "right", "constant", "inexact" (the expected values are), "unsupported: ..." as for
    processors, or what is wrong."""
    if case.name in INEXACT:
        return "inexact"
    frozen = freeze(case)
    try:
        program = compile_for(frozen, GpuBackend(gpu))
    except DlpackError as e:
        return f"unsupported: {e}"
    if not program.inputs:
        return "constant"
    library = compile_for_host(program, str(cuda_text(program)), folder, case.name)
    for inputs, outputs in zip(frozen.inputs, frozen.outputs, strict=True):
        runner = Runner(program, library)
        for got, want in zip(runner.run(inputs), outputs, strict=True):
            found = difference(got, np.asarray(want), case.rtol, case.atol)
            if found:
                return f"wrong: {found}"
        if runner.faults:
            return "wrong: a barrier that not all threads come to"
    return "right"


def main() -> int:
    step, first = (int(a) for a in sys.argv[1:3])
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="dlpack-") as folder:
        for case in select()[first::step]:
            try:
                done = outcome(case, Path(folder))
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
