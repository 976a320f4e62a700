"""Long chains of pointwise operators: what is used several times is computed once, and compiling takes linear time."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from conformance.batch import run_cases
from conformance.cases import Case
from conformance.harness import MACHINES
from onnx import helper, parser
from onnx.reference import ReferenceEvaluator

from dlpack.graph.fuse import fuse
from dlpack.stages.prepare import clean_graph

STEPS = {
    "doubled": "{o} = Add({i}, {i})",
    "halved": "{o}s = Add({i}, {i})\n{o} = Mul({o}s, quarter)",
    "gelu": '{o} = Gelu<approximate="tanh">({i})',
    "silu": "{o}s = Sigmoid({i})\n{o} = Mul({i}, {o}s)",
    "chosen": "{o}m = Neg({i})\n{o}b = Less({i}, quarter)\n{o} = Where({o}b, {o}m, {i})",
    "logic": "{o}b = Less({i}, quarter)\n{o}c = Not({o}b)\n{o}d = Xor({o}b, {o}c)\n{o} = Where({o}d, {i}, quarter)",
}
AHEAD = {
    "nothing": "z0 = Identity(x)",
    "convolution": "z0 = Conv<pads=[1, 1, 1, 1]>(x, w)",
    "softmax": "z0 = Softmax(x)",
    "matmul": "z0 = MatMul(x, v)",
}


def chain(step: str, count: int, ahead: str = "nothing", dtype: str = "float") -> onnx.ModelProto:
    lines = [AHEAD[ahead], *(STEPS[step].format(i=f"z{k}", o=f"z{k + 1}") for k in range(count))]
    body = "\n".join(lines)
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 20]>\n'
        f"g ({dtype}[1, 3, 5, 7] x) => ({dtype}[1, 3, 5, 7] z{count})\n"
        f"<{dtype} quarter = {{{'0.25' if dtype == 'float' else '3'}}}>\n{{{body}\n}}"
    )
    rng = np.random.default_rng(0)
    for name, shape in (("w", (3, 3, 3, 3)), ("v", (7, 7))):
        if any(name in n.input for n in model.graph.node):
            model.graph.initializer.append(onnx.numpy_helper.from_array(rng.random(shape, np.float32) * 0.3, name))
    return model


def twice() -> onnx.ModelProto:
    """What a product's kernel and another branch use, which meet: the gate of a GRU whose activation is a constant."""
    model = chain("halved", 0, "matmul")
    lines = (
        "r = HardSigmoid<alpha=0.0, beta=0.25>(x)", "a = Sub(quarter, r)", "p = Mul(a, z0)", "q = Mul(r, quarter)",
        "y = Add(p, q)",
    )  # fmt: skip
    for line in lines:
        model.graph.node.append(parser.parse_node(line))
    model.graph.output[0].name = "y"
    return model


def case(name: str, model: onnx.ModelProto) -> Case:
    rng = np.random.default_rng(1)
    dtype = helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    x = (rng.random((1, 3, 5, 7)) * 200 - 100 if dtype.kind == "i" else rng.random((1, 3, 5, 7)) * 2 - 1).astype(dtype)
    want = ReferenceEvaluator(model).run(None, {"x": x})
    return Case(name, "chain", "", model, (((x,), tuple(want)),), 1e-4, 1e-5)


@pytest.mark.parametrize("machine", ["avx2", "scalar"])
def test_results(machine: str, tmp_path: Path) -> None:
    """Behind every kind of kernel, in vectors and without."""
    cases = [case(f"{s} {a}", chain(s, 9, a)) for s in STEPS for a in AHEAD if s != "doubled"]
    cases += [case(f"{dtype} {s}", chain(s, 40, "nothing", dtype)) for s in ("doubled", "chosen")
              for dtype in ("int8", "int32", "int64")]  # fmt: skip
    cases.append(case("twice", twice()))
    results = run_cases(cases, MACHINES[machine], lambda _: None, tmp_path)
    assert [r for r in results if r.outcome != "passed"] == []


def test_two_hundred_steps_build_in_seconds(tmp_path: Path) -> None:
    models = {s: chain(s, 200) for s in ("halved", "gelu", "chosen")}
    cases = [case(name, model) for name, model in models.items()]
    begin = time.process_time()
    results = run_cases(cases, MACHINES["avx512"], lambda _: None, tmp_path)
    assert time.process_time() - begin < 20
    assert [r.outcome for r in results] == ["passed"] * len(cases)


def test_a_step_is_a_line(tmp_path: Path) -> None:
    run_cases([case("doubled", chain("doubled", 12))], MACHINES["avx2"], lambda _: None, tmp_path)
    text = (tmp_path / "batch.cc").read_text()
    assert "add3 = add2 + add2;" in text
    assert max(len(line) for line in re.findall(r"^ .* = .*$|^.*store.*$", text, re.M)) < 180


READ_FROM_ANOTHER = """<ir_version: 8, opset_import: ["" : 20]>
net (float[2,3] x, float[2,3] s, float[3,3] w, float one) => (float[2,3] y)
{
  sum = Add (x, s)
  z = HardSigmoid <alpha = 0.0, beta = 0.0> (sum)
  product = MatMul (x, w)
  t = Tanh (product)
  rest = Sub (one, z)
  new = Mul (rest, t)
  old = Mul (z, s)
  y = Add (new, old)
}
"""


def test_nodes_of_a_kernel_come_behind_what_they_read() -> None:
    """The anchor comes first; a gate that what lies behind it reads is computed before that, as in a GRU."""
    groups = fuse(clean_graph(parser.parse_model(READ_FROM_ANOTHER), {})[1])
    (nodes,) = (group.nodes for group in groups if len(group.nodes) > 4)
    assert nodes[0].op == "MatMul"
    places = {node.outputs[0]: k for k, node in enumerate(nodes)}
    assert all(places.get(name, -1) < k for k, node in enumerate(nodes) for name in node.inputs)
