"""Attention to a decoder's cache in one kernel, which reads the rows that have a token and no others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import skip_or_fail
from decoders import Decoder, Grown
from onnx import ModelProto, numpy_helper
from processes import run

import dlpack
from dlpack.bundle.loader import read_manifest
from dlpack.bundle.read import read_kernels
from dlpack.graph.attention import Attention, attention
from dlpack.graph.ir import Cache, Graph, Node, TensorType
from dlpack.pipeline import Options, build
from dlpack.targets.cpu.attention import fuses
from dlpack.targets.cpu.machine import AVX512, NEON, SCALAR, WASM
from dlpack.targets.wasm.run import node_command

CONTEXT, VOCABULARY = 300, 499
NET = Decoder(layers=2, width=64, heads=4, kv=4, hidden=48, vocabulary=VOCABULARY, seed=7)
TEXT = [int(t) for t in np.random.default_rng(4).integers(0, VOCABULARY, CONTEXT)]

FORMS: dict[str, dict[str, Any]] = {
    "heads of their own": {},
    "two share": {"kv": 2},
    "all share": {"kv": 1},
    "window": {"kv": 2, "grouped": {"local_window_size": 70}},
    "mask of bools": {"grouped": {}},
    "bools, two share": {"kv": 2, "grouped": {"rotary_interleaved": 1}},
}


def saved(model: ModelProto, folder: Path) -> Path:
    path = folder / "net.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_texts_of_all_lengths_are_read_right(form: dict[str, Any], tmp_path: Path) -> None:
    """Up to, at and behind each multiple of the rows that are read at once, and to the end of the cache, one by one and
    in blocks."""
    model = replace(NET, **form).model()
    bundle = build(saved(model, tmp_path), tmp_path / "bundle", Options(context=CONTEXT))
    kernels = [k for k in read_kernels(bundle) if k["schedule"].startswith("attention")]
    assert len(kernels) == 3 and all("of 256 rows those in use" in k["schedule"] for k in kernels)
    assert not any("expand" in k["name"] and str(CONTEXT) in k["computes"] for k in read_kernels(bundle))
    ends = [1, 2, 63, 64, 65, 66, 128, 200, 255, 256, 257, 258, 299, 300]
    size = NET.size if "grouped" in form else 0
    wanted = Grown(model, size).read(TEXT)
    with dlpack.load(bundle) as predictor:
        for begin, end in zip([0, *ends[:-1]], ends, strict=True):
            predictor.append(TEXT[begin:end])
            scores = predictor.scores()
            assert scores is not None
            np.testing.assert_allclose(scores, wanted[end - 1], rtol=0, atol=2e-5 * np.abs(wanted).max(), err_msg=end)
        predictor.rewind(60)
        predictor.append(TEXT[60:70])
        scores = predictor.scores()
        assert scores is not None and np.abs(scores - wanted[69]).max() < 2e-5 * np.abs(wanted).max()


def with_nan(model: ModelProto, token: int) -> ModelProto:
    """The model in which a token's vector, and so its keys and values, are no numbers."""
    (table,) = (t for t in model.graph.initializer if t.dims[:1] == [VOCABULARY])
    values = numpy_helper.to_array(table).copy()
    values[token] = np.nan
    table.CopyFrom(numpy_helper.from_array(values, table.name))
    return model


@pytest.mark.parametrize("kv", [4, 2])
def test_rows_without_a_token_are_not_read(kv: int, tmp_path: Path) -> None:
    """What an earlier text has left there would make everything NaN, since zero times NaN is."""
    bad, kept = 13, 64
    assert bad not in TEXT[: kept + 1]
    model = with_nan(replace(NET, kv=kv).model(), bad)
    bundle = build(saved(model, tmp_path), tmp_path / "bundle", Options(context=CONTEXT, verify=False))
    wanted = Grown(model).read(TEXT[: kept + 1])
    with dlpack.load(bundle) as predictor:
        for more in ([bad], [bad] * 16, [bad] * 100):
            predictor.rewind(0)
            predictor.append([*TEXT[:kept], *more])
            broken = predictor.scores()
            assert broken is not None and np.isnan(broken).all()
            predictor.rewind(kept)
            predictor.append(TEXT[kept : kept + 1])
            scores = predictor.scores()
            assert scores is not None
            np.testing.assert_allclose(scores, wanted[-1], rtol=0, atol=2e-5 * np.abs(wanted).max())


def test_in_webassembly_too(tmp_path: Path) -> None:
    if not node_command():
        skip_or_fail("node is not installed")
    model = replace(NET, kv=2).model()
    bundle = build(saved(model, tmp_path), tmp_path / "wasm", Options("wasm", context=CONTEXT, name="net"))
    assert sum("of 256 rows those in use" in k["schedule"] for k in read_kernels(bundle)) == 3
    script = tmp_path / "main.mjs"
    script.write_text(
        """
import { Decoder } from "./wasm/node.js";
const decoder = await Decoder.load(new URL("./wasm/", import.meta.url));
await decoder.append(JSON.parse(process.argv[2]));
console.log(JSON.stringify(Array.from(await decoder.scores())));
"""
    )
    wanted = Grown(model).read(TEXT[:131])[-1]
    done = run([*node_command(), script, str(TEXT[:131])], limit_s=60)
    scores = np.array(json.loads(done.stdout))
    assert np.abs(scores - wanted).max() < 2e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("machine", ["avx512", "avx2", "sse4", "neon"])
