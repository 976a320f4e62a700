"""Strassen's algorithm: seven products of quarters in place of eight."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from emitted_files import selftest_with_checks
from nets import model
from onnx import NodeProto, helper

import dlpack
from dlpack.bundle.loader import read_kernels, read_manifest
from dlpack.kernels.backend import Product
from dlpack.options import Options
from dlpack.targets.cpu import strassen
from dlpack.targets.cpu.machine import AVX2, AVX512, CORTEX_A76, WASM, Machine

CHANNELS = 64

Net = tuple[list[NodeProto], dict[str, tuple[int, ...]], dict[str, tuple[int, ...]], dict[str, np.ndarray]]


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32) / np.float32(shape[-1] ** 0.5)


def pictures(batch: int, side: int) -> Net:
    """A 3x3 convolution, one of pixels with what follows it, whose border the next 3x3 convolution reads."""
    c = CHANNELS
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], group=c, pads=[1] * 4),
        helper.make_node("Conv", ["a", "w1", "b1"], ["b"]),
        helper.make_node("Add", ["b", "a"], ["s"]),
        helper.make_node("Mul", ["s", "plane"], ["p"]),
        helper.make_node("Clip", ["p", "low", "high"], ["c"]),
        helper.make_node("Conv", ["c", "w2"], ["y"], group=c, pads=[1] * 4),
    ]
    shape = (batch, c, side, side)
    weights = {
        "w0": random(c, 1, 3, 3), "w1": random(c, c, 1, 1), "b1": random(c), "w2": random(c, 1, 3, 3),
        "plane": random(1, 1, side, side), "low": np.float32(-0.5), "high": np.float32(6),
    }  # fmt: skip
    return nodes, {"x": shape}, {"y": shape}, {k: np.asarray(v) for k, v in weights.items()}


def tokens(batch: int, rows: int) -> Net:
    """Two products of one value, one with a bias and an activation, and one back with a residual."""
    c = CHANNELS
    nodes = [
        helper.make_node("Tanh", ["x"], ["t"]),
        helper.make_node("MatMul", ["t", "w1"], ["a0"]),
        helper.make_node("Add", ["a0", "b1"], ["a1"]),
        helper.make_node("Sigmoid", ["a1"], ["a"]),
        helper.make_node("MatMul", ["t", "w2"], ["g"]),
        helper.make_node("Mul", ["a", "g"], ["m"]),
        helper.make_node("MatMul", ["m", "w3"], ["d"]),
        helper.make_node("Add", ["d", "x"], ["y"]),
    ]
    weights = {"w1": random(c, 2 * c), "b1": random(2 * c), "w2": random(c, 2 * c, seed=1), "w3": random(2 * c, c)}
    return nodes, {"x": (batch, rows, c)}, {"y": (batch, rows, c)}, weights


NETS = {
    "a picture": pictures(1, 6), "an odd picture": pictures(1, 5), "three pictures": pictures(3, 5),
    "tokens": tokens(1, 30), "an odd number of tokens": tokens(1, 13), "texts": tokens(2, 9),
}  # fmt: skip


def save(net: Net, folder: Path) -> Path:
    onnx.save(model(*net), folder / "net.onnx")
    return folder / "net.onnx"


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products are computed by Strassen's algorithm, however small they are."""
    monkeypatch.setattr(strassen, "WORTH_SUMS", 1e3)


def products(bundle: Path) -> int:
    """How often a run multiplies weights, of which none is of a depthwise convolution."""
    steps = dlpack.load(bundle).steps
    macs = {k["name"]: k["macs"] for k in read_kernels(bundle)}
    return sum(macs.get(step, 0) > CHANNELS**2 for step in steps)


@pytest.mark.parametrize("name", NETS)
def test_results_are_those_of_the_product(name: str, tmp_path: Path, everywhere: None) -> None:
    """Whole and odd numbers of rows, with all that may follow: `dlpack build` compares with onnxruntime."""
    source = save(NETS[name], tmp_path)
    bundle = dlpack.build(source, tmp_path / "bundle")
    count = 3 if "Tanh" in [n.op_type for n in onnx.load(source).graph.node] else 1
    assert products(bundle) >= 7 * count
    selftest_with_checks(bundle / read_manifest(bundle)["source"], tmp_path)


def test_weights_are_stored_once(tmp_path: Path, everywhere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quarters are stored, and their four sums made when a predictor is; in 16 bits, if these hold them, too."""
    net = tokens(1, 30)
    bundle = dlpack.build(save(net, tmp_path), tmp_path / "bundle")
    manifest = read_manifest(bundle)
    products = sum(w.nbytes for w in net[3].values() if w.ndim == 2)
    assert manifest["prepared_bytes"] == products
    assert products < manifest["weights_bytes"] < 1.1 * products
    halves = {name: w.astype(np.float16).astype(np.float32) for name, w in net[3].items()}
    bundle = dlpack.build(save((*net[:3], halves), tmp_path), tmp_path / "halves")
    manifest = read_manifest(bundle)
    assert manifest["weights_bytes"] < 0.6 * products and manifest["prepared_bytes"] >= 2 * products


def test_what_reads_weights_as_they_are_keeps_them(tmp_path: Path, everywhere: None) -> None:
    """Several machines or sets of shapes share weights, and a size may be wanted small."""
    source = save(tokens(1, 30), tmp_path)
    several = Options(target="source", target_options={"machine": "avx2,avx512"})
    alone = Options(target="source", target_options={"machine": "avx2"})
    texts = [
        (dlpack.build(source, tmp_path / f"bundle{k}", options) / "net.cc").read_text()
        for k, options in enumerate((alone, replace(alone, optimize="size"), several))
    ]
    assert ["summed_weights" in text for text in texts] == [True, False, False]


@pytest.mark.parametrize(
    ("machine", "product", "pays"),
    [
        (AVX2, Product(196, 512, 512, 98), True),  # MobileNetV1's, fourteen by fourteen pixels
        (AVX2, Product(49, 1024, 1024, 25), True),
        (AVX2, Product(128, 384, 1536, 64), True),
        (AVX2, Product(12544, 32, 64, 6272), False),  # whose sums would move more than the product computes
        (AVX2, Product(2, 1024, 1024, 1), False),  # whose weights are read once
        (AVX512, Product(196, 512, 512, 98), False),  # with two FMAs a cycle, measured as even
        (WASM, Product(196, 512, 512, 98), False),
        (CORTEX_A76, Product(196, 512, 512, 98), False),
    ],
)
def test_where_it_pays(machine: Machine, product: Product, pays: bool) -> None:
    assert strassen.strassen_pays(product, machine) == pays
