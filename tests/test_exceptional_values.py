"""Infinity, NaN and overflow in arithmetic that would cancel or vanish if numbers were real."""

from __future__ import annotations

import numpy as np
import onnx
from conformance.batch import run_cases
from conformance.cases import Case
from onnx import helper

from dlpack.targets.cpu.machine import AVX2
from dlpack.verify.runners import run_onnxruntime

X = np.array([1, np.inf, np.nan, -np.inf, -1, 0, -0.0, 3, 2e38], np.float32)
CONSTANTS = {
    "zero": np.float32(0),
    "minus_zero": np.float32(-0.0),
    "large": np.float32(3e38),
    "magic": np.float32(12582912),
    "infinity": np.float32(np.inf),
    "yes": np.bool_(True),
    "row": np.array([1, 1, -1]),
}
NODES = {
    "times zero": ("Mul", "x zero"),
    "zero times": ("Mul", "minus_zero x"),
    "by zero": ("Div", "x zero"),
    "by minus zero": ("Div", "x minus_zero"),
    "zero by": ("Div", "zero x"),
    "itself": ("Sub", "x x"),
    "sum": ("Add", "x large"),
    "sum, less one": ("Sub", "sum large"),
    "a sum": ("Add", "x magic"),
    "rounded to whole numbers": ("Sub", "a_sum magic"),
    "equal": ("Equal", "x x"),
    "any": ("Or", "equal yes"),
    "highest": ("Where", "any infinity x"),
    "lowest": ("Neg", "highest"),
    "row of the lowest": ("Reshape", "lowest row"),
    "mean": ("ReduceMean", "x"),
    "mean, less itself": ("Sub", "mean mean"),
}
ALPHAS = {"LeakyRelu": (0.0, np.inf), "Elu": (0.0, np.inf), "Celu": (0.0, -1.0, np.inf), "HardSigmoid": (0.0,),
          "Selu": (0.0,)}  # fmt: skip

# NaN is the extreme, as for numpy; infinities are found as numbers are.
EXTREMES = [
    ("ArgMax", "x", np.array([2])),
    ("ArgMin", "x", np.array([2])),
    ("ArgMax", "lowest", np.array([0])),
    ("ArgMin", "highest", np.array([0])),
    ("ReduceLogSumExp", "highest", np.array([np.inf], np.float32)),
    ("ReduceLogSumExp", "lowest", np.array([-np.inf], np.float32)),
]


def test_arithmetic_is_that_of_floats_and_not_of_real_numbers() -> None:
    nodes = [helper.make_node(op, inputs.split(), [name.replace(" ", "_")]) for name, (op, inputs) in NODES.items()]
    nodes += [
        helper.make_node(op, ["x"], [f"{op}{k}"], alpha=alpha)
        for op, alphas in ALPHAS.items()
        for k, alpha in enumerate(alphas)
    ]
    nodes.append(helper.make_node("MaxPool", ["row_of_the_lowest"], ["top", "place"], kernel_shape=[3], pads=[1, 1]))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", 1, X.shape)],
        [onnx.ValueInfoProto(name=name) for node in nodes for name in node.output],
        [onnx.numpy_helper.from_array(np.array(value), name) for name, value in CONSTANTS.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)
    wanted = tuple(run_onnxruntime(model, {"x": X}))
    for op, of, want in EXTREMES:
        node = helper.make_node(op, [of], [f"{op} of {of}"], **({} if "Log" in op else {"axis": 0}))
        model.graph.node.append(node)
        model.graph.output.append(
            helper.make_tensor_value_info(node.output[0], helper.np_dtype_to_tensor_dtype(want.dtype), want.shape)
        )
        wanted += (want,)
    case = Case("exceptional", "Mul", "", model, (((X,), wanted),), 1e-5, 1e-5)
    (result,) = run_cases([case], AVX2, lambda _: None)
    assert (result.outcome, result.detail) == ("passed", "")
