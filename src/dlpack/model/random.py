"""Random operators: their numbers come from an input `seed`, which the model gets for them.

The same seed gives the same numbers, everywhere. Number i of a node is a permutation of the residues modulo 2^31 - 1,
applied to i: rounds that add a key made of the seed and raise to the fifth power, which is how the cipher MiMC mixes.
All of it are operators of ONNX on int64, so the compiler, onnxruntime and the evaluator agree.

A Dropout in training mode that states a seed itself drops, where the input is 0, what ONNX's reference evaluator drops.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto

from dlpack.errors import UnsupportedError
from dlpack.model.fold import fresh_name, set_items
from dlpack.model.infer import ValueType, infer_types
from dlpack.model.walk import describe, opset_versions

RANDOM = frozenset(("Bernoulli", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"))

_MAX_STATED = 1 << 16
"""Elements of a Dropout of which the reference's numbers are kept: they are weights."""

_PRIME = (1 << 31) - 1
_ROUNDS = 4
_DTYPES = (TensorProto.FLOAT, TensorProto.DOUBLE)


def seed_random(model: ModelProto) -> bool:
    """Replace the random nodes of the graph, in place; tells if there were any. The model has an input `seed` then,
    int64 [1]: any number. Raises UnsupportedError for a type that is not float or double, and before opset 10.
    """
    graph = model.graph
    found = [node for node in graph.node if _is_random(node)]
    if not found:
        return False
    if opset_versions(model).get("", 0) < 10:
        raise UnsupportedError(f"{describe(found[0])} is not supported before opset 10; export the model again")
    types = infer_types(model)
    taken = {name for node in graph.node for name in (node.name, *node.input, *node.output)} | set(types)
    seed = fresh_name("seed", taken)
    graph.input.append(onnx.helper.make_tensor_value_info(seed, TensorProto.INT64, [1]))
    nodes: list[NodeProto] = []
    for node in graph.node:
        if _is_random(node):
            stream = _Stream(node, len(nodes) + 1, seed, taken)
            stream.replace(types)
            nodes += stream.nodes
            graph.initializer.extend(stream.weights)
        else:
            nodes.append(node)
    set_items(graph.node, nodes)
    return True


def _is_random(node: NodeProto) -> bool:
    """Whether it draws numbers. Of a Dropout the third input says that it trains; folding drops others."""
    trains = node.op_type == "Dropout" and len(node.input) > 2 and bool(node.input[2])
    return not node.domain and (node.op_type in RANDOM or trains)


