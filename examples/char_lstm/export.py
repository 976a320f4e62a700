"""Write a character LSTM as ONNX: one step, from a character and the states to scores and the new states.

    python examples/char_lstm/export.py FOLDER -o char_lstm.onnx

FOLDER holds a model as ml5.js's charRNN reads it: `manifest.json` (names, files, shapes), raw little-endian float32
files, and `vocab.json` (character to number). It was trained with TensorFlow's BasicLSTMCell, whose step is

    i, j, f, o = split([x, h] @ weights + biases, 4)
    c' = c * sigmoid(f + 1) + sigmoid(i) * tanh(j)
    h' = tanh(c') * sigmoid(o)

ONNX's LSTM has its gates in the order i, o, f, c, two biases of which one is 0 here, and its matrices transposed.
"""

from __future__ import annotations

import argparse
import json
import math
import string
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FORGET_BIAS = 1.0
Array = np.ndarray[Any, Any]


def read_weights(folder: Path) -> dict[str, Array]:
    """The arrays of a model by name, float32. Raises ValueError for a file of another length than its shape's."""
    entries = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    weights = {}
    for name, entry in entries.items():
        data = (folder / Path(entry["filename"]).name).read_bytes()
        if len(data) != 4 * math.prod(entry["shape"]):
            raise ValueError(f"{entry['filename']} has {len(data)} bytes; {entry['shape']} floats were expected")
        weights[name] = np.frombuffer(data, "<f4").reshape(entry["shape"])
    return weights


def read_vocabulary(folder: Path) -> list[str]:
    """The characters by number.

    In the published file the letters u and U are lost: their keys are blanks. Frequency decides between the two, for
    the numbers are by falling frequency.
    """
    numbers = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    characters = {number: key for key, number in numbers.items() if len(key) == 1}
    lost = sorted(set(range(len(numbers))) - set(characters))
    missing = [c for c in string.ascii_lowercase + string.ascii_uppercase if c not in characters.values()]
    if len(lost) != len(missing):
        raise ValueError(f"vocab.json has no characters for the numbers {lost}")
    characters |= dict(zip(lost, missing, strict=True))
    return [characters[number] for number in range(len(numbers))]


def onnx_gates(matrix: Array) -> Array:
    """Columns i, j, f, o as rows i, o, f, c."""
    i, j, f, o = np.split(matrix, 4, axis=-1)
    return np.concatenate([i, o, f, j], axis=-1).T


def to_onnx(weights: dict[str, Array], characters: list[str]) -> onnx.ModelProto:
    """`character` int64 1 and per layer h and c, 1 x 1 x hidden, to `scores` 1 x characters and the states after."""
    constants = {
        "embedding": weights["embedding"],
        "output_weights": weights["rnnlm/softmax_w"],
        "output_biases": weights["rnnlm/softmax_b"],
        "shape": np.array([1, 1, -1], np.int64),
        "squeezed": np.array([1, -1], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["embedding", "character"], ["embedded"], "embed"),
        helper.make_node("Reshape", ["embedded", "shape"], ["x0"], "sequence"),
    ]
    states, layer = {}, 0
    shapes: dict[str, list[int]] = {}
    while (cell := f"rnnlm/multi_rnn_cell/cell_{layer}/basic_lstm_cell") + "/weights" in weights:
        matrix, bias = weights[f"{cell}/weights"], weights[f"{cell}/biases"].copy()
        hidden = bias.size // 4
        bias[2 * hidden : 3 * hidden] += FORGET_BIAS
        inputs = len(matrix) - hidden
        constants[f"W{layer}"] = onnx_gates(matrix[:inputs])[None]
        constants[f"R{layer}"] = onnx_gates(matrix[inputs:])[None]
        constants[f"B{layer}"] = np.concatenate([onnx_gates(bias), np.zeros_like(bias)])[None]
        h, c = f"h{layer}", f"c{layer}"
        read = [f"x{layer}", f"W{layer}", f"R{layer}", f"B{layer}", "", h, c]
        written = [f"y{layer}", f"{h}_next", f"{c}_next"]
        nodes.append(helper.make_node("LSTM", read, written, f"lstm{layer}", hidden_size=hidden))
        layer += 1
        nodes.append(helper.make_node("Squeeze", [f"y{layer - 1}", "direction"], [f"x{layer}"], f"direction{layer}"))
        for state in (h, c):
            states[state] = f"{state}_next"
            shapes[state] = [1, 1, hidden]
    constants["direction"] = np.array([1], np.int64)
    nodes += [
        helper.make_node("Reshape", [f"x{layer}", "squeezed"], ["last"], "last"),
        helper.make_node("Gemm", ["last", "output_weights", "output_biases"], ["scores"], "output"),
    ]

    def info(name: str, shape: list[int]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes,
        "char_lstm",
        [helper.make_tensor_value_info("character", TensorProto.INT64, [1])] + [info(n, s) for n, s in shapes.items()],
        [info("scores", [1, len(characters)])] + [info(states[n], s) for n, s in shapes.items()],
        [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    task = {"kind": "text", "input": "character", "output": "scores", "states": states, "seed": "ROMEO:\n"}
    helper.set_model_props(model, {"dlpack.labels": json.dumps(characters), "dlpack.task": json.dumps(task)})
    onnx.checker.check_model(model)
    return model


def main() -> int:
    parser = argparse.ArgumentParser(description="Write a character LSTM as ONNX.")
    parser.add_argument("folder", type=Path, help="manifest.json, vocab.json and the weights")
    parser.add_argument("-o", "--output", type=Path, default=Path("char_lstm.onnx"))
    arguments = parser.parse_args()
    try:
        model = to_onnx(read_weights(arguments.folder), read_vocabulary(arguments.folder))
    except (OSError, ValueError, KeyError) as e:
        print(f"error: {arguments.folder} is not such a model: {e}", file=sys.stderr)
        return 1
    onnx.save(model, arguments.output)
    print(f"{arguments.output}: {arguments.output.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
