"""Integer networks: exact on integers, verified bit for bit, and faults that verification has to find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from processes import run

import dlpack
from dlpack.amalgamate.runtime import closure, sections
from dlpack.errors import VerificationError
from dlpack.graph import registry
from dlpack.graph.ir import Graph, TensorType
from dlpack.graph.quantized import EXACT, quantized
from dlpack.pipeline import Options, build
from dlpack.runtime_c import read_runtime
from dlpack.stages import prepare
from dlpack.targets.toolchains.compiler import zig_command
from dlpack.verify.exact import Certainty, exact
from dlpack.verify.reference import Tolerance, _tolerance, compare, run_onnxruntime


class Net:
    """Writes a network of DequantizeLinear, operator, QuantizeLinear, and computes it in rational numbers beside."""

    def __init__(self, seed: int, dtype: str, shape: tuple[int, ...], scale: float, zero: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype, self.shape = dtype, shape
        self.nodes: list[Any] = []
        self.weights: dict[str, np.ndarray] = {}
        self.scales = {"x": (np.float32(scale), zero)}
        self.steps: list[tuple[str, Callable[..., Any], tuple[str, ...]]] = []

    def constant(self, value: Any, dtype: Any) -> str:
        name = f"c{len(self.weights)}"
        self.weights[name] = np.asarray(value, dtype)
        return name

    def op(self, kind: str, *inputs: str, **attrs: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attrs))
        return name

    def real(self, name: str) -> str:
        scale, zero = self.scales[name]
        inputs = (self.constant(scale, np.float32), self.constant(zero, self.dtype))
        return self.op("DequantizeLinear", name, *inputs)

    def layer(self, value: str, scale: float, zero: int, function: Callable[..., Any], *inputs: str) -> str:
        """`value` quantised; `function` computes it as integers times a rational number from those of `inputs`."""
        out = self.op("QuantizeLinear", value, self.constant(scale, np.float32), self.constant(zero, self.dtype))
        self.scales[out] = (np.float32(scale), zero)
        self.steps.append((out, function, inputs))
        return out

    def conv(self, x: str, outputs: int, scale: float, zero: int, limit: float | None = 6.0, **attrs: Any) -> str:
        groups, kernel = attrs.get("group", 1), attrs.pop("kernel", 3)
        channels = self.channels[x] // groups
        w = self.rng.integers(-127, 128, (outputs, channels, kernel, kernel), np.int8)
        sw = self.rng.uniform(0.001, 0.004, outputs).astype(np.float32)
        sx, zx = self.scales[x]
        bias = self.rng.integers(-3000, 3000, outputs, np.int32)
        zeros = self.constant(np.zeros(outputs), np.int8), self.constant(np.zeros(outputs), np.int32)
        wide = self.op("DequantizeLinear", self.constant(w, np.int8), self.constant(sw, np.float32), zeros[0], axis=0)
        add = self.op(
            "DequantizeLinear", self.constant(bias, np.int32), self.constant(sx * sw, np.float32), zeros[1], axis=0
        )
        y = self.op("Conv", self.real(x), wide, add, **attrs)
        if limit is not None:
            y = self.op("Clip", y, self.constant(0, np.float32), self.constant(limit, np.float32))

        def function(a: np.ndarray) -> tuple[np.ndarray, list[Fraction], float | None]:
            total = convolved(a - zx, w.astype(np.int64), groups, attrs) + bias.reshape(-1, 1, 1)
            return total, [Fraction(float(sx)) * Fraction(float(s)) for s in sw], limit

        out = self.layer(y, scale, zero, function, x)
        self.channels[out] = outputs
        return out

    @property
    def channels(self) -> dict[str, int]:
        self.__dict__.setdefault("_channels", {"x": self.shape[1]})
        return self.__dict__["_channels"]

    def model(self, *outputs: str) -> ModelProto:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", kind, self.shape)],
            [helper.make_tensor_value_info(name, kind, None) for name in outputs],
            [numpy_helper.from_array(v, n) for n, v in self.weights.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)

    def expected(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """All quantised values, from integers and rational numbers alone."""
        known, info = {"x": x}, np.iinfo(self.dtype)
        for out, function, inputs in self.steps:
            total, factors, limit = function(*(known[i].astype(np.int64) for i in inputs))
            scale, zero = self.scales[out]
            step = Fraction(float(scale))
            rows = np.moveaxis(total, 1, 0)
            wide = len(factors) > 1
            result = np.empty(rows.shape, np.int64)
            for place, n in np.ndenumerate(rows):
                value = Fraction(n if isinstance(n, Fraction) else int(n)) * factors[place[0] if wide else 0]
                if limit is not None:
                    value = min(max(value, Fraction(0)), Fraction(limit))
                result[place] = min(max(round(value / step) + zero, info.min), info.max)
            known[out] = np.moveaxis(result, 0, 1).astype(self.dtype)
        return known


def convolved(x: np.ndarray, w: np.ndarray, groups: int, attrs: dict[str, Any]) -> np.ndarray:
    """A convolution of int64."""
    top, left, bottom, right = attrs.get("pads", [0] * 4)
    sy, sx = attrs.get("strides", [1, 1])
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], (2, 3))[:, :, ::sy, ::sx]
    parts = zip(np.split(windows, groups, 1), np.split(w, groups, 0), strict=True)
    return np.concatenate([np.einsum("nchwij,ocij->nohw", a, b) for a, b in parts], 1)


def residual_net(seed: int, dtype: str) -> tuple[Net, str]:
    """Convolutions of all kinds, a residual sum, a mean and a dense layer."""
    zero = 0 if dtype == "int8" else 131
    net = Net(seed, dtype, (1, 3, 11, 9), 0.0179, zero)
    low = int(np.iinfo(dtype).min)
    a = net.conv("x", 19, 0.0235, low, pads=[1, 1, 1, 1], strides=[2, 2])
    d = net.conv(a, 19, 0.0235, low, group=19, pads=[1, 1, 1, 1])
    p = net.conv(d, 19, 0.0311, zero + 3, None, kernel=1)
    sum_of = net.op("Relu", net.op("Add", net.real(a), net.real(p)))
    (sa, za), (sp, zp) = net.scales[a], net.scales[p]

    def add(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, list[Fraction], float]:
        left = (x - za).astype(object) * Fraction(float(sa))
        return left + (y - zp).astype(object) * Fraction(float(sp)), [Fraction(1)], 1e9

    r = net.layer(sum_of, 0.0273, low, add, a, p)
    sr, zr = net.scales[r]

    def mean(x: np.ndarray) -> tuple[np.ndarray, list[Fraction], None]:
        total = (x - zr).sum(axis=(2, 3), keepdims=True)
        return total, [Fraction(float(sr)) / (x.shape[2] * x.shape[3])], None

    m = net.layer(net.op("GlobalAveragePool", net.real(r)), 0.0111, low, mean, r)
    net.channels[m] = 19
    return net, net.conv(m, 10, 0.0123, zero - 2, None, kernel=1)


def run_built(model: ModelProto, folder: Path, inputs: list[dict[str, np.ndarray]]) -> list[list[np.ndarray]]:
    onnx.save(model, folder / "net.onnx")
    bundle = build(folder / "net.onnx", folder / "bundle")
    with dlpack.load(bundle) as predictor:
        return [[np.array(v) for v in predictor.run(x).values()] for x in inputs]


def some_inputs(net: Net, count: int, seed: int = 5) -> list[np.ndarray]:
    rng, info = np.random.default_rng(seed), np.iinfo(net.dtype)
    return [rng.integers(info.min, info.max + 1, net.shape).astype(net.dtype) for _ in range(count)]


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_every_layer_is_the_exact_value_rounded_once(dtype: str, tmp_path: Path) -> None:
    net, last = residual_net(3, dtype)
    names = [out for out, _, _ in net.steps]
    inputs = some_inputs(net, 8)
    outputs = run_built(net.model(*names), tmp_path, [{"x": x} for x in inputs])
    for x, got in zip(inputs, outputs, strict=True):
        want = net.expected(x)
        assert len(np.unique(want[last])) > 4
        for name, value in zip(names, got, strict=True):
            np.testing.assert_array_equal(value, want[name], err_msg=name)


def test_reference_is_exact_too() -> None:
    net, last = residual_net(8, "uint8")
    model = net.model(last)
    twin = exact(model)
    assert twin.certainty == {last: Certainty.EXACT}
    for x in some_inputs(net, 6, seed=6):
        (got,) = run_onnxruntime(twin.model, {"x": x})
        np.testing.assert_array_equal(got, net.expected(x)[last])


def test_ties_go_to_the_even_integer(tmp_path: Path) -> None:
    net = Net(1, "int8", (1, 1, 1, 255), 1.0, 0)
    w = net.op("DequantizeLinear", net.constant([[[[1]]]], np.int8), net.constant(0.5, np.float32))
    out = net.op(
        "QuantizeLinear", net.op("Conv", net.real("x"), w), net.constant(1, np.float32), net.constant(0, np.int8)
    )
    x = np.arange(-128, 127, dtype=np.int8).reshape(net.shape)
    ((got,),) = run_built(net.model(out), tmp_path, [{"x": x}])
    np.testing.assert_array_equal(got, np.round(x / 2).astype(np.int8))


@pytest.mark.parametrize("group", [False, True])
def test_qlinear_operators_and_weights_beyond_8_bits(group: bool, tmp_path: Path) -> None:
    """Weights less their zero point reach from -200 to 55; the sums of 900 products pass 2^24."""
    rng = np.random.default_rng(4)
    channels, groups = (64, 64) if group else (100, 1)
    w = rng.integers(0, 256, (7 if not group else 64, channels // groups, 3, 3)).astype(np.uint8)
    w[0] = 0
    bias = rng.integers(-99999, 99999, len(w)).astype(np.int32)
    values = {"sx": np.float32(0.02), "zx": np.uint8(7), "w": w, "sw": np.float32(0.003), "zw": np.uint8(200),
              "sy": np.float32(0.2 if group else 4.1), "zy": np.uint8(120), "b": bias}  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node("QLinearConv", ["x", *values], ["y"], pads=[1, 0, 1, 0], group=groups)],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, (1, channels, 6, 7))],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    inputs = [rng.integers(0, 256, (1, channels, 6, 7)).astype(np.uint8) for _ in range(3)]
    inputs[0][:] = 255
    outputs = run_built(model, tmp_path, [{"x": x} for x in inputs])
    largest = 0
    for x, (got,) in zip(inputs, outputs, strict=True):
        total = convolved(x.astype(np.int64) - 7, w.astype(np.int64) - 200, groups, {"pads": [1, 0, 1, 0]})
        largest = max(largest, int(np.abs(total).max()))
        total += bias.reshape(-1, 1, 1)
        scale = float(values["sx"]) * float(values["sw"]) / float(values["sy"])
        np.testing.assert_array_equal(got, np.clip(np.round(total * scale) + 120, 0, 255).astype(np.uint8))
    assert group or largest > EXACT


def test_matmul_whose_sums_pass_float32(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    w = rng.integers(-127, 128, (1500, 33)).astype(np.int8)
    w[:, 0], w[:, 1] = 127, -127
    net = Net(2, "uint8", (2, 1500), 0.01, 3)
    wide = net.op(
        "DequantizeLinear", net.constant(w, np.int8), net.constant(0.002, np.float32), net.constant(0, np.int8)
    )
    y = net.op("MatMul", net.real("x"), wide)
    out = net.op("QuantizeLinear", y, net.constant(5.3, np.float32), net.constant(128, np.uint8))
    inputs = [np.full(net.shape, 255, np.uint8), *some_inputs(net, 3)]
    scale = float(np.float32(0.01)) * float(np.float32(0.002)) / float(np.float32(5.3))
    for x, (got,) in zip(inputs, run_built(net.model(out), tmp_path, [{"x": v} for v in inputs]), strict=True):
        total = (x.astype(np.int64) - 3) @ w.astype(np.int64)
        np.testing.assert_array_equal(got, np.clip(np.round(total * scale) + 128, 0, 255).astype(np.uint8))


def test_weights_stay_8_bits_wide_and_nothing_is_dequantised(tmp_path: Path) -> None:
    net, last = residual_net(5, "int8")
    onnx.save(net.model(last), tmp_path / "net.onnx")
    bundle = build(tmp_path / "net.onnx", tmp_path / "bundle", Options(weights="file", target="x86-64-v3"))
    text = (bundle / "net.cc").read_text(encoding="utf-8")
    assert "dequantize" not in text and "const int8_t* __restrict w" in text


def test_float_operators_behind_a_layer_get_its_exact_value_rounded() -> None:
    """Where nothing quantises a layer's output again, Rescale makes the float32 value of it."""
    net, last = residual_net(2, "int8")
    tail = [helper.make_node("DequantizeLinear", [last, *net.nodes[-1].input[1:]], ["real"])]
    net.nodes += [*tail, helper.make_node("Sigmoid", ["real"], ["y"])]
    assert exact(net.model("y")).certainty == {"y": Certainty.FLOAT}


