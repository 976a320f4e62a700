"""How long others take for a bundle's model on the same GPU, in float32 without TF32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.gpu.bundles import timed


def pytorch(bundle: Path) -> dict[str, Any]:
    """PyTorch's latency: as it is, and as a CUDA graph."""
    import torch

    module, given = _module(bundle)
    found: dict[str, Any] = {"version": torch.__version__}
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


def compiled(bundle: Path) -> dict[str, Any]:
    """The latency of what torch.compile makes, which takes it up to a minute; as a CUDA graph too."""
    import torch

    module, given = _module(bundle)
    with torch.inference_mode():
        made = torch.compile(module, mode="max-autotune")
        return {"s": timed(_finished(lambda: made(*given)))}


def onnxruntime(bundle: Path) -> dict[str, Any]:
    """onnxruntime's latency by its CUDA provider, if this installation has one and NAME.onnx lies beside the bundle."""
    model = bundle.with_name(f"{bundle.name}.onnx")
    if not model.is_file():
        raise FileNotFoundError(f"{model.name} is not there; build with --keep-models")
    import onnxruntime as ort

    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise ImportError("this onnxruntime has no CUDA provider")
    provider = ("CUDAExecutionProvider", {"use_tf32": "0"})
    session = ort.InferenceSession(model, providers=[provider])
    with np.load(bundle / "reference.npz") as reference:
        inputs = {value.name: reference[f"in_{k}"] for k, value in enumerate(session.get_inputs())}
    return {"version": ort.__version__, "host_s": timed(lambda: session.run(None, inputs))}


def _module(bundle: Path) -> tuple[Any, list[Any]]:
    """The bundle's model in PyTorch, and its inputs, on the GPU."""
    import torch

    from bench.models import MODELS, make_inputs, make_module

    if not torch.cuda.is_available():
        raise ImportError("this PyTorch finds no GPU")
    name, batch = (bundle.name.removesuffix("_8"), 8) if bundle.name.endswith("_8") else (bundle.name, 1)
    if name not in MODELS:
        raise ValueError(f"{name} is no model of the zoo")
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
