"""Products of 8-bit integers by dot products: bit for bit what their nodes say, on every machine that has them."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import requires_tool
from processes import run
from test_quantised import Net, convolved, some_inputs

from dlpack.amalgamate.cpp import CppPrinter
from dlpack.bundle.loader import read_kernels
from dlpack.graph.ir import Graph
from dlpack.graph.quantized import quantized
from dlpack.loops.index import Linear
from dlpack.loops.ir import Assign, Const, Declare, Kernel, Load, Op, Param, Ref, Store
from dlpack.loops.matrices import pairs_of_rows
from dlpack.pipeline import Options, build
from dlpack.stages.prepare import clean_graph
from dlpack.targets import get_target
from dlpack.targets.toolchains.host import cpu_features
from dlpack.verify.exact import Certainty, exact
from dlpack.verify.reference import run_onnxruntime

MACHINES = ("avx512vnni", "avx512", "avxvnni", "avx2", "neon_i8mm", "neon_dotprod")

ZEROS = Op("int32", 4, "splat", (Const("int32", 1, 0),))


def dense(net: Net, x: str, outputs: int, scale: float, zero: int) -> str:
    """A matrix product over all that a value holds."""
    sx, zx = net.scales[x]
    sw = np.float32(0.0031)
    w = net.rng.integers(-128, 128, (net.channels[x], outputs), np.int8)
    wide = net.op("DequantizeLinear", net.constant(w, np.int8), net.constant(sw, np.float32), net.constant(0, np.int8))
    y = net.op("MatMul", net.op("Flatten", net.real(x)), wide)

    def function(a: np.ndarray) -> tuple[np.ndarray, list[Fraction], None]:
        return (a.reshape(len(a), -1) - zx) @ w.astype(np.int64), [Fraction(float(sx)) * Fraction(float(sw))], None

    return net.layer(y, scale, zero, function, x)


def averaged(net: Net, x: str, scale: float, zero: int) -> str:
    """The mean over windows of 3 x 3, borders included."""
    sx, zx = net.scales[x]
    attrs = {"pads": [1, 0, 1, 1], "strides": [1, 2]}
    y = net.op("AveragePool", net.real(x), kernel_shape=[3, 3], count_include_pad=1, **attrs)

    def function(a: np.ndarray) -> tuple[np.ndarray, list[Fraction], None]:
        n = a.shape[1]
        return convolved(a - zx, np.ones((n, 1, 3, 3), np.int64), n, attrs), [Fraction(float(sx)) / 9], None

    return net.layer(y, scale, zero, function, x)


def transposed(net: Net, x: str, outputs: int, scale: float, zero: int, kernel: int, pads: list[int]) -> str:
    """A transposed convolution of stride 2, with a bias."""
    sx, zx = net.scales[x]
    w = net.rng.integers(-128, 128, (net.channels[x], outputs, kernel, kernel), np.int8)
    bias = net.rng.integers(-3000, 3000, outputs, np.int32)
    sw = net.rng.uniform(0.001, 0.004, outputs).astype(np.float32)
    wide = net.op("DequantizeLinear", net.constant(w, np.int8), net.constant(sw, np.float32), axis=1)
    add = net.op("DequantizeLinear", net.constant(bias, np.int32), net.constant(sx * sw, np.float32), axis=0)
    y = net.op("ConvTranspose", net.real(x), wide, add, strides=[2, 2], pads=pads)

    def function(a: np.ndarray) -> tuple[np.ndarray, list[Fraction], None]:
        zeros = np.zeros((*a.shape[:2], 2 * a.shape[2] - 1, 2 * a.shape[3] - 1), np.int64)
        zeros[:, :, ::2, ::2] = a - zx
        border = [kernel - 1 - pad for pad in pads]
        total = convolved(zeros, w[:, :, ::-1, ::-1].swapaxes(0, 1).astype(np.int64), 1, {"pads": border})
        return total + bias.reshape(-1, 1, 1), [Fraction(float(sx)) * Fraction(float(s)) for s in sw], None

    out = net.layer(y, scale, zero, function, x)
    net.channels[out] = outputs
    return out


def resized(net: Net, x: str, scale: float, mode: str, places: tuple[int, int]) -> str:
    """Twice as high and wide, from the part `places` of the channels."""
    sx, zx = net.scales[x]
    first, last = (net.constant([v], np.int64) for v in places)
    part = net.op("Slice", net.real(x), first, last, net.constant([1], np.int64))
    y = net.op("Resize", part, "", net.constant([1, 1, 2, 2], np.float32), mode=mode)

    def twice(a: np.ndarray, axis: int) -> np.ndarray:
        """Four times the value at quarters between neighbours; the edge goes on."""
        a = np.moveaxis(a, axis, 0)
        before, after = np.concatenate([a[:1], a[:-1]]), np.concatenate([a[1:], a[-1:]])
        pairs = [3 * a + before, 3 * a + after] if mode == "linear" else [4 * a, 4 * a]
        return np.moveaxis(np.stack(pairs, 1).reshape(-1, *a.shape[1:]), 0, axis)

    def function(a: np.ndarray) -> tuple[np.ndarray, list[Fraction], None]:
        return twice(twice(a[:, slice(*places)] - zx, 2), 3), [Fraction(float(sx)) / 16], None

    out = net.layer(y, scale, zx, function, x)
    net.channels[out] = places[1] - places[0]
    return out


def net_of_all_kinds(dtype: str) -> tuple[Net, list[str]]:
    """Windows, strides, dilations, groups, pads on some sides, channels that nothing divides, and a matrix product;
    values that only products read and values that others read too."""
    zero, low = (3, -128) if dtype == "int8" else (131, 0)
    net = Net(21, dtype, (1, 23, 9, 10), 0.0179, zero)
    a = net.conv("x", 37, 0.031, low, pads=[1, 0, 1, 2])
    b = net.conv(a, 46, 0.052, zero - 7, None, kernel=1, strides=[2, 2])
    c = net.conv(b, 14, 0.061, low, group=2, pads=[1, 1, 1, 1])
    d = net.conv(a, 9, 0.047, zero, None, kernel=5, pads=[0, 2, 0, 0], strides=[1, 3])
    e = net.conv(a, 37, 0.043, low, group=37)
    f = net.conv(c, 70, 0.082, zero, None, kernel=5)
    return net, [b, c, d, e, f, dense(net, f, 11, 0.21, zero + 1), averaged(net, a, 0.019, zero + 2)]


def net_of_moves(dtype: str) -> tuple[Net, list[str]]:
    """Transposed convolutions, and what resizing makes of parts of the channels."""
    zero = 3 if dtype == "int8" else 131
    net = Net(22, dtype, (1, 9, 4, 5), 0.0179, zero)
    a = transposed(net, "x", 7, 0.057, zero, 2, [0] * 4)
    b = transposed(net, resized(net, "x", 0.0179, "nearest", (1, 8)), 6, 0.061, zero + 5, 4, [1] * 4)
    return net, [a, b, *(resized(net, "x", scale, "linear", (2, 9)) for scale in (0.0179, 0.027))]


def saved(net: Net, outputs: list[str], folder: Path) -> Path:
    onnx.save(net.model(*outputs), folder / "net.onnx")
    return folder / "net.onnx"


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_every_machine_is_exact(dtype: str, tmp_path: Path) -> None:
    """Verification compares with a reference that is rewritten on its own, bit for bit."""
    net, outputs = net_of_all_kinds(dtype)
    outputs.append(net.conv("x", 9, 0.047, 5, None, dilations=[2, 1], pads=[2, 0, 2, 1]))
    options = Options(target="source", target_options={"machine": ",".join(MACHINES)})
    bundle = build(saved(net, outputs, tmp_path), tmp_path / "bundle", options)
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["variants"] == list(MACHINES)
    assert all(e["passed"] and e["absolute"] == 0 for e in manifest["verification"])
    kernels = [k for k in read_kernels(bundle) if k["macs"]]
    dots = {m: sum("dot products" in k["schedule"] for k in kernels if k["machine"] == m) for m in MACHINES}
    assert dots == dict.fromkeys(MACHINES, 7), "all but the depthwise convolution and the mean"
    able = {"avx512vnni": "avx512_vnni", "avx512": "avx512f", "avxvnni": "avx_vnni", "avx2": "avx2"}
    verified = " ".join(manifest["verified_on"])
    assert all(m in verified for m, feature in able.items() if feature in cpu_features())


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_reference_of_what_moves_is_exact_too(dtype: str) -> None:
    net, outputs = net_of_moves(dtype)
    twin = exact(net.model(*outputs))
    assert set(twin.certainty.values()) == {Certainty.EXACT}
    for x in some_inputs(net, 3):
        for name, got in zip(outputs, run_onnxruntime(twin.model, {"x": x}), strict=True):
            np.testing.assert_array_equal(got, net.expected(x)[name], err_msg=name)


def test_what_moves_is_exact(tmp_path: Path) -> None:
    """Phases are dot products, and nothing is dequantised."""
    net, outputs = net_of_moves("int8")
    machines = ("avx512vnni", "neon_dotprod")
    options = Options(target="source", name="net", target_options={"machine": ",".join(machines)})
    bundle = build(saved(net, outputs, tmp_path), tmp_path / "bundle", options)
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert all(e["passed"] and e["absolute"] == 0 for e in manifest["verification"])
    kernels = read_kernels(bundle)
    assert all("dot products" in k["schedule"] for k in kernels if k["macs"] and "conv" in k["name"])
    assert not any("quantize" in k["name"].replace("requantize", "") for k in kernels)


@pytest.mark.parametrize("outputs", [64, 37])
def test_sums_stay_in_registers_at_a_ragged_edge(outputs: int, tmp_path: Path) -> None:
    """64 outputs in tiles of 24 columns: in the last tile two vectors of six lie beyond the edge, of 37 one in part."""
    net = Net(9, "uint8", (1, 64, 14, 14), 0.02, 128)
    path = saved(net, [net.conv("x", outputs, 0.03, 0)], tmp_path)
    options = Options(target="source", name="net", target_options={"machine": "neon_dotprod"})
    bundle = build(path, tmp_path / "net", options)
    text = (bundle / "net.cc").read_text()
    kernels = text[text.index("// [KERNELS]") : text.index("// [RUN]")]
    assert "acc0_0 = dot_<3>(acc0_0, " in kernels and " acc[" not in kernels and "mul_(" not in kernels


def test_a_pair_of_rows_shares_matrix_products(tmp_path: Path) -> None:
    """24 channels are a vector of 16 and 8 more, for each of 27 rows, of which the last has zeros beside it."""
    net = Net(9, "uint8", (1, 24, 3, 9), 0.02, 128)
    path = saved(net, [net.conv("x", 8, 0.03, 0, kernel=1)], tmp_path)
    options = Options(target="source", name="net", target_options={"machine": "neon_i8mm"})
    bundle = build(path, tmp_path / "net", options)
    text = (bundle / "net.cc").read_text()
    kernels = text[text.index("// [KERNELS]") : text.index("// [RUN]")]
    assert "low_halves_(x_at0, x_at1)" in kernels and "high_halves_(x_at0, x_at1)" in kernels
    assert "joined_(load<i8x8>(" in kernels and "joined_(load<i8x8>(x_column_tile + 16), i8x8{})" not in kernels
    assert "mmla_(acc" in kernels and "dot_(" not in kernels and " acc[" not in kernels
    assert json.loads((bundle / "manifest.json").read_text())["verification"][0]["absolute"] == 0


def test_sums_of_one_row_have_zeros_beside_them(tmp_path: Path) -> None:
    sums = [Declare(f"acc{r}", "int32", 4, ZEROS) for r in range(3)]
    w = Load("int8", 32, "w", Linear(), 32)
    dots = [
        Assign(s.name, Op("int32", 4, "dot_", (Ref("int32", 4, s.name), Load("int8", 8, "x", Linear(8 * r), 8), w)))
        for r, s in enumerate(sums)
    ]
    done = [Store("y", Linear(4 * r), Ref("int32", 4, s.name), 4) for r, s in enumerate(sums)]
    params = (Param("x", "int8", False), Param("w", "int8", False), Param("y", "int32", True))
    text = CppPrinter().kernel(pairs_of_rows(Kernel(params, (*sums, *dots, *done))), "k")
    assert text.count("mmla_(") == 4 and "acc2_beside" in text
    assert (
        text.index("mmla_(acc1")
        < text.index("acc1 = high_halves_(acc0, acc1)", text.index("mmla_("))
        < text.index("store(y")
    )


@pytest.mark.parametrize("compiler", ["g++", "clang++", "aarch64-linux-gnu-g++"])
def test_any_compiler_builds_the_file_without_flags(compiler: str, tmp_path: Path) -> None:
    requires_tool(compiler)
    net = Net(9, "uint8", (1, 8, 6, 6), 0.02, 128)
    path = saved(net, [net.conv("x", 16, 0.03, 0)], tmp_path)
    options = Options(target="source", name="net", verify=False, target_options={"machine": ",".join(MACHINES)})
    source = build(path, tmp_path / "bundle", options) / "net.cc"
    flags = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror"]
    run([compiler, *flags, "-c", str(source), "-o", str(tmp_path / "net.o")], check=True)


def test_this_computer_agrees_with_rational_numbers(tmp_path: Path) -> None:
    import dlpack

    net, outputs = net_of_all_kinds("uint8")
    bundle = build(saved(net, outputs, tmp_path), tmp_path / "bundle")
    x = np.random.default_rng(4).integers(0, 256, net.shape).astype(np.uint8)
    want = net.expected(x)
    with dlpack.load(bundle) as predictor:
        for name, got in predictor.run({"x": x}).items():
            np.testing.assert_array_equal(got, want[name], err_msg=name)


def of(net: Net, outputs: list[str]) -> Graph:
    _, graph = clean_graph(net.model(*outputs), {})
    return graph


def nodes(graph: Graph, *ops: str) -> list[Any]:
    return [n for n in graph.nodes if n.op in ops]


@pytest.mark.parametrize("operand", ["uint8", "int8"])
def test_values_that_products_read_lie_in_8_bits(operand: str) -> None:
    """A value that a sum reads as well is read from there too, and depthwise sums in float32."""
    net = Net(5, "uint8", (1, 8, 6, 6), 0.02, 128)
    a = net.conv("x", 16, 0.03, 0)
    b = net.conv(a, 16, 0.03, 7, None, kernel=1)
    total = net.layer(net.op("Add", net.real(a), net.real(b)), 0.05, 9, lambda *_: None, a, b)
    net.channels[total] = 16
    d = net.conv(total, 16, 0.04, 0, group=16)
    graph = quantized(of(net, [d]), operand)
    products = [n for n in nodes(graph, "Conv") if graph.types[n.outputs[0]].dtype == "int32"]
    assert len(products) == 2
    assert {graph.types[n.inputs[0]].dtype for n in products} == {operand}
    assert [n.attrs["fill"] for n in products] == ([128, 0] if operand == "uint8" else [0, -128])
    (depthwise,) = (n for n in nodes(graph, "Conv") if n not in products)
    assert graph.types[depthwise.inputs[0]].dtype == operand and graph.types[depthwise.outputs[0]].dtype == "float32"
    assert depthwise.attrs["fill"] == (9 if operand == "uint8" else 9 - 128)
    assert [len(n.inputs) for n in nodes(graph, "Requantize")] == [3, 6]
    assert len(nodes(graph, "RequantizeByte")) == 2


def test_sums_beyond_float32_are_not_cut() -> None:
    """In float32 sums that may pass 2^24 are computed in parts, along the input channels."""
    net = Net(6, "uint8", (1, 512, 6, 6), 0.02, 128)
    graph = of(net, [net.conv("x", 16, 3.0, 0)])
    assert nodes(quantized(graph), "Slice") and not nodes(quantized(graph, "uint8"), "Slice")


def test_first_layers_are_dot_products_along_rows() -> None:
    """A window of three is made four wide, with weights of zero; a window of one pixel has no row to sum along."""
    net = Net(7, "uint8", (1, 3, 6, 6), 0.02, 128)
    graph = quantized(of(net, [net.conv("x", 16, 0.03, 0), net.conv("x", 16, 0.03, 0, kernel=1)]), "uint8")
    wide, plain = sorted(nodes(graph, "Conv"), key=lambda n: graph.types[n.outputs[0]].dtype, reverse=True)
    assert [graph.types[n.outputs[0]].dtype for n in (wide, plain)] == ["int32", "float32"]
    weights = graph.constants[wide.inputs[1]]
    assert weights.shape == (16, 3, 3, 4) and not weights[..., 3].any()
    assert wide.attrs["pads"] == [0, 0, 0, 1]


def test_targets_have_dot_products_for_integer_networks_alone(tmp_path: Path) -> None:
    net = Net(8, "int8", (1, 3, 6, 6), 0.02, 1)
    path = saved(net, [net.conv("x", 16, 0.03, 0)], tmp_path)
    bundle = build(path, tmp_path / "integers", Options(target="linux-arm64"))
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["variants"] == ["neon_i8mm", "neon_dotprod", "neon"]
    for target, others in {"android": ["neon32", "avx2", "sse4"], "ios": ["avx2", "sse4"]}.items():
        phone = json.loads((build(path, tmp_path / target, Options(target=target)) / "manifest.json").read_text())
        assert phone["variants"] == [*manifest["variants"], *others]
        assert all(e["absolute"] == 0 for e in phone["verification"])
    library = next((tmp_path / "ios").rglob("ios-arm64/lib*.a"))
    assert b"_sysctlbyname" in library.read_bytes()  # the processor is asked
    floats = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "net",
        [onnx.helper.make_tensor_value_info("x", 1, [4])],
        [onnx.helper.make_tensor_value_info("y", 1, [4])],
    )
    onnx.save(
        onnx.helper.make_model(floats, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9),
        tmp_path / "f.onnx",
    )
    bundle = build(tmp_path / "f.onnx", tmp_path / "floats", Options(target="linux-arm64"))
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["machine"] == "neon" and "variants" not in manifest
    assert [b.machine().name for b in get_target("x86-64").builds] == ["avx512vnni", "avx512", "avxvnni", "avx2"]
