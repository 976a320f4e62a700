"""A detector for 640 x 480: finds coloured discs and squares; trained here on pictures of 64 x 64 drawn here.

    python examples/detector.py build/detector

A fully convolutional net looks at every 16 x 16 pixels. Its output is of the form `grid` (src/dlpack/detect.py): per
cell an objectness, a centre and a size, and a share per class.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from _example import Example, main
from _train import adam
from digits.train import Conv, MaxPool, Relu, parameters
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray
LABELS = ["disc", "square"]
CELL = 16
WIDTH, HEIGHT = 640, 480


def draw(rng: np.random.Generator, height: int, width: int, count: int) -> tuple[Array, list[tuple[int, ...]]]:
    """A noisy picture, 3 x height x width in 0..1, and its (class, x, y, diameter) of shapes that do not touch."""
    picture = rng.random((3, 1, 1)) * 0.4 + rng.random((3, height, width)) * 0.2
    rows, columns = np.mgrid[:height, :width]
    shapes: list[tuple[int, ...]] = []
    for _ in range(20 * count):
        kind, d = int(rng.integers(2)), int(rng.integers(12, 29))
        x, y = (int(rng.integers(d // 2 + 1, side - d // 2)) for side in (width, height))
        if len(shapes) < count and all(max(abs(x - a), abs(y - b)) > (d + e) / 2 + 2 for _, a, b, e in shapes):
            away = np.hypot(rows - y, columns - x) if kind == 0 else np.maximum(abs(rows - y), abs(columns - x))
            picture[:, away < d / 2] = 0.6 + 0.4 * rng.random((3, 1))
            shapes.append((kind, x, y, d))
    return picture.astype(np.float32), shapes


def targets(shapes: list[tuple[int, ...]], rows: int, columns: int) -> Array:
    """What the net should give, 7 x rows x columns: objectness, x and y in the cell, logits of the size, classes."""
    out = np.zeros((7, rows, columns), np.float32)
    for kind, x, y, d in shapes:
        r, c = y // CELL, x // CELL
        size = [-np.log(side / d - 1) for side in (WIDTH, HEIGHT)]
        out[:, r, c] = [1, x / CELL - c, y / CELL - r, *size, kind == 0, kind == 1]
    return out


def gradient(y: Array, t: Array) -> Array:
    """Of cross-entropy for objectness and class and of squares for the box, N x 7 x rows x columns."""
    there, center = t[:, :1], np.tanh(y[:, 1:3])
    shares = np.exp(y[:, 5:] - y[:, 5:].max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    parts = [
        1 / (1 + np.exp(-y[:, :1])) - there,
        there * 5 * (center - t[:, 1:3]) * (1 - center**2),
        there * (y[:, 3:5] - t[:, 3:5]),
        there * (shares - t[:, 5:]),
    ]
    return np.concatenate(parts, 1).astype(np.float32) / len(y)


def train(widths: tuple[int, ...], steps: int) -> list[Conv | Relu | MaxPool]:
    """The picture at half its size; convolutions with ReLU, pooled to a sixteenth; seven outputs for each cell."""
    rng = np.random.default_rng(5)
    layers: list[Conv | Relu | MaxPool] = [MaxPool()]
    inputs = 3
    for k, outputs in enumerate(widths):
        layers += [Conv(rng, inputs, outputs, 3), Relu(), *([MaxPool()] if k < 3 else [])]
        inputs = outputs
    last = Conv(rng, inputs, 7, 1)
    last.weight *= 0.1
    last.bias[:5] = [-3, 0, 0, -3.5, -3.2]  # few cells hold something; the size of an ordinary one
    layers.append(last)
    step = adam(parameters(layers), steps, 3e-3)
    for _ in range(steps):
        drawn = [draw(rng, 64, 64, 3) for _ in range(16)]
        x = np.stack([picture for picture, _ in drawn])
        for layer in layers:
            x = layer.forward(x)
        dy = gradient(x, np.stack([targets(shapes, 4, 4) for _, shapes in drawn]))
        grads: list[Array] = []
        for layer in reversed(layers):
            dy, own = layer.backward(dy)
            grads = own + grads
        step(grads)
    return layers


def to_onnx(layers: list[Conv | Relu | MaxPool], height: int, width: int) -> onnx.ModelProto:
    nodes, weights, x = [], [], "picture"
    for k, layer in enumerate(layers):
        if isinstance(layer, Conv):
            for name, value in ((f"weight{k}", layer.weight), (f"bias{k}", layer.bias)):
                weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
            pads = [layer.padding] * 4
            nodes.append(helper.make_node("Conv", [x, f"weight{k}", f"bias{k}"], [f"x{k}"], f"conv{k}", pads=pads))
        elif isinstance(layer, Relu):
            nodes.append(helper.make_node("Relu", [x], [f"x{k}"], f"relu{k}"))
        else:
            nodes.append(helper.make_node("MaxPool", [x], [f"x{k}"], f"pool{k}", kernel_shape=[2, 2], strides=[2, 2]))
        x = f"x{k}"
    weights.append(numpy_helper.from_array(np.array([1, 4, 2], np.int64), "parts"))
    nodes += [
        helper.make_node("Split", [x, "parts"], ["objectness", "box", "kinds"], "split", axis=1),
        helper.make_node("Sigmoid", ["objectness"], ["there"], "sigmoid"),
        helper.make_node("Softmax", ["kinds"], ["shares"], "softmax", axis=1),
        helper.make_node("Concat", ["there", "box", "shares"], ["cells"], "join", axis=1),
    ]
    shapes = {"picture": [1, 3, height, width], "cells": [1, 7, height // CELL, width // CELL]}
    values = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()}
    graph = helper.make_graph(nodes, "detector", [values["picture"]], [values["cells"]], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    metadata = {
        "dlpack.labels": LABELS,
        "dlpack.preprocess": {"scale": 1 / 255},
        "dlpack.task": {"kind": "detect", "format": "grid", "output": "cells", "threshold": 0.5},
    }
    helper.set_model_props(model, {key: json.dumps(value) for key, value in metadata.items()})
    onnx.checker.check_model(model, full_check=True)
    return model


def count(layers: list[Conv | Relu | MaxPool], pictures: int) -> tuple[int, int, int]:
    """On new pictures of 640 x 480: shapes found with their class, shapes drawn, and cells that saw what is not."""
    rng = np.random.default_rng(2026)
    found = total = wrong = 0
    for _ in range(pictures):
        picture, shapes = draw(rng, HEIGHT, WIDTH, 20)
        y = picture[None]
        for layer in layers:
            y = layer.forward(y)
        hit = set()
        for r, c in zip(*np.nonzero(y[0, 0] > 0), strict=True):
            at = (c + np.tanh(y[0, 1, r, c])) * CELL, (r + np.tanh(y[0, 2, r, c])) * CELL
            kind = int(y[0, 5:, r, c].argmax())
            near = [k for k, (n, a, b, d) in enumerate(shapes) if n == kind and np.hypot(a - at[0], b - at[1]) < d / 2]
            hit.update(near)
            wrong += not near
        found, total = found + len(hit), total + len(shapes)
    return found, total, wrong


def write(folder: Path, small: bool) -> Example:
    layers = train((4, 4, 8, 8), 10) if small else train((16, 32, 48, 48), 800)
    found, total, wrong = count(layers, 1 if small else 10)
    print(f"# finds {found} of {total} shapes in new pictures of {WIDTH} x {HEIGHT}; {wrong} cells see what is not")
    path = folder / "detector.onnx"
    path.write_bytes(to_onnx(layers, HEIGHT, WIDTH).SerializeToString(deterministic=True))
    return Example(path)


if __name__ == "__main__":
    main(write, __doc__)
