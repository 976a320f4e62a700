"""Arm: products by lane, sums that start from the bias; emitted code runs right under qemu, in few instructions."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper as nh
import pytest
from conftest import DIGITS, requires_tool
from processes import run

sys.path.insert(0, str(Path(__file__).parent.parent))  # bench/ is run where it lies, and not installed

import nets

from bench.arm import cycles, emulated, zoo
from bench.arm.page import page
from bench.arm.results import KEPT, Results, Row
from dlpack.amalgamate.cpp import CppPrinter
from dlpack.amalgamate.runtime import closure, sections
from dlpack.loops.index import Linear
from dlpack.loops.ir import Assign, Const, Declare, For, Kernel, Load, Op, Param, Prefetch, Ref, Scope, Store
from dlpack.loops.lanes import by_lane
from dlpack.loops.slopes import larger_part
from dlpack.loops.sums import start_from_addend
from dlpack.options import Options
from dlpack.pipeline import build
from dlpack.runtime_c import read_runtime
from dlpack.targets.cpu.machine import CORTEX_A53, NEON, NEON32, SCALAR
from dlpack.targets.cpu.tiles import Tile, choose_tile, fits

PARAMS = (Param("x", "float32", False), Param("w", "float32", False), Param("y", "float32", True))
ZERO = Op("float32", 4, "splat", (Const("float32", 1, 0.0),))
ACC = Ref("float32", 4, "acc")


def product(x: Linear, w: Linear) -> Assign:
    """``acc += x[...] * w[...]``, one float and a vector of four."""
    scalar = Op("float32", 4, "splat", (Load("float32", 1, "x", x, 1),))
    term = Op("float32", 4, "*", (scalar, Load("float32", 4, "w", w, 4)))
    return Assign("acc", Op("float32", 4, "+", (ACC, term)))


def printed(*body: object, registers: int = 0) -> str:
    return CppPrinter().kernel(by_lane(Kernel(PARAMS, body), 4, registers), "k")  # type: ignore[arg-type]


# --- the passes -------------------------------------------------------------------------------------------------------


def test_steps_along_memory_share_a_vector() -> None:
    k = Linear.var("k")
    text = printed(For("k", 0, 10, 1, (Prefetch("w", k * 4 + 64), product(k + 3, k * 4))))
    assert "for (int k = 0; k < 8; k += 4)" in text and "for (int k = 8; k < 10; ++k)" in text
    assert text.count("load<f32x4>(x + k + 3)") == 1
    lanes = [f"acc += x_by_lane0[{i}] * load<f32x4>(w_k{f' + {4 * i}' if i else ''});" for i in range(4)]
    assert [line.strip() for line in text.splitlines() if "x_by_lane0[" in line] == lanes
    main, rest = text.split("k = 8;")
    assert main.count("prefetch") == 1 and rest.count("prefetch") == 1  # four vectors of weights are a cache line


def test_longer_reductions_load_two_vectors_of_each_row_where_they_are_first_used() -> None:
    k = Linear.var("k")
    weights = Declare("w_at0", "float32", 4, Load("float32", 4, "w", k * 4, 4), True)
    loop = For("k", 0, 133, 1, (weights, product(k + 3, k * 4), replace(product(k + 203, k * 4), name="other")))
    text = printed(loop, registers=7)
    assert "const float* x_row0 = x + 3;" in text and "const float* x_row1 = x + 203;" in text
    main, rest = text.split("k != 128; k += 8")[1].split("}  // for k")
    lines = [line.strip() for line in main.splitlines()]
    first, second = (lines.index(f"const auto [x_by_lane{r}, x_by_lane{r + 2}] = load_two(x_row{r});") for r in (0, 1))
    assert lines[first - 1] == "const f32x4 w_first0 = load<f32x4>(w_k);" and second == first + 2
    assert "x_by_lane2[3] * load<f32x4>(w_k + 28)" in main and "x_by_lane3[3]" in main
    assert "load<f32x4>(x + 131)" in rest and "x[135]" in rest and "for" not in rest.replace("f32x4", "")  # five steps
    for others in (printed(loop, registers=6), printed(replace(loop, end=28), registers=7)):
        assert "x_row" not in others and "k += 4" in others


def test_a_few_steps_need_no_loop() -> None:
    text = printed(For("k", 2, 7, 1, (product(Linear.var("k"), Linear.var("k") * 4),)))
    assert "for" not in text.replace("f32x4", "") and "load<f32x4>(x + 2)" in text and "x[6]" in text


def test_rows_that_are_neighbours_share_vectors_and_nothing_is_read_beyond() -> None:
    """Scalars at 0, 2, 4, 6 and 8 of each trip: a vector at 0, 4 and, that its end be the last scalar, 5."""
    k = Linear.var("k")
    text = printed(For("k", 0, 3, 1, tuple(product(k * 100 + i, k * 40 + 4 * i) for i in (0, 1, 2, 4, 6, 8))))
    assert [text.count(f"load<f32x4>(x_k{at})") for at in ("", " + 4", " + 5")] == [1, 1, 1]
    assert "x[" not in text.replace("const float* __restrict x", "")


@pytest.mark.parametrize("stride", [0, 2])
def test_scalars_that_stand_still_or_skip_are_left(stride: int) -> None:
    loop = For("k", 0, 8, 1, (product(Linear.var("k") * stride, Linear.var("k") * 4),))
    assert by_lane(Kernel(PARAMS, (loop,)), 4, 30).body == (loop,)


def test_a_sum_starts_from_a_constant_that_is_added() -> None:
    bias = Load("float32", 4, "w", Linear(80), 4)
    loop = For("k", 0, 8, 1, (product(Linear.var("k"), Linear.var("k") * 4),))
    added = Op("float32", 4, "max", (Op("float32", 4, "+", (ACC, bias)), ZERO))
    body = (Declare("acc", "float32", 4, ZERO), loop, Store("y", Linear(), added, 4))
    start, _, store = start_from_addend(Kernel(PARAMS, body), {"w"}).body
    assert start == Declare("acc", "float32", 4, bias)
    assert store == Store("y", Linear(), Op("float32", 4, "max", (ACC, ZERO)), 4)
    assert (
        start_from_addend(Kernel(PARAMS, body), {"x"}).body == body
    )  # what may be written meanwhile stays where it is
    greatest = Assign("acc", Op("float32", 4, "max", (ACC, Load("float32", 4, "x", Linear.var("k") * 4, 4))))
    no_sum = (body[0], For("k", 0, 8, 1, (greatest,)), body[2])
    assert start_from_addend(Kernel(PARAMS, no_sum), {"w"}).body == no_sum
    twice = (*body, Store("y", Linear(4), ACC, 4))
    assert start_from_addend(Kernel(PARAMS, twice), {"w"}).body == twice


def test_a_sum_starts_from_a_constant_where_its_result_has_a_name() -> None:
    bias = Load("float32", 4, "w", Linear(80), 4)
    loop = For("k", 0, 8, 1, (product(Linear.var("k"), Linear.var("k") * 4),))
    named = Declare("add", "float32", 4, Op("float32", 4, "+", (ACC, bias)), True)
    add = Ref("float32", 4, "add")
    squared = Store("y", Linear(), Op("float32", 4, "*", (add, add)), 4)
    body = (Declare("acc", "float32", 4, ZERO), loop, Scope((named, squared)))
    start, _, result = start_from_addend(Kernel(PARAMS, body), {"w"}).body
    assert start == Declare("acc", "float32", 4, bias)
    assert result == Scope((replace(named, value=ACC), squared))


def test_a_leaky_relu_is_a_maximum() -> None:
    def of(slope: float, condition: str = "<") -> Op:
        part = Op("float32", 4, "*", (ACC, Op("float32", 4, "splat", (Const("float32", 1, slope),))))
        positive = Op("bool", 4, condition, (ZERO, ACC))
        store = Store("y", Linear(), Op("float32", 4, "select", (positive, ACC, part)), 4)
        (made,) = larger_part(Kernel(PARAMS, (store,))).body
        assert isinstance(made, Store) and isinstance(made.value, Op) and made.value.args[-2:] == (ACC, part)
        return made.value

    assert [of(c).op for c in (0.1, 1.0, 0.0, -0.5, 1.5, float("nan"))] == ["max", "max", *["select"] * 4]
    assert of(0.1, "==").op == "select"


# --- the page of counts -----------------------------------------------------------------------------------------------


def test_the_page_says_what_is_missing_and_what_is_wrong() -> None:
    errors = dict.fromkeys(zoo.CHECKED, 1e-6)
    one = Row("resnet18", {"ours": 50.0, "onnxruntime": 100.0, "ncnn": 40.0}, {}, errors, 1234)
    two = Row("mf", {"ours": 2.0, "onnxruntime": 1.0}, {"ncnn": "ended with code -11"}, {**errors, "a53": 0.5})
    text = page([two, one])
    assert "counts, not times" in text
    assert text.index("| resnet18 | 50.0 | 100.0 | 40.0 | 0.50 | 1.25 | 1,234 |") < text.index(
        "| mf | 2.00 | 1.00 | - |"
    )
    assert "mf: ncnn ended with code -11." in text and "Wrong: mf." in text
    assert "all models 1.00 of onnxruntime's and 1.25 of ncnn's" in text
    assert "networks of convolutions 0.50 of onnxruntime's" in text


def test_results_go_on_where_they_stopped(tmp_path: Path) -> None:
    results = Results(tmp_path / "cache" / "results.json")
    results.rows["mlp"] = Row("mlp", {"ours": 1.0, "ncnn": 2.0}, {}, {"a57": 1e-7}, 9)
    results.save()
    again = Results(tmp_path / "cache" / "results.json")
    assert again.rows == results.rows
    assert again.rows["mlp"].has("ncnn") and not again.rows["mlp"].has("onnxruntime")


def test_the_page_is_what_its_results_give() -> None:
    text = page(list(Results(KEPT).rows.values()))
    assert (zoo.ROOT / "docs" / "benchmarks-arm.md").read_text(encoding="utf-8") == text


def test_a_column_says_what_it_is_of(tmp_path: Path) -> None:
    """Each result has a commit or a version and a day, also after new source has made others out of date."""
    row = Row("mlp", {"ours": 1.0, "ncnn": 2.0}, {"armhf": "ended with code 1"}, {"a57": 1e-7}, 9)
    row.stamps = {w: ("abc", "2026-01-01") for w in ("ours", "a57", "armhf")} | {"ncnn": ("1.0", "2025-01-01")}
    other = Row("mf", {"ours": 1.0}, stamps={"ours": ("def+", "2026-01-02")})
    results = Results(tmp_path / "results.json")
    results.rows |= {"mlp": row, "mf": other}
    results.save()
    text = page(list(Results(tmp_path / "results.json").rows.values()))
    assert (
        "| ours | abc | 2026-01-01 | mlp |\n| ours | def+ | 2026-01-02 | mf |\n| ncnn | 1.0 | 2025-01-01 | all |"
        in text
    )
    assert "ncnn 1.0 are their wheels" in text
    row.forget("ours")
    assert "| ours | abc" not in page([row, other]) and "| a57 | abc" in page([row, other])
    assert row.code == 0 and not row.has("ours") and row.has("armhf")


def test_another_model_of_the_same_name_is_measured_anew(tmp_path: Path) -> None:
    model = tmp_path / "mlp.onnx"
    model.write_bytes(b"one")
    model.with_suffix(".npz").write_bytes(b"inputs")
    results = Results(tmp_path / "results.json")
    results.row(model).counts["ncnn"] = 2.0
    assert results.row(model).counts
    model.write_bytes(b"two")
    assert not results.row(model).counts


def test_a_step_that_fails_leaves_its_reason(tmp_path: Path) -> None:
    """The others are still tried, and a failed build hides none of the contestants."""
    model = tmp_path / "wrong.onnx"
    model.write_bytes(b"no model")
    model.with_suffix(".npz").write_bytes(b"no inputs")
    results = Results(tmp_path / "results.json")
    bench = zoo.Bench(None, tmp_path / "bundles", 60.0)
    zoo.measure(model, bench, results, lambda _: None)
    reasons = Results(tmp_path / "results.json").rows["wrong"].reasons
    assert reasons.keys() == {"linux-arm64", "linux-armhf"} and "ended with code" in reasons["linux-arm64"]
    slow = subprocess.TimeoutExpired(["qemu-aarch64"], 60.0)
    assert zoo.reason_of(slow, 60.0) == "took more than 60 s under emulation"


def test_outputs_that_are_no_numbers_are_wrong() -> None:
    one = np.ones(3, np.float32)
    assert (
        emulated.error(one, one) == 0.0 and emulated.error(one * np.nan, one) == emulated.error(one[:2], one) == np.inf
    )


# --- the tiles --------------------------------------------------------------------------------------------------------


def test_a_tile_leaves_registers_for_the_inputs() -> None:
    for rows, vectors in ((5, 4), (6, 3), (9, 2)):
        assert fits(rows, vectors, NEON, True, True) and not fits(rows + 1, vectors, NEON, True, True)
        assert fits(rows, vectors, CORTEX_A53, True, True)
    assert choose_tile(20, 64, 256, NEON, True, True) == Tile(5, 16)


def test_few_registers_and_none_of_vectors() -> None:
    assert choose_tile(196, 64, 576, SCALAR, True, True) == Tile(4, 4)
    tile = choose_tile(196, 64, 576, NEON32, True, True)
    assert tile.columns == 8 and 4 <= tile.rows <= 5


# --- under qemu -------------------------------------------------------------------------------------------------------


def layers() -> onnx.ModelProto:
    """A picture's first layer, layers of 7 and 24 channels, a depthwise one, pooling, a product and a softmax."""
    rng = np.random.default_rng(3)

    def weights(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    values = {
        "first": weights(16, 3, 3, 3), "b1": weights(16), "small": weights(7, 16, 1, 1), "b2": weights(7),
        "wide": weights(24, 7, 3, 3), "deep": weights(24, 1, 3, 3), "last": weights(24, 10), "b3": weights(10),
    }  # fmt: skip
    nodes = [
        oh.make_node("Conv", ["x", "first", "b1"], ["c1"], strides=[2, 2], pads=[1, 1, 1, 1]),
        oh.make_node("Relu", ["c1"], ["r1"]),
        oh.make_node("Conv", ["r1", "small", "b2"], ["c2"]),
        oh.make_node("Conv", ["c2", "wide"], ["c3"], pads=[1, 1, 1, 1]),
        oh.make_node("Conv", ["c3", "deep"], ["c4"], pads=[1, 1, 1, 1], group=24),
        oh.make_node("Relu", ["c4"], ["r4"]),
        oh.make_node("GlobalAveragePool", ["r4"], ["g"]),
        oh.make_node("Flatten", ["g"], ["f"]),
        oh.make_node("Gemm", ["f", "last", "b3"], ["m"]),
        oh.make_node("Softmax", ["m"], ["y"]),
    ]
    graph = oh.make_graph(
        nodes,
        "layers",
        [oh.make_tensor_value_info("x", 1, [1, 3, 27, 35])],
        [oh.make_tensor_value_info("y", 1, [1, 10])],
        [nh.from_array(value, name) for name, value in values.items()],
    )
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 17)], ir_version=9)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    requires_tool("qemu-aarch64")
    folder = tmp_path_factory.mktemp("arm")
    models = {"layers": layers(), "convolutions": nets.conv_net(), "winograd": nets.winograd_net()}
    for name, model in models.items():
        onnx.save(model, folder / f"{name}.onnx")
    paths = {name: folder / f"{name}.onnx" for name in models} | {"digits": DIGITS}
    return {name: build(path, folder / name, Options(target="linux-arm64")) for name, path in paths.items()}


