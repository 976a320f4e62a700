"""Arithmetic in int8 on request: products with weights of few bits round what they multiply, on every machine alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from decoders import Decoder
from nets import _random, model
from onnx import ModelProto, helper, numpy_helper

import dlpack
from dlpack.bundle.loader import read_kernels, read_manifest
from dlpack.cli import cli
from dlpack.errors import UsageError
from dlpack.graph.ir import Graph, Node, TensorType
from dlpack.graph.packed import Packed
from dlpack.graph.rounded import rounded
from dlpack.options import Options
from dlpack.pipeline import build
from dlpack.precision.operands import round_operands
from dlpack.targets.toolchains.host import host_machine
from dlpack.targets.wasm.run import node_command
from dlpack.verify.check import failure, verify_bundle
from dlpack.verify.reference import ROUNDED_TOLERANCE, OutputError, run_onnxruntime, seeded_input
from dlpack.verify.run import bundle_runner

Array = np.ndarray[Any, Any]

MACHINES = ("avx512vnni", "avx512", "avxvnni", "avx2")
ARM = ("neon_i8mm", "neon_dotprod", "neon")
ASKED = {"arithmetic": "int8"}
K = 256


@dataclass(frozen=True)
class Form:
    """Weights [K, columns] as MatMulNBits has them, with a scale, and maybe a zero point, for each block."""

    bits: int
    block: int
    columns: int
    zeros: bool = False

    def numbers(self) -> tuple[Array, Array, Array]:
        """Codes [columns, K], scales and zero points [columns, blocks]."""
        rng, shape = np.random.default_rng([self.bits, self.block]), (self.columns, K // self.block)
        codes = rng.integers(0, 1 << self.bits, (self.columns, K), np.uint8)
        scales = rng.uniform(0.5, 1, shape).astype(np.float16).astype(np.float32) / (8 << self.bits)
        middle = np.full(shape, 1 << (self.bits - 1), np.uint8)
        return codes, scales, rng.integers(0, 1 << self.bits, shape, np.uint8) if self.zeros else middle

    def node(self, x: str, y: str, level: int = 0) -> tuple[onnx.NodeProto, dict[str, Array]]:
        """The product and its constants."""
        codes, scales, zeros = self.numbers()
        if self.bits == 4:
            codes, zeros = (a[:, ::2] | a[:, 1::2] << 4 for a in (codes, zeros))
        weights = {"codes": codes.reshape(self.columns, K // self.block, -1), "scales": scales.reshape(-1)}
        weights |= {"zeros": zeros.reshape(-1)} if self.zeros else {}
        sizes = {"K": K, "N": self.columns, "bits": self.bits, "block_size": self.block, "accuracy_level": level}
        names = [f"{y}_{name}" for name in weights]
        node = helper.make_node("MatMulNBits", [x, *names], [y], y, domain="com.microsoft", **sizes)
        return node, dict(zip(names, weights.values(), strict=True))

    def product(self, x: Array) -> Array:
        """In double, of x rounded in blocks."""
        codes, scales, zeros = self.numbers()
        wide = (codes - np.repeat(zeros, self.block, 1).astype(np.float64)) * np.repeat(scales, self.block, 1)
        return of_blocks(x, self.block) @ wide.T


def of_blocks(x: Array, block: int) -> Array:
    """Each block of a row as multiples of its largest magnitude / 127, in double."""
    parts = x.reshape(-1, block)
    peaks = np.abs(parts).max(1, keepdims=True)
    factors = np.where(peaks < 1e-30, np.float32(0), np.float32(127) / np.maximum(peaks, np.float32(1e-30)))
    return (np.rint(parts * factors) * (peaks / np.float32(127)).astype(np.float64)).reshape(x.shape)


FORMS = (
    Form(4, 32, 96),
    Form(4, 16, 40, zeros=True),
    Form(4, 128, 250),
    Form(8, 32, 130),
    Form(8, 64, 17, zeros=True),
    Form(8, 32, 64, zeros=True),
)
"""Columns that fill the tiles of all machines and such as leave a part of one, few and many."""

_CODES = np.random.default_rng(5).integers(-127, 128, (33, K), np.int8)
_SCALES = np.random.default_rng(6).uniform(0.001, 0.002, 33).astype(np.float32)
_BIAS = _random(7, b=(33,))["b"]


def products(rows: int, level: int = 0) -> ModelProto:
    """All forms of one value, and weights of int8 with a scale for each column, by Gemm, behind an activation."""
    made = [form.node("x", f"y{k}", level) for k, form in enumerate(FORMS)]
    weights = {name: value for _, own in made for name, value in own.items()}
    weights |= {"codes": _CODES, "scales": _SCALES, "bias": _BIAS}
    nodes = [
        *(node for node, _ in made),
        helper.make_node("DequantizeLinear", ["codes", "scales"], ["w"], "dequantize", axis=0),
        helper.make_node("Gemm", ["x", "w", "bias"], ["g"], "dense", transB=1),
        helper.make_node("Relu", ["g"], ["z"], "relu"),
    ]
    outputs: dict[str, tuple[int | str, ...]] = {f"y{k}": (rows, f.columns) for k, f in enumerate(FORMS)}
    return model(nodes, {"x": (rows, K)}, {**outputs, "z": (rows, 33)}, weights, ["com.microsoft"])


def expected(x: Array) -> dict[str, Array]:
    dense = of_blocks(x, 128) @ (_CODES * _SCALES[:, None].astype(np.float64)).T + _BIAS
    return {**{f"y{k}": form.product(x) for k, form in enumerate(FORMS)}, "z": np.maximum(dense, 0)}


def outputs(bundle: Path, x: Array) -> dict[str, dict[str, Array]]:
    """By machine that runs here."""
    with bundle_runner(bundle, read_manifest(bundle)) as run:
        return {machine: dict(found) for machine, found in run({"x": x}).items()}


def built(rows: int, folder: Path, target: str = "source", machines: tuple[str, ...] = MACHINES) -> Path:
    onnx.save(products(rows), folder / "net.onnx")
    options = {**ASKED, **({"machine": ",".join(machines)} if target == "source" else {})}
    return build(folder / "net.onnx", folder / "bundle", Options(target, name="net", target_options=options))


@pytest.fixture(scope="module", params=[1, 13])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(request.param, tmp_path_factory.mktemp("rounded"))


def test_every_machine_rounds_as_it_is_said(bundle: Path) -> None:
    assert_right(bundle)


@pytest.mark.parametrize("rows", [1, 13])
def test_arm_rounds_so_too(rows: int, tmp_path: Path) -> None:
    """Arm, under emulation, with products of numbers with a sign, whose zero is 0 where weights are symmetric."""
    arm = built(rows, tmp_path, machines=ARM)
    assert_right(arm)
    text = (arm / "net.cc").read_text()
    assert "low_signed_(" in text and "unsigned_dot_(" not in text and "nibble_place<16>" in text


@pytest.mark.skipif(not node_command(), reason="node is not installed")
@pytest.mark.parametrize("rows", [1, 13])
def test_webassembly_rounds_so_too(rows: int, tmp_path: Path) -> None:
    """Its third build, too, in which the engine's dot product is emulated where node has none that is right."""
    bundle = built(rows, tmp_path, "wasm")
    manifest = read_manifest(bundle)
    assert list(manifest["wasm"]) == ["simd", "relaxed", "dots"] and "bits" not in manifest["wasm"]["dots"]
    assert_right(bundle)


