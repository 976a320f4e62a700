"""The tile chooser, and what is not a time in the scripts that measure it, depth and compilers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # bench/ is run where it lies, and not installed

from bench import compilers, depth, tiles
from bench.tiles import Layer, Question, Result, Variant
from dlpack.targets.cpu.machine import AVX2, AVX512, NEON, NEON32, WASM, Machine
from dlpack.targets.cpu.tiles import Tile, choose_tile, fits, open_cycles, open_tiles, tile_for_pictures

MACHINES = [AVX2, AVX512, NEON, NEON32, WASM]
QUESTIONS = [
    Question(rows, columns, steps, broadcast, streamed)
    for rows in (1, 2, 5, 7, 31, 196)
    for columns in (1, 3, 17, 64, 100, 1001)
    for steps in (1, 9, 300)
    for broadcast, streamed in ((True, True), (True, False), (False, True), (False, False))
]


def ask(question: Question, machine: Machine) -> Tile:
    return choose_tile(
        question.rows, question.columns, question.depth, machine, question.broadcast, question.streamed
    )  # fmt: skip


# --- the chooser ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_the_chosen_tile_is_one_of_those_that_are_swept(machine: Machine) -> None:
    for question in QUESTIONS:
        assert ask(question, machine) in tiles.every_tile(question, machine), question


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_no_tile_that_is_swept_needs_all_registers(machine: Machine) -> None:
    for question in QUESTIONS:
        swept = tiles.every_tile(question, machine)
        assert len(set(swept)) == len(swept)
        for tile in swept:
            vectors = tile.columns // machine.lanes
            weights = vectors if question.streamed else 1
            assert tile.rows * vectors + weights < machine.registers
            assert tile.rows <= question.rows and (vectors - 1) * machine.lanes < question.columns


def test_a_product_has_enough_sums_to_hide_latency() -> None:
    tall = choose_tile(49, 512, 512, AVX512, True, True)
    assert tall.rows * tall.columns // AVX512.lanes >= 20  # few accumulators would wait for the loads
    assert choose_tile(1, 1000, 512, AVX512, True, True).columns >= 4 * AVX512.lanes  # the latency of sums is hidden
    assert choose_tile(10, 40, 9, AVX512, True, True, widths=[16]).columns == 16


def test_more_sums_than_the_latency_needs_are_worth_a_rest_of_the_rows() -> None:
    assert choose_tile(128, 512, 128, AVX2, True, True) == Tile(6, 16)  # 128 = 21 x 6 + 2; 4 x 16 is 14 % slower
    assert choose_tile(196, 96, 800, AVX2, True, True).rows * 16 > 64


def test_a_machine_with_few_registers_gets_a_small_tile() -> None:
    assert fits(4, 2, WASM, True, True) and not fits(5, 2, WASM, True, True)
    assert fits(6, 2, AVX2, True, True) and not fits(7, 2, AVX2, True, True)


def test_what_comes_from_beyond_l1_is_read_in_long_runs() -> None:
    assert choose_tile(14, 512, 9, AVX512, False, True, kind="long") == Tile(2, 128)
    assert choose_tile(14, 512, 9, AVX2, False, True, kind="long") == Tile(2, 32)
    assert choose_tile(1, 60, 9, AVX512, False, True, kind="long") == Tile(1, 64)
    few = choose_tile(14, 512, 9, WASM, False, True)
    assert choose_tile(14, 512, 9, WASM, False, True, kind="long") == few  # its registers leave no run of two lines


def test_depthwise_keeps_its_window_in_l1_where_channels_let_it() -> None:
    schedules = []
    for channels in (192, 256):
        program, _ = tiles.compile_layer(Layer("", channels, channels, 28, 28, kernel=3, group=channels), AVX512)
        schedules.append(program.kernels[0].schedule)
    assert schedules == ["register tile 6 x 32", "register tile 2 x 128"]  # 256: every fourth pixel in the same sets


# --- the sweep --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "question"),
    [
        (Layer("1x1", 12, 40, 5, 6, kernel=1), Question(30, 40, 12, True, True)),
        (Layer("5x5, stride 2", 4, 24, 13, 11, kernel=5, stride=2), Question(6, 24, 100, True, True)),
        (Layer("depthwise", 48, 48, 6, 9, kernel=3, group=48), Question(9, 48, 9, False, True)),
        (Layer("product", 20, 70, 3), Question(3, 70, 20, True, True)),
    ],
    ids=lambda x: x.name if isinstance(x, Layer) else "",
)
def test_a_layer_is_built_with_the_tile_that_is_asked_for(layer: Layer, question: Question) -> None:
    program, asked = tiles.compile_layer(layer, AVX512, Tile(3, 32))
    assert asked == question
    assert [k.schedule for k in program.kernels] == ["register tile 3 x 32"]
    assert len(program.steps) == 1 and program.macs > 0


def test_every_tile_computes_the_same(tmp_path: Path) -> None:
    import ctypes

    from dlpack.targets import get_target

    build = get_target("native").builds[0]
    machine = build.machine()
    if machine.lanes == 1:
        return  # no vectors, no tiles
    layer = Layer("product", 21, 3 * machine.lanes - 1, 5)
    variants = [Variant(layer, machine, Tile(h, v * machine.lanes)) for h, v in ((1, 1), (2, 3), (4, 2), (5, 1))]
    library = ctypes.CDLL(str(tiles.compile_variants(variants, tmp_path, build.flags, None)))
    memory = [np.zeros(n + 64, np.uint8)[:n] for n in (max(s) for s in zip(*(v.sizes for v in variants), strict=True))]
    memory[2].view(np.float32)[:] = np.random.default_rng(3).random(memory[2].size // 4, dtype=np.float32)
    results = []
    for v in variants:
        v.bind(library, memory)
        assert v.sample(1) >= 0
        results.append(memory[1].view(np.float32).copy())
        memory[1][:] = 0
    assert results[0].max() > 0
    for r in results[1:]:
        np.testing.assert_allclose(r, results[0], rtol=1e-5, atol=1e-5)


def test_sweep_table() -> None:
    a, b, c = Tile(4, 32), Tile(7, 48), Tile(1, 16)
    result = Result("layer", 3000.0, a, {a: [40.0, 30.0, 32.0], b: [25.0, 27.0, 90.0], c: [300.0, 300.0, 300.0]})
    assert result.best == b and result.gflops(b) == 120 and result.gflops(a) == 100
    assert result.ratio == pytest.approx(25 / 30)
    assert tiles.table([result]).splitlines()[2:] == [
        "| layer | 3 | 4 x 32 | 100.0 | 7 x 48 | 120.0 | 0.833 | 0.844 |",
    ]
    assert tiles.ranking(result, 2) == "7x48 120.0, 4x32 100.0"


# --- depth ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [3, 8, 31])
def test_residual_nets_have_as_many_convolutions_as_asked(layers: int) -> None:
    model = depth.residual_net(layers)
    onnx.checker.check_model(model, full_check=True)
    assert sum(n.op_type == "Conv" for n in model.graph.node) == layers


def test_more_of_the_same_layers_need_no_more_kernels(tmp_path: Path) -> None:
    small, large = (depth.build_net(n, tmp_path) for n in (13, 25))
    assert large.kernels == small.kernels and large.steps > small.steps
    assert set(large.seconds) >= {"read", "clean", "compile", "emit", "toolchain"}


def test_growth_compares_what_a_further_layer_costs() -> None:
    def build(layers: int, a: float, b: float) -> depth.Build:
        return depth.Build(layers, {"a": a, "b": b}, 12, 2 * layers, 1000)

    builds = [build(40, 1.4, 1.0), build(10, 1.1, 0.1), build(20, 1.2, 0.2)]
    assert depth.growth(builds, "a") == pytest.approx(1)  # a constant and so much per layer
    assert depth.growth(builds, "b") == pytest.approx(4)
    assert depth.growth(builds[:2], "a") is None
    table = depth.table(builds).splitlines()
    assert table[0] == "| | 10 layers | 20 layers | 40 layers | ms per layer | growth |"
    assert table[2] == "| a | 1.10 s | 1.20 s | 1.40 s | 35.00 | 1.00 |"
    assert table[4] == "| all | 1.20 s | 1.40 s | 2.40 s | 60.00 | 2.50 |"


# --- compilers --------------------------------------------------------------------------------------------------------


def test_compilers_table() -> None:
    slow = compilers.Row("a", [2.0, 2.2, 2.1], [4.0, 4.4, 5.0], 1.0, 2.0)
    fast = compilers.Row("b", [3.0, 3.0], [1.5, 1.5], 3.0, 4.0)
    assert slow.speed == 0.5 and slow.median_speed == 0.5 and fast.speed == 2
    assert compilers.table([slow, fast], "g++").splitlines()[2:] == [
        "| a | 2 | 4 | 0.500 | 0.500 | 1.0 s | 2.0 s |",
        "| b | 3 | 1.5 | 2.000 | 2.000 | 3.0 s | 4.0 s |",
        "| geometric mean | | | 1.000 | 1.000 | | |",
    ]


def test_bundles_of_two_compilers_run_in_turn(tmp_path: Path) -> None:
    from dlpack.bundle.loader import read_manifest

    onnx.save(depth.residual_net(3), tmp_path / "net.onnx")
    bundles, seconds = compilers.build_both(tmp_path / "net.onnx", tmp_path, None)
    assert len(seconds) == 2 and min(seconds) > 0
    assert read_manifest(bundles[0]) == read_manifest(bundles[1])
    samples = compilers.race(bundles, 3)
    assert [len(s) for s in samples] == [3, 3] and min(map(min, samples)) > 0


def test_tiles_are_chosen_for_pictures_of_several_sizes() -> None:
    """Lower tiles do the last pixels where they are faster, and what a tile leaves over counts for small pictures."""
    twelve = Tile(12, 32)
    whole, lower = (open_cycles(13, twelve, 64, 64, AVX512, lower_tiles=lower) for lower in (False, True))
    assert open_cycles(12, twelve, 64, 64, AVX512) < lower < whole == open_cycles(24, twelve, 64, 64, AVX512)
    tiles = open_tiles(5040, 256, AVX512, [32, 64])
    assert {t.columns for t in tiles} == {32, 64} and all(5040 % t.rows == 0 for t in tiles)
    nine, large = (tile_for_pictures(n, tiles, 256, 64, AVX512, lower_tiles=False) for n in ((9, 9), (900, 2500)))
    assert 9 % nine.rows == 0 and large.rows >= 6


def test_open_rows_divide_into_tiles() -> None:
    """Of 192 rows or less, tiles are whole; of 24, where much may be computed beyond the rows, they are lower."""
    for rows, most in ((192, 12), (24, 6)):
        tile = choose_tile(rows, 512, 256, AVX512, True, True, kind="open")
        assert rows % tile.rows == 0 and tile.rows <= most
