# ruff: noqa: E501  (models in ONNX's text form)
"""If, Loop and Scan, compiled and run, against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from conformance import harness
from conformance.batch import compile_case, run_cases
from conformance.cases import Case, Frozen

from dlpack import operators
from dlpack.errors import ModelError, UnsupportedError
from dlpack.model.clean import clean
from dlpack.model.load import load_model
from dlpack.model.read import read_graph
from dlpack.plan.program import LoopStep, Program

Array = np.ndarray[Any, Any]


def parse(text: str, opset: int = 18) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')


SCAN = {
    "directions_and_axes": """g (float[3] s, float[3,5] x, float[5,3] r) => (float[3] f, float[n,m] a, float[n,m] b) {
        f, a, b = Scan <num_scan_inputs = 2, scan_input_axes = [1, 0], scan_input_directions = [1, 0],
                        scan_output_axes = [0, -1], scan_output_directions = [0, 1],
            body = step (float[3] t, float[3] u, float[3] v) => (float[3] t2, float[3] p, float[3] q)
            { w = Mul (t, v) t2 = Add (w, u) p = Sub (t2, v) q = Identity (t) }> (s, x, r) }""",
    "states_that_swap": """g (float[4] a, float[4] b, float[7,4] x) => (float[4] c, float[4] d, float[n,4] y) {
        c, d, y = Scan <num_scan_inputs = 1, body = step (float[4] p, float[4] q, float[4] u) => (float[4] p2, float[4] q2, float[4] z)
            { p2 = Identity (q) h = Add (p, q) q2 = Add (h, u) z = Add (p, q2) }> (a, b, x) }""",
    "unchanged_state": """g (float[4] a, float[4] b, float[3,4] x) => (float[4] c, float[4] d) {
        c, d = Scan <num_scan_inputs = 1, body = step (float[4] p, float[4] q, float[4] u) => (float[4] p3, float[4] q2)
            { p2 = Identity (p) p3 = Identity (p2) h = Mul (q, u) q2 = Add (h, p) }> (a, b, x) }""",
    "one_value_many_outputs": """g (float[4] a, float[3,4] x) => (float[4] c, float[n,4] y, float[n,4] z, float[n,4] u, float[n,2] k) {
        c, y, z, u, k = Scan <num_scan_inputs = 1, body = step (float[4] p, float[4] v) => (float[4] p2, float[4] o, float[4] o2, float[4] v2, float[2] k2)
            { p2 = Add (p, v) o = Identity (p2) o2 = Identity (p2) v2 = Identity (v) k2 = Constant <value = float[2] {3.0, 4.0}> () }> (a, x) }""",
    "captured_values": """g (float[2,3] s, float[4,2,3] x, float[3,3] m) => (float[2,3] f, float[n,2,3] y)
        <float[3] bias = {1.0, -2.0, 0.5}> {
        t = Tanh (m)
        f, y = Scan <num_scan_inputs = 1, body = step (float[2,3] p, float[2,3] u) => (float[2,3] p2, float[2,3] o)
            { h = MatMul (p, t) k = Add (h, bias) o = Add (k, u) p2 = Tanh (o) }> (s, x) }""",
    "captured_transpose": """g (float[2,3] s, float[2,4,3] x, float[3,5] m) => (float[2,3] f) {
        t = Transpose <perm = [1, 0]> (m) w = Slice (t, one, four, zero)
        z = Transpose <perm = [1, 0, 2]> (x)
        f = Scan <num_scan_inputs = 1, body = step (float[2,3] p, float[2,3] u) => (float[2,3] p2)
            { h = MatMul (p, w) p2 = Add (h, u) }> (s, z) }""".replace(
        "(float[2,3] f) {", "(float[2,3] f) <int64[1] one = {1}, int64[1] four = {4}, int64[1] zero = {0}> {"
    ),
    "nested": """g (float[2] s, float[3,4,2] x, float[2] k) => (float[2] f, float[n,m,2] y, float[n,2] e) {
        f, y, e = Scan <num_scan_inputs = 1, body = outer (float[2] p, float[4,2] rows) => (float[2] p2, float[4,2] o, float[2] e1) {
            first = ReduceMax <keepdims = 0> (rows, axis)
            q, o = Scan <num_scan_inputs = 1, scan_input_directions = [1], body = inner (float[2] a, float[2] u) => (float[2] a2, float[2] b)
                { h = Mul (a, k) i = Add (h, u) j = Mul (first, p) a2 = Sub (i, j) b = Add (a2, a) }> (p, rows)
            p2 = Tanh (q) e1 = Identity (q) }> (s, x) }""".replace("e) {", "e) <int64[1] axis = {0}> {", 1),
    "convolution_states": """g (float[1,4,6,6] s, float[3,1,4,6,6] x) => (float[1,4,6,6] y, float[n,1,4,6,6] all) {
        w = ConstantOfShape <value = float[1] {0.03125}> (shape)
        f, all = Scan <num_scan_inputs = 1, body = step (float[1,4,6,6] p, float[1,4,6,6] u) => (float[1,4,6,6] p2, float[1,4,6,6] o)
            { h = Add (p, u) c = Conv <pads = [1,1,1,1]> (h, w) p2 = Relu (c) o = Add (p2, u) }> (s, x)
        y = Conv <pads = [1,1,1,1]> (f, w) }""".replace("all) {", "all) <int64[4] shape = {4, 4, 3, 3}> {", 1),
    "several_outputs_in_the_body": """g (float[6] s, float[4,6] x) => (float[6] f, float[n,6] y) {
        f, y = Scan <num_scan_inputs = 1, body = step (float[6] p, float[6] u) => (float[6] v, float[6] o)
            { h = Add (p, u) v, i = TopK (h, k) j = Cast <to = 1> (i) l = Mul (p, j) o = Softmax (l) }> (s, x) }""".replace(
        "y) {", "y) <int64[1] k = {6}> {", 1
    ),
    "shapes_behind": """g (float[2] s, float[5,2] x) => (float[n] z) {
        f, y = Scan <num_scan_inputs = 1, body = step (float[2] p, float[2] u) => (float[2] p2, float[2] o) { p2 = Add (p, u) o = Neg (p2) }> (s, x)
        n = Shape (y) z = Reshape (y, flat) }""".replace("z) {", "z) <int64[1] flat = {-1}> {", 1),
}

OLD_SCAN = {
    "batched": """g (float[3,2] s, float[3,5,2] x, float[2] w) => (float[3,2] f, float[3,5,2] y) {
        f, y = Scan <num_scan_inputs = 1, directions = [1], body = step (float[2] p, float[2] u) => (float[2] p2, float[2] o)
            { h = Mul (p, w) p2 = Add (h, u) o = Identity (p2) }> ("", s, x) }""",
}

LOOP = {
    "counter_and_slices": """g (float[4] a, float[6,4] x) => (float[4] f, float[n,4] y, int64[n] k)
        <int64 m = {6}, bool yes = {1}> {
        f, y, k = Loop <body = step (int64 i, bool c, float[4] p) => (bool c2, float[4] p2, float[4] o, int64 j)
            { c2 = Identity (c) u = Gather (x, i) p2 = Add (p, u) o = Neg (p2) j = Mul (i, i) }> (m, yes, a) }""",
    "no_condition": """g (float[4] a) => (float[4] f, float[n,4] y) <int64 m = {5}> {
        f, y = Loop <body = step (int64 i, bool c, float[4] p) => (bool c2, float[4] p2, float[4] o)
            { c2 = Constant <value = bool {1}> () p2 = Mul (p, p) o = Identity (p) }> (m, "", a) }""",
    "condition_as_a_number": """g (float[4] a) => (float[4] f, float[n,4] y) <int64 m = {5}> {
        f, y = Loop <body = step (int64[1] i, bool[1] c, float[4] p) => (bool[1] c2, float[4] p2, float[4] o)
            { c2 = Identity (c) d = Cast <to = 1> (c) e = Cast <to = 1> (i) h = Add (p, d) p2 = Add (h, e) o = Neg (p) }> (m, "", a) }""",
    "one_trip": """g (float[4] a) => (float[4] f, float[n,4] y) <int64 m = {9}> {
        f, y = Loop <body = step (int64 i, bool c, float[4] p) => (bool c2, float[4] p2, float[4] o)
            { c2 = Constant <value = bool {0}> () p2 = Exp (p) o = Neg (p) }> (m, "", a) }""",
    "no_trip": """g (float[4] a) => (float[4] f, float[n,4] y) <int64 m = {9}, bool no = {0}> {
        f, y = Loop <body = step (int64 i, bool c, float[4] p) => (bool c2, float[4] p2, float[4] o)
            { c2 = Identity (c) p2 = Exp (p) o = Neg (p) }> (m, no, a) }""",
    "ends_when_large": """g (float[2] a) => (float[2] f, int64 n) <int64 m = {50}, int64 zero = {0}, float limit = {20.0}> {
        f, n = Loop <body = step (int64 i, bool c, float[2] p, int64 k) => (bool c2, float[2] p2, int64 k2)
            { h = Abs (p) q = Add (h, h) p2 = Add (q, e) s = ReduceMax <keepdims = 0> (p2) c2 = Less (s, limit) k2 = Add (i, one) }> (m, "", a, zero) }""".replace(
        "float limit", "int64 one = {1}, float e = {0.5}, float limit"
    ),
    "begins_when_told": """g (bool go, float[2] a) => (float[2] f) <int64 m = {4}> {
        f = Loop <body = step (int64 i, bool c, float[2] p) => (bool c2, float[2] p2) { c2 = Identity (c) p2 = Add (p, p) }> (m, go, a) }""",
    "shapes_behind": """g (float[4] a) => (float[n] f, float[k,l] z) <int64 m = {6}, int64[2] two = {-1, 2}> {
        f, y = Loop <body = step (int64 i, bool c, float[4] p) => (bool c2, float[4] p2, float[4] o)
            { c2 = Identity (c) p2 = Exp (p) q = Neg (p2) p3 = Sigmoid (q) o = Add (p3, p) }> (m, "", a)
        s = Shape (y) k = Gather (s, zero) j = Reshape (y, two) e = Expand (a, s) z = Reshape (e, two) }""".replace(
        "int64[2] two", "int64 zero = {0}, int64[2] two"
    ),
    "counts_to_a_limit": """g (float[2] x) => (float[2] f, float[n,2] y, float[k] z)
        <int64 zero = {0}, int64 one = {1}, int64 two = {2}, int64 seven = {7}, int64[1] flat = {-1}> {
        begin = Less (zero, seven)
        f, i, y = Loop <body = step (int64 t, bool c, float[2] p, int64 k) => (bool c2, float[2] p2, int64 k2, float[2] o)
            { h = Add (k, one) k2 = Add (h, one) c2 = Less (k2, seven) r = Cast <to = 1> (t) q = Add (p, r) p2 = Sin (q) o = Neg (p) }> ("", begin, x, one)
        z = Reshape (y, flat) }""",
    "counts_or_never_begins": """g (bool go, float[2] x) => (float[2] f) <int64 three = {3}> {
        f = Loop <body = step (int64 t, bool c, float[2] p) => (bool c2, float[2] p2)
            { c2 = Less (t, three) p2 = Add (p, p) }> ("", go, x) }""",
    "loop_in_loop": """g (float[3,2] x) => (float[3,2] f, float[n,m,3,2] y) <int64 m = {4}, int64 k = {3}> {
        f, y = Loop <body = step (int64 i, bool c, float[3,2] p) => (bool c2, float[3,2] p2, float[k,3,2] o) {
            c2 = Identity (c) r = Cast <to = 1> (i)
            q, o = Loop <body = inner (int64 j, bool d, float[3,2] a) => (bool d2, float[3,2] a2, float[3,2] b)
                { d2 = Identity (d) t = Cast <to = 1> (j) h = Add (a, t) u = Add (h, r) a2 = Mul (u, x) b = Sub (a2, p) }> (k, "", p)
            p2 = Tanh (q) }> (m, "", x) }""",
}

IF = {
    "selects": """g (float[2,3] x, float[2,3] y, bool c) => (float[2,3] a, int64[2] b) {
        a, b = If <then_branch = yes () => (float[2,3] t, int64[2] u) { h = Mul (x, y) t = Add (h, x) u = Constant <value = int64[2] {1, 2}> () },
                   else_branch = no () => (float[2,3] t, int64[2] u) { h = Sub (x, y) t = Exp (h) u = ArgMax <axis = 1, keepdims = 0> (y) }> (c) }""",
    "condition_with_a_dimension": """g (float[3] x, bool[1] c) => (float a) {
        a = If <then_branch = yes () => (float t) { t = ReduceSum <keepdims = 0> (x) },
                else_branch = no () => (float t) { t = ReduceMax <keepdims = 0> (x) }> (c) }""",
    "computed_condition": """g (float[3] x) => (float[3] a) <float zero = {0.0}> {
        s = ReduceSum <keepdims = 0> (x) c = Less (s, zero) y = Exp (x)
        a = If <then_branch = yes () => (float[3] u) { u = Neg (y) },
                else_branch = no () => (float[3] u) { z = Mul (x, x) d = Not (c)
                    u = If <then_branch = p () => (float[3] z2) { z2 = Add (z, y) }, else_branch = q () => (float[3] z2) { z2 = Sub (z, y) }> (d) }> (c) }""",
    "in_a_loop": """g (float[3] x) => (float[3] f) <int64 m = {5}, int64 two = {2}, int64 zero = {0}> {
        f = Loop <body = step (int64 i, bool c, float[3] p) => (bool c2, float[3] p2)
            { c2 = Identity (c) r = Mod (i, two) even = Equal (r, zero)
              p2 = If <then_branch = yes () => (float[3] u) { u = Add (p, x) }, else_branch = no () => (float[3] u) { u = Mul (p, x) }> (even) }> (m, "", x) }""",
    "known_condition_in_a_body": """g (float[3] x) => (float[3] f) <int64 m = {5}> {
        f = Loop <body = step (int64 i, bool c, float[3] p) => (bool c2, float[3] p2)
            { c2 = Identity (c) p2 = If <then_branch = yes () => (float[3] u) { u = Add (p, x) }, else_branch = no () => (float[3] u) { u = Mul (p, x) }> (c) }> (m, "", x) }""",
}

UNROLLED = {
    "shapes_that_grow": """g (float[2] x, float[5] w) => (float[n] f, float[m] y)
        <int64 m = {4}, int64 one = {1}, int64[1] zero = {0}, int64[1] axis = {0}, int64 half = {2}> {
        f = Loop <body = step (int64 i, bool c, float[k] p) => (bool c2, float[l] p2)
            { c2 = Identity (c) j = Add (i, one) e = Unsqueeze (j, axis) u = Slice (w, zero, e) p2 = Concat <axis = 0> (p, u) }> (m, "", x)
        y = Relu (f) }""",
    "slices_at_the_counter": """g (float[2] x, float[5] w) => (float[2] f, float[n,2] y) <int64 m = {4}, int64 one = {1}, int64[1] axis = {0}> {
        f, y = Loop <body = step (int64 i, bool c, float[2] p) => (bool c2, float[2] p2, float[2] o)
            { c2 = Identity (c) j = Add (i, one) b = Unsqueeze (i, axis) e = Unsqueeze (j, axis) u = Slice (w, b, e)
              p2 = Add (p, u) o = Neg (p2) }> (m, "", x) }""",
    "list_that_is_filled": """g (float[2] x) => (float[n,2] f, float[k] y) <int64 m = {3}> {
        s = SequenceEmpty <dtype = 1> ()
        last, q = Loop <body = step (int64 i, bool c, float[2] p, seq(float) l) => (bool c2, float[2] p2, seq(float) l2)
            { c2 = Identity (c) p2 = Sin (p) l2 = SequenceInsert (l, p2) }> (m, "", x, s)
        f = ConcatFromSequence <axis = 0, new_axis = 1> (q) y = ConcatFromSequence <axis = 0> (q) }""",
    "map_over_a_list": """g (float[2] x, float[3] y) => (float[n] z) {
        s = SequenceConstruct (x, y) r = SequenceMap <body = step (float[k] e) => (float[k] o) { o = Neg (e) }> (s)
        z = ConcatFromSequence <axis = 0> (r) }""",
    "lists": """g (float[7,4] x, float[1,4] z) => (float[n,4] a, float[k,4] b, float[l] c, int64 d) <int64 three = {3}, int64[2] sizes = {5, 2}, int64 one = {1}, int64 last = {-1}> {
        s = SplitToSequence <axis = 0> (x, three) a = SequenceAt (s, last)
        t = SplitToSequence <axis = 0> (x, sizes) u = SequenceInsert (t, z, one) v = SequenceErase (u, last)
        w = Identity (v) b = ConcatFromSequence <axis = -2> (w)
        r = SplitToSequence <axis = 1, keepdims = 0> (x) c = SequenceAt (r, one) d = SequenceLength (r) }""",
}

MODELS = {
    **{f"scan_{name}": (text, 18) for name, text in SCAN.items()},
    **{f"old_scan_{name}": (text, 8) for name, text in OLD_SCAN.items()},
    **{f"loop_{name}": (text, 18) for name, text in LOOP.items()},
    **{f"unrolled_{name}": (text, 18) for name, text in UNROLLED.items()},
    **{f"if_{name}": (text, 18) for name, text in IF.items()},
}


def case(name: str, text: str, opset: int) -> Case:
    """A model with three inputs of its own, and what onnxruntime makes of them."""
    model = parse(text, opset)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(len(text))
    data = []
    for k in range(3):
        inputs = []
        for value in model.graph.input:
            tensor = value.type.tensor_type
            shape = [d.dim_value for d in tensor.shape.dim]
            boolean = tensor.elem_type == onnx.TensorProto.BOOL
            inputs.append(np.full(shape, k != 1) if boolean else rng.uniform(-2, 2, shape).astype(np.float32))
        names = [value.name for value in model.graph.input]
        data.append((tuple(inputs), tuple(session.run(None, dict(zip(names, inputs, strict=True))))))
    return Case(name, "", "", model, tuple(data), 1e-5, 1e-6)


@pytest.mark.parametrize("machine", ["avx2", "scalar"])
def test_computes_what_onnxruntime_computes(machine: str) -> None:
    cases = [case(name, *what) for name, what in MODELS.items()]
    results = run_cases(cases, harness.MACHINES[machine], lambda _: None)
    assert [r for r in results if r.outcome != "passed"] == []


def compiled(text: str, opset: int = 18) -> Program:
    return compile_case(Frozen(parse(text, opset), (), (), ()), harness.MACHINES["avx2"])


def test_a_loop_is_a_loop_in_the_program() -> None:
    """Not unrolled, and the states are updated where they lie: nothing is copied at the end of a trip."""
    program = compiled(LOOP["counter_and_slices"].replace("{6}", "{600}").replace("6,4", "600,4"))
    (loop,) = [step for step in program.steps if isinstance(step, LoopStep)]
    assert loop.count == 600
    assert {type(step).__name__ for step in loop.body} == {"CallStep"}
    (outer,) = [step for step in compiled(LOOP["loop_in_loop"]).steps if isinstance(step, LoopStep)]
    (inner,) = [step for step in outer.body if isinstance(step, LoopStep)]
    assert (outer.count, inner.count) == (4, 3)


def problems(text: str, opset: int = 18) -> str:
    with pytest.raises(UnsupportedError) as error:
        compiled(text, opset)
    return str(error.value)


def test_says_what_is_not_static() -> None:
    loop = LOOP["ends_when_large"]
    endless = loop.replace('(m, "", a', '("", "", a')
    assert "only a condition that depends on the data ends it; give it a constant trip count; state" in problems(
        endless
    )
    assert "its trip count 'm' is not constant" in problems(
        LOOP["no_condition"].replace("(float[4] a)", "(float[4] a, int64 m)", 1).replace("<int64 m = {5}>", "", 1)
    )
    assert "it runs 99999999999 times; 16777216 are supported" in problems(
        LOOP["no_condition"].replace("{5}", "{99999999999}")
    )
    branches = problems(IF["selects"].replace("keepdims = 0", "keepdims = 1").replace("int64[2] b", "int64[n] b"))
    assert "its branches give int64[2] and int64[2, 1] for output 1; give them the same type" in branches


def test_lists_what_is_not_supported_in_a_body() -> None:
    text = LOOP["no_condition"].replace("Mul (p, p)", "Mish2 (p)").replace("Identity (p)", "Mish3 (p)")
    model = parse(text)
    with pytest.raises(UnsupportedError) as error:
        read_graph(clean(model, {}, lambda *_: False), operators.supported)
    assert "the operator Mish2 (opset 18) is not supported" in str(error.value)
    assert "the operator Mish3 (opset 18) is not supported" in str(error.value)


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        (LOOP["no_condition"], "(int64 i, bool c, float[4] p)", "(int64 i, bool c, float[4] p, float[4] p3)"),
        (LOOP["no_condition"], "(bool c2, float[4] p2, float[4] o)", "(bool c2, float[4] p2)"),
        (SCAN["states_that_swap"], "num_scan_inputs = 1", "num_scan_inputs = 4"),
        (SCAN["directions_and_axes"], "scan_input_axes = [1, 0]", "scan_input_axes = [1]"),
        (
            IF["computed_condition"],
            "(float[3] z2) { z2 = Add (z, y) }",
            "(float[3] z2, float[3] z) { z2 = Add (z, y) }",
        ),
    ],
)
def test_a_body_that_does_not_fit_is_refused(text: str, good: str, bad: str, tmp_path: Path) -> None:
    assert good in text
    file = tmp_path / "model.onnx"
    file.write_bytes(parse(text.replace(good, bad)).SerializeToString())
    with pytest.raises(ModelError, match="its body does not fit"):
        clean(load_model(file))