def test_seven_bits_suffice_where_all_weights_have_four(tmp_path: Path) -> None:
    """Then any engine's own dot product will do that keeps to the specification."""
    node, weights = Form(4, 32, 96).node("x", "y")
    onnx.save(model([node], {"x": (2, K)}, {"y": (2, 96)}, weights, ["com.microsoft"]), tmp_path / "net.onnx")
    bundle = build(tmp_path / "net.onnx", tmp_path / "bundle", Options("wasm", name="net", target_options=ASKED))
    assert read_manifest(bundle)["wasm"]["dots"]["bits"] == 7
    assert all(e["passed"] for e in read_manifest(bundle)["verification"])


def test_shaders_do_not_round(tmp_path: Path) -> None:
    onnx.save(products(1), tmp_path / "net.onnx")
    asked = {**ASKED, "webgpu": True}
    with pytest.raises(UsageError, match="do not go together"):
        build(tmp_path / "net.onnx", tmp_path / "bundle", Options("wasm", target_options=asked))


def assert_right(bundle: Path) -> None:
    """Against the rounding in double."""
    x = seeded_input(0, tuple(read_manifest(bundle)["inputs"][0]["shape"]), "float32", -1.5, 1.5)
    x[0, :128] = 0  # blocks of nothing
    x[-1, 200:] *= 1e-33
    want, found = expected(x), outputs(bundle, x)
    assert found
    for machine, got in found.items():
        for name, value in want.items():
            np.testing.assert_allclose(
                got[name], value, rtol=0, atol=2e-6 * np.abs(value).max(), err_msg=machine + name
            )