@pytest.mark.parametrize("name", ["layers", "convolutions", "winograd", "digits"])
def test_the_outputs_are_those_of_onnxruntime(bundles: dict[str, Path], name: str, tmp_path: Path) -> None:
    assert emulated.check(bundles[name], emulated.MACHINES["generic"], tmp_path) < 1e-5


def test_most_instructions_of_a_run_are_multiply_adds(bundles: dict[str, Path], tmp_path: Path) -> None:
    requires_tool("gcc")
    counted = emulated.count(bundles["winograd"], emulated.MACHINES["generic"], tmp_path)
    assert counted.error < 1e-5 and counted.instructions["fmla"] > 0.4 * counted.total
    loops = cycles.product_loops(emulated.assembly(bundles["winograd"], emulated.MACHINES["generic"]))
    assert loops and loops[0].fmas >= 64 and loops[0].share > 0.75


def test_max_and_min_tell_nan(tmp_path: Path) -> None:
    """One instruction each, and NaN when either is."""
    qemu = requires_tool("qemu-aarch64")
    known = sections(list(read_runtime().values()))
    text = "\n\n".join(s.text for s in closure(known, {"vectors", "f32x4", "max", "min"}))
    (tmp_path / "main.cc").write_text(
        f"#include <stddef.h>\n#include <stdint.h>\n{text}\n"
        """
extern "C" f32x4 larger(f32x4 a, f32x4 b) { return max_(a, b); }
int main() {
  const float nan = __builtin_nanf("");
  volatile float one = 1.0f, none = nan;
  const f32x4 a = {one, none, one, none}, b = {none, one, 2.0f, none}, most = larger(a, b), least = min_(a, b);
  if (most[0] == most[0] || most[1] == most[1] || most[2] != 2.0f || most[3] == most[3]) return 1;
  if (least[0] == least[0] || least[1] == least[1] || least[2] != 1.0f || least[3] == least[3]) return 2;
  if (max_(+one, +none) == max_(+one, +none) || max_(+none, +one) == max_(+none, +one)) return 3;
  return max_(+one, 2.0f) == 2.0f && min_(+one, 2.0f) == 1.0f ? 0 : 4;
}
"""
    )
    command = emulated.MACHINES["generic"].command("c++")
    run([*command, "-std=c++17", "-O2", "main.cc", "-o", "main"], cwd=tmp_path, check=True)
    run([qemu, tmp_path / "main"], check=True)
    assembly = [*command[:-1], "-std=c++17", "-O2", "-g0", "-S", "main.cc", "-o", "main.s"]
    run(assembly, cwd=tmp_path, check=True)
    body = (tmp_path / "main.s").read_text().split("\nlarger:")[1].split("ret")[0]
    words = [line.split()[0] for line in body.splitlines() if line.startswith("\t") and line.strip()]
    assert [word for word in words if word[0] not in "./"] == ["fmax"]