def test_every_machine_reads_the_rows_in_use(machine: str, tmp_path: Path) -> None:
    options = Options("source", context=CONTEXT, target_options={"machine": machine}, threads=2)
    bundle = build(saved(replace(NET, layers=1, kv=2).model(), tmp_path), tmp_path / "bundle", options)
    assert sum("of 256 rows those in use" in k["schedule"] for k in read_kernels(bundle)) == 3
    assert all(e["passed"] for e in read_manifest(bundle)["verification"])


# --- the graph --------------------------------------------------------------------------------------------------------


def cached(past: int, rows: int, mask: str = "Add", kept: bool = True) -> Graph:
    """An attention of `rows` new tokens to a cache of as many rows as `past`, and these."""
    keys, heads, size = past + rows, 2, 8
    shapes = {
        "q": (1, heads, rows, size),
        "k": (1, heads, rows, size),
        "v": (1, heads, rows, size),
        "past_k": (1, heads, past, size),
        "past_v": (1, heads, past, size),
        "keys": (1, heads, keys, size),
        "values": (1, heads, keys, size),
        "turned": (1, heads, size, keys),
        "scores": (1, heads, rows, keys),
        "masked": (1, heads, rows, keys),
        "shares": (1, heads, rows, keys),
        "y": (1, heads, rows, size),
    }
    types = {name: TensorType("float32", shape) for name, shape in shapes.items()}
    types |= {"filled": TensorType("int64", (1, keys)), "low": TensorType("float32", ())}
    types["bias"] = TensorType("float32" if mask == "Add" else "bool", (1, 1, rows, keys))
    chosen = {"Add": ("scores", "bias"), "Where": ("bias", "scores", "low"), "hides": ("bias", "low", "scores")}[mask]
    nodes = [
        Node("Concat", ("past_k", "k"), ("keys",), {"axis": 2}, "join_k", "", 18),
        Node("Concat", ("past_v", "v"), ("values",), {"axis": 2}, "join_v", "", 18),
        Node("Transpose", ("keys",), ("turned",), {"perm": [0, 1, 3, 2]}, "turn", "", 18),
        Node("MatMul", ("q", "turned"), ("scores",), {}, "product", "", 18),
        Node("Add" if mask == "Add" else "Where", chosen, ("masked",), {}, "mask", "", 18),
        Node("Softmax", ("masked",), ("shares",), {"axis": -1}, "softmax", "", 18),
        Node("MatMul", ("shares", "values"), ("y",), {}, "sums", "", 18),
    ]
    caches = tuple(Cache(f"past_{x}", name, past + 64) for x, name in (("k", "keys"), ("v", "values")))
    inputs, constants = ("q", "k", "v", "bias", "filled"), {"low": np.array(-1e9, np.float32)}
    return Graph("g", inputs, ("y",), tuple(nodes), constants, types, caches=caches, filled="filled" if kept else "")


def fused(graph: Graph) -> tuple[list[Node], list[Attention]]:
    """The nodes that replace the attention, and what was asked of it."""
    asked: list[Attention] = []
    found = attention(graph, lambda a: bool(asked.append(a)) or True)
    return [n for n in found.nodes if n.domain == "dlpack"], asked


@pytest.mark.parametrize(("past", "counted"), [(256, 256), (300, 256), (64, 64), (63, 0)])
def test_whole_parts_of_the_past_are_counted(past: int, counted: int) -> None:
    """The rest is read always, as are the rows of a run."""
    *counts, node = fused(cached(past, 4))[0]
    assert [n.attrs["past"] for n in counts] == ([counted] if counted else [])
    assert node.inputs == ("q", "turned", "values", "bias", *(n.outputs[0] for n in counts))
    assert node.attrs.get("past", 0) == counted


@pytest.mark.parametrize(("mask", "hides"), [("Where", False), ("hides", True)])
def test_a_mask_may_choose_scores(mask: str, hides: bool) -> None:
    (_, node), (asked,) = fused(cached(128, 2, mask))
    assert (node.attrs["hides"], node.attrs["hidden"], node.inputs[3]) == (hides, -1e9, "bias")
    assert asked == Attention(2, 2, 130, 8, 8, cached=True, chosen=True)


def test_without_a_mask_of_tokens_all_rows_are_read() -> None:
    (node,), (asked,) = fused(cached(128, 2, kept=False))
    assert node.inputs == ("q", "turned", "values", "bias") and not asked.cached


def test_a_cache_is_read_by_one_kernel_on_all_machines_with_vectors() -> None:
    token = Attention(4, 1, 257, 64, 64, cached=True)
    assert [fuses(token, m) for m in (AVX512, NEON, WASM, SCALAR)] == [True, True, True, False]
    assert not fuses(replace(token, cached=False), AVX512)
