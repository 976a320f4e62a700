"""Schedules: which rule takes which layer, and that odd sizes come out right; each case is built and verified."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper as nh
import pytest

import dlpack
from dlpack.bundle.loader import read_kernels
from dlpack.pipeline import Options
from dlpack.targets.cpu.machine import AVX2, AVX512, NEON, WASM
from dlpack.targets.cpu.tiles import choose_tile
from dlpack.targets.cpu.winograd import TRANSFORM, choose_winograd, error_bound


def conv_net(path: Path, channels: int, outputs: int, size: int, kernel: int, group: int = 1, stride: int = 1) -> Path:
    """conv → relu → conv 1x1, so that the first one's output lies as it likes."""
    rng = np.random.default_rng(channels * outputs + kernel)
    w = rng.standard_normal((outputs, channels // group, kernel, kernel)).astype(np.float32) * 0.2
    v = rng.standard_normal((8, outputs, 1, 1)).astype(np.float32) * 0.2
    nodes = [
        oh.make_node("Relu", ["x"], ["r"]),
        oh.make_node("Conv", ["r", "w", "b"], ["c"], pads=[kernel // 2] * 4, group=group, strides=[stride] * 2),
        oh.make_node("Relu", ["c"], ["d"]),
        oh.make_node("Conv", ["d", "v"], ["y"]),
    ]
    tensors = [nh.from_array(w, "w"), nh.from_array(rng.standard_normal(outputs).astype(np.float32), "b")]
    graph = oh.make_graph(
        nodes,
        "net",
        [oh.make_tensor_value_info("x", 1, [1, channels, size, size])],
        [oh.make_tensor_value_info("y", 1, None)],
        [*tensors, nh.from_array(v, "v")],
    )
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def schedules(bundle: Path) -> list[str]:
    """The schedules of the kernels that multiply."""
    return [k["schedule"] for k in read_kernels(bundle) if k["macs"]]


@pytest.mark.parametrize(
    ("channels", "outputs", "size", "kernel", "group", "stride"),
    [
        (16, 32, 14, 3, 1, 2),  # strided
        (5, 7, 11, 5, 1, 1),  # nothing divides anything
        (68, 136, 14, 1, 2, 1),  # groups that no vector divides
        (64, 64, 9, 3, 16, 1),  # groups of four
        (24, 24, 10, 3, 24, 1),  # depthwise
        (24, 48, 10, 3, 24, 1),  # depthwise with a multiplier
        (16, 1, 20, 3, 1, 1),  # one output channel: vectors along the row
        (16, 3, 20, 9, 1, 1),  # three
        (8, 70, 6, 1, 1, 1),  # a partial tile of columns
    ],
)
def test_convolutions_run_in_register_tiles(
    tmp_path: Path, channels: int, outputs: int, size: int, kernel: int, group: int, stride: int
) -> None:
    model = conv_net(tmp_path / "net.onnx", channels, outputs, size, kernel, group, stride)
    bundle = dlpack.build(model, tmp_path / "bundle", Options(optimize="size"))
    assert all(s.startswith("register tile") for s in schedules(bundle)), schedules(bundle)


@pytest.mark.parametrize(("tile", "edge"), TRANSFORM)
@pytest.mark.parametrize("size", [19, 26])
def test_winograd_gets_ragged_edges_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tile: int, edge: int, size: int
) -> None:
    window = edge - tile + 1
    monkeypatch.setattr("dlpack.targets.cpu.schedule.choose_winograd", lambda *_: tile)
    model = conv_net(tmp_path / "net.onnx", 64, 40, size, window)
    bundle = dlpack.build(model, tmp_path / "bundle", Options(optimize="speed"))
    assert any(f"Winograd F({tile}x{tile}, {window}x{window})" in s for s in schedules(bundle)), schedules(bundle)


@pytest.mark.parametrize(
    ("tile", "edge", "channels"), [*((*t, 200) for t in TRANSFORM), *((m, m + 2, 8) for m in (2, 4, 6))]
)
def test_winograd_keeps_its_error_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tile: int, edge: int, channels: int
) -> None:
    """Against the convolution in double precision, on inputs that are no better than the bound's own."""
    monkeypatch.setattr("dlpack.targets.cpu.schedule.choose_winograd", lambda *_: tile)
    rng = np.random.default_rng(channels + tile)
    window = edge - tile + 1
    w = rng.standard_normal((24, channels, window, window)).astype(np.float32)
    x = rng.standard_normal((1, channels, 20, 22)).astype(np.float32)
    graph = oh.make_graph(
        [oh.make_node("Conv", ["x", "w"], ["y"])],
        "conv",
        [oh.make_tensor_value_info("x", 1, x.shape)],
        [oh.make_tensor_value_info("y", 1, None)],
        [nh.from_array(w, "w")],
    )
    onnx.save(oh.make_model(graph, opset_imports=[oh.make_opsetid("", 17)], ir_version=9), tmp_path / "conv.onnx")
    with dlpack.load(dlpack.build(tmp_path / "conv.onnx", tmp_path / "bundle")) as predictor:
        y = np.asarray(predictor.run({"x": x})["y"])
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (window, window), (2, 3))
    want = np.einsum("bcyxij,ocij->boyx", windows, w.astype(np.float64))
    error = np.sqrt(np.mean((y - want) ** 2) / np.mean(want**2))
    bound = error_bound(tile, channels, window)
    assert 0.2 * bound < error < bound


def test_winograd_is_used_where_multiplications_dominate() -> None:
    assert choose_winograd(AVX512, 1, 64, 64, 56, 56) == 4
    assert choose_winograd(AVX2, 1, 256, 256, 14, 14) == 4
    assert choose_winograd(WASM, 1, 512, 512, 7, 7) == 4
    assert choose_winograd(AVX512, 1, 3, 64, 112, 112) == 0  # three channels: the transforms cost more than they save
    assert choose_winograd(AVX512, 1, 512, 512, 7, 7) == 0  # the weights would be too much to stream
    assert choose_winograd(AVX512, 1, 512, 1024, 13, 13) == 2  # those of a larger tile would
    assert choose_winograd(AVX2, 1, 64, 192, 27, 27, 5) == 4  # AlexNet's 5x5
    assert choose_winograd(AVX512, 1, 512, 512, 30, 30) == 6  # wide: the products outweigh the transforms


def test_winograd_keeps_off_tiles_with_a_larger_error() -> None:
    """6 is the fastest in all three, but the error grows with the channels."""
    assert [choose_winograd(AVX512, 1, n, 2048, 30, 30) for n in (1024, 2048, 8192)] == [6, 4, 2]


@pytest.mark.parametrize("machine", [AVX2, AVX512, NEON])
def test_tiles_fit_the_registers(machine: object) -> None:
    for rows in (1, 3, 7, 14, 49, 196):
        for columns in (1, 10, 64, 96, 1000):
            tile = choose_tile(rows, columns, 64, machine, True, True)  # type: ignore[arg-type]
            vectors = tile.columns // machine.lanes  # type: ignore[attr-defined]
            assert tile.rows * vectors + vectors < machine.registers  # type: ignore[attr-defined]


def test_heads_are_joined_without_a_copy(tmp_path: Path) -> None:
    """Attention's product is written where the transpose and the reshape behind it want it."""
    rng = np.random.default_rng(1)
    heads, tokens, depth = 3, 10, 8
    nodes = [
        oh.make_node("MatMul", ["p", "v"], ["each"]),
        oh.make_node("Transpose", ["each"], ["turned"], perm=[0, 2, 1, 3]),
        oh.make_node("Reshape", ["turned", "shape"], ["joined"]),
        oh.make_node("MatMul", ["joined", "w"], ["y"]),
    ]
    w = rng.standard_normal((heads * depth, 16)).astype(np.float32)
    graph = oh.make_graph(
        nodes,
        "heads",
        [
            oh.make_tensor_value_info("p", 1, [1, heads, tokens, tokens]),
            oh.make_tensor_value_info("v", 1, [1, heads, tokens, depth]),
        ],
        [oh.make_tensor_value_info("y", 1, None)],
        [nh.from_array(w, "w"), nh.from_array(np.array([1, tokens, heads * depth]), "shape")],
    )
    onnx.save(oh.make_model(graph, opset_imports=[oh.make_opsetid("", 17)], ir_version=9), tmp_path / "heads.onnx")
    bundle = dlpack.build(tmp_path / "heads.onnx", tmp_path / "bundle")
    kernels = read_kernels(bundle)
    assert [k["computes"].split(":")[0] for k in kernels] == ["MatMul", "MatMul"]


def test_sums_over_a_block_are_one_run(tmp_path: Path) -> None:
    """As modulated convolutions have of their weights: three dimensions without gaps are summed in vectors."""
    nodes = [
        oh.make_node("Mul", ["x", "x"], ["squares"]),
        oh.make_node("ReduceSum", ["squares", "axes"], ["sums"], keepdims=1),
        oh.make_node("Sqrt", ["sums"], ["y"]),
    ]
    graph = oh.make_graph(
        nodes,
        "net",
        [oh.make_tensor_value_info("x", 1, [6, 20, 3, 3])],
        [oh.make_tensor_value_info("y", 1, None)],
        [nh.from_array(np.array([1, 2, 3]), "axes")],
    )
    onnx.save(oh.make_model(graph, opset_imports=[oh.make_opsetid("", 17)], ir_version=9), tmp_path / "net.onnx")
    options = Options(target="source", name="net", target_options={"machine": "avx2"})
    bundle = dlpack.build(tmp_path / "net.onnx", tmp_path / "bundle", options)
    (name,) = (k["name"] for k in read_kernels(bundle) if k["schedule"] == "rows")
    text = (bundle / "net.cc").read_text(encoding="utf-8").split(f"void {name}(")[1].split("\n}")[0]
    assert "hsum(" in text
