"""The zoo: fifteen models with seeded random weights, exported to ONNX into a cache folder.

Weights and inputs come from numpy's generators, so that every version of torch gives the same model. torch is imported
only to make one: `python -m bench.models FOLDER NAME...` does that in whichever Python has it.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

if TYPE_CHECKING:
    from torch import nn

Array = np.ndarray[Any, Any]

MARKER = "zoo.json"
"""In a folder that `export_zoo` filled: the version of these definitions, and the models there."""

VERSION = 1
OPSET = 17


@dataclass(frozen=True)
class Input:
    """An input: floats are drawn from [0, 1) for `high` 1 and from N(0, 1) for `high` 0, integers from [0, high)."""

    name: str
    shape: tuple[int, ...]
    high: int = 1
    dtype: str = "float32"


@dataclass(frozen=True)
class Model:
    """A model of the zoo; `name` is also its function in `bench.nets`."""

    name: str
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...] = ("y",)


def _picture(name: str, channels: int, height: int, width: int) -> Model:
    return Model(name, (Input("x", (1, channels, height, width)),))


_TOKENS = (Input("ids", (1, 128), 30522, "int64"),)

MODELS = {
    model.name: model
    for model in (
        _picture("squeezenet11", 3, 224, 224),
        _picture("mobilenetv1", 3, 224, 224),
        _picture("mobilenetv2", 3, 224, 224),
        _picture("inceptionv1", 3, 224, 224),
        _picture("resnet18", 3, 224, 224),
        _picture("resnet50", 3, 224, 224),
        _picture("alexnet", 3, 224, 224),
        _picture("style256", 3, 256, 256),
        _picture("tinyyolov2", 3, 480, 640),
        _picture("lenet5", 1, 28, 28),
        Model("mlp", (Input("x", (1, 784)),)),
        Model("mf", (Input("u", (256,), 20000, "int64"), Input("i", (256,), 10000, "int64"))),
        Model("lstm", (Input("x", (35, 1, 200), 0),)),
        Model("bert_2x128", _TOKENS, ("y", "h")),
        Model("bert_6x384", _TOKENS, ("y", "h")),
    )
}

MOBILENETV3 = _picture("mobilenetv3", 3, 224, 224)
"""For the table of int8 alone."""

ALL = {**MODELS, MOBILENETV3.name: MOBILENETV3}


def make_inputs(model: Model) -> dict[str, Array]:
    """The model's inputs, the same in every run."""
    rng = np.random.default_rng(crc32(f"{model.name} inputs".encode()))
    return {i.name: _draw(rng, i) for i in model.inputs}


def _draw(rng: np.random.Generator, value: Input) -> Array:
    if value.dtype == "int64":
        return rng.integers(0, value.high, value.shape, np.int64)
    return rng.random(value.shape, np.float32) if value.high else rng.standard_normal(value.shape, np.float32)


def make_module(model: Model) -> nn.Module:
    """The model as a torch module in evaluation mode, with its weights."""
    from bench import nets

    make: Callable[[], nn.Module] = getattr(nets, model.name)
    module = make().eval()
    _set_weights(module, np.random.default_rng(crc32(model.name.encode())))
    return module


def _set_weights(module: nn.Module, rng: np.random.Generator) -> None:
    """Weights that keep activations near 1 through the layers (He et al. 2015 for those before a ReLU)."""
    import torch
    from torch import nn

    def normal(value: torch.Tensor, deviation: float, mean: float = 0.0) -> None:
        value.copy_(torch.from_numpy(rng.standard_normal(tuple(value.shape), np.float32) * deviation + mean))

    def uniform(value: torch.Tensor, low: float, high: float) -> None:
        value.copy_(torch.from_numpy(low + (high - low) * rng.random(tuple(value.shape), np.float32)))

    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                normal(part.weight, float(np.sqrt(2 / np.prod(part.weight.shape[1:]))))
                if part.bias is not None:
                    normal(part.bias, 0.05)
            elif isinstance(part, nn.BatchNorm2d):
                uniform(part.weight, 0.7, 0.9)
                normal(part.bias, 0.05)
                assert part.running_mean is not None and part.running_var is not None
                normal(part.running_mean, 0.05)
                uniform(part.running_var, 0.8, 1.2)
            elif isinstance(part, nn.Embedding):
                normal(part.weight, 1.0)
            elif isinstance(part, nn.LSTM):
                bound = float(part.hidden_size**-0.5)
                for value in part.parameters():
                    uniform(value, -bound, bound)
            for name, value in part.named_parameters(recurse=False):
                if name == "positions":
                    normal(value, 0.02)


