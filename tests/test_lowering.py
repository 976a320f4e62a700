"""The core of the compiler: index arithmetic, layouts, tiles."""

from __future__ import annotations

import itertools
from pathlib import Path

import nets
import numpy as np
import onnx
import pytest
from onnx import helper

from dlpack.bundle.loader import load, read_kernels
from dlpack.kernels.packing import pack
from dlpack.loops.index import Linear, floordiv, floormod, merge_divmod
from dlpack.loops.layout import Block, Layout, channels_last, dense, expand, merge_dims, order_of, reshape
from dlpack.pipeline import build

X, Y = Linear.var("x"), Linear.var("y")
RANGES = {"x": (0, 6), "y": (0, 3)}


def value(form: Linear, env: dict[str, int]) -> int:
    return form.substitute({k: Linear(v) for k, v in env.items()}, {}).const


@pytest.mark.parametrize("divisor", [1, 2, 3, 4, 7, 8])
def test_division_agrees_with_python(divisor: int) -> None:
    """Whatever is simplified, the value stays that of Python's // and %."""
    forms = [X, X * 4 + Y, X * 8 + Y * 2 + 5, X * -3 + Y * 4 + 18, X * divisor + Y]
    for form, x, y in itertools.product(forms, range(7), range(4)):
        env = {"x": x, "y": y}
        plain = value(form, env)
        assert value(floordiv(form, divisor, RANGES), env) == plain // divisor
        assert value(floormod(form, divisor, RANGES), env) == plain % divisor


def test_multiples_leave_the_division() -> None:
    assert floordiv(X * 4 + Y, 4, RANGES) == X
    assert floormod(X * 4 + Y, 4, RANGES) == Y


def test_fused_loops_fold_back() -> None:
    """(f // W) * W * s + (f % W) * s is f * s: what a loop over contiguous rows leaves."""
    f = Linear.var("f")
    ranges = {"f": (0, 55)}
    form = floordiv(f, 8, ranges) * 24 + floormod(f, 8, ranges) * 3
    assert merge_divmod(form) == f * 3
    # Of three loops, in steps of 16 and a lane: the remainders by 3 and by 9 have other coefficients.
    f, ranges = Linear.var("f") * 16 + Linear.var("lane"), {"f": (0, 8), "lane": (0, 15)}
    inner = floormod(f, 9, ranges)
    form = floordiv(f, 9, ranges) * 9 + floordiv(inner, 3, ranges) * 3 + floormod(f, 3, ranges)
    assert merge_divmod(form) == f
    assert merge_divmod(form + floormod(f, 5, ranges)) == f + floormod(f, 5, ranges)


def elements(shape: tuple[int, ...], layout: Layout) -> list[int]:
    return [
        layout.address([Linear(i) for i in index], {}).const for index in itertools.product(*(range(n) for n in shape))
    ]


def test_channels_last_order() -> None:
    layout = dense((2, 3, 4, 5), channels_last(4))
    assert layout.strides == (60, 1, 15, 3)
    assert order_of((2, 3, 4, 5), layout) == (0, 2, 3, 1)


@pytest.mark.parametrize(
    ("old", "order", "new", "view"),
    [
        ((2, 3, 4), None, (6, 4), True),
        ((2, 3, 4), None, (2, 12), True),
        ((2, 3, 4), None, (4, 3, 2), True),
        ((1, 8, 1, 1), (0, 2, 3, 1), (1, 8), True),
        ((1, 3, 4, 5), (0, 2, 3, 1), (1, 60), False),
        ((4, 6), (1, 0), (24,), False),
        ((4, 6), (1, 0), (4, 2, 3), True),
    ],
)
def test_reshape_is_a_view_exactly_where_numpy_says(
    old: tuple[int, ...], order: tuple[int, ...] | None, new: tuple[int, ...], view: bool
) -> None:
    layout = dense(old, order)
    out = reshape(old, layout, new)
    assert (out is not None) == view
    if out is not None:
        assert elements(new, out) == elements(old, layout)


def test_broadcast_has_stride_zero() -> None:
    assert expand(dense((3, 1)), (3, 1), (2, 3, 4)).strides == (0, 1, 0)


def test_contiguous_dimensions_merge() -> None:
    a, b = dense((2, 3, 4)), Layout((0, 4, 1))
    assert merge_dims((2, 3, 4), [a], (0, 1, 2))[0] == [24]
    shape, layouts = merge_dims((2, 3, 4), [a, b], (0, 1, 2))
    assert shape == [2, 12] and layouts[1].strides == (0, 1)


