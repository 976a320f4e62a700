"""Small models for tests, with seeded weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

OPSET = 17


def model(
    nodes: Sequence[NodeProto],
    inputs: dict[str, tuple[int | str, ...]],
    outputs: dict[str, tuple[int | str, ...]],
    weights: dict[str, np.ndarray] | None = None,
    domains: Sequence[str] = (),
) -> ModelProto:
    """A float32 model from its nodes; shapes by name, weights by name."""

    def values(shapes: dict[str, tuple[int | str, ...]]) -> list:
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]

    graph = helper.make_graph(
        list(nodes),
        "net",
        values(inputs),
        values(outputs),
        [numpy_helper.from_array(v, n) for n, v in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def _random(seed: int, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        name: (generator.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))).astype(np.float32)
        for name, shape in shapes.items()
    }


def conv_net() -> ModelProto:
    """A fire module: convolutions, a pool, a concat, a global pool; 2 inputs' worth of odd channel counts."""
    node = helper.make_node
    return model(
        [
            node("Conv", ["image", "w0", "b0"], ["c0"], "stem", pads=[1, 1, 1, 1], strides=[2, 2]),
            node("Relu", ["c0"], ["r0"], "stem/relu"),
            node("MaxPool", ["r0"], ["p0"], "pool", kernel_shape=[3, 3], strides=[2, 2]),
            node("Conv", ["p0", "w1"], ["c1"], "left", kernel_shape=[1, 1]),
            node("Conv", ["p0", "w2"], ["c2"], "right", pads=[1, 1, 1, 1]),
            node("Concat", ["c1", "c2"], ["joined"], "join", axis=1),
            node("Sigmoid", ["joined"], ["gate"], "gate"),
            node("Mul", ["joined", "gate"], ["swish"], "swish"),
            node("GlobalAveragePool", ["swish"], ["pooled"], "squeeze"),
            node("Flatten", ["pooled"], ["features"], "flatten"),
        ],
        {"image": (1, 3, 17, 19)},
        {"features": (1, 15), "joined": (1, 15, 4, 4)},
        _random(1, w0=(10, 3, 3, 3), b0=(10,), w1=(8, 10, 1, 1), w2=(7, 10, 3, 3)),
    )


def attention_net() -> ModelProto:
    """One attention head with a residual, a LayerNormalization and a feed-forward part."""
    node = helper.make_node
    weights = _random(2, wq=(24, 24), wk=(24, 24), wv=(24, 24), w1=(24, 40), w2=(40, 24), b1=(40,))
    weights |= {"scale": np.float32(24**-0.5), "gamma": np.ones(24, np.float32), "beta": np.full(24, 0.1, np.float32)}
    return model(
        [
            node("MatMul", ["tokens", "wq"], ["q"], "query"),
            node("MatMul", ["tokens", "wk"], ["k"], "key"),
            node("MatMul", ["tokens", "wv"], ["v"], "value"),
            node("Transpose", ["k"], ["kt"], "turn", perm=[0, 2, 1]),
            node("MatMul", ["q", "kt"], ["scores"], "scores"),
            node("Mul", ["scores", "scale"], ["scaled"], "scaled"),
            node("Softmax", ["scaled"], ["attention"], "softmax", axis=-1),
            node("MatMul", ["attention", "v"], ["mixed"], "mix"),
            node("Add", ["mixed", "tokens"], ["residual"], "residual"),
            node("LayerNormalization", ["residual", "gamma", "beta"], ["normal"], "norm", axis=-1),
            node("MatMul", ["normal", "w1"], ["h0"], "up"),
            node("Add", ["h0", "b1"], ["h1"], "bias"),
            node("Tanh", ["h1"], ["h2"], "tanh"),
            node("MatMul", ["h2", "w2"], ["y"], "down"),
        ],
        {"tokens": (1, 9, 24)},
        {"y": (1, 9, 24)},
        weights,
    )


def wide_net() -> ModelProto:
    """A matrix product with 1.6 MB of weights, more than lie in an aligned array when embedded."""
    return model(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "wide")],
        {"x": (1, 640)},
        {"y": (1, 640)},
        _random(3, w=(640, 640)),
    )


def winograd_net() -> ModelProto:
    """Two 3x3 convolutions that are worth Winograd's algorithm, one with a number of outputs that fills no vector."""
    node = helper.make_node
    pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    return model(
        [
            node("Conv", ["image", "w0", "b0"], ["h"], "conv0", **pads),
            node("Relu", ["h"], ["r"], "relu0"),
            node("Conv", ["r", "w1"], ["y"], "conv1", **pads),
        ],
        {"image": (1, 64, 30, 26)},
        {"y": (1, 70, 30, 26)},
        _random(4, w0=(64, 64, 3, 3), b0=(64,), w1=(70, 64, 3, 3)),
    )


def unsupported_net() -> ModelProto:
    """Three nodes that nobody can compile, and one that all can."""
    node = helper.make_node
    return model(
        [
            node("Frobnicate", ["x"], ["a"], "first", domain="com.example"),
            node("Relu", ["a"], ["b"], "fine"),
            node("Grommet", ["b"], ["c"], "second", domain="com.example"),
            node("Frobnicate", ["c"], ["y"], "third", domain="com.example"),
        ],
        {"x": (1, 4)},
        {"y": (1, 4)},
        domains=["com.example"],
    )


def shared_net() -> ModelProto:
    """A classifier of pictures of 40 x 44 whose two convolutions are large enough to be shared."""
    node = helper.make_node
    pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    return model(
        [
            node("Conv", ["image", "w0"], ["a"], **pads),
            node("Relu", ["a"], ["b"]),
            node("Conv", ["b", "w1"], ["c"], **pads),
            node("GlobalAveragePool", ["c"], ["d"]),
            node("Flatten", ["d"], ["e"]),
            node("Softmax", ["e"], ["p"], axis=-1),
        ],
        {"image": (1, 3, 40, 44)},
        {"p": (1, 10)},
        _random(7, w0=(32, 3, 3, 3), w1=(10, 32, 3, 3)),
    )
