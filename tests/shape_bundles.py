"""Models built for several sets of shapes, and what they compute. A plugin of conftest.py, for its fixtures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import nets
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from dlpack.meaning.shape_sets import Buckets
from dlpack.pipeline import Options, build

PICTURES = ((1, 3, 30, 26), (4, 3, 30, 26), (1, 3, 45, 60))


def picture_net() -> ModelProto:
    """Convolutions of open batch and picture size: a stem, two that are worth Winograd, depthwise, 1x1."""
    node = helper.make_node
    pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    return nets.model(
        [
            node("Conv", ["image", "w0", "b0"], ["stem"], "stem", **pads),
            node("Relu", ["stem"], ["r0"], "relu0"),
            node("Conv", ["r0", "w1", "b0"], ["c1"], "heavy0", **pads),
            node("Relu", ["c1"], ["r1"], "relu1"),
            node("Conv", ["r1", "w2"], ["c2"], "heavy1", **pads),
            node("Conv", ["c2", "w3"], ["c3"], "depthwise", group=70, strides=[2, 2], **pads),
            node("Conv", ["c3", "w4"], ["c4"], "pointwise"),
            node("GlobalAveragePool", ["c4"], ["pooled"], "pool"),
            node("Flatten", ["pooled"], ["flat"], "flat"),
            node("MatMul", ["flat", "w5"], ["scores"], "classes"),
        ],
        {"image": ("n", 3, "h", "w")},
        {"scores": ("n", 9), "c4": ("n", 33, "hh", "ww")},
        nets._random(
            7, w0=(64, 3, 3, 3), b0=(64,), w1=(64, 64, 3, 3), w2=(70, 64, 3, 3), w3=(70, 1, 3, 3), w4=(33, 70, 1, 1),
            w5=(33, 9)
        ),
    )  # fmt: skip


def text_net() -> ModelProto:
    """An attention block over tokens with a mask: outputs per token and one for all, the mean of those not masked."""
    width, words = 24, 50
    weights = nets._random(8, table=(words, width), wq=(width, width), wk=(width, width), wv=(width, width))
    weights |= {"one": np.float32(1), "low": np.float32(-1e4), "scale": np.float32(width**-0.5)}
    node = helper.make_node
    axes = [numpy_helper.from_array(np.array([n], np.int64), name) for name, n in (("first", 1), ("last", 2))]
    nodes = [
        node("Gather", ["table", "tokens"], ["x"], "embed"),
        *(node("MatMul", ["x", f"w{k}"], [k], k) for k in "qkv"),
        node("Transpose", ["k"], ["kt"], "turn", perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["products"], "products"),
        node("Mul", ["products", "scale"], ["scaled"], "scaled"),
        node("Sub", ["one", "mask"], ["off"], "off"),
        node("Mul", ["off", "low"], ["penalty"], "penalty"),
        node("Unsqueeze", ["penalty", "first"], ["row"], "row"),
        node("Add", ["scaled", "row"], ["masked"], "masked"),
        node("Softmax", ["masked"], ["attention"], "softmax", axis=-1),
        node("MatMul", ["attention", "v"], ["states"], "states"),
        node("Unsqueeze", ["mask", "last"], ["column"], "column"),
        node("Mul", ["states", "column"], ["kept"], "kept"),
        node("ReduceSum", ["kept", "first"], ["sum"], "sum", keepdims=0),
        node("ReduceSum", ["mask", "first"], ["count"], "count"),
        node("Div", ["sum", "count"], ["mean"], "mean"),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "net",
        [info("tokens", TensorProto.INT64, [2, "t"]), info("mask", TensorProto.FLOAT, [2, "t"])],
        [info("states", TensorProto.FLOAT, [2, "t", width]), info("mean", TensorProto.FLOAT, [2, width])],
        [*(numpy_helper.from_array(v, n) for n, v in weights.items()), *axes],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def lstm_net(hidden: int = 20) -> ModelProto:
    """An LSTM in two directions over an open number of steps; its batch is 1."""
    return nets.model(
        [helper.make_node("LSTM", ["x", "w", "r", "b"], ["y"], "lstm", hidden_size=hidden, direction="bidirectional")],
        {"x": ("steps", 1, 12)},
        {"y": ("steps", 2, 1, hidden)},
        nets._random(9, w=(2, 4 * hidden, 12), r=(2, 4 * hidden, hidden), b=(2, 8 * hidden)),
    )


def expected(model: Path, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What onnxruntime computes with the model's dimensions open."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def close(got: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray]) -> None:
    assert got.keys() == want.keys()
    for name, value in want.items():
        assert got[name].shape == value.shape
        np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-4 * np.abs(value).max())


def pictures(shape: tuple[int, ...], seed: int = 0) -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(seed).standard_normal(shape).astype(np.float32)}


def sentences(length: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"tokens": rng.integers(0, 50, (2, length)), "mask": np.ones((2, length), np.float32)}


@pytest.fixture(scope="session")
def shape_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    models = {"pictures": picture_net(), "text": text_net(), "lstm": lstm_net()}
    paths = {name: folder / f"{name}.onnx" for name in models}
    for name, model in models.items():
        onnx.save(model, paths[name])
    return paths


def picture_options(**more: Any) -> Options:
    first, *rest = ({"image": shape} for shape in PICTURES)
    return Options(shapes=first, more_shapes=tuple(rest), **more)


@pytest.fixture(scope="session")
def picture_bundle(shape_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    (folder / "how.json").write_text(json.dumps({"resize": None, "mean": [0.5], "std": [0.25]}))
    options = picture_options(labels=tuple("abcdefghi"), preprocess=str(folder / "how.json"), mxnet_api=True)
    return build(shape_files["pictures"], folder / "pictures", options)


@pytest.fixture(scope="session")
def text_bundle(shape_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = Options(buckets=Buckets("tokens", (4, 8, 16)))
    return build(shape_files["text"], tmp_path_factory.mktemp("shapes") / "text", options)


@pytest.fixture(scope="session")
def shape_bundles_wasm(shape_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("wasm")
    one = build(shape_files["pictures"], folder / "pictures", replace(picture_options(), target="wasm"))
    return one, build(shape_files["text"], folder / "text", Options("wasm", buckets=Buckets("tokens", (4, 8, 16))))