def export_zoo(folder: Path, names: Iterable[str], tell: Callable[[str], None] = lambda _: None) -> None:
    """Writes NAME.onnx and NAME.npz (the inputs, `in_NAME`) for those of `names` that are not in `folder` yet."""
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / MARKER
    made: list[str] = []
    if marker.is_file():
        told = json.loads(marker.read_text(encoding="utf-8"))
        made = told["models"] if told["version"] == VERSION else []
    for name in names:
        if name in made:
            continue
        tell(f"making {name}")
        model = ALL[name]
        inputs = make_inputs(model)
        _export(model, inputs, folder / f"{name}.onnx")
        np.savez(folder / f"{name}.npz", **{f"in_{key}": value for key, value in inputs.items()})  # type: ignore[arg-type]
        made.append(name)
        marker.write_text(json.dumps({"version": VERSION, "models": made}) + "\n", encoding="utf-8")


def _export(model: Model, inputs: dict[str, Array], path: Path) -> None:
    import onnx
    import torch

    module = make_module(model)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter that writes plain operators is announced as deprecated
        torch.onnx.export(
            module,
            tuple(torch.from_numpy(a) for a in inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=list(model.outputs),
            opset_version=OPSET,
            dynamo=False,
        )
    proto = onnx.shape_inference.infer_shapes(onnx.load(str(path)), strict_mode=True, data_prop=True)
    _fold_constants(proto)
    _drop_zero_states(proto)
    onnx.save(onnx.shape_inference.infer_shapes(proto, strict_mode=True), str(path))


_FOLD_LIMIT = 1 << 16
"""Elements up to which a node's constant inputs are folded: shape arithmetic, not weights."""


def _fold_constants(proto: Any) -> None:
    """Replaces the nodes that depend on constants and shapes alone by their values."""
    from onnx import helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    graph = proto.graph
    known = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.input, *graph.value_info)}
    for node in list(graph.node):
        names = [name for name in node.input if name]
        if node.op_type == "Shape" and all(shapes.get(names[0], [0])):
            values = [np.array(shapes[names[0]], np.int64)]
        elif all(name in known for name in names) and sum(known[name].size for name in names) <= _FOLD_LIMIT:
            arguments = [
                helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(known[n].dtype), known[n].shape)
                for n in names
            ]
            results = [helper.make_empty_tensor_value_info(n) for n in node.output]
            alone = helper.make_graph([node], "fold", arguments, results)
            evaluator = ReferenceEvaluator(helper.make_model(alone, opset_imports=proto.opset_import))
            values = [np.asarray(v) for v in evaluator.run(None, {n: known[n] for n in names})]
        else:
            continue
        for name, value in zip(node.output, values, strict=True):
            known[name] = value
            graph.initializer.append(numpy_helper.from_array(value, name))
        graph.node.remove(node)
    _drop_unused(graph)


def _drop_zero_states(proto: Any) -> None:
    """Leaves out the LSTM's initial states where they are zeros, the default: not every converter takes them."""
    from onnx import numpy_helper

    values = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    for node in proto.graph.node:
        states = [values.get(name) for name in node.input[5:7]]
        if node.op_type == "LSTM" and states and all(s is not None and not s.any() for s in states):
            del node.input[5:]
    _drop_unused(proto.graph)


def _drop_unused(graph: Any) -> None:
    used = {name for node in graph.node for name in node.input} | {v.name for v in graph.output}
    for tensor in [t for t in graph.initializer if t.name not in used]:
        graph.initializer.remove(tensor)


def main(arguments: list[str]) -> int:
    try:
        export_zoo(Path(arguments[0]), arguments[1:], lambda text: print(text, file=sys.stderr))
    except ModuleNotFoundError as e:
        print(f"making the models needs {e.name}: pip install torch onnx", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