def test_certainty_follows_the_network() -> None:
    """A float32 function between two layers lets the second be adrift; behind the last layer it is worth a unit."""
    net = Net(7, "int8", (1, 4, 6, 6), 0.02, 1)
    a = net.conv("x", 8, 0.03, 0, None)
    gate = net.op("Sigmoid", net.real(a))
    b = net.op("QuantizeLinear", gate, net.constant(1 / 256, np.float32), net.constant(-128, np.int8))
    net.scales[b], net.channels[b] = (np.float32(1 / 256), -128), 8
    c = net.conv(b, 5, 0.03, 0, None)
    moved = net.op("Transpose", b, perm=[0, 2, 3, 1])
    assert exact(net.model(a, b, moved, c)).certainty == {
        a: Certainty.EXACT,
        b: Certainty.UNIT,
        moved: Certainty.UNIT,
        c: Certainty.ADRIFT,
    }


def test_quantised_outputs_are_judged_by_largest_and_mean_error() -> None:
    want = np.arange(100, dtype=np.int8)
    one_off, two_off, far = want.copy(), want.copy(), want.copy()
    one_off[7] += 1
    two_off[[7, 8]] += 1
    far[7] += 2
    allowed = Tolerance(1.0, 0.01)
    passed = [compare("y", got, want, allowed).passed for got in (want, one_off, two_off, far)]
    assert passed == [True, True, False, False]
    assert not compare("y", one_off, want).passed
    assert compare("y", far, want, allowed).absolute == 2.0


