"""SAME padding of convolutions and poolings, also where windows are smaller than steps, or spread out."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
from conformance.batch import run_cases
from conformance.cases import Case
from onnx import helper

from dlpack.model.clean import clean
from dlpack.targets.cpu.machine import AVX2
from dlpack.verify.runners import run_onnxruntime

REDUCED = {
    "Conv": np.sum,
    "MaxPool": np.max,
    "AveragePool": np.mean,
    "LpPool": lambda taken: np.sqrt(np.sum(np.square(taken))),
}


def windows(op: str, x: np.ndarray, kernel: int, stride: int, dilation: int, upper: bool) -> np.ndarray:
    """As many windows as steps begin in x [n]; what is missing of them is split between both ends."""
    n = len(x)
    count = -(-n // stride)
    missing = max(0, (count - 1) * stride + (kernel - 1) * dilation + 1 - n)
    first = -(missing // 2 if upper else missing - missing // 2)
    places = [[first + o * stride + k * dilation for k in range(kernel)] for o in range(count)]
    return np.array([REDUCED[op](x[[p for p in taken if 0 <= p < n]]) for taken in places], np.float32)


def model(ops: list[tuple[str, int, int, int, bool, int]], n: int) -> onnx.ModelProto:
    """A node for each (operator, kernel, stride, dilation, SAME_UPPER, ceil_mode), all of x [1, 1, n]."""
    nodes, weights, outputs = [], {}, []
    for op, kernel, stride, dilation, upper, ceil in ops:
        name, y = f"w{kernel}", f"y{len(nodes)}"
        attributes = {"strides": [stride], "dilations": [dilation], "auto_pad": f"SAME_{'UPPER' if upper else 'LOWER'}"}
        if op == "Conv":
            weights[name] = np.ones((1, 1, kernel), np.float32)
            nodes.append(helper.make_node(op, ["x", name], [y], **attributes))
        else:
            nodes.append(helper.make_node(op, ["x"], [y], kernel_shape=[kernel], ceil_mode=ceil, **attributes))
        outputs.append(helper.make_tensor_value_info(y, 1, None))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", 1, [1, 1, n])],
        outputs,
        [onnx.numpy_helper.from_array(w, name) for name, w in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


def test_windows_begin_at_the_first_element_where_they_are_smaller_than_their_steps() -> None:
    """onnxruntime begins later, refuses the node or ignores dilations, and ONNX's reference leaves windows out."""
    x = np.arange(1, 9, dtype=np.float32) - 4
    sizes = [(1, 4, 1), (2, 4, 1), (3, 1, 2)]
    asked = [(op, *size, upper, upper) for op, size, upper in itertools.product(REDUCED, sizes, (True, False))]
    wanted = tuple(windows(op, x, *size)[None, None] for op, *size, _ in asked)
    case = Case("same", "MaxPool", "", model(asked, 8), (((x[None, None],), wanted),), 1e-5, 1e-5)
    assert [(r.outcome, r.detail) for r in run_cases([case], AVX2, lambda _: None)] == [("passed", "")]


def test_a_pooling_that_onnxruntime_refuses_is_given_to_it_with_explicit_pads() -> None:
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[1], strides=[3], auto_pad="SAME_LOWER")
    x, y = (helper.make_tensor_value_info(name, 1, shape) for name, shape in (("x", [1, 1, 5]), ("y", None)))
    graph = helper.make_graph([node], "net", [x], [y])
    cleaned = clean(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 7)], ir_version=8))
    assert not any(a.name == "auto_pad" for a in cleaned.graph.node[0].attribute)
    (got,) = run_onnxruntime(cleaned, {"x": np.arange(5, dtype=np.float32).reshape(1, 1, 5)})
    assert got.tolist() == [[[0.0, 3.0]]]


def test_a_sum_of_products_over_nothing_is_zero() -> None:
    """onnxruntime divides by the number of elements there."""
    node = helper.make_node("Einsum", ["x", "w"], ["y"], equation="ij,kj->ik")
    inputs = [helper.make_tensor_value_info(name, 1, shape) for name, shape in (("x", [2, 0]), ("w", [3, 0]))]
    graph = helper.make_graph([node], "net", inputs, [helper.make_tensor_value_info("y", 1, None)])
    cleaned = clean(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7))
    feeds = {"x": np.zeros((2, 0), np.float32), "w": np.zeros((3, 0), np.float32)}
    assert run_onnxruntime(cleaned, feeds)[0].tolist() == [[0.0] * 3] * 2


def test_models_of_old_opsets_have_slices_of_ours() -> None:
    """Those of negative pads, and of groups whose weights come at run time; an empty sum is zero besides."""
    generator = np.random.default_rng(0)
    x, w = (generator.normal(size=shape).astype(np.float32) for shape in ((1, 4, 3, 5), (16, 2, 2, 2)))
    nothing = np.zeros((2, 0), np.float32)
    made = {
        "pad": (helper.make_node("Pad", ["x"], ["y"], pads=[0, -1, 1, -1, 0, 0, 2, 0], value=2.5), 7, {"x": x}),
        "groups": (helper.make_node("Conv", ["x", "w"], ["y"], group=2), 8, {"x": x, "w": w}),
        "sum": (
            helper.make_node("Einsum", ["x", "w"], ["y"], equation="ij,jk->ik"),
            12,
            {"x": nothing, "w": nothing.T},
        ),
    }
    cases = []
    for name, (node, opset, feeds) in made.items():
        inputs = [helper.make_tensor_value_info(n, 1, v.shape) for n, v in feeds.items()]
        graph = helper.make_graph([node], name, inputs, [onnx.ValueInfoProto(name="y")])
        asked = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
        asked = onnx.shape_inference.infer_shapes(asked)
        wanted = tuple(run_onnxruntime(asked, feeds))
        cases.append(Case(name, node.op_type, "", asked, ((tuple(feeds.values()), wanted),), 1e-4, 1e-5))
    assert [(r.outcome, r.detail) for r in run_cases(cases, AVX2, lambda _: None)] == [("passed", "")] * 3
