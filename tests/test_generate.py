"""Decoders that generate text: the cache in the predictor, reading and writing tokens in C, Python and JavaScript."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from conftest import requires_tool, skip_or_fail
from decoders import Decoder, Grown
from manifest_schema import problems
from onnx import ModelProto, TensorProto, helper
from processes import run

import dlpack
from dlpack.bundle.generating import Sampler
from dlpack.bundle.read import read_kernels
from dlpack.errors import FullError, UnsupportedError, UsageError
from dlpack.graph.bytes import read_as_bytes
from dlpack.graph.ir import Graph, Node, TensorType
from dlpack.graph.packed import _packed, packed_weights
from dlpack.meaning.generation import BLOCK, Generation, generation_of
from dlpack.meaning.shape_sets import sets_of
from dlpack.pipeline import Options, build
from dlpack.targets.wasm.run import node_command
from dlpack.verify.check import verify_bundle

CONTEXT = 40
NET = Decoder(layers=1, width=24, heads=4, kv=2, hidden=20, vocabulary=37, seed=5)
TEXT = [int(t) for t in np.random.default_rng(3).integers(0, 37, CONTEXT + 1)]
PROMPT = TEXT[: BLOCK + 3]
SAMPLING: dict[str, Any] = {"temperature": 1.5, "top_k": 20, "top_p": 0.9, "seed": 2**63 + 11}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("decoders")


@pytest.fixture(scope="module")
def net(folder: Path) -> Path:
    path = folder / "net.onnx"
    onnx.save(replace(NET).model(), path)
    return path


@pytest.fixture(scope="module")
def bundle(net: Path, folder: Path) -> Path:
    return build(net, folder / "native", Options(context=CONTEXT, name="net"))


@pytest.fixture
def predictor(bundle: Path) -> dlpack.Predictor:
    return dlpack.load(bundle)


@pytest.fixture
def grown(net: Path) -> Grown:
    return Grown(onnx.load(net))


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [[CONTEXT], [1] * CONTEXT, [BLOCK, 1, BLOCK + 2, 1, CONTEXT - 2 * BLOCK - 4]])
def test_the_scores_are_those_of_a_growing_past(predictor: dlpack.Predictor, grown: Grown, parts: list[int]) -> None:
    """However the text is cut in parts, up to a full cache."""
    wanted = grown.read(TEXT[:CONTEXT])
    at = 0
    for part in parts:
        predictor.append(TEXT[at : at + part])
        at += part
        scores = predictor.scores()
        assert scores is not None and np.abs(scores - wanted[at - 1]).max() < 1e-5 * np.abs(wanted).max()
    assert predictor.length == CONTEXT


def test_a_text_goes_on_where_it_was_cut(predictor: dlpack.Predictor, grown: Grown) -> None:
    predictor.append(TEXT[:30])
    predictor.rewind(9)
    assert predictor.length == 9 and predictor.scores() is None
    predictor.append(TEXT[20:25])
    scores = predictor.scores()
    assert scores is not None
    np.testing.assert_allclose(scores, grown.read([*TEXT[:9], *TEXT[20:25]])[-1], atol=1e-5)
    predictor.reset()
    assert predictor.length == 0 and predictor.scores() is None
    with pytest.raises(ValueError, match="has 0 tokens, not 1"):
        predictor.rewind(1)


def test_a_row_is_all_that_a_token_copies(bundle: Path, predictor: dlpack.Predictor) -> None:
    """Nothing reads or writes a whole cache but the products; a copy is of one row."""
    kernels = {k["name"]: k["computes"] for k in read_kernels(bundle)}
    predictor.append([1])
    moves = [kernels[s] for s in predictor.steps if "copy" in s or "reshape" in s or "expand" in s]
    assert moves and not [m for m in moves if str(CONTEXT) in m or str(CONTEXT + 1) in m]


# --- writing ---------------------------------------------------------------------------------------------------------


def test_the_likeliest_tokens_are_onnxruntimes(predictor: dlpack.Predictor, grown: Grown) -> None:
    wanted = grown.greedy(PROMPT, 15)
    assert predictor.generate(PROMPT, 15) == wanted == list(predictor.tokens(PROMPT, 15))
    assert predictor.generate(PROMPT[:-2], 0) == []
    assert predictor.generate(PROMPT[-2:], 15, keep=True) == wanted
    assert predictor.length == len(PROMPT) + 15
    first = predictor.generate(PROMPT, 4)
    assert first + predictor.generate([], 11, keep=True) == wanted  # the fourth is part of the text


def test_a_seed_gives_the_same_tokens(predictor: dlpack.Predictor) -> None:
    first = predictor.generate(PROMPT, 15, **SAMPLING)
    assert predictor.generate(PROMPT, 15, **SAMPLING) == first == list(predictor.tokens(PROMPT, 15, **SAMPLING))
    assert predictor.generate(PROMPT, 15, **{**SAMPLING, "seed": 1}) != first
    assert predictor.generate(PROMPT, 15, **{**SAMPLING, "top_k": 1}) == predictor.generate(PROMPT, 15)


def test_stop_tokens_and_callbacks_end_a_text(predictor: dlpack.Predictor) -> None:
    whole = predictor.generate(PROMPT, 15, **SAMPLING)
    stop = whole[6]
    assert predictor.generate(PROMPT, 15, stop=[stop, 36], **SAMPLING) == whole[: whole.index(stop)]
    seen: list[int] = []

    def enough(token: int) -> bool:
        seen.append(token)
        return len(seen) == 3

    assert predictor.generate(PROMPT, 15, on_token=enough, **SAMPLING) == seen == whole[:3]
    with pytest.raises(ZeroDivisionError):
        predictor.generate(PROMPT, 15, on_token=lambda t: 1 // 0)


def chances(scores: np.ndarray, temperature: float, top_k: int, top_p: float) -> np.ndarray:
    """The chance of each token, by the definition in NAME.h."""
    order = np.argsort(-scores, kind="stable")
    p = np.exp((scores - scores.max()).astype(np.float64) / temperature)
    order = order[: top_k or None]
    shares = np.cumsum(p[order]) / p[order].sum()
    kept = order[: int(np.searchsorted(shares, top_p)) + 1]
    out = np.zeros_like(p)
    out[kept] = p[kept] / p[kept].sum()
    return out


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (2.0, 5, 1.0), (3.0, 0, 0.5), (3, 12, 0.7)])
def test_tokens_are_drawn_by_their_chances(
    predictor: dlpack.Predictor, temperature: float, top_k: int, top_p: float
) -> None:
    predictor.append(PROMPT)
    scores = predictor.scores()
    assert scores is not None
    sampler, count = Sampler(temperature, top_k, top_p, 7), 3000
    drawn = np.bincount([predictor.sample(sampler) for _ in range(count)], minlength=37)
    wanted = chances(scores, temperature, top_k, top_p)
    assert not drawn[wanted == 0].any()
    assert (np.abs(drawn - count * wanted) <= 5 * np.sqrt(count * wanted) + 1).all()


# --- wrong use -------------------------------------------------------------------------------------------------------


def test_a_full_cache_is_an_error_with_the_tokens_so_far(predictor: dlpack.Predictor, grown: Grown) -> None:
    with pytest.raises(FullError, match=f"longer than the {CONTEXT} tokens.*--context") as error:
        predictor.generate(TEXT)
    assert error.value.tokens == () and predictor.length == 0
    prompt = TEXT[: CONTEXT - 3]
    wanted = grown.greedy(prompt, 4)
    for write in (predictor.generate, lambda *a: list(predictor.tokens(*a))):
        with pytest.raises(FullError) as error:
            write(prompt, 9)
        assert list(error.value.tokens) == wanted
    assert predictor.generate(prompt, 4) == wanted
    with pytest.raises(FullError):
        predictor.append([1])


def test_wrong_tokens_and_numbers_are_refused(bundle: Path, predictor: dlpack.Predictor) -> None:
    predictor.append([3])
    for call, said in (
        (lambda: predictor.append([1, 37]), r"the token 37; the model's are 0 to 36"),
        (lambda: predictor.generate([-1]), "the token -1"),
        (lambda: predictor.generate([0.5]), "whole numbers, not float64"),
        (lambda: predictor.generate([1], stop=[40]), "stop has the token 40"),
        (lambda: predictor.accept(37), "the token 37"),
        (lambda: predictor.generate([1], -1), "at least 0"),
        (lambda: predictor.generate([1], temperature=float("nan")), "temperature nan"),
        (lambda: predictor.generate([1], top_k=-1), "top_k -1"),
        (lambda: predictor.generate([1], top_p=0), "top_p 0"),
        (lambda: predictor.generate([]), "the prompt is empty"),
        (lambda: dlpack.load(bundle).sample(), "no text to go on from"),
    ):
        with pytest.raises(ValueError, match=said):
            call()


def test_other_models_generate_nothing(digits: Path) -> None:
    with pytest.raises(UsageError, match="does not generate text"):
        dlpack.load(digits).generate([1])
    with pytest.raises(UnsupportedError, match=r"--context 8: the model has no past_key_values"):
        generation_of(helper.make_model(helper.make_graph([], "g", [], [])), 8, {})


# --- C and JavaScript ------------------------------------------------------------------------------------------------

PROGRAM = r"""
#include <stdio.h>
#include "net.h"
static int32_t on_token(void* user, int64_t token) { printf("%d ", (int)token); return --*(int*)user == 0; }
int main(void) {
  static const int64_t prompt[] = {PROMPT}, wrong[] = {1, 37}, stop[] = {STOP};
  const size_t count = sizeof prompt / sizeof *prompt;
  net_predictor* p = 0;
  int64_t tokens[NET_CONTEXT + 1], token = 0;
  size_t made = 9;
  int left = 5;
  net_sampler s = {1.5f, 20, 0.9f, 9223372036854775819u}, odd = {-1, 0, 1, 0};
  if (net_create(&p, 0, 0, 0, 0) != NET_OK) return 1;
  if (net_sample(p, 0, &token) != NET_BAD_ARGUMENT || net_scores(p)) return 2;
  if (net_generate(p, prompt, 0, 4, 0, 0, 0, 0, 0, tokens, &made) != NET_BAD_ARGUMENT || made) return 3;
  if (net_append(p, wrong, 2) != NET_BAD_ARGUMENT || net_append(0, prompt, 1) != NET_BAD_ARGUMENT) return 4;
  if (net_append(p, 0, 1) != NET_BAD_ARGUMENT || net_length(p) || net_rewind(p, 1) != NET_BAD_ARGUMENT) return 5;
  if (net_generate(p, prompt, count, 15, &s, 0, 0, on_token, &left, 0, &made) != NET_OK || made != 5) return 6;
  if (net_sample(p, &odd, &token) != NET_BAD_ARGUMENT || net_accept(p, 37) != NET_BAD_ARGUMENT) return 7;
  if (net_reset(p) != NET_OK || net_length(p)) return 8;
  s.seed = 9223372036854775819u;
  if (net_generate(p, prompt, count, 15, &s, stop, 1, 0, 0, tokens, &made) != NET_OK) return 9;
  for (size_t k = 0; k < made; ++k) printf("%d ", (int)tokens[k]);
  if (net_generate(p, prompt, 1, 99, 0, 0, 0, 0, 0, 0, &made) != NET_FULL) return 10;
  if (net_length(p) != NET_CONTEXT + 1) return 12;
  if (net_append(p, 0, 0) != NET_FULL || net_append(p, prompt, 1) != NET_FULL) return 11;
  printf("%s", net_error_text(NET_FULL));
  net_destroy(p);
  return 0;
}
"""


def test_a_c_program_writes_the_same(bundle: Path, predictor: dlpack.Predictor, tmp_path: Path) -> None:
    whole = predictor.generate(PROMPT, 15, **SAMPLING)
    stop = whole[9]
    text = PROGRAM.replace("PROMPT}", f"{', '.join(map(str, PROMPT))}}}").replace("STOP", str(stop))
    (tmp_path / "main.c").write_text(text)
    c, cxx, warnings = requires_tool("gcc"), requires_tool("g++"), ("-Wall", "-Wextra", "-Werror")
    for command in (
        [cxx, "-std=c++17", "-O1", "-march=native", *warnings, "-c", bundle / "net.cc", "-o", "net.o"],
        [c, "-std=c11", *warnings, f"-I{bundle}", "main.c", "net.o", "-o", "main"],
    ):
        done = run(command, cwd=tmp_path, limit_s=120)
        assert done.returncode == 0, done.stderr
    done = run([tmp_path / "main"], cwd=tmp_path)
    assert done.returncode == 0, done.returncode
    *tokens, told = done.stdout.split(" ", 5 + whole.index(stop))
    assert [int(t) for t in tokens] == whole[:5] + whole[: whole.index(stop)]
    assert told.startswith("the text is as long as it can get")


SCRIPT = """
const { Decoder } = await import(`file://${process.argv[2]}/node.js`);
const { prompt, text, sampling } = JSON.parse(process.argv[3]);
const decoder = await Decoder.load(process.argv[2]);
const options = { ...sampling, seed: BigInt(sampling.seed), maxTokens: 15 };
const told = async (work) => { try { return await work(); } catch (e) { return [e.message, e.tokens ?? null]; } };
const list = async (tokens) => { const found = []; for await (const t of tokens) found.push(t); return found; };
const control = new AbortController();
const stopped = async () => {
  for await (const t of decoder.tokens(prompt, { signal: control.signal })) control.abort(new Error("enough"));
};
const results = [];
for (const work of [
  () => decoder.generate(prompt, { maxTokens: 15 }),
  () => decoder.generate(prompt, options),
  () => list(decoder.tokens(prompt, options)),
  () => decoder.generate(prompt, { ...options, onToken: () => true }),
  async () => [decoder.length, ...(await decoder.generate([], { ...options, maxTokens: 0, keep: true }))],
  async () => { decoder.reset(); await decoder.append(text.slice(0, 33)); return Array.from(decoder.scores()); },
  () => decoder.generate(text.slice(0, 37), { maxTokens: 9 }),
  () => decoder.append(text),
  () => decoder.generate([1, 37]),
  () => decoder.generate([1], { topP: 2 }),
  () => decoder.generate([]),
  stopped,
]) results.push(await told(work));
const again = await decoder.predictor.run(Object.fromEntries(decoder.predictor.inputs.map((t) => [t.name,
  new Array(t.shape.reduce((n, d) => n * d, 1)).fill(1)])));
