"""What bundles and their peers compute on the GPU of this machine, and how long they take."""

from __future__ import annotations

import json
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import dlpack
from dlpack.errors import DlpackError

TOLERANCE = 1e-4
"""Of an output's largest absolute value."""
WARM_UP_S, ROUNDS, RUN_S = 0.2, 5, 0.1
SANITIZED = ("lenet5", "mlp", "bert_2x128")


def machine() -> dict[str, str]:
    """The GPU, its driver, and the processor, in words."""
    told = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
    query = ["nvidia-smi", "--query-gpu=name,driver_version,clocks.max.sm", "--format=csv,noheader"]
    try:
        line = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()[0]
        told |= dict(zip(("gpu", "driver", "clock"), (part.strip() for part in line.split(",")), strict=True))
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        told["gpu"] = "unknown: nvidia-smi does not run"
    return told


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
    with dlpack.load(bundle, device=device) as predictor:
        with np.load(bundle / "reference.npz") as reference:
            inputs = {name: reference[f"in_{k}"] for k, name in enumerate(predictor.inputs)}
            wanted = [reference[f"out_{k}"] for k in range(len(predictor.outputs))]
        got = predictor.run(inputs)
        errors = []
        for name, want in zip(predictor.outputs, wanted, strict=True):
            span = float(np.abs(want).max()) or 1.0
            errors.append(float(np.abs(got[name].astype(np.float64) - want).max()) / span)
        found: dict[str, Any] = {
            "device": predictor.device,
            "variant": predictor.variant,
            "error": max(errors),
            "right": max(errors) <= TOLERANCE,
            "host_s": timed(lambda: predictor.run(inputs, copy=False)),
        }
        found |= _on_device(predictor, inputs)
    return found


def _on_device(predictor: Any, inputs: dict[str, Any]) -> dict[str, float]:
    """Latency with inputs and outputs in the GPU's memory, if PyTorch is there to hold them."""
    try:
        import torch
    except ImportError:
        return {}
    if not torch.cuda.is_available():
        return {}
    there = {name: torch.from_numpy(np.ascontiguousarray(x)).cuda() for name, x in inputs.items()}
    outputs = {
        name: torch.empty(shape, dtype=getattr(torch, dtype), device="cuda")
        for name, (dtype, shape) in predictor.outputs.items()
    }
    torch.cuda.synchronize()
    predictor.bind_outputs(outputs)
    try:
        return {"device_s": timed(lambda: predictor.run(there))}
    finally:
        predictor.bind_outputs(dict.fromkeys(outputs))


def _pytorch_module(bundle: Path) -> tuple[Any, list[Any]]:
    """The bundle's model in PyTorch, in float32 (no TF32), and its inputs, on the GPU."""
    import torch

    from bench.models import MODELS, make_inputs, make_module

    name, batch = (bundle.name.removesuffix("_8"), 8) if bundle.name.endswith("_8") else (bundle.name, 1)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    module = make_module(MODELS[name]).cuda()
    given = []
    for value in make_inputs(MODELS[name]).values():
        if batch > 1:
            if value.shape[0] != 1:
                raise ValueError(f"{name} has no batch dimension")
            value = np.repeat(value, batch, axis=0)
        given.append(torch.from_numpy(value).cuda())
    return module, given


def _finished(run: Callable[[], object]) -> Callable[[], None]:
    import torch

    def whole() -> None:
        run()
        torch.cuda.synchronize()

    return whole


def _measure_pytorch(bundle: Path) -> dict[str, Any]:
    """PyTorch's latency: as it is, and as a CUDA graph."""
    import torch

    module, given = _pytorch_module(bundle)
    found: dict[str, Any] = {}
    with torch.inference_mode():
        found["eager_s"] = timed(_finished(lambda: module(*given)))
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(3):
                module(*given)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            module(*given)
        found["graph_s"] = timed(_finished(graph.replay))
    return found


def _measure_compiled(bundle: Path) -> dict[str, Any]:
    """The latency of what torch.compile makes, which takes it up to a minute."""
    import torch

    module, given = _pytorch_module(bundle)
    with torch.inference_mode():
        compiled = torch.compile(module, mode="max-autotune-no-cudagraphs")
        return {"s": timed(_finished(lambda: compiled(*given)))}


def _measure_onnxruntime(bundle: Path) -> dict[str, Any]:
    """onnxruntime's latency by its CUDA provider, if this installation has one and NAME.onnx lies beside the bundle."""
    import onnxruntime

    model = bundle.with_name(f"{bundle.name}.onnx")
    if not model.is_file():
        return {"error": f"{model.name} is not there; build with --keep-models"}
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return {"error": "this onnxruntime has no CUDA provider"}
    provider = ("CUDAExecutionProvider", {"use_tf32": "0"})
    session = onnxruntime.InferenceSession(model, providers=[provider])
    with np.load(bundle / "reference.npz") as reference:
        inputs = {value.name: reference[f"in_{k}"] for k, value in enumerate(session.get_inputs())}
    return {"host_s": timed(lambda: session.run(None, inputs))}


def sanitized(bundle: Path) -> str:
    """What compute-sanitizer says of one run: "" where it finds nothing."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return "compute-sanitizer is not installed"
    code = f"from bench.gpu import measure; measure.one_run({str(bundle)!r})"
    command = [tool, "--error-exitcode", "9", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode == 0:
        return ""
    return "\n".join((done.stdout + done.stderr).splitlines()[-6:])


def one_run(bundle: str) -> None:
    with dlpack.load(bundle, device="cuda") as predictor, np.load(Path(bundle) / "reference.npz") as reference:
        predictor.run({name: reference[f"in_{k}"] for k, name in enumerate(predictor.inputs)})


def measure_all(folder: Path, minutes: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """All bundles of the folder; peers after them, as long as the time lasts."""
    end = time.monotonic() + 60 * minutes
    bundles = sorted(path.parent for path in folder.glob("*/manifest.json"))
    rows: dict[str, dict[str, Any]] = {}
    for bundle in bundles:
        try:
            row = measure(bundle)
        except (DlpackError, OSError, ValueError) as e:
            row = {"error": None, "right": False, "problem": str(e)}
        rows[bundle.name] = row
        tell(f"{bundle.name}: {json.dumps(row)}")
    for bundle in bundles:
        if bundle.name in SANITIZED and time.monotonic() < end:
            rows[bundle.name]["sanitizer"] = sanitized(bundle)
    peers = (("pytorch", _measure_pytorch), ("onnxruntime", _measure_onnxruntime), ("compiled", _measure_compiled))
    for peer, run in peers:  # the slowest last
        for bundle in bundles:
            if time.monotonic() > end:
                rows[bundle.name][peer] = {"error": "not measured: the time was up"}
                continue
            try:
                row = run(bundle)
            except Exception as e:  # noqa: BLE001 - a peer that fails is reported as that
                row = {"error": f"{type(e).__name__}: {str(e)[:200]}"}
            rows[bundle.name][peer] = row
            tell(f"{bundle.name}: {peer} {json.dumps(row)}")
    return {"machine": machine(), "dlpack": dlpack.__version__, "rows": rows}
