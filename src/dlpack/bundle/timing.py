"""Measures a bundle: latency per call, optionally beside onnxruntime and another bundle, and the time of each kernel.

Latency is measured with `time.perf_counter_ns`, the time that a caller experiences. The thread's CPU time
(`time.thread_time_ns`) is reported as well; it excludes the time when other programs had the processor.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.archives import ZIP_ERRORS
from dlpack.bundle.loader import Predictor, load, read_kernels, read_manifest
from dlpack.errors import UsageError
from dlpack.graph.ir import Array
from dlpack.meaning.shape_sets import reference_names, set_name, tried_sets
from dlpack.targets import get_target

Kernels = Sequence[Mapping[str, Any]]
"""Kernels as listed in a bundle's kernels.json."""

_SAMPLE_NS = 200_000
"""A round repeats a fast function for about this long, so that the clock's overhead does not matter."""

_KERNEL_ROUNDS = 20
"""Minimum number of rounds for a kernel's median."""


_MEASURABLE = 0.25
"""A step that takes less than this part of what the call itself costs has no speed that means anything."""


def bench_bundle(
    bundle: Path, model: Path | None = None, rounds: int = 50, other: Path | None = None
) -> dict[str, Any]:
    """Times a bundle on the inputs of its reference.npz, in node for wasm and in this process otherwise. For several
    sets of shapes, the list `shapes` holds a result like the following for each, with its `inputs` as text.

    In interleaved rounds, on as many threads as the bundle was built for, onnxruntime runs the ONNX file `model`, and
    the bundle `other`, which has as many sets of shapes, runs on inputs of its own.
    Returns `runs` (per runner name, median_ms, minimum_ms: latency; cpu_ms: median CPU time), `ratios` to the others by
    their names (`ratio_of` states their basis: CPU times, or latencies of several threads), and `kernels` (name,
    calls, us, share, gflops or None), slowest first; for wasm those of each build in turn (`build`).
    Neither runner's Python call is subtracted from `runs` (each about a microsecond: inputs and outputs are bound
    before); from `kernels` it is.
    """
    if rounds < 1:
        raise UsageError(f"--rounds {rounds}: must be at least 1")
    bundle = Path(bundle)
    sets = tried_sets(read_manifest(bundle))
    if other is not None and (count := len(tried_sets(read_manifest(other)))) != len(sets):
        raise UsageError(f"{other} has {count} sets of shapes, and {bundle} {len(sets)}: compare bundles with as many")
    if len(sets) == 1:
        return _bench_set(bundle, model, other, rounds, 0)
    results = [_bench_set(bundle, model, other, rounds, k) for k in range(len(sets))]
    return {"shapes": [{"inputs": set_name(s), **result} for s, result in zip(sets, results, strict=True)]}


def _bench_set(bundle: Path, model: Path | None, other: Path | None, rounds: int, number: int) -> dict[str, Any]:
    """The result for the set of shapes of that number."""
    manifest = read_manifest(bundle)
    measure = get_target(manifest["target"]).measure
    names = [t["name"] for t in manifest["inputs"]]
    inputs = _inputs(bundle, names, number)
    if measure is not None:
        if model is not None:
            raise UsageError(f"{bundle} is built for {manifest['target']} and cannot be compared with onnxruntime")
        if other is not None:
            raise UsageError(f"{bundle} is built for {manifest['target']}; bundles of native targets can be compared")
        return _measured(measure(bundle, inputs, rounds), read_kernels(bundle), rounds)
    with ExitStack() as stack:
        predictor = stack.enter_context(load(bundle))
        predictor.bind(inputs)
        threads = int(manifest.get("threads", 1))
        runners: dict[str, Callable[[], object]] = {"dlpack": predictor.compute}
        if model is not None:
            runners["onnxruntime"] = _onnxruntime(Path(model), predictor, inputs, threads)
        if other is not None:
            runners[str(other)] = _bound(stack, other, number).compute
        cpu_clock = time.thread_time_ns if threads == 1 else time.process_time_ns
        result: dict[str, Any] = {
            "rounds": rounds,
            "clock": f"median_ms and minimum_ms: time.perf_counter_ns; cpu_ms: time.{cpu_clock.__name__}",
            "runs": _interleaved(runners, rounds, cpu_clock),
        }
        ours, *others = result["runs"]
        if others:
            key, what = ("cpu_ms", "CPU time") if threads == 1 else ("median_ms", f"latency on {threads} threads")
            ratios = {row["name"]: ours[key] / row[key] if row[key] else float("inf") for row in others}
            result |= {"ratios": ratios, "ratio_of": what}
        result["kernels"] = _kernels(predictor, read_kernels(bundle), max(rounds, _KERNEL_ROUNDS))
    return result


def _bound(stack: ExitStack, bundle: Path, number: int) -> Predictor:
    """A predictor that is ready to run on its own reference's inputs, until the stack is left."""
    manifest = read_manifest(bundle)
    if get_target(manifest["target"]).measure is not None:
        raise UsageError(f"{bundle} is built for {manifest['target']}; bundles of native targets can be compared")
    predictor = stack.enter_context(load(bundle))
    predictor.bind(_inputs(bundle, [t["name"] for t in manifest["inputs"]], number))
    return predictor