def test_onnxruntime_rounds_so_too_with_accuracy_level_4(bundle: Path) -> None:
    x = seeded_input(3, tuple(read_manifest(bundle)["inputs"][0]["shape"]), "float32", -1.5, 1.5)
    plain, rounding = (run_onnxruntime(products(len(x), level), {"x": x}) for level in (0, 4))
    (got, *_) = outputs(bundle, x).values()
    compared = 0
    for k, (floats, others) in enumerate(zip(plain[: len(FORMS)], rounding, strict=False)):
        moved, most = np.abs(floats - others).max(), np.abs(floats).max()
        if moved > 1e-4 * most:  # it does round, which not all processors' kernels of all forms do
            compared += 1
            assert np.abs(got[f"y{k}"] - others).max() < 0.2 * moved, f"y{k}"
    if not compared:
        pytest.skip("onnxruntime multiplies floats on this computer at any accuracy level: there is nothing to compare")


def test_the_build_says_what_it_is_and_what_it_changes(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    said = manifest["arithmetic"]
    assert (said["type"], said["products"]) == ("int8", len(FORMS) + 1)
    assert all(0 < change["largest"] < 0.02 for change in said["changes"])
    assert manifest["tolerances"] == dict.fromkeys(MACHINES, ROUNDED_TOLERANCE)
    assert all(e.passed for e in verify_bundle(bundle))
    schedules = [k["schedule"] for k in read_kernels(bundle)]
    assert sum("by blocks, register tile" in s for s in schedules) >= len(FORMS) + 1
    assert f"{len(FORMS) + 1} products multiply" in (bundle / "report.html").read_text()


def test_weights_of_four_bits_share_bytes(bundle: Path) -> None:
    """Of those that fill pairs of vectors."""
    text = (bundle / "net.cc").read_text()
    assert "nibble_dot_(" in text and "unsigned_dot_(" in text
    assert "nibble_place<64>" in text and "nibble_place<32>" in text


@pytest.mark.skipif(host_machine().dot_operand != "uint8", reason="no products of 8 bits here: it refuses")
@pytest.mark.parametrize("bits", [4, 8])
def test_a_decoder_writes_with_products_in_int8(bits: int, tmp_path: Path) -> None:
    net = Decoder(layers=2, width=64, heads=4, kv=2, hidden=96, vocabulary=61, bits=bits, block=32)
    onnx.save(net.model(), tmp_path / "net.onnx")
    floats = build(tmp_path / "net.onnx", tmp_path / "floats", Options(context=40))
    rounding = build(tmp_path / "net.onnx", tmp_path / "int8", Options(context=40, target_options=ASKED))
    prompt = [int(t) for t in np.random.default_rng(3).integers(0, 61, 19)]
    with dlpack.load(floats) as a, dlpack.load(rounding) as b:
        for predictor in (a, b):
            predictor.append(prompt)
        wanted, found = a.scores(), b.scores()
        assert sum("round_blocks" in step for step in b.steps) == 2 * 4 + 1
        assert sum("block_dot" in step for step in b.steps) == 2 * 7 + 1
    assert wanted is not None and found is not None
    off = np.abs(wanted - found).max() / np.abs(wanted).max()
    assert 0 < off < ROUNDED_TOLERANCE


# --- the graph --------------------------------------------------------------------------------------------------------


def packed(bits: int = 4, block: int = 16, zeros: Array | None = None, low: int = -8) -> Packed:
    """A weight [64, 6] in blocks of so many rows; 0: with a scale for each column."""
    codes = np.random.default_rng(1).integers(0, 1 << bits, (64, 6), np.uint8)
    table = np.arange(1 << bits, dtype=np.float32) + low
    count = 64 // block * 6 if block else 6
    scales = np.random.default_rng(2).uniform(1, 2, count).astype(np.float32)
    return Packed(bits, codes, table, scales, zeros, (block or 1, 1), (6, 1) if block else (0, 1))


def graph_of(weights: dict[str, Packed], *reads: tuple[str, str]) -> Graph:
    """Products of values [3, 64] and these weights."""
    constants = {name: p.values() for name, p in weights.items()}
    types = {name: TensorType("float32", (64, 6)) for name in weights}
    types |= {x: TensorType("float32", (3, 64)) for x, _ in reads}
    types |= {f"y{k}": TensorType("float32", (3, 6)) for k in range(len(reads))}
    nodes = tuple(Node("MatMul", (x, w), (f"y{k}",), {}, f"n{k}", "", 21, (f"n{k}",)) for k, (x, w) in enumerate(reads))
    return Graph("g", tuple(dict(reads)), tuple(f"y{k}" for k in range(len(reads))), nodes, constants, types)


def test_products_share_what_is_rounded_alike() -> None:
    zeros = np.full(24, 3, np.uint8)
    weights = {"v": packed(), "w": packed(), "u": packed(block=32), "z": packed(zeros=zeros)}
    graph = graph_of(weights, ("x", "v"), ("x", "w"), ("x", "u"), ("x", "z"), ("o", "v"))
    found, stored = rounded(graph, weights.get, "uint8")
    rounds = [(n.inputs[0], n.attrs["block"], n.attrs["zero"]) for n in found.nodes if n.op == "RoundBlocks"]
    assert rounds == [("x", 16, 8), ("x", 32, 8), ("x", 16, 1), ("o", 16, 8)]
    assert [n.op for n in found.nodes].count("BlockDot") == 5
    assert set(stored) == {f"{w}/codes" for w in weights} and not weights.keys() & found.constants.keys()


@pytest.mark.parametrize("operand", ["uint8", "int8"])
@pytest.mark.parametrize(
    "how",
    [
        packed(),
        packed(zeros=np.random.default_rng(4).integers(0, 16, 24, np.uint8)),
        packed(bits=8, low=-128),
        packed(bits=8, low=-200),
        packed(bits=8, low=0, block=32, zeros=np.random.default_rng(4).integers(0, 256, 12, np.uint8)),
        packed(bits=8, low=-128, block=0),
        packed(bits=4, low=0, block=0, zeros=np.random.default_rng(4).integers(0, 16, 6, np.uint8)),
    ],
    ids=["symmetric", "zeros", "bytes", "odd zero", "bytes with zeros", "columns", "columns with zeros"],
)
def test_codes_zeros_and_scales_are_the_weights(how: Packed, operand: str) -> None:
    found, stored = rounded(graph_of({"w": how}, ("x", "w")), {"w": how}.get, operand)
    rounding, product, *scaled = found.nodes
    c = found.constants
    codes = c["w/codes"].astype(np.float64)
    assert c["w/codes"].dtype == operand == c.get("w/zeros", c["w/codes"]).dtype
    zeros = c["w/zeros"][:, None].astype(np.float64) if "w/zeros" in c else float(rounding.attrs["zero"])
    scales = c["w/scales"] if scaled else c["w/scales"][:, None]
    np.testing.assert_allclose(((codes - zeros) * scales).reshape(64, 6), how.values(), rtol=1e-6)
    assert product.outputs == ("y0",) or [n.op for n in scaled] == ["Mul"]
    assert len(rounding.outputs) == 2 + bool(rounding.attrs["zero"])
    if stored:
        np.testing.assert_array_equal(stored["w/codes"].values(), c["w/codes"])


@pytest.mark.parametrize(
    "how",
    [packed(block=8), replace(packed(), table=np.linspace(-1, 1, 16, dtype=np.float32)), packed(bits=8, low=0)],
    ids=["short blocks", "no integers", "wide"],
)
def test_other_weights_stay_floats(how: Packed) -> None:
    wide = replace(how, table=how.table * 2) if how.bits == 8 else how
    graph = graph_of({"w": wide}, ("x", "w"))
    assert rounded(graph, {"w": wide}.get, "uint8")[0].nodes == graph.nodes


def test_onnxruntime_is_asked_with_the_same_rounding() -> None:
    x = seeded_input(0, (2, 3, K), "float32", -1, 1)
    x[0, 0] = 0
    w = np.eye(K, dtype=np.float32)
    for opset in (13, 21):
        net = model(
            [helper.make_node("MatMul", ["x", "w"], ["y"], "product")], {"x": x.shape}, {"y": x.shape}, {"w": w}
        )
        net.opset_import[0].version = opset
        (y,) = run_onnxruntime(round_operands(net, {"product": 64}), {"x": x})
        np.testing.assert_allclose(y, of_blocks(x.reshape(-1, K), 64).reshape(x.shape), atol=1e-6)
    assert numpy_helper.to_array(net.graph.initializer[0]).shape == (K, K)  # the model stays as it was
    assert len(net.graph.node) == 1


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target", "android", "--arithmetic", "int8"], "known are float32 and float16"),
        (["--target", "linux-arm64", "--arithmetic", "int4"], "known are float32, float16 and int8"),
        (["--target", "linux-arm64", "--arithmetic", "int8"], "the model has none"),
        (["--target", "native", "--arithmetic", "float16"], "known are float32 and int8"),
        (["--target", "windows", "--arithmetic", "int8"], "is an option of"),
        (["--target", "source", "--machine", "neon32", "--arithmetic", "int8"], "there are no such kernels for neon32"),
        (["--target", "source", "--machine", "avx2", "--arithmetic", "int8"], "the model has none"),
    ],
)
def test_what_cannot_be_rounded_is_refused_by_name(words: list[str], said: str, tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    onnx.save(model([node], {"x": (2, 64)}, {"y": (2, 64)}, _random(1, w=(64, 64))), tmp_path / "net.onnx")
    result = CliRunner().invoke(cli, ["build", str(tmp_path / "net.onnx"), *words, "-o", str(tmp_path / "out")])
    assert result.exit_code == 2 and said in " ".join(result.output.split()), result.output


def test_an_open_batch_is_done_one_by_one(tmp_path: Path) -> None:
    net = products(1)
    for value in (*net.graph.input, *net.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    onnx.save(net, tmp_path / "net.onnx")
    words = ["--target", "source", "--machine", "avx2", "--arithmetic", "int8", "--shape", f"x=1..8x{K}"]
    result = CliRunner().invoke(cli, ["build", str(tmp_path / "net.onnx"), *words, "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert all(e.passed for e in verify_bundle(tmp_path / "out"))


def test_what_is_said_where_int8_is_too_coarse() -> None:
    bad = OutputError("y", 0.5, 0.5, 1.0, False, 0.05)
    said = failure([bad], True, {"avx2": ROUNDED_TOLERANCE})
    assert said.startswith("int8 is too coarse") and "--arithmetic float32" in said