def test_a_unit_of_floats_is_one_between_rounded_numbers() -> None:
    """As a DeepLab has whose size is no multiple of its steps: interpolation puts values on ties."""
    scale = np.float32(0.0017865448)
    want = np.arange(-152, 100).astype(np.float32) * scale
    got = want.copy()
    got[1] = np.float32(-150) * scale
    assert abs(float(got[1]) - float(want[1])) > float(scale)
    allowed = _tolerance(want, Certainty.UNIT, float(scale), Tolerance(0.0, 0.0), 1e-6)
    assert compare("y", got, want, allowed).passed
    got[2] = np.float32(-148) * scale
    assert not compare("y", got, want, allowed).passed


# --- faults -----------------------------------------------------------------------------------------------------------


def constant_changed(graph: Graph, place: int, slot: int, change: Callable[[np.ndarray], np.ndarray]) -> Graph:
    node = graph.nodes[place]
    value = change(graph.constants[node.inputs[slot]].copy())
    inputs = list(node.inputs)
    inputs[slot] = "changed"
    nodes = list(graph.nodes)
    nodes[place] = replace(node, inputs=tuple(inputs))
    kind = TensorType(value.dtype.name, value.shape)
    return graph.with_nodes(nodes, {"changed": value}, {"changed": kind})


