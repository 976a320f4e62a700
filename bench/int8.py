"""The integer networks: the zoo's, quantised by onnxruntime and by LiteRT's quantiser, each as its users have it.

`python -m bench.int8 FLOAT.tflite INT8.tflite INPUTS.npz [floats]` quantises for LiteRT, in whichever Python has its
quantiser.
"""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.models import ALL, make_inputs
from bench.peers import PEERS, Array
from bench.rounds import ROOT, WorkerError, ask_once, worker_command
from bench.zoo import make_zoo

NAMES = ("mobilenetv2", "mobilenetv3", "squeezenet11", "resnet18", "resnet50")
FORMS = ("qdq", "tflite")
"""By onnxruntime's quantiser, or by LiteRT's, read from the .tflite: what a row's name ends with."""

PACKAGE = "ai-edge-quantizer"
SAMPLES = 4


def choose_int8(only: str, cache: Path, peer_python: str, floats: bool = False) -> list[Path]:
    """The ONNX files to run, beside those of LiteRT their .tflite; makes those that are not in the cache. `floats`:
    LiteRT's have floats as inputs and outputs."""
    names = [(name, form) for name in NAMES for form in FORMS if re.search(only, f"{name}-{form}")]
    if not names:
        raise click.UsageError(f"--only {only!r} leaves none of the integer networks: {', '.join(NAMES)}")
    folder = cache / ("int8-floats" if floats else "int8")
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, form in names:
        file = folder / f"{name}-{form}.onnx"
        if not file.is_file():
            click.echo(f"making {file.stem}", err=True)
            (model,) = make_zoo([name], cache, peer_python)
            try:
                _by_onnxruntime(model, file) if form == "qdq" else _by_litert(model, file, cache, peer_python, floats)
            except (WorkerError, subprocess.CalledProcessError) as e:
                click.echo(f"{file.stem}: left out: {e}", err=True)
                continue
        made.append(file)
    return made


def takes_part(name: str, file: Path) -> bool:
    """Whether a contestant can run the model: LiteRT has no reader of ONNX."""
    return name != "litert" or file.with_suffix(".tflite").is_file()


def samples(name: str) -> list[dict[str, Array]]:
    """Calibration data."""
    rng = np.random.default_rng(1)
    inputs = make_inputs(ALL[name])
    return [{key: rng.random(x.shape, np.float32) for key, x in inputs.items()} for _ in range(SAMPLES)]


def _by_onnxruntime(model: Path, file: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(samples(model.stem))

        def get_next(self) -> Any:
            return next(self.left, None)

    logging.disable(logging.WARNING)  # it wants shapes inferred and nodes fused first, as they are here
    kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(model, file, Reader(), QuantFormat.QDQ, per_channel=True, **kinds)
    logging.disable(logging.NOTSET)
    np.savez(file.with_suffix(".npz"), **{f"in_{key}": x for key, x in make_inputs(ALL[model.stem]).items()})  # type: ignore[arg-type]


def _by_litert(model: Path, file: Path, cache: Path, peer_python: str, floating_ends: bool) -> None:
    import onnx
    from onnx.helper import tensor_dtype_to_np_dtype

    folder = (cache / "peers" / "litert" / model.stem).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    floats = folder / "net.tflite"
    if not floats.is_file():
        ask_once(worker_command(peer_python, "convert", PEERS["litert"].name, str(model.resolve()), str(folder)))
    integers, data = file.with_suffix(".tflite").resolve(), folder / "samples.npz"
    np.savez(data, *(x for sample in samples(model.stem) for x in sample.values()))
    command = [peer_python, "-m", "bench.int8", str(floats), str(integers), str(data)]
    command += ["floats"] if floating_ends else []
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    command = [sys.executable, "-m", "dlpack.cli", "export", str(integers), "-o", str(file.resolve())]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    graph = onnx.load(str(file), load_external_data=False).graph
    rng = np.random.default_rng(2)
    inputs = {}
    for value in graph.input:
        kind = tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        floating = np.issubdtype(kind, np.floating)
        inputs[f"in_{value.name}"] = rng.random(shape, kind) if floating else rng.integers(-128, 128, shape, kind)
    np.savez(file.with_suffix(".npz"), **inputs)  # type: ignore[arg-type]


def quantise(floats: Path, integers: Path, data: Path, floating_ends: bool) -> None:
    """LiteRT's own quantiser: weights and activations of 8 bits, by channel and by tensor. `floating_ends`: but for the
    model's inputs and outputs."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import algorithm_manager, qtyping, quantizer, recipe

    ((signature, names),) = Interpreter(str(floats)).get_signature_list().items()
    with np.load(data) as stored:
        given = [{names["inputs"][0]: stored[key]} for key in stored.files]
    made = quantizer.Quantizer(str(floats))
    made.load_quantization_recipe(recipe.static_wi8_ai8())
    for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT) if floating_ends else ():
        made.update_quantization_recipe(".*", end, algorithm_key=algorithm_manager.AlgorithmName.NO_QUANTIZE)
    made.quantize(made.calibrate({signature: given})).export_model(str(integers))


if __name__ == "__main__":
    quantise(*map(Path, sys.argv[1:4]), floating_ends=sys.argv[4:] == ["floats"])
