"""Arithmetic in float16 on request: which values become such numbers, how they are summed, what stands in one file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from conftest import requires_tool
from nets import _random, model
from onnx import helper

from dlpack.bundle.loader import read_manifest
from dlpack.cli import cli
from dlpack.errors import ToolchainError, UsageError
from dlpack.graph.halves import LARGEST, computes_in_half, halved
from dlpack.graph.ir import HALF, Graph, Node, TensorType
from dlpack.loops.half_sums import MOST_STEPS, in_parts
from dlpack.loops.index import Linear
from dlpack.loops.ir import Assign, Const, Declare, For, Kernel, Load, Op, Param, Ref, Stmt, Store, walk
from dlpack.options import Options
from dlpack.pipeline import build
from dlpack.targets import get_target
from dlpack.targets.toolchains.processors import ARM64_MAX, CORTEX_A57
from dlpack.verify.check import failure, verify_bundle
from dlpack.verify.reference import HALVES_TOLERANCE, OutputError, seeded_input

OPTED = {"arithmetic": "float16"}


def network() -> onnx.ModelProto:
    """Convolutions as in ResNet-18 and MobileNet, a long sum, a sigmoid in between, pools, a softmax."""
    node = helper.make_node
    weights = _random(
        5, w0=(32, 3, 3, 3), b0=(32,), w1=(32, 32, 3, 3), w2=(32, 1, 3, 3), w3=(256, 32, 1, 1), w4=(32, 256, 1, 1),
        w5=(10, 32), b5=(10,),
    )  # fmt: skip
    return model(
        [
            node("Conv", ["x", "w0", "b0"], ["c0"], "first", pads=[1] * 4, strides=[2, 2]),
            node("Relu", ["c0"], ["r0"], "first/relu"),
            node("Conv", ["r0", "w1"], ["c1"], "winograd", pads=[1] * 4),
            node("Add", ["r0", "c1"], ["a"], "add"),
            node("Conv", ["a", "w2", "b0"], ["c2"], "depthwise", pads=[1] * 4, group=32),
            node("Sigmoid", ["c2"], ["s"], "gate"),
            node("Mul", ["a", "s"], ["m"], "gated"),
            node("Conv", ["m", "w3"], ["c3"], "wide"),
            node("MaxPool", ["c3"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
            node("Conv", ["p", "w4"], ["c4"], "long sum"),
            node("GlobalAveragePool", ["c4"], ["g"], "average"),
            node("Flatten", ["g"], ["f"], "flatten"),
            node("Gemm", ["f", "w5", "b5"], ["z"], "scores", transB=1),
            node("Softmax", ["z"], ["y"], "softmax"),
        ],
        {"x": (1, 3, 32, 32)},
        {"y": (1, 10)},
        weights,
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("halves")
    onnx.save(network(), folder / "net.onnx")
    options = Options(
        target="source", target_options={"machine": "neon_fp16,neon"}, weights_type="float16", verify=False
    )
    return build(folder / "net.onnx", folder / "net", options)


def test_one_file_serves_processors_with_and_without(bundle: Path) -> None:
    """Under QEMU; the float16 kernels are nearer than their tolerance, and the others as near as ever."""
    requires_tool("qemu-aarch64")
    (halves,), (floats,) = (
        [e for e in verify_bundle(bundle) if f"({machine} on" in e.name] for machine in ("neon_fp16", "neon")
    )
    assert halves.passed and 1e-5 < halves.relative < 4e-3
    assert floats.passed and floats.relative < 1e-5
    inputs = {"x": seeded_input(0, (1, 3, 32, 32), "float32", -1, 1)}
    ARM64_MAX.run(bundle, inputs, "neon")
    with pytest.raises(ToolchainError):  # it lacks the instructions, and the library says so
        CORTEX_A57.run(bundle, inputs, "neon_fp16")


def test_weights_are_stored_once(bundle: Path) -> None:
    """In two bytes each; the baseline makes float32 of them. (Small ones differ: it has them as they were.)"""
    manifest = read_manifest(bundle)
    assert manifest["tolerances"] == {"neon_fp16": HALVES_TOLERANCE} and manifest["variants"] == ["neon_fp16", "neon"]
    large = sum(n for n in (np.prod(t.dims) for t in network().graph.initializer) if 4 * n >= 4096)
    assert 2 * large < manifest["weights_bytes"] < 2 * large + 12288
    text = (bundle / manifest["source"]).read_text()
    assert "from_float16())" in text


def test_what_the_kernels_are(bundle: Path) -> None:
    """Winograd's F(4x4) is float32's alone; only what needs it computes in float32 among the float16 kernels."""
    manifest = read_manifest(bundle)
    text = (bundle / manifest["source"]).read_text()
    halves, floats = text.split("[MACHINE neon_fp16]")[1].split("[MACHINE neon]")
    assert "Winograd F(2x2, 3x3)" in halves and "Winograd F(4x4, 3x3)" not in halves
    assert "Winograd F(4x4, 3x3)" in floats and "f16" not in floats
    kernels = dict(re.findall(r"^void (k\d+_\w+)\((.*?)^}", halves, re.M | re.S))
    wide = {name.split("_", 1)[1] for name, body in kernels.items() if "f32x" in body}
    assert wide == {"copy", "conv", "conv_add_times_sigmoid", "global_sum_mul", "softmax"}  # conv: the long sum
    assert all("madd_of_lane" in body for name, body in kernels.items() if re.search(r"_conv(_add)?$", name))


@pytest.mark.parametrize("name", ["linux-arm64", "android", "ios"])
def test_it_is_an_option_of_targets_for_arm(name: str) -> None:
    target = get_target(name)
    asked, usual = ([b.machine().name for b in target.chosen(values)] for values in (OPTED, {}))
    assert "neon_fp16" not in usual and [m for m in asked if m != "neon_fp16"] == usual
    assert asked.index("neon_fp16") == asked.index("neon") - 1


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--target", "windows", *"--arithmetic float16".split()], "is an option of android, ios, linux-arm64, "),
        (["--target", "linux-arm64", *"--arithmetic float16".split()], "add --weights-type float16"),
        (["--target", "linux-arm64", *"--arithmetic half".split()], "known are float32, float16 and int8"),
    ],
)
def test_wrong_use_is_refused(arguments: list[str], said: str, tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "net.onnx")
    result = CliRunner().invoke(cli, ["build", str(tmp_path / "net.onnx"), "-o", str(tmp_path / "out"), *arguments])
    assert result.exit_code and said in result.output
    assert not (tmp_path / "out").exists()


def test_quantised_networks_are_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale"], ["q"], "quantize"),
        helper.make_node("DequantizeLinear", ["q", "scale"], ["d"], "dequantize"),
        helper.make_node("MatMul", ["d", "w"], ["y"], "product"),
    ]
    weights = {"scale": np.array(0.1, np.float32), "w": np.eye(4, dtype=np.float32)}
    onnx.save(model(nodes, {"x": (4, 4)}, {"y": (4, 4)}, weights), tmp_path / "net.onnx")
    options = Options(target="source", target_options={"machine": "neon_fp16,neon"}, weights_type="float16")
    with pytest.raises(UsageError, match="has quantised values"):
        build(tmp_path / "net.onnx", tmp_path / "out", options)


def test_what_is_said_where_float16_is_too_coarse() -> None:
    bad = OutputError("y (neon_fp16 on QEMU's 64-bit Arm)", 0.5, 0.5, 1.0, False, 0.01)
    assert "--arithmetic float32" in failure([bad], True, {"neon_fp16": 0.01})
    other = OutputError("y (neon on QEMU's Cortex-A57)", 0.5, 0.5, 1.0, False, 1e-4)
    assert "a fault of dlpack" in failure([bad, other], True, {"neon_fp16": 0.01})


# --- the graph --------------------------------------------------------------------------------------------------------


def graph(nodes: list[Node], constants: Mapping[str, np.ndarray] | None = None) -> Graph:
    constants = constants or {}
    shape = TensorType("float32", (4, 4))
    types = {v: shape for n in nodes for v in (*n.inputs, *n.outputs)} | {
        name: TensorType("float32", c.shape) for name, c in constants.items()
    }
    return Graph("g", ("x",), (nodes[-1].outputs[0],), tuple(nodes), constants, types)


def node(op: str, inputs: str, output: str) -> Node:
    return Node(op, tuple(inputs.split()), (output,), {}, output, "", 17)


W = np.ones((4, 4), np.float32)


def halves_of(g: Graph) -> set[str]:
    return {v for v, t in halved(g).types.items() if t.dtype == HALF}


def test_values_between_products_become_float16() -> None:
    g = graph([node("MatMul", "x w", "a"), node("Relu", "a", "b"), node("MatMul", "b w", "y")], {"w": W})
    assert halves_of(g) == {"x/half", "w/half", "a", "b"}
    made = halved(g)
    assert [n.op for n in made.nodes] == ["Copy", "MatMul", "Relu", "MatMul"]
    assert all(computes_in_half(n, made) for n in made.nodes[1:])
    assert made.types["y"].dtype == "float32" and made.constants["w/half"].dtype == np.float16


def test_what_may_be_too_large_stays_float32() -> None:
    """Exponentials, and what is added to a number beyond float16."""
    g = graph([node("MatMul", "x w", "a"), node("Exp", "a", "b"), node("MatMul", "b w", "y")], {"w": W})
    assert halved(g).types["b"].dtype == "float32" and halved(g).types["a"].dtype == HALF
    masked = {"w": W, "m": W * np.float32(-2 * LARGEST)}
    g = graph([node("MatMul", "x w", "a"), node("Add", "a m", "b"), node("MatMul", "b w", "y")], masked)
    made = halved(g)
    assert made.types["b"].dtype == "float32" and not computes_in_half(made.nodes[2], made)


def test_without_products_nothing_becomes_float16() -> None:
    g = graph([node("Relu", "x", "a"), node("Add", "a a", "y")])
    assert halved(g) is g


# --- sums -------------------------------------------------------------------------------------------------------------


def summed(*loops: tuple[str, int]) -> Kernel:
    """A sum over nested loops, the outermost first, of products of two vectors of float16."""
    zero = Op(HALF, 8, "splat", (Const(HALF, 1, 0.0),))
    index = sum((Linear.var(var) * 8 for var, _ in loops), Linear())
    term = Op(HALF, 8, "*", (Load(HALF, 8, "x", index, 8), Load(HALF, 8, "w", index, 8)))
    body: tuple[Stmt, ...] = (Assign("acc", Op(HALF, 8, "+", (Ref(HALF, 8, "acc"), term))),)
    for var, extent in reversed(loops):
        body = (For(var, 0, extent, 1, body),)
    stmts = (Declare("acc", HALF, 8, zero), *body, Store("y", Linear(), Ref(HALF, 8, "acc"), 8))
    return Kernel((Param("x", HALF, False), Param("w", HALF, False), Param("y", HALF, True)), stmts)


def additions(stmts: tuple[Stmt, ...]) -> list[str]:
    """What happens to the sum in order: a step, or what is summed so far is added in float32."""
    out: list[str] = []
    for s in stmts:
        if isinstance(s, For):
            out += additions(s.body) * ((s.end - s.begin) // s.step)
        elif isinstance(s, Assign) and s.name == "acc":
            out.append("step" if isinstance(s.value, Op) and s.value.op == "+" else "added")
    return out


@pytest.mark.parametrize(
    "loops",
    [[("k", 300)], [("k", 4096)], [("ky", 3), ("kx", 3), ("k", 64)], [("ky", 5), ("kx", 5), ("k", 8)], [("k", 161)]],
)
def test_long_sums_are_added_in_float32(loops: list[tuple[str, int]]) -> None:
    found = additions(in_parts(summed(*loops)).body)
    runs = [len(run) for run in " ".join(found).replace("step", "s").replace(" ", "").split("added")]
    assert sum(runs) == np.prod([n for _, n in loops]) and found[-1] == "added"
    assert max(runs) <= MOST_STEPS and len(runs) < 2 + sum(runs) / 40


def test_a_parts_addresses_are_the_loops() -> None:
    """x and w are read once each at every place."""
    kernel = in_parts(summed(("k", 300)))
    (part,) = (s for s in walk(kernel.body) if isinstance(s, For) and s.var == "k_part")
    (inner,) = (s for s in part.body if isinstance(s, For))
    assert (part.end, inner.end) == (2, 128)
    loads = {e.index for s in inner.body if isinstance(s, Assign) for e in s.value.args[1].args}
    assert loads == {(Linear.var("k") + Linear.var("k_part") * 128) * 8}


def test_short_sums_stay_as_they_are() -> None:
    kernel = summed(("k", MOST_STEPS))
    assert in_parts(kernel) == kernel
