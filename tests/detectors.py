"""Models that give random boxes in every format, and the tasks that say so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def anything(rng: np.random.Generator, folder: Path, outputs: dict[str, tuple[tuple[int, ...], str]]) -> Path:
    """A model whose outputs are random mixtures of a picture's 3 x 8 x 8 numbers: of a shape, raw, "share" (sigmoid) or
    "uint8" (quantised shares), or "rows", whose second column is a class from -1 to 2 and the others shares."""
    nodes = [helper.make_node("Flatten", ["picture"], ["flat"])]
    weights, values = [], []
    for name, (shape, kind) in outputs.items():
        mix = rng.normal(0, 0.25, (192, int(np.prod(shape)))).astype(np.float32)
        weights += [numpy_helper.from_array(mix, f"{name}_mix")]
        weights += [numpy_helper.from_array(np.array(shape, np.int64), f"{name}_shape")]
        nodes.append(helper.make_node("MatMul", ["flat", f"{name}_mix"], [f"{name}_flat"]))
        raw = name if kind == "raw" else f"{name}_raw"
        nodes.append(helper.make_node("Reshape", [f"{name}_flat", f"{name}_shape"], [raw]))
        real = name if kind == "share" else f"{name}_real"
        if kind != "raw":
            nodes.append(helper.make_node("Sigmoid", [raw], [real]))
        if kind == "rows":
            columns = {"range": [1, 3, 1, 1, 1, 1, 1], "least": [0, 1, 0, 0, 0, 0, 0]}
            weights += [numpy_helper.from_array(np.array(v, np.float32), k) for k, v in columns.items()]
            nodes.append(helper.make_node("Mul", [real, "range"], ["ranged"]))
            nodes.append(helper.make_node("Sub", ["ranged", "least"], [name]))
        if kind == "uint8":
            weights.append(numpy_helper.from_array(np.array(1 / 250, np.float32), f"{name}_scale"))
            weights.append(numpy_helper.from_array(np.array(3, np.uint8), f"{name}_zero"))
            nodes.append(helper.make_node("QuantizeLinear", [real, f"{name}_scale", f"{name}_zero"], [name]))
        element = TensorProto.UINT8 if kind == "uint8" else TensorProto.FLOAT
        values.append(helper.make_tensor_value_info(name, element, shape))
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, 8, 8])
    graph = helper.make_graph(nodes, "anything", [picture], values, weights)
    path = folder / "anything.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


ANCHORS = [{"stride": 4, "sizes": [[2, 3], [3, 2]]}, {"stride": 5, "sizes": [[6, 6.5], [5, 4]]}]
FORMATS = {
    "corners": (
        {"boxes": ((1, 40, 4), "share"), "scores": ((1, 40, 3), "share")},
        {"boxes": "boxes", "scores": "scores", "threshold": 0.6, "iou": 0.2},
    ),
    "pixels": (
        {"scores": ((1, 150, 3), "uint8"), "boxes": ((1, 150, 4), "raw")},
        {"boxes": "boxes", "scores": "scores", "background": 1, "coordinates": "pixels", "most": 5},
    ),
    "anchors": (
        {"boxes": ((1, 16, 4), "raw"), "scores": ((1, 16, 2), "share")},
        {"boxes": "boxes", "scores": "scores", "background": 0, "anchors": ANCHORS, "clip": True},
    ),
    "rows": ({"found": ((1, 1, 60, 7), "rows")}, {"output": "found", "background": 1, "threshold": 0.4}),
    "grid": ({"cells": ((1, 9, 5, 6), "share")}, {"output": "cells", "threshold": 0.65, "iou": 0.3}),
}


PREPROCESS = {
    "pixels": {"channels": "BGR", "mean": [1.0, 0.9, 1.2], "std": [0.9, 1.3, 1.0]},
    "anchors": {"resize": 10},
    "rows": {"resize": 10, "channels": "BGR"},
}
