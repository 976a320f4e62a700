"""Writes MXNet models, without MXNet: NAME-symbol.json as `Symbol.save` does it and NAME-0000.params as `nd.save` does.

A net is put together as with `mx.sym`: each method adds nodes and returns the last one. Weights that are not given are
drawn at random (He et al. 2015: normal with variance 2 / fan-in), so that activations keep their size.
The formats: nnvm's pass/saveload_json.cc and MXNet's src/ndarray/ndarray.cc.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import numpy as np

Array = np.ndarray
LIST_MAGIC, ARRAY_MAGIC = 0x112, 0xF993FAC9
CPU, FLOAT32 = 1, 0


class Net:
    """A symbol with its arrays; a node's number stands for its first output."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[dict[str, object]] = []
        self.arrays: dict[str, Array] = {}
        self.channels: dict[int, int] = {}

    # --- nodes ------------------------------------------------------------------------------------------------------

    def op(self, op: str, name: str, *inputs: int, channels: int | None = None, **attrs: object) -> int:
        """A node; the values of `attrs` are written as MXNet prints them: (3, 3), True, relu."""
        node = {"op": op, "name": name, "inputs": [[k, 0, 0] for k in inputs]}
        if attrs:
            node["attrs"] = {k: str(v) for k, v in attrs.items()}
        self.nodes.append(node)
        number = len(self.nodes) - 1
        self.channels[number] = channels or (self.channels[inputs[0]] if inputs else 0)
        return number

    def data(self, name: str, channels: int = 0) -> int:
        """An input; for a picture, the number of channels must be given."""
        return self.op("null", name, channels=channels)

    def weight(self, name: str, value: Array, kind: str = "arg") -> int:
        self.arrays[f"{kind}:{name}"] = np.ascontiguousarray(value, np.float32)
        return self.op("null", name)

    def random(self, shape: tuple[int, ...], gain: float = 1.0) -> Array:
        return self.rng.standard_normal(shape, np.float32) * np.float32(gain * math.sqrt(2 / math.prod(shape[1:])))

    def conv(  # noqa: PLR0913 - the layer's parameters, as MXNet has them
        self, x: int, name: str, filters: int, kernel: tuple[int, int] | int, stride: int = 1,
        pad: tuple[int, int] | int = 0, bias: bool = True, gain: float = 1.0,
        weights: tuple[Array, Array] | None = None,
    ) -> int:  # fmt: skip
        kernel, pad = (v if isinstance(v, tuple) else (v, v) for v in (kernel, pad))
        w, b = weights or (self.random((filters, self.channels[x], *kernel), gain), np.zeros(filters))
        inputs = [x, self.weight(f"{name}_weight", w)] + ([self.weight(f"{name}_bias", b)] if bias else [])
        attrs = {"kernel": kernel, "stride": (stride, stride), "pad": pad, "num_filter": filters, "no_bias": not bias}
        return self.op("Convolution", name, *inputs, channels=filters, **attrs)

    def dense(
        self, x: int, name: str, inputs: int, outputs: int, weights: tuple[Array, Array] | None = None, **attrs: object
    ) -> int:
        w, b = weights or (self.random((outputs, inputs)), np.zeros(outputs))
        nodes = self.weight(f"{name}_weight", w), self.weight(f"{name}_bias", b)
        return self.op("FullyConnected", name, x, *nodes, num_hidden=outputs, **attrs)

    def batch_norm(self, x: int, name: str, eps: float = 2e-5, fix_gamma: bool = False) -> int:
        n = self.channels[x]
        near = {"gamma": self.rng.uniform(0.9, 1.1, n), "beta": self.rng.normal(0, 0.05, n)}
        aux = {"moving_mean": self.rng.normal(0, 0.05, n), "moving_var": self.rng.uniform(0.9, 1.1, n)}
        inputs = [self.weight(f"{name}_{k}", v) for k, v in near.items()]
        inputs += [self.weight(f"{name}_{k}", v, "aux") for k, v in aux.items()]
        return self.op("BatchNorm", name, x, *inputs, eps=eps, fix_gamma=fix_gamma)

    def activation(self, x: int, name: str, kind: str = "relu") -> int:
        return self.op("Activation", name, x, act_type=kind)

    def pool(
        self, x: int, name: str, kernel: int, stride: int, pad: int = 0, kind: str = "max", convention: str = "valid"
    ) -> int:
        window = {"kernel": (kernel, kernel), "stride": (stride, stride), "pad": (pad, pad)}
        return self.op("Pooling", name, x, pool_type=kind, pooling_convention=convention, **window)

    def global_pool(self, x: int, name: str) -> int:
        return self.op("Pooling", name, x, kernel=(7, 7), global_pool=True, pool_type="avg")

    def concat(self, name: str, *inputs: int) -> int:
        channels = sum(self.channels[k] for k in inputs)
        return self.op("Concat", name, *inputs, channels=channels, dim=1, num_args=len(inputs))

    def softmax(self, x: int, name: str = "softmax") -> int:
        return self.op("SoftmaxOutput", name, x, self.op("null", f"{name}_label"))

    # --- files ------------------------------------------------------------------------------------------------------

    def save(self, folder: Path, name: str, *heads: int | tuple[int, int]) -> Path:
        """Writes both files; `heads` are the outputs, (node, output) where it is not the first. Returns the symbol."""
        document = {
            "nodes": self.nodes,
            "arg_nodes": [k for k, node in enumerate(self.nodes) if node["op"] == "null"],
            "node_row_ptr": list(range(len(self.nodes) + 1)),
            "heads": [[*(h if isinstance(h, tuple) else (h, 0)), 0] for h in heads],
            "attrs": {"mxnet_version": ["int", 10901]},
        }
        symbol = folder / f"{name}-symbol.json"
        symbol.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        with open(folder / f"{name}-0000.params", "wb") as file:
            file.write(struct.pack("<QQQ", LIST_MAGIC, 0, len(self.arrays)))
            for array in self.arrays.values():
                file.write(struct.pack("<IiI", ARRAY_MAGIC, 0, array.ndim))
                file.write(struct.pack(f"<{array.ndim}q", *array.shape))
                file.write(struct.pack("<iii", CPU, 0, FLOAT32) + array.tobytes())
            file.write(struct.pack("<Q", len(self.arrays)))
            for key in self.arrays:
                file.write(struct.pack("<Q", len(key)) + key.encode())
        return symbol