class _Stream:
    """The numbers of one node, which is the `number`th of the graph."""

    def __init__(self, node: NodeProto, number: int, seed: str, taken: set[str]) -> None:
        self.node, self.number, self.seed, self._taken = node, number, seed, taken
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self._attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}

    def replace(self, types: dict[str, ValueType]) -> None:
        op = self.node.op_type
        shape, elem = tuple(self._attributes.get("shape", ())), self._attributes.get("dtype", 0)
        if op in ("Bernoulli", "Dropout") or op.endswith("Like"):
            like = types.get(self.node.input[0], ValueType())
            if like.shape is None:
                raise UnsupportedError(f"{describe(self.node)}: the shape of its input is not known")
            shape, elem = like.shape, elem or like.elem
        elem, count = elem or TensorProto.FLOAT, math.prod(shape)
        if op == "Dropout":
            self._drop(shape, elem)
            return
        if op != "Bernoulli" and elem not in _DTYPES:
            raise UnsupportedError(f"{describe(self.node)}: random numbers of this type are not supported")
        if op.startswith("RandomNormal"):
            y = self._scaled(self._normal(count), self._attributes.get("scale", 1.0), self._attributes.get("mean", 0.0))
        else:
            low, high = (self._attributes.get(name, default) for name, default in (("low", 0.0), ("high", 1.0)))
            y = self._scaled(self._uniform(0, count), high - low, low)
        y = self._add("Reshape", y, self._array(np.array(shape, np.int64)))
        if op == "Bernoulli":  # onnx defines it the wrong way round; runtimes give ones with the probability
            y = self._add("Less", y, self._add("Cast", self.node.input[0], to=TensorProto.FLOAT))
        self.nodes.append(onnx.helper.make_node("Cast", [y], [self.node.output[0]], name=self.node.name, to=elem))

    def _drop(self, shape: tuple[int, ...], elem: int) -> None:
        """Dropout: in training mode it keeps the elements whose number is at least the ratio, and scales these."""
        x, ratio, training = self.node.input
        numbers = self._uniform(0, math.prod(shape))
        if "seed" in self._attributes and math.prod(shape) <= _MAX_STATED:
            stated = np.random.RandomState(self._attributes["seed"] % (1 << 32)).uniform(0, 1, math.prod(shape))
            plain = self._add("Equal", self.seed, self._int(0))
            numbers = self._add("Where", plain, self._array(stated.astype(np.float32)), numbers)
        numbers = self._add("Reshape", numbers, self._array(np.array(shape, np.int64)))
        ratio = self._add("Cast", ratio, to=TensorProto.FLOAT) if ratio else self._real(0.5)
        ratio = self._add("Where", training, ratio, self._real(0.0))
        dropped = self._add("Less", numbers, ratio)
        scale = self._add("Div", self._real(1.0), self._add("Sub", self._real(1.0), ratio))
        kept = self._add("Mul", x, self._add("Cast", scale, to=elem))
        zero = self._add("Cast", self._real(0.0), to=elem)
        outputs = [*self.node.output, ""][:2]
        self.nodes.append(onnx.helper.make_node("Where", [dropped, zero, kept], outputs[:1], name=self.node.name))
        if outputs[1]:
            self.nodes.append(onnx.helper.make_node("Not", [dropped], outputs[1:], name=f"{self.node.name}/mask"))

    def _scaled(self, x: str, scale: float, shift: float) -> str:
        x = x if scale == 1 else self._add("Mul", x, self._real(scale))
        return x if shift == 0 else self._add("Add", x, self._real(shift))

    def _normal(self, count: int) -> str:
        """By Box and Muller: the logarithm is of a number above 0."""
        radius = self._add("Log", self._add("Sub", self._real(1.0), self._uniform(0, count)))
        radius = self._add("Sqrt", self._add("Mul", radius, self._real(-2.0)))
        angle = self._add("Mul", self._uniform(1, count), self._real(2 * math.pi))
        return self._add("Mul", radius, self._add("Cos", angle))

    def _uniform(self, half: int, count: int) -> str:
        """`count` multiples of 2^-24 in [0, 1)."""
        keys = np.random.default_rng((self.number, half, self._own_seed())).integers(1, _PRIME, _ROUNDS)
        seed = self._modulo(self.seed)
        x = self._array(np.arange(count, dtype=np.int64) % _PRIME)
        for key in keys:
            x = self._fifth_power(self._modulo(self._add("Add", self._add("Add", x, seed), self._int(int(key)))))
            # The seed is mixed too: added unchanged, neighbouring seeds would give shifted numbers.
            seed = self._fifth_power(self._modulo(self._add("Add", seed, self._int(int(key)))))
        whole = self._add("Cast", self._add("Div", x, self._int(128)), to=TensorProto.FLOAT)
        return self._add("Mul", whole, self._real(2.0**-24))

    def _own_seed(self) -> int:
        """The attribute `seed` tells nodes apart; the input changes all of them."""
        return int(np.float32(self._attributes.get("seed", 0.0)).view(np.uint32))

    def _fifth_power(self, x: str) -> str:
        square = self._modulo(self._add("Mul", x, x))
        return self._modulo(self._add("Mul", self._modulo(self._add("Mul", square, square)), x))

    def _modulo(self, x: str) -> str:
        return self._add("Mod", x, self._int(_PRIME))

    def _int(self, value: int) -> str:
        return self._array(np.array(value, np.int64))

    def _real(self, value: float) -> str:
        return self._array(np.array(value, np.float32))

    def _array(self, value: np.ndarray[Any, Any]) -> str:
        name = fresh_name(f"{self.node.name}/constant", self._taken)
        self.weights.append(onnx.numpy_helper.from_array(value, name))
        return name

    def _add(self, op: str, *inputs: str, **attrs: Any) -> str:
        name = fresh_name(f"{self.node.name}/{op}", self._taken)
        self.nodes.append(onnx.helper.make_node(op, list(inputs), [name], name=name, **attrs))
        return name