def rows_swapped(w: np.ndarray) -> np.ndarray:
    w[[0, 1]] = w[[1, 0]]
    return w


def faults(graph: Graph) -> Iterator[tuple[str, Graph]]:
    for place, node in enumerate(graph.nodes):
        constant = graph.constants.get(node.inputs[0])
        if node.op == "QuantizeLinear":
            yield f"zero point of {node.outputs[0]}", constant_changed(graph, place, 2, lambda z: z + z.dtype.type(1))
            yield f"scale of {node.outputs[0]}", constant_changed(graph, place, 1, lambda s: s * np.float32(1.01))
        elif node.op == "DequantizeLinear" and constant is not None and constant.ndim == 4:
            yield f"rows of {node.inputs[0]}", constant_changed(graph, place, 0, rows_swapped)


def test_faults_fail_verification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, last = residual_net(12, "uint8")
    onnx.save(net.model(last), tmp_path / "net.onnx")
    proto, graph = prepare.clean_graph(net.model(last), {})
    found = list(faults(graph))
    assert len(found) >= 14
    for what, wrong in found:
        monkeypatch.setattr(prepare, "clean_graph", lambda *_, wrong=wrong: (proto, wrong))
        with pytest.raises(VerificationError):
            build(tmp_path / "net.onnx", tmp_path / "bundle")
            pytest.fail(f"a wrong {what} was not found")