def test_squeezenets_code_is_at_most_60_kb(models_dir: Path, tmp_path: Path) -> None:
    model = models_dir / "onnx" / "squeezenet1.1" / "squeezenet1.1.onnx"
    bundle = build(model, tmp_path / "bundle", Options(target="linux-arm64", verify=False))
    assert 40_000 < zoo.code_bytes(bundle) <= 60_000


# --- 32-bit Arm, by GCC -----------------------------------------------------------------------------------------------


def test_gcc_computes_vectors_with_neon(tmp_path: Path) -> None:
    """Its NEON takes denormals for zeros, for which it would compute vectors of floats lane by lane."""
    for tool in ("qemu-arm", "gcc"):
        requires_tool(tool)
    gcc = requires_tool("arm-linux-gnueabihf-g++")
    onnx.save(layers(), tmp_path / "net.onnx")
    for machine, flags, wanted in (
        ("neon32", [], "compile this file with -mfpu=neon"),
        ("neon32", ["-mfpu=neon-vfpv4"], ""),
        ("scalar", [], ""),
        ("neon32,scalar", [], ""),
    ):
        options = Options("source", name="net", verify=False, target_options={"machine": machine})
        source = build(tmp_path / "net.onnx", tmp_path / machine, options) / "net.cc"
        done = run([gcc, "-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", *flags, source])
        assert wanted in done.stderr if wanted else (done.returncode, done.stderr) == (0, "")
    bundle = build(tmp_path / "net.onnx", tmp_path / "net", Options("linux-armhf"))
    by_gcc, by_clang = (emulated.count(bundle, emulated.MACHINES[m], tmp_path) for m in ("gcc32", "a7"))
    assert (
        by_gcc.error < 1e-5 and by_gcc.total < by_clang.total and by_gcc.instructions["vfma.f32"] > 0.2 * by_gcc.total
    )