def _measured(times: Mapping[str, Mapping[str, Any]], kernels: Kernels, rounds: int) -> dict[str, Any]:
    """The result for a bundle that is not called from Python: the kernels of each build, one after the other."""
    result: dict[str, Any] = {
        "rounds": rounds,
        "clock": "performance.now in node; cpu_ms: process.cpuUsage",
        "runs": [],
        "kernels": [],
    }
    for build, t in times.items():
        medians = {"median_ms": statistics.median(t["runs"]), "cpu_ms": statistics.median(t["cpu"])}
        result["runs"].append({"name": build, "minimum_ms": min(t["runs"]), "calls_per_round": 1, **medians})
        us: dict[str, list[float]] = {}
        for name, milliseconds in t["steps"]:
            us.setdefault(name, []).append(1e3 * milliseconds)
        rows = _rows({k: sum(v) for k, v in us.items()}, {k: len(v) for k, v in us.items()}, kernels)
        result["kernels"] += [{"build": build, **row} for row in rows]
    return result


def _inputs(bundle: Path, names: Sequence[str], number: int) -> dict[str, Array]:
    try:
        with np.load(bundle / "reference.npz") as stored:
            keys = reference_names("in", len(names), number)
            return {name: stored[key] for name, key in zip(names, keys, strict=True)}
    except ZIP_ERRORS as e:
        raise UsageError(f"{bundle} has no readable reference.npz: {e}") from e


def _onnxruntime(model: Path, predictor: Predictor, inputs: Mapping[str, Array], threads: int) -> Callable[[], object]:
    """A function that runs the model in onnxruntime with bound inputs and outputs."""
    import onnxruntime

    from dlpack.model.clean import clean
    from dlpack.model.load import load_model

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    shapes = {name: shape for name, (_, shape) in predictor.inputs.items()}
    data = clean(load_model(model), shapes).SerializeToString()
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        for name, array in inputs.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for output in session.get_outputs():
            binding.bind_output(output.name)
        session.run_with_iobinding(binding)
    except Exception as e:
        raise UsageError(f"onnxruntime cannot run {model} on the bundle's inputs: {e}") from e
    return lambda: session.run_with_iobinding(binding)


def _interleaved(
    runners: Mapping[str, Callable[[], object]], rounds: int, cpu_clock: Callable[[], int]
) -> list[dict[str, Any]]:
    calls = {name: _warm_up(run) for name, run in runners.items()}
    wall: dict[str, list[float]] = {name: [] for name in runners}
    cpu: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(rounds):
        for name, run in runners.items():
            n = calls[name]
            cpu_began, began = cpu_clock(), time.perf_counter_ns()
            for _ in range(n):
                run()
            ended, cpu_ended = time.perf_counter_ns(), cpu_clock()
            wall[name].append((ended - began) / n / 1e6)
            cpu[name].append((cpu_ended - cpu_began) / n / 1e6)
    return [
        {
            "name": name,
            "median_ms": statistics.median(wall[name]),
            "minimum_ms": min(wall[name]),
            "cpu_ms": statistics.median(cpu[name]),
            "calls_per_round": calls[name],
        }
        for name in runners
    ]


def _warm_up(run: Callable[[], object]) -> int:
    """Calls `run` a few times; returns how many calls fill a round."""
    fastest = 1 << 62
    for _ in range(5):
        began = time.perf_counter_ns()
        run()
        fastest = min(fastest, time.perf_counter_ns() - began)
    return max(1, min(1000, _SAMPLE_NS // max(1, fastest)))


def _kernels(predictor: Predictor, kernels: Kernels, rounds: int) -> list[dict[str, Any]]:
    """The median time of each step, summed per kernel name, less what the call itself costs."""
    names = predictor.steps
    step = predictor.run_step
    if not names:
        return []
    clock = time.perf_counter_ns
    steps: list[list[int]] = [[] for _ in names]
    empty: list[int] = []
    for number in range(rounds + 3):
        for index, times in enumerate(steps):
            began = clock()
            step(index)
            took = clock() - began
            if number >= 3:
                times.append(took)
        began = clock()
        step(-1)  # rejected immediately: measures the overhead of a call
        empty.append(clock() - began)
    overhead = statistics.median(empty)
    us: dict[str, float] = {}
    calls: dict[str, int] = {}
    for name, times in zip(names, steps, strict=True):
        us[name] = us.get(name, 0.0) + max(0.0, statistics.median(times) - overhead) / 1e3
        calls[name] = calls.get(name, 0) + 1
    return _rows(us, calls, kernels, _MEASURABLE * overhead / 1e3)


def _rows(
    us: Mapping[str, float], calls: Mapping[str, int], kernels: Kernels, measurable: float = 0.0
) -> list[dict[str, Any]]:
    """The kernels' rows; those with less than `measurable` microseconds a call have no speed."""
    macs = {k["name"]: k["macs"] for k in kernels}
    total = sum(us.values()) or 1.0
    rows = [
        {
            "name": name,
            "calls": calls[name],
            "us": us[name],
            "share": us[name] / total,
            "gflops": 2e-3 * macs[name] * calls[name] / us[name]
            if macs.get(name) and us[name] > measurable * calls[name]
            else None,
        }
        for name in us
    ]
    return sorted(rows, key=lambda row: -row["us"])