def test_missing_clamp_fails_verification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlpack.operators.elementwise import call

    net, last = residual_net(12, "uint8")
    onnx.save(net.model(last), tmp_path / "net.onnx")
    operator = registry._OPERATORS["dlpack", "Requantize"]
    monkeypatch.setattr(operator, "function", lambda _, *terms: call("requantized_small_", "float32", *terms))
    with pytest.raises(VerificationError):
        build(tmp_path / "net.onnx", tmp_path / "bundle")


def test_float_network_is_left_alone() -> None:
    from nets import conv_net

    _, graph = prepare.clean_graph(conv_net(), {})
    assert quantized(graph) is graph


def test_rounding_in_float32_is_that_in_double(tmp_path: Path) -> None:
    """Rounding in float32 and `requantized_` agree bit for bit: scales whose products are ties, or next to them."""
    known = sections(list(read_runtime().values()))
    text = "\n\n".join(s.text for s in closure(known, {"vectors", "requantized_small", "requantized_byte"}))
    (tmp_path / "near.cc").write_text(
        f"#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n{text}\n"
        """
int main() {
  static const double scales[] = {0.5, 0.25, 1.5, 1.0 / 3, 0.1, 0.4999999999, 0.50000000001, 0.0078125, 2.5e-4};
  long wrong = 0, near = 0;
  for (double scale : scales) {
    const float most = static_cast<float>(scale), rest = static_cast<float>(scale - most);
    const vec<float, 16> high = vec<float, 16>{} + most, low = vec<float, 16>{} + rest;
    for (int32_t from = -600000; from < 600000; from += 16) {
      vec<int32_t, 16> x;
      for (int i = 0; i < 16; ++i) x[i] = from + i;
      const vec<float, 16> want = requantized_(x, high, low), got = requantized_small_(x, high, low),
                           floats = requantized_small_(convert<vec<float, 16>>(x), high, low),
                           zeros = {}, first = zeros - 100, last = zeros + 155, zero = zeros + 101;
      const vec<int32_t, 16> bytes = requantized_byte_(x, high, low, first, last, zero),
                             same = requantized_byte_(convert<vec<float, 16>>(x), high, low, first, last, zero);
      for (int i = 0; i < 16; ++i) {
        const float byte = want[i] < -100 ? -100 : want[i] > 155 ? 155 : want[i];
        wrong += bytes[i] != byte + 101 || same[i] != bytes[i];
        if (want[i] < -512 || want[i] > 512) continue;
        ++near;
        wrong += want[i] != got[i] || want[i] != floats[i];
      }
    }
  }
  printf("%ld %ld\\n", wrong, near);
}
"""
    )
    words = [w for w in zig_command("") if w != "-nostdlib++"]
    run([*words, "-O2", "-std=c++17", "-Wno-psabi", "near.cc", "-o", "near"], cwd=tmp_path, check=True)
    wrong, near = map(int, run(["./near"], cwd=tmp_path, check=True).stdout.split())
    assert wrong == 0 and near > 100_000
