"""Transposed convolutions and those by weights that a run computes: right, and scheduled as any other."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from nets import model
from onnx import NodeProto, helper

import dlpack
from dlpack.bundle.loader import read_kernels

KINDS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "batch": ((2, 8, 5, 6), (8, 12, 4, 4), {"strides": [2, 2], "pads": [1] * 4}),
    "uneven": ((1, 8, 5, 6), (8, 6, 3, 3), {"strides": [2, 2], "pads": [1] * 4, "output_padding": [1, 1]}),
    "few": ((1, 8, 5, 6), (8, 3, 4, 4), {"strides": [2, 2], "pads": [1] * 4}),
    "few_cut": ((1, 8, 4, 4), (8, 2, 5, 5), {"strides": [2, 2], "pads": [4, 3, 2, 4]}),
    "no_kernel": ((1, 8, 5, 6), (8, 6, 1, 2), {"strides": [3, 2], "output_padding": [1, 1]}),
    "depthwise": ((1, 8, 5, 6), (8, 1, 4, 4), {"strides": [2, 2], "pads": [1] * 4, "group": 8}),
    "dilated": ((1, 8, 5, 6), (8, 3, 3, 3), {"strides": [2, 2], "dilations": [2, 3], "group": 2, "pads": [1, 0, 2, 1]}),
    "line": ((1, 8, 9), (8, 6, 16), {"strides": [8], "pads": [4, 4]}),
    "many": ((1, 8, 3, 4), (8, 5, 10, 10), {"strides": [5, 5], "pads": [2] * 4}),
    "volume": ((1, 4, 3, 4, 2), (4, 6, 3, 3, 3), {"strides": [2] * 3, "pads": [1] * 6}),
    "run": ((1, 8, 5, 6), (8, 6, 3, 3), {"strides": [2, 2], "pads": [1] * 4}),
    "run_grouped": ((1, 8, 5, 6), (8, 9, 3, 3), {"strides": [2, 1], "group": 2}),
    "run_conv": ((1, 8, 5, 6), (18, 4, 3, 3), {"pads": [1] * 4, "group": 2}),
    "same": ((1, 8, 5, 6), (8, 6, 3, 3), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "stride_1": ((1, 8, 5, 6), (8, 6, 3, 3), {"pads": [2] * 4}),
    "sized": ((1, 8, 4, 4), (8, 6, 5, 5), {"strides": [2, 2], "output_shape": [9, 8]}),
}


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The kernels of one bundle with all `KINDS`, each behind its own input and before a Relu."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("transposed")
    nodes: list[NodeProto] = []
    inputs: dict[str, tuple[int | str, ...]] = {}
    weights: dict[str, np.ndarray] = {}
    for name, (x, w, attributes) in KINDS.items():
        inputs[f"{name}_x"] = x
        if name.startswith("run"):
            inputs[f"{name}_w"] = w
        else:
            weights[f"{name}_w"] = (rng.standard_normal(w) * 0.3).astype(np.float32)
        op, channels = "ConvTranspose", w[1] * attributes.get("group", 1)
        if name == "run_conv":
            op, channels = "Conv", w[0]
        weights[f"{name}_b"] = rng.standard_normal(channels).astype(np.float32)
        operands = [f"{name}_{letter}" for letter in "xwb"]
        nodes.append(helper.make_node(op, operands, [f"{name}_c"], name, **attributes))
        nodes.append(helper.make_node("Relu", [f"{name}_c"], [f"{name}_y"], f"{name}_relu"))
    shapes = onnx.shape_inference.infer_shapes(model(nodes, inputs, {}, weights)).graph.value_info
    sizes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in shapes}
    outputs = {f"{name}_y": sizes[f"{name}_y"] for name in KINDS}
    onnx.save(model(nodes, inputs, outputs, weights), folder / "net.onnx")
    return read_kernels(dlpack.build(folder / "net.onnx", folder / "bundle"))  # the build compares with onnxruntime


def of(kernels: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [k for k in kernels if name in k["nodes"]]


def test_phases_share_a_kernel_without_products_with_zeros(kernels: list[dict[str, Any]]) -> None:
    phase = 2 * 12 * (5 * 6) * 8 * (2 * 2)  # batch, outputs, pixels, inputs, kernel
    assert [k["macs"] for k in of(kernels, "batch") if k["macs"]] == [phase]


def test_activations_are_computed_with_the_sums(kernels: list[dict[str, Any]]) -> None:
    for name in ("batch", "few"):
        assert all("relu" in k["name"] for k in of(kernels, name) if k["macs"]), name
        assert not [k for k in of(kernels, f"{name}_relu") if not k["macs"] and "relu" in k["name"]]


def test_weights_of_a_run_are_read_across_the_outputs(kernels: list[dict[str, Any]]) -> None:
    for name in ("run", "run_grouped", "run_conv"):
        convolutions = [k for k in of(kernels, name) if k["macs"]]
        assert convolutions, name
        assert all(k["schedule"].startswith("register tile") for k in convolutions), convolutions
