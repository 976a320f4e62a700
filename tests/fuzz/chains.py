"""Chains of operators, whose fusion, placement and views meet: a random graph of float32, with one input or two.

No operator is among them that makes much of a rounding error. What is right is what onnxruntime computes without its
optimisations; the second opinion is the reference's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from conformance.cases import Case
from onnx import helper

from fuzz.meaning import info, model, run_onnxruntime, run_reference
from fuzz.values import Array, Rng, int64, moderate

OPSET = 18
LIMIT = 6000
"""Elements that no value has more of."""

STARTS = ((2, 3, 5), (1, 4, 6, 7), (3, 8), (1, 8, 9, 9), (17,), (1, 3, 16, 5), (2, 2, 3, 4, 3), (1, 16, 8))


@dataclass
class Graph:
    """A graph that grows: values by name, with their shapes."""

    rng: Rng
    inputs: dict[str, Array] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def add(self, op: str, inputs: list[str], shape: tuple[int, ...], **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        self.shapes[name] = shape
        return name

    def constant(self, value: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def drawn(self, *shape: int) -> str:
        return self.constant((moderate(self.rng, "float32", shape) / 3).astype(np.float32))

    def any(self, shape: tuple[int, ...] | None = None) -> str | None:
        """A value of that shape, or any, late ones rather than early ones."""
        names = [n for n, s in self.shapes.items() if shape in (None, s)]
        return self.rng.choice(names[-5:]) if names else None


def make(name: str, rng: Rng, other: bool) -> Case:
    g = Graph(rng)
    for number in range(rng.choice((1, 1, 2))):
        shape = rng.choice(STARTS)
        g.inputs[f"x{number}"] = moderate(rng, "float32", shape)
        g.shapes[f"x{number}"] = shape
    length = rng.randint(3, 14)
    while len(g.nodes) < length:
        x = g.any()
        assert x is not None
        rng.choice(STEPS)(g, x, g.shapes[x])
    used = {i for node in g.nodes for i in node.input}
    outputs = [o for node in g.nodes for o in node.output if o not in used]
    outputs += [o for node in g.nodes for o in node.output if o in used and rng.random() < 0.1]
    graph = helper.make_graph(
        g.nodes,
        "g",
        [info(n, v) for n, v in g.inputs.items()],
        [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, g.shapes[n]) for n in outputs],
        [onnx.numpy_helper.from_array(v, n) for n, v in g.constants.items()],
    )
    asked = model(graph, OPSET)
    with np.errstate(all="ignore"):
        results = (run_reference if other else run_onnxruntime)(asked, g.inputs)
    largest = max((float(np.abs(v).max(initial=0)) for v in results), default=1.0)
    data = ((tuple(g.inputs.values()), tuple(results)),)
    return Case(f"{name} chain", "chain", "", asked, data, 1e-3, 1e-4 * max(1.0, largest))


# --- steps ------------------------------------------------------------------------------------------------------------

Shape = tuple[int, ...]


def _pointwise(g: Graph, x: str, shape: Shape) -> None:
    op = g.rng.choice(
        ("Relu", "Sigmoid", "Tanh", "Neg", "Abs", "HardSwish", "Softplus", "Identity", "Elu", "Erf", "Cos")
    )
    g.add(op, [x], shape)


def _binary(g: Graph, x: str, shape: Shape) -> None:
    op = g.rng.choice(("Add", "Sub", "Mul", "Max", "Min"))
    y = g.any(shape) if g.rng.random() < 0.4 else None
    if y is None:
        kept = [n if g.rng.random() < 0.6 else 1 for n in shape]
        y = g.drawn(*g.rng.choice((shape, kept, kept[g.rng.randint(0, len(shape) - 1) :], ())))
    g.add(op, g.rng.choice(([x, y], [y, x])), shape)


def _broadcast(g: Graph, x: str, shape: Shape) -> None:
    y = g.any()
    assert y is not None
    try:
        made = np.broadcast_shapes(shape, g.shapes[y])
    except ValueError:
        return
    if np.prod(made) < LIMIT:
        g.add("Mul", [x, y], made)


def _transpose(g: Graph, x: str, shape: Shape) -> None:
    perm = g.rng.sample(range(len(shape)), len(shape))
    g.add("Transpose", [x], tuple(shape[p] for p in perm), perm=perm)


def _reshape(g: Graph, x: str, shape: Shape) -> None:
    size = int(np.prod(shape))
    divisors = [d for d in range(1, size + 1) if size % d == 0]
    first = g.rng.choice(divisors)
    second = g.rng.choice([d for d in divisors if (size // first) % d == 0])
    made = g.rng.choice(((first, size // first), (first, second, size // first // second), (size,), (1, *shape)))
    if len(made) < 6:
        g.add("Reshape", [x, g.constant(int64(made))], tuple(made))


def _slice(g: Graph, x: str, shape: Shape) -> None:
    axis = g.rng.randrange(len(shape))
    if shape[axis] < 2:
        return
    a, b = sorted(g.rng.sample(range(shape[axis] + 1), 2))
    step = g.rng.choice((1, 1, 2, -1))
    ends = (b - 1, a - 1 if a else -shape[axis] - 1) if step < 0 else (a, b)
    made = (*shape[:axis], len(range(a, b, abs(step))), *shape[axis + 1 :])
    g.add("Slice", [x, *(g.constant(int64([v])) for v in (*ends, axis, step))], made)


def _concat(g: Graph, x: str, shape: Shape) -> None:
    axis = g.rng.randrange(len(shape))
    y = g.any(shape)
    parts = g.rng.choice(([x, y], [y, x], [x, g.drawn(*shape)], [x, y, x]))
    made = (*shape[:axis], shape[axis] * len(parts), *shape[axis + 1 :])
    if np.prod(made) < LIMIT:
        g.add("Concat", parts, made, axis=axis)


def _split(g: Graph, x: str, shape: Shape) -> None:
    axis = g.rng.randrange(len(shape))
    n = shape[axis]
    if n < 2:
        return
    cut = g.rng.randint(1, n - 1)
    names = [f"s{len(g.nodes)}a", f"s{len(g.nodes)}b"]
    g.nodes.append(helper.make_node("Split", [x, g.constant(int64([cut, n - cut]))], names, axis=axis))
    for name, size in zip(names, (cut, n - cut), strict=True):
        g.shapes[name] = (*shape[:axis], size, *shape[axis + 1 :])


def _reduce(g: Graph, x: str, shape: Shape) -> None:
    axes = sorted(g.rng.sample(range(len(shape)), g.rng.randint(1, len(shape))))
    keep = g.rng.choice((1, 1, 0)) if len(axes) < len(shape) else 1
    made = tuple(1 if i in axes else n for i, n in enumerate(shape) if keep or i not in axes)
    op = g.rng.choice(("ReduceMean", "ReduceMax", "ReduceMin", "ReduceMean", "ReduceL2"))
    g.add(op, [x, g.constant(int64(axes))], made, keepdims=keep)


def _softmax(g: Graph, x: str, shape: Shape) -> None:
    g.add("Softmax", [x], shape, axis=g.rng.randrange(len(shape)))


def _norm(g: Graph, x: str, shape: Shape) -> None:
    scale, bias = g.drawn(shape[-1]), g.drawn(shape[-1])
    g.add("LayerNormalization", [x, scale, bias], shape, axis=-1, epsilon=0.1)


def _matmul(g: Graph, x: str, shape: Shape) -> None:
    columns = g.rng.choice((1, 4, 9, 17))
    if len(shape) < 2 or np.prod(shape[:-1]) * columns > LIMIT:
        return
    g.add("MatMul", [x, g.drawn(shape[-1], columns)], (*shape[:-1], columns))


def _product(g: Graph, x: str, shape: Shape) -> None:
    """A value by its own transpose."""
    if len(shape) < 2 or np.prod(shape[:-1]) * shape[-2] > LIMIT:
        return
    perm = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
    y = g.add("Transpose", [x], tuple(shape[p] for p in perm), perm=perm)
    z = g.add("MatMul", [x, y], (*shape[:-1], shape[-2]))
    g.add("Mul", [z, g.constant(np.array(0.1, np.float32))], g.shapes[z])


def _conv(g: Graph, x: str, shape: Shape) -> None:
    if len(shape) not in (3, 4) or min(shape[2:]) < 2:
        return
    k, stride, rank = g.rng.choice((1, 2, 3)), g.rng.choice((1, 1, 2)), len(shape) - 2
    pad = k // 2
    groups = shape[1] if g.rng.random() < 0.3 else 1
    outputs = groups * g.rng.choice((1, 2)) if groups > 1 else g.rng.choice((1, 4, 8, 16))
    sides = tuple((n + 2 * pad - k) // stride + 1 for n in shape[2:])
    made = (shape[0], outputs, *sides)
    if np.prod(made) > LIMIT or min(sides) < 1:
        return
    inputs = [x, g.drawn(outputs, shape[1] // groups, *[k] * rank)] + [g.drawn(outputs)] * g.rng.randint(0, 1)
    g.add("Conv", inputs, made, pads=[pad] * 2 * rank, strides=[stride] * rank, group=groups)


def _pool(g: Graph, x: str, shape: Shape) -> None:
    if len(shape) != 4 or min(shape[2:]) < 3:
        return
    op = g.rng.choice(("MaxPool", "AveragePool", "GlobalAveragePool"))
    if op == "GlobalAveragePool":
        g.add(op, [x], (*shape[:2], 1, 1))
        return
    sides = tuple((n - 2) // 2 + 1 for n in shape[2:])
    g.add(op, [x], (*shape[:2], *sides), kernel_shape=[2, 2], strides=[2, 2])


def _resize(g: Graph, x: str, shape: Shape) -> None:
    if len(shape) != 4 or np.prod(shape) * 4 > LIMIT:
        return
    made = (*shape[:2], shape[2] * 2, shape[3] * 2)
    scales = g.constant(np.array([1, 1, 2, 2], np.float32))
    way = g.rng.choice(({"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
                        {"mode": "linear"}))  # fmt: skip
    g.add("Resize", [x, "", scales], made, **way)


def _pad(g: Graph, x: str, shape: Shape) -> None:
    pads = [g.rng.randint(0, min(2, n - 1)) for n in (*shape, *shape)]
    rank = len(shape)
    made = tuple(n + pads[i] + pads[i + rank] for i, n in enumerate(shape))
    if np.prod(made) < LIMIT:
        g.add("Pad", [x, g.constant(int64(pads))], made, mode=g.rng.choice(("constant", "edge", "reflect")))


def _expand(g: Graph, x: str, shape: Shape) -> None:
    made = tuple(g.rng.choice((2, 3)) if n == 1 else n for n in shape)
    if np.prod(made) < LIMIT:
        g.add("Expand", [x, g.constant(int64(made))], made)


def _gather(g: Graph, x: str, shape: Shape) -> None:
    axis = g.rng.randrange(len(shape))
    rows = [g.rng.randrange(-shape[axis], shape[axis]) for _ in range(g.rng.randint(1, 4))]
    g.add("Gather", [x, g.constant(int64(rows))], (*shape[:axis], len(rows), *shape[axis + 1 :]), axis=axis)


def _squeeze(g: Graph, x: str, shape: Shape) -> None:
    if 1 in shape and len(shape) > 1:
        axis = shape.index(1)
        g.add("Squeeze", [x, g.constant(int64([axis]))], (*shape[:axis], *shape[axis + 1 :]))
    elif len(shape) < 5:
        axis = g.rng.randint(0, len(shape))
        g.add("Unsqueeze", [x, g.constant(int64([axis]))], (*shape[:axis], 1, *shape[axis:]))


def _where(g: Graph, x: str, shape: Shape) -> None:
    mask = g.constant(np.array([g.rng.random() < 0.5 for _ in range(shape[-1])], bool))
    g.add("Where", [mask, x, g.drawn()], shape)


def _cumsum(g: Graph, x: str, shape: Shape) -> None:
    g.add("CumSum", [x, g.constant(np.array(g.rng.randrange(len(shape)), np.int64))], shape)


STEPS: tuple[Callable[[Graph, str, Shape], None], ...] = (
    _pointwise, _pointwise, _binary, _binary, _binary, _broadcast, _transpose, _transpose, _reshape, _reshape, _slice,
    _concat, _split, _reduce, _softmax, _norm, _matmul, _product, _conv, _conv, _pool, _resize, _pad, _expand, _gather,
    _squeeze, _where, _cumsum,
)  # fmt: skip
