"""The contestants: how each converts a model, and how it runs one on one core's worth of threads in fp32.

A worker process imports this module, perhaps in another Python than the compiler's: everything but numpy is imported
by the contestant that needs it, and `dlpack` only by our own.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]
Inputs = Mapping[str, Array]


class PeerError(Exception):
    """A contestant that cannot take this model; the text says why."""


class Session(Protocol):
    """A loaded model with its inputs set."""

    def run(self) -> object:
        """Computes the outputs once."""

    def outputs(self) -> dict[str, Array]:
        """What the last run computed, by the contestant's own names, in the model's order."""


@dataclass(frozen=True)
class Peer:
    """A contestant. `packages`: what pip installs for it, the runtime first; `module`: what a program imports of it;
    `host`: runs in the compiler's Python."""

    name: str
    title: str
    packages: tuple[str, ...]
    module: str
    convert: Callable[[Path, Path], Path]
    load: Callable[[Path, Inputs, int], Session]
    host: bool = False


def versions(peer: Peer) -> dict[str, str]:
    """The version of each package; raises PeerError naming those that are not installed here."""
    found, missing = {}, []
    for package in peer.packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        raise PeerError(f"not installed: pip install {' '.join(missing)}")
    return found


def runtime_bytes(peer: Peer) -> int:
    """The size of the shared objects in the runtime's wheel."""
    total = 0
    for file in importlib.metadata.files(peer.packages[0]) or ():
        if ".so" in file.name or file.name.endswith((".dylib", ".pyd", ".dll")):
            place = Path(str(file.locate()))
            total += place.stat().st_size if place.is_file() else 0
    return total


def _as_is(model: Path, _folder: Path) -> Path:
    return model


def _finished(process: subprocess.CompletedProcess[str], made: Path, tool: str) -> Path:
    if process.returncode or not made.is_file():
        lines = (process.stderr + process.stdout).strip().splitlines()
        raise PeerError(f"{tool} failed (exit code {process.returncode}): {lines[-1] if lines else 'no message'}")
    return made


# --- ours -------------------------------------------------------------------------------------------------------------


class _Ours:
    def __init__(self, file: Path, inputs: Inputs, _threads: int) -> None:
        from dlpack.bundle.loader import load

        self._predictor = load(file)
        self._predictor.bind(inputs)
        self._inputs = inputs
        self.run = self._predictor.compute

    def outputs(self) -> dict[str, Array]:
        return dict(self._predictor.run(self._inputs))


# --- onnxruntime ------------------------------------------------------------------------------------------------------


