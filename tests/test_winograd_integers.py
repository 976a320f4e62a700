"""3x3 convolutions of 8-bit integers by F(4x4, 3x3) on 16-bit ones: bit for bit what their nodes say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from test_dots import saved
from test_quantised import Net, some_inputs

import dlpack
from dlpack.bundle.loader import read_kernels
from dlpack.kernels.backend import Layer
from dlpack.operators import winograd as operators
from dlpack.pipeline import Options, build
from dlpack.targets.cpu.machine import AVX2, AVX512VNNI, NEON_DOTPROD, SSE4, WASM
from dlpack.targets.cpu.winograd import choose_integers

MACHINES = ("avx512vnni", "avx512", "avxvnni", "avx2")


def net_of_windows(dtype: str) -> tuple[Net, list[str]]:
    """Pictures that tiles of 4 x 4 do not divide, borders on some sides, channels that fill no vector, a sum beside."""
    zero, low = (3, -128) if dtype == "int8" else (131, 0)
    net = Net(31, dtype, (1, 32, 27, 22), 0.0179, zero)
    a = net.conv("x", 48, 0.081, low, pads=[1, 1, 1, 1])
    b = net.conv(a, 37, 0.112, zero - 7, None, pads=[1, 0, 2, 1])
    c = net.conv(a, 64, 0.132, low)
    return net, [b, c]


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_every_machine_is_exact(dtype: str, tmp_path: Path) -> None:
    net, outputs = net_of_windows(dtype)
    options = Options(target="source", target_options={"machine": ",".join(MACHINES)})
    bundle = build(saved(net, outputs, tmp_path), tmp_path / "bundle", options)
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert all(e["passed"] and e["absolute"] == 0 for e in manifest["verification"])
    kernels = [k for k in read_kernels(bundle) if k["macs"]]
    for machine in MACHINES:
        assert any("F(4x4, 3x3)" in k["schedule"] for k in kernels if k["machine"] == machine), machine


def test_this_computer_agrees_with_rational_numbers(tmp_path: Path) -> None:
    net, outputs = net_of_windows("uint8")
    bundle = build(saved(net, outputs, tmp_path), tmp_path / "bundle")
    with dlpack.load(bundle) as predictor:
        for x in some_inputs(net, 2):
            want = net.expected(x)
            for name, got in predictor.run({"x": x}).items():
                np.testing.assert_array_equal(got, want[name], err_msg=name)


@pytest.mark.parametrize(("weight", "beyond"), [(127, False), (-128, False), (-128, True)])
def test_the_largest_sums(weight: int, beyond: bool, tmp_path: Path) -> None:
    """64 times a sum wraps at 32 bits, the sum is right; where that may be wrong, dot products are of 8 bits."""
    channels = 128 if beyond else 96
    net = Net(5, "uint8", (1, channels, 20, 20), 0.02, 0)
    y = net.conv("x", 32, 900.0, 3, None, pads=[1, 1, 1, 1])
    model = net.model(y)
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.ndim == 4:
            tensor.CopyFrom(numpy_helper.from_array(np.full_like(value, weight), tensor.name))
    onnx.save(model, tmp_path / "net.onnx")
    options = Options(target="source", name="net", target_options={"machine": "avx2"})
    bundle = build(tmp_path / "net.onnx", tmp_path / "net", options)
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert all(e["passed"] and e["absolute"] == 0 for e in manifest["verification"])
    (kernel,) = (k for k in read_kernels(bundle) if k["macs"])
    assert ("Winograd" in kernel["schedule"]) != beyond


def test_transforms_are_a_convolution_times_576() -> None:
    """The rows of both transforms, in integers of any size, on every unit of an input and of a window."""
    rng = np.random.default_rng(2)
    d, w = rng.integers(0, 256, (6, 6)), rng.integers(-128, 128, (3, 3))
    rows = np.array([[1, 0, 0], [-1, -1, -1], [-1, 1, -1], [1, 2, 4], [1, -2, 4], [0, 0, 1]])
    near = np.array([[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
                     [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]])  # fmt: skip
    out = np.array([[6, 4, 4, 1, 1, 0], [0, 2, -2, 1, -1, 0], [0, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 6]])
    tile = out @ ((rows @ w @ rows.T) * (near @ d @ near.T)) @ out.T
    less = np.array(operators.LESS)
    want = np.array([[(d[y : y + 3, x : x + 3] * w).sum() for x in range(4)] for y in range(4)])
    np.testing.assert_array_equal(tile, want * 9 << (6 - less[:, None] - less))
    assert operators.INVERSE_OF_9 * 9 % (1 << 32) == 1
    assert np.abs(near).sum(axis=1).max() ** 2 * 255 < 1 << 15 and np.abs(rows).sum(axis=1).max() ** 2 * 128 < 1 << 15


def test_where_it_pays() -> None:
    def tile(machine: object, channels: int, side: int) -> int:
        return choose_integers(machine, Layer(1, channels, channels, side, side, integers=True))  # type: ignore[arg-type]

    assert tile(AVX512VNNI, 64, 56) == tile(AVX512VNNI, 128, 28) == 4
    assert tile(AVX512VNNI, 512, 7) == 0, "its weights come from memory"
    assert tile(AVX2, 64, 56) == tile(AVX2, 256, 14) == 4
    assert tile(SSE4, 64, 56) == tile(NEON_DOTPROD, 64, 56) == tile(WASM, 64, 56) == 0
