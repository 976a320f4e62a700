"""A bundle on the GPU of this machine: whether it is right, and how long a run takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import dlpack
from bench.gpu.driver import Gpu

TOLERANCE = 1e-4
"""Of an output's largest absolute value."""
WARM_UP_S, ROUNDS, RUN_S = 0.2, 5, 0.1


def timed(run: Callable[[], object]) -> float:
    """Seconds that one call takes: the median of rounds, each of them the mean over a tenth of a second."""
    end = time.perf_counter() + WARM_UP_S
    count = 0
    while time.perf_counter() < end or count < 3:
        run()
        count += 1
    per_round = max(1, int(count / WARM_UP_S * RUN_S))
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(per_round):
            run()
        rounds.append((time.perf_counter() - start) / per_round)
    return statistics.median(rounds)


def measure(bundle: Path, device: str = "cuda") -> dict[str, Any]:
    """Correctness against the reference in the bundle, and latency from host memory and from the GPU's."""
    start = time.perf_counter()
    with dlpack.load(bundle, device=device) as predictor:
        created = time.perf_counter() - start
        with np.load(bundle / "reference.npz") as reference:
            inputs = {name: reference[f"in_{k}"] for k, name in enumerate(predictor.inputs)}
            wanted = [reference[f"out_{k}"] for k in range(len(predictor.outputs))]
        got = predictor.run(inputs)
        error = max(_error(got[name], want) for name, want in zip(predictor.outputs, wanted, strict=True))
        again = predictor.run(inputs)
        found: dict[str, Any] = {
            "device": predictor.device,
            "variant": predictor.variant,
            "error": error,
            "right": error <= TOLERANCE,
            "same_again": all(np.array_equal(got[name], again[name], equal_nan=True) for name in got),
            "create_s": created,
            "host_s": timed(lambda: predictor.run(inputs, copy=False)),
        }
        with Gpu() as gpu:
            found |= _on_device(predictor, inputs, gpu)
    return found


def _error(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any]) -> float:
    """The largest difference, as a part of the range; infinite where something is no number."""
    span = float(np.abs(want).max(initial=0)) or 1.0
    apart = np.abs(got.astype(np.float64) - want).max(initial=0)
    return float(np.nan_to_num(apart, nan=np.inf)) / span


class _There:
    """An array in the GPU's memory, as other libraries describe theirs."""

    def __init__(self, gpu: Gpu, dtype: str, shape: tuple[int, ...], data: np.ndarray[Any, Any] | None = None) -> None:
        kind = np.dtype(dtype)
        address = gpu.memory(int(np.prod(shape, dtype=np.int64)) * kind.itemsize)
        if data is not None:
            gpu.write(address, np.ascontiguousarray(data))
        place = {"shape": shape, "typestr": kind.str, "data": (address, False), "version": 3}
        self.__cuda_array_interface__ = place


def _on_device(predictor: Any, inputs: dict[str, Any], gpu: Gpu) -> dict[str, float]:
    """Latency with inputs and outputs in the GPU's memory: always the same, as a CUDA graph of PyTorch's has them, and
    given to each run."""
    there = {name: _There(gpu, str(x.dtype), x.shape, x) for name, x in inputs.items()}
    outputs = {name: _There(gpu, dtype, shape) for name, (dtype, shape) in predictor.outputs.items()}
    predictor.bind_outputs(outputs)
    try:
        predictor.bind(there)
        return {"device_s": timed(predictor.compute), "device_run_s": timed(lambda: predictor.run(there))}
    finally:
        predictor.bind_outputs(dict.fromkeys(outputs))


def one_run(bundle: Path) -> None:
    with dlpack.load(bundle, device="cuda") as predictor, np.load(bundle / "reference.npz") as reference:
        predictor.run({name: reference[f"in_{k}"] for k, name in enumerate(predictor.inputs)})
