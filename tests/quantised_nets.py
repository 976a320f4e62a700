"""Small quantised models for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from dlpack.meaning.quantization import Quantization
from dlpack.pipeline import Options, build

Array = np.ndarray[Any, Any]
Types = Mapping[str, tuple[str, Sequence[int]]]

HALF = {"s": np.float32(0.5), "z": np.uint8(7), "s2": np.float32(0.25), "z2": np.uint8(8)}
U8 = {"y": ("uint8", [2, 3])}
X = {"x": ("float32", [2, 3])}
Q = Quantization(0.5, 7)


def model(nodes: Sequence[tuple[Any, ...]], inputs: Types, outputs: Types, **constants: Array) -> onnx.ModelProto:
    """Of nodes (operator, inputs, outputs[, attributes])."""
    made = [helper.make_node(op, ins.split(), outs.split(), **dict(*more)) for op, ins, outs, *more in nodes]

    def values(types: Types) -> list[onnx.ValueInfoProto]:
        kinds = {n: (helper.np_dtype_to_tensor_dtype(np.dtype(t)), s) for n, (t, s) in types.items()}
        return [helper.make_tensor_value_info(n, *kind) for n, kind in kinds.items()]

    tensors = [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()]
    graph = helper.make_graph(made, "g", values(inputs), values(outputs), tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def built(proto: onnx.ModelProto, folder: Path, name: str = "net", **options: Any) -> Path:
    onnx.save(proto, folder / f"{name}.onnx")
    return build(folder / f"{name}.onnx", folder / "bundle", Options(**options))


KINDS = {"uint8": Quantization(1 / 256, 0), "int8": Quantization(1 / 256, -128)}
"""As TensorFlow Lite quantises every softmax."""

COLOURS = ("red", "green", "blue")


def classifier(dtype: str) -> onnx.ModelProto:
    """The softmax of a picture's mean colour, quantised."""
    kind = KINDS[dtype]
    return model(
        [
            ("GlobalAveragePool", "x", "p"),
            ("Flatten", "p", "f"),
            ("Softmax", "f", "s"),
            ("QuantizeLinear", "s scale zero", "q"),
            ("Reshape", "q shape", "y"),
        ],
        {"x": ("float32", [1, 3, 8, 8])},
        {"y": (dtype, [3])},
        scale=np.float32(kind.scale),
        zero=np.array(kind.zero_point, dtype),
        shape=np.array([3], np.int64),
    )


# --- detectors and pictures that come out -----------------------------------------------------------------------------


def tensor(name: str, values: Array, kind: Quantization | None = None) -> dict[str, Any]:
    more = {"quantization": kind.to_json()} if kind else {}
    return {"name": name, "dtype": values.dtype.name, "shape": list(values.shape), **more}