console.log(JSON.stringify([...results, Object.keys(again)]));
"""


def test_javascript_writes_the_same(net: Path, folder: Path, predictor: dlpack.Predictor, grown: Grown) -> None:
    if not node_command():
        skip_or_fail("node is not installed")
    wasm = build(net, folder / "wasm", Options("wasm", context=CONTEXT, name="net", verify=False))
    (folder / "main.mjs").write_text(SCRIPT)
    sampling = {"temperature": 1.5, "topK": 20, "topP": 0.9, "seed": str(SAMPLING["seed"])}
    given = json.dumps({"prompt": PROMPT, "text": TEXT, "sampling": sampling})
    done = run([*node_command(), folder / "main.mjs", wasm, given], limit_s=60)
    assert done.returncode == 0, done.stderr
    likeliest, drawn, listed, first, kept, scores, full, long, wrong, odd, empty, stopped, names = json.loads(
        done.stdout
    )
    assert likeliest == predictor.generate(PROMPT, 15)
    assert drawn == listed == predictor.generate(PROMPT, 15, **SAMPLING) and first == drawn[:1]
    assert kept == [len(PROMPT) + 1]
    np.testing.assert_allclose(scores, grown.read(TEXT[:33])[-1], atol=1e-5)
    assert "longer than the 40 tokens" in full[0] and full[1] == predictor.generate(TEXT[:37], 4)
    assert "longer than" in long[0] and "37 is no token" in wrong[0] and "topP 2" in odd[0]
    assert "the prompt is empty" in empty[0] and stopped[0] == "enough" and names == ["logits"]
    manifest = json.loads((wasm / "manifest.json").read_text())
    assert manifest["task"] == {"kind": "generate"} and problems(manifest) == []
    assert (wasm / "source" / "decoder.js").exists()


# --- builds ----------------------------------------------------------------------------------------------------------


def test_a_bundle_is_verified_with_its_model(bundle: Path, net: Path) -> None:
    stored, now = verify_bundle(bundle), verify_bundle(bundle, net)
    assert len(stored) == len(now) == 2 and all(e.passed for e in (*stored, *now))


def test_the_shortest_cache_that_a_text_fits_into_is_read() -> None:
    wide = generation_of(replace(NET).model(), 2048, {})
    assert isinstance(wide, Generation)
    assert (
        wide.sizes == ((1, 128), (1, 512), (1, 2048), (BLOCK, 2048), (64, 128), (64, 2048)) and wide.room == 2048 + 64
    )
    small = generation_of(replace(NET).model(), 1, {})
    assert small is not None and small.sizes == ((1, 1),) and small.room == 2


def test_caches_of_several_sizes(tmp_path: Path) -> None:
    net = Decoder(layers=1, width=8, heads=2, kv=2, hidden=300, vocabulary=11, seed=2)
    model = net.model()
    onnx.save(model, tmp_path / "small.onnx")
    large = dlpack.load(build(tmp_path / "small.onnx", tmp_path / "large", Options(context=512)))
    assert [s["outputs"][0]["shape"] for s in sets_of(large.manifest)] == [[1, 1, 11]] * 5
    wide = [k["schedule"] for k in read_kernels(tmp_path / "large") if k["computes"].endswith("x300]")]
    assert len({text.partition(" x ")[2] for text in wide}) > 1, "one row wants wider tiles than a block of rows"
    stored = sum(math.prod(t.dims) * 4 for t in model.graph.initializer if t.data_type == TensorProto.FLOAT)
    masks = sum(rows * (slots + rows) for rows, slots in ((1, 128), (1, 512), (16, 512), (64, 128), (64, 512)))
    assert large.manifest["weights_bytes"] < stored + masks + 2 * 8 * 300 * 4, "both read the same three of 8 x 300"
    text = [int(t) for t in np.random.default_rng(1).integers(0, 11, 300)]
    grown, sets = Grown(model), []
    for part in (text[:127], text[127:128], text[128:130], text[130:131], text[131:170], text[170:]):
        large.append(part)
        scores = large.scores()
        assert scores is not None
        np.testing.assert_allclose(scores, grown.read(part)[-1], atol=2e-5)
        sets.append(large.shape)
    assert sets == [2, 0, 2, 1, 2, 2]  # a large block with the rest, 127 = 64 + 3 * 16 + 15, 39 = 2 * 16 + 7
    assert large.manifest["decoder"]["block"] == 64
    large.rewind(0)
    large.append(text[:64])
    scores = large.scores()
    assert scores is not None and large.shape == 3
    np.testing.assert_allclose(scores, Grown(model).read(text[:64])[-1], atol=2e-5)


def test_weights_of_few_bits_stay_few_bits(tmp_path: Path) -> None:
    model = Decoder(layers=1, width=32, heads=2, kv=2, hidden=32, vocabulary=11, positions=16, bits=4).model()
    onnx.save(model, tmp_path / "net.onnx")
    predictor = dlpack.load(build(tmp_path / "net.onnx", tmp_path / "bundle", Options(context=1)))
    assert predictor.generate([4], 1) == Grown(model).greedy([4], 1)
    products = [s for s in predictor.steps if "block_matmul" in s]
    packed = 7 * 32 * 32  # the scores have fewer weights than are worth it
    assert len(products) == 7 and predictor.manifest["weights_by_type"]["uint8"] >= packed // 2
    if "nibble_place<16>" in (tmp_path / "bundle" / "net.cc").read_text():
        packed //= 2  # AVX-512; other machines have a byte for each
    assert packed <= predictor.manifest["prepared_bytes"] < 1.2 * packed


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("block", [16, 64])
def test_bytes_times_scales_are_the_weights(block: int, zeros: bool) -> None:
    rng = np.random.default_rng(block)
    weight = rng.integers(0, 16, (64, 6)).astype(ml_dtypes.uint4)
    scales = rng.uniform(1, 2, (64 // block, 6)).astype(np.float32)
    constants = {"w": weight.astype(np.uint8), "s": scales, "z": rng.integers(0, 16, scales.shape).astype(np.uint8)}
    types = {"w": TensorType("uint4", (64, 6)), "s": TensorType("float32", scales.shape),
             "z": TensorType("uint4", scales.shape), "x": TensorType("float32", (1, 64)),
             "v": TensorType("float32", (64, 6)), "y": TensorType("float32", (1, 6))}  # fmt: skip
    attrs = {"axis": 0, "block_size": block}
    nodes = (
        Node("DequantizeLinear", ("w", "s", "z") if zeros else ("w", "s"), ("v",), attrs, "dq", opset=21),
        Node("MatMul", ("x", "v"), ("y",), {}, "product", opset=21),
    )
    graph, packed = packed_weights(Graph("g", ("x",), ("y",), nodes, constants, types))
    graph, packed = read_as_bytes(graph, {"v": _packed(nodes[0], Graph("g", (), (), nodes, constants, types))} | packed)
    (product,) = graph.nodes
    _, codes, scale = product.inputs
    numbers = constants["w"].astype(np.float32) - np.repeat(constants["z"] if zeros else 0 * scales, block, axis=0)
    wanted = numbers * np.repeat(scales, block, axis=0)
    made = graph.constants[codes] * graph.constants[scale][:, None]
    np.testing.assert_array_equal(made.reshape(64, 6), wanted)
    np.testing.assert_array_equal(packed[codes].values(), graph.constants[codes])


def broken(change: Callable[[ModelProto], object]) -> ModelProto:
    model = Decoder(layers=1, width=8, heads=2, kv=2, hidden=8, vocabulary=11).model()
    change(model)
    return model


def _reversed_joins(model: ModelProto) -> None:
    for node in model.graph.node:
        if node.name.startswith("join"):
            node.input[:] = reversed(node.input)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (replace(NET, heeded=False).model(), "does not heed its attention_mask"),
        (replace(NET, masked=False).model(), "no attention_mask"),
        (broken(_reversed_joins), "rows of the new tokens behind it"),
        (
            broken(lambda m: m.graph.input.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, [1]))),
            "the further input 'extra'",
        ),
    ],
)
def test_exports_that_would_be_wrong_are_refused(model: ModelProto, said: str, tmp_path: Path) -> None:
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(UnsupportedError, match=said):
        build(tmp_path / "net.onnx", tmp_path / "bundle", Options(context=8))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options(context=0), "1 to"),
        (Options(context=8, shapes={"input_ids": (1, 1)}), "remove --shape"),
        (Options(context=8, maxima={"x": 3}), "does not go together with --max"),
        (Options(context=8, quantize="int8"), "does not go together with --quantize"),
    ],
)
def test_options_that_do_not_go_together(net: Path, options: Options, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        build(net, tmp_path / "bundle", options)


def test_given_shapes_build_the_export_as_it_is(net: Path) -> None:
    shapes = {"input_ids": (1, 1), "attention_mask": (1, 4), "position_ids": (1, 1)}
    assert generation_of(onnx.load(net), None, shapes) is None and generation_of(onnx.load(net), None, {}) is not None