def test_packing_fills_blocks_with_zeros() -> None:
    """Weights [O, K] in blocks of 4 outputs: [O / 4, K, 4]."""
    w = np.arange(1, 19, dtype=np.float32).reshape(6, 3)
    packed = pack(w, Layout((12, 4), 0, ((0, Block(4, 1, 4)),))).reshape(2, 3, 4)
    for o, k in itertools.product(range(8), range(3)):
        assert packed[o // 4, k, o % 4] == (w[o, k] if o < 6 else 0)


@pytest.mark.parametrize("curve", ["Erf", "Tanh"])
@pytest.mark.parametrize("seen", [False, True], ids=["inside", "an output"])
def test_a_curve_plus_one_is_one_function(tmp_path: Path, curve: str, seen: bool) -> None:
    """GELU's x / sqrt 2, erf, + 1 become a product and a function, also tanh + 1; not where the curve is an output."""
    node = helper.make_node
    constants = {"r": np.float32([1.4142135]), "one": np.float32(1), "half": np.float32(0.5)}
    nodes = [
        node("Div", ["x", "r"], ["d"]),
        node(curve, ["d"], ["e"]),
        node("Add", ["one", "e"], ["p"]),
        node("Mul", ["x", "p"], ["m"]),
        node("Mul", ["m", "half"], ["y"]),
    ]
    outputs = {"y": (3, 50), **({"e": (3, 50)} if seen else {})}
    onnx.save(nets.model(nodes, {"x": (3, 50)}, outputs, constants), tmp_path / "gelu.onnx")
    kernels = read_kernels(build(tmp_path / "gelu.onnx", tmp_path / "b"))
    operators = {op for k in kernels for op in k["computes"].split(":")[0].split(" + ")}
    assert operators == ({"Div", curve, "Add", "Mul"} if seen else {"Mul", f"{curve}PlusOne"})


@pytest.mark.parametrize(
    ("places", "copied"),
    [
        (np.int64(-2), False),
        (np.int64([4]), False),
        (np.int64([0, 2, 4]), False),
        (np.int64([3, 1]), False),
        (np.int64([0, 1, 4]), True),
        (np.int64([[0], [2]]), True),
    ],
    ids=str,
)
def test_gather_at_even_places_is_a_view(tmp_path: Path, places: np.ndarray, copied: bool) -> None:
    """x[:, places] is read where it lies; the build's verification says that it is right."""
    node = helper.make_node
    shape = (3, *places.shape, 7)
    nodes = [node("Relu", ["x"], ["r"]), node("Gather", ["r", "k"], ["g"], axis=1), node("Exp", ["g"], ["y"])]
    onnx.save(nets.model(nodes, {"x": (3, 5, 7)}, {"y": shape}, {"k": places}), tmp_path / "gather.onnx")
    kernels = read_kernels(build(tmp_path / "gather.onnx", tmp_path / "b"))
    assert [k["computes"] for k in kernels if "Gather" in k["computes"]] == [] or copied


@pytest.mark.parametrize("width", [1, 5, 16, 40, 64, 130])
def test_rows_of_a_table_are_copied_in_vectors(tmp_path: Path, width: int) -> None:
    """Rows at places that are data, of all widths, also from behind; right by the build's verification."""
    table = np.random.default_rng(width).standard_normal((9, width)).astype(np.float32)
    nodes = [helper.make_node("Gather", ["table", "k"], ["y"])]
    model = nets.model(nodes, {"k": (2, 3)}, {"y": (2, 3, width)}, {"table": table})
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    onnx.save(model, tmp_path / "lookup.onnx")
    bundle = build(tmp_path / "lookup.onnx", tmp_path / "b")
    with load(bundle) as predictor:
        k = np.int64([[0, 8, 3], [-1, -9, 7]])
        assert (np.asarray(predictor.run({"k": k})["y"]) == table[k]).all()
    kernel = (bundle / "lookup.cc").read_text().split("// [KERNELS] ")[1].split("// [RUN] ")[0]
    assert "load" in kernel or width == 1


def test_max_of_a_cast_and_a_constant(tmp_path: Path) -> None:
    """A cast has a value too, but it is no number."""
    made = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        net (float[4] x) => (int64[4] y, int64[4] z) <int64 zero = {0}> {
            n = Cast<to = 7>(x)
            y = Max(n, zero)
            z = Min(zero, n)
        }"""
    )
    onnx.save(made, tmp_path / "net.onnx")
    outputs = load(build(tmp_path / "net.onnx", tmp_path / "bundle")).run(
        {"x": np.array([-2.5, -1, 1, 2.5], np.float32)}
    )
    assert outputs["y"].tolist() == [0, 0, 1, 2] and outputs["z"].tolist() == [-2, -1, 0, 0]


def test_sums_that_nothing_takes_are_left_out(tmp_path: Path) -> None:
    """A product whose elements a constant mask replaces: its loop would only set a variable."""
    made = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        net (float[4, 8] x, float[8, 4] w) => (float[4, 4] y) <bool mask = {0}, float one = {1.0}> {
            p = MatMul(x, w)
            y = Where(mask, p, one)
        }"""
    )
    onnx.save(made, tmp_path / "net.onnx")
    bundle = build(tmp_path / "net.onnx", tmp_path / "bundle")
    text = (bundle / "net.cc").read_text()
    kernels = text[text.index("// [KERNELS]") : text.index("// [RUN]")]
    assert "_matmul_where(" in kernels and "acc" not in kernels
    inputs = {"x": np.ones((4, 8), np.float32), "w": np.ones((8, 4), np.float32)}
    assert (load(bundle).run(inputs)["y"] == 1).all()
