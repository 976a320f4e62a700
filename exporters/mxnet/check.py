"""Compares the exported model with MXNet, where DLPACK_MXNET_PYTHON names a Python that has it (`worker.py`).

MXNet needs an older NumPy than dlpack, so it lies in an environment of its own.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, helper

from dlpack.exporters.builder import Array
from dlpack.exporters.compare import check_same, takes_ties, trial_inputs

PYTHON = "DLPACK_MXNET_PYTHON"
TIMEOUT_S = 300


def compare(model: ModelProto, symbol: Path, params: Path) -> tuple[str, ...]:
    """Raises ModelError if the model computes other values than MXNet. Returns a warning where that cannot be asked."""
    python = os.environ.get(PYTHON)
    if not python:
        return ()
    kinds = {
        v.name: (
            [d.dim_value for d in v.type.tensor_type.shape.dim],
            helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type),
        )
        for v in model.graph.input
    }
    trials = list(trial_inputs(kinds, ties=takes_ties(model)))
    with tempfile.TemporaryDirectory(prefix="dlpack-") as name:
        given, result = Path(name) / "inputs.npz", Path(name) / "result.npz"
        arrays: dict[str, Any] = {f"{k}/{n}": v for k, trial in enumerate(trials) for n, v in trial.items()}
        np.savez(given, **arrays)
        worker = Path(__file__).with_name("worker.py")  # -I: its folder has modules of the standard library's names
        command = [python, "-I", *map(str, (worker, symbol.resolve(), params.resolve(), given, result))]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired) as e:
            return (f"what it computes was not compared with MXNet: {e}",)
        if done.returncode or not result.is_file():
            last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1][:300]
            return (f"what it computes was not compared with MXNet, which refuses it: {last}",)
        with np.load(result) as file:
            found = dict(file)
    now: list[Array] = []

    def values() -> Iterator[dict[str, Array]]:
        for k, trial in enumerate(trials):
            count = sum(key.startswith(f"{k}/") for key in found)
            now[:] = [found[f"{k}/{i}"] for i in range(count)]
            yield trial

    check_same(model, lambda _: list(now), values(), "MXNet")
    return ()