class _Onnxruntime:
    def __init__(self, file: Path, inputs: Inputs, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self._binding = self._session.io_binding()
        for name, array in inputs.items():
            self._binding.bind_cpu_input(name, np.ascontiguousarray(array))
        self._names = [output.name for output in self._session.get_outputs()]
        for name in self._names:
            self._binding.bind_output(name)

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def outputs(self) -> dict[str, Array]:
        return dict(zip(self._names, self._binding.copy_outputs_to_cpu(), strict=True))


# --- ncnn, through pnnx -----------------------------------------------------------------------------------------------


def _convert_ncnn(model: Path, folder: Path) -> Path:
    """pnnx writes NAME.ncnn.param, NAME.ncnn.bin, and NAME_ncnn.py, an example that shows each input's batch axis."""
    package = importlib.util.find_spec("pnnx")
    assert package is not None and package.origin is not None
    tool = Path(package.origin).parent / "pnnx"
    copy = folder / "net.onnx"  # pnnx writes beside its input
    copy.unlink(missing_ok=True)
    copy.symlink_to(model.resolve())
    command = [str(tool if tool.is_file() else "pnnx"), copy.name, "fp16=0"]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    made = _finished(process, folder / "net.ncnn.param", "pnnx")
    for spare in (*folder.glob("net.pnnx*"), folder / "net_pnnx.py"):
        spare.unlink(missing_ok=True)
    return made


_NO_BATCH = 233
"""pnnx's sign for an input that has no batch axis."""


class _Ncnn:
    def __init__(self, file: Path, inputs: Inputs, threads: int) -> None:
        import ncnn

        self._net = ncnn.Net()
        options = self._net.opt
        options.num_threads = threads
        for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
            setattr(options, name, False)
        stem = str(file).removesuffix(".param")
        if self._net.load_param(str(file)) or self._net.load_model(f"{stem}.bin"):
            raise PeerError("ncnn cannot load what pnnx made")
        example = Path(str(file).replace(".ncnn.param", "_ncnn.py")).read_text(encoding="utf-8")
        self._inputs = []
        for k, array in enumerate(inputs.values()):
            array = np.ascontiguousarray(array.astype(np.int32) if array.dtype == np.int64 else array)
            axis = re.search(rf"ncnn\.Mat\(in{k}\.numpy\(\), batch_index=(\d+)", example)
            squeezed = re.search(rf"ncnn\.Mat\(in{k}\.squeeze\((\d+)\)", example)  # pnnx before October 2026
            if squeezed:
                array = array.squeeze(int(squeezed[1]))
            options_ = {"batch_index": int(axis[1])} if axis and int(axis[1]) != _NO_BATCH else {}
            self._inputs.append((f"in{k}", ncnn.Mat(array, **options_).clone()))
        self._names = list(dict.fromkeys(re.findall(r'extract\("(out\d+)"\)', example)))
        self._results: list[Any] = []

    def run(self) -> None:
        extractor = self._net.create_extractor()
        for name, mat in self._inputs:
            extractor.input(name, mat)
        self._results = [extractor.extract(name)[1] for name in self._names]

    def outputs(self) -> dict[str, Array]:
        return {name: np.array(mat) for name, mat in zip(self._names, self._results, strict=True)}


# --- MNN --------------------------------------------------------------------------------------------------------------


def _convert_mnn(model: Path, folder: Path) -> Path:
    """Calls the compiled converter: the `mnnconvert` command around it wants to install a telemetry package."""
    # useOriginRNNImpl: without it, MNN 3.6 unrolls the LSTM into a loop and dies of std::bad_alloc.
    import _tools

    made = folder / "net.mnn"
    command = ["mnnconvert", "-f", "ONNX", "--modelFile", str(model), "--MNNModel", str(made), "--bizCode", "bench"]
    _tools.mnnconvert([*command, "--useOriginRNNImpl"])
    if not made.is_file():
        raise PeerError("mnnconvert wrote no model")
    return made


class _Mnn:
    def __init__(self, file: Path, inputs: Inputs, threads: int) -> None:
        import MNN

        self._mnn = MNN
        self._interpreter = MNN.Interpreter(str(file))
        # "high" is fp32; "normal" may be less.
        config = {"backend": "CPU", "numThread": threads, "precision": "high"}
        self._session = self._interpreter.createSession(config)
        self._inputs = []
        for name, tensor in self._interpreter.getSessionInputAll(self._session).items():
            array = inputs[name]
            array = np.ascontiguousarray(array.astype(np.int32) if array.dtype == np.int64 else array)
            host = MNN.Tensor(array.shape, tensor.getDataType(), array, MNN.Tensor_DimensionType_Caffe)
            self._inputs.append((tensor, host))

    def run(self) -> None:
        for tensor, host in self._inputs:  # each time: a session uses its inputs' memory for other tensors
            tensor.copyFrom(host)
        self._interpreter.runSession(self._session)

    def outputs(self) -> dict[str, Array]:
        values = {}
        for name, tensor in self._interpreter.getSessionOutputAll(self._session).items():
            shape, mnn = tensor.getShape(), self._mnn
            empty = np.zeros(shape, np.float32)
            host = mnn.Tensor(shape, tensor.getDataType(), empty, mnn.Tensor_DimensionType_Caffe)
            tensor.copyToHostTensor(host)
            values[name] = np.array(host.getNumpyData())
        return values


# --- OpenVINO ---------------------------------------------------------------------------------------------------------


class _OpenVino:
    def __init__(self, file: Path, inputs: Inputs, threads: int) -> None:
        import openvino

        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        compiled = openvino.Core().compile_model(str(file), "CPU", settings)
        self._request = compiled.create_infer_request()
        for port in compiled.inputs:
            self._request.set_tensor(port, openvino.Tensor(np.ascontiguousarray(inputs[port.any_name])))
        self._outputs = compiled.outputs
        self.run = self._request.infer

    def outputs(self) -> dict[str, Array]:
        return {port.any_name: np.array(self._request.get_tensor(port).data) for port in self._outputs}


# --- LiteRT -----------------------------------------------------------------------------------------------------------


def _convert_litert(model: Path, folder: Path, integers: str = "int64") -> Path:
    """A .tflite beside the model, of which it was exported. Else litert-torch converts the zoo's torch module: no
    converter from ONNX is left that pip installs. Its integer inputs become `integers`."""
    from bench.models import ALL, MARKER, VERSION, make_inputs, make_module

    if model.with_suffix(".tflite").is_file():
        return model.with_suffix(".tflite")

    marker = model.parent / MARKER
    told = json.loads(marker.read_text(encoding="utf-8")) if marker.is_file() else {}
    if told.get("version") != VERSION or model.stem not in told["models"]:
        raise PeerError("litert-torch converts torch modules, and this model is not one of bench/models.py")
    import litert_torch
    import torch

    known = ALL[model.stem]
    inputs = [a.astype(integers) if a.dtype == np.int64 else a for a in make_inputs(known).values()]
    arguments = tuple(torch.from_numpy(a) for a in inputs)
    made = folder / "net.tflite"
    litert_torch.convert(make_module(known), arguments).export(str(made))
    return made


class _LiteRt:
    def __init__(self, file: Path, inputs: Inputs, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter  # with the XNNPACK delegate, its default

        self._interpreter = Interpreter(str(file), num_threads=threads)
        self._interpreter.allocate_tensors()
        places = sorted(self._interpreter.get_input_details(), key=lambda d: _number(d["name"]))
        for place, array in zip(places, inputs.values(), strict=True):
            self._interpreter.set_tensor(place["index"], np.ascontiguousarray(array.astype(place["dtype"])))
        self.run = self._interpreter.invoke

    def outputs(self) -> dict[str, Array]:
        places = sorted(self._interpreter.get_output_details(), key=lambda d: _number(d["name"]))
        return {d["name"]: self._interpreter.get_tensor(d["index"]) for d in places}


def _convert_litert_int32(model: Path, folder: Path) -> Path:
    return _convert_litert(model, folder, "int32")


def _number(name: str) -> int:
    """`serving_default_args_12` → 12, `serving_default_output_12_output` → 12."""
    found = re.findall(r"\d+", name)
    return int(found[-1]) if found else 0


_LITERT_PACKAGES = ("ai-edge-litert", "litert-torch", "torch")
_LITERT = "ai_edge_litert.interpreter"

OURS = Peer("ours", "ours", ("numpy",), "dlpack.bundle.loader", _as_is, _Ours, host=True)

PEERS = {
    peer.name: peer
    for peer in (
        Peer("onnxruntime", "onnxruntime", ("onnxruntime",), "onnxruntime", _as_is, _Onnxruntime, host=True),
        Peer("ncnn", "ncnn", ("ncnn", "pnnx"), "ncnn", _convert_ncnn, _Ncnn),
        Peer("mnn", "MNN", ("MNN",), "MNN", _convert_mnn, _Mnn),
        Peer("openvino", "OpenVINO", ("openvino",), "openvino", _as_is, _OpenVino),
        Peer("litert", "LiteRT", _LITERT_PACKAGES, _LITERT, _convert_litert, _LiteRt),
    )
}

LITERT_INT32 = Peer(
    "litert-int32", "LiteRT with int32 inputs", _LITERT_PACKAGES, _LITERT, _convert_litert_int32, _LiteRt
)
"""For LiteRT.js, which takes no int64."""

CONTESTANTS = {OURS.name: OURS, **PEERS, LITERT_INT32.name: LITERT_INT32}
