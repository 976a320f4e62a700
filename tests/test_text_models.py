"""Bundles with a tokenizer: found beside the model, checked against it, and called from Python and JavaScript."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from conftest import requires_module, requires_tool
from manifest_schema import problems
from onnx import TensorProto, helper, numpy_helper
from pages import played
from wasm_bundles import node_json

import dlpack
from dlpack.cli import cli
from dlpack.errors import UsageError
from dlpack.meaning.shape_sets import Buckets
from dlpack.pipeline import Options, Progress, build

RECORDED = json.loads(gzip.decompress((Path(__file__).parent / "texts" / "recorded.json.gz").read_bytes()))
TOKENIZER: dict[str, Any] = RECORDED["kinds"]["bert_cased"]["tokenizer"]
"""WordPiece with [CLS] and [SEP] around a text."""

SIZE = 4
ROWS = len(TOKENIZER["model"]["vocab"])
TABLE = np.random.default_rng(5).standard_normal((ROWS, SIZE)).astype(np.float32)
TEXT = "All human beings"
LONG = "All human beings are born free and equal in dignity and rights."


def encoder(rows: int = ROWS) -> onnx.ModelProto:
    """Looks up each token, adds its type, and leaves nothing of tokens that are masked."""
    node, names = helper.make_node, ("input_ids", "attention_mask", "token_type_ids")
    nodes = [
        node("Gather", ["table", "input_ids"], ["rows"]),
        node("Unsqueeze", ["token_type_ids", "axis"], ["types"]),
        node("Cast", ["types"], ["real_types"], to=TensorProto.FLOAT),
        node("Add", ["rows", "real_types"], ["typed"]),
        node("Unsqueeze", ["attention_mask", "axis"], ["mask"]),
        node("Cast", ["mask"], ["real_mask"], to=TensorProto.FLOAT),
        node("Mul", ["typed", "real_mask"], ["last_hidden_state"]),
    ]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info(name, TensorProto.INT64, [1, "sequence"]) for name in names],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [1, "sequence", SIZE])],
        [numpy_helper.from_array(TABLE[:rows], "table"), numpy_helper.from_array(np.array([2]), "axis")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def options(**more: Any) -> Options:
    """For texts of 8 and of 16 tokens."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    more.setdefault("buckets", Buckets("input_ids", (8, 16)))
    return Options(text_bytes=200, ranges={name: (0, 1) for name in names}, **more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as sentence-transformers has it: mean of the tokens, of length 1."""
    where = tmp_path_factory.mktemp("text") / "sentences"
    (where / "onnx").mkdir(parents=True)
    (where / "1_Pooling").mkdir()
    onnx.save(encoder(), where / "onnx" / "model.onnx")
    (where / "tokenizer.json").write_text(json.dumps(TOKENIZER), encoding="utf-8")
    pooling = {"word_embedding_dimension": SIZE, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    (where / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    modules = [{"type": f"sentence_transformers.models.{name}"} for name in ("Transformer", "Pooling", "Normalize")]
    (where / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    return where


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    return build(folder / "onnx" / "model.onnx", folder.parent / "native", options())


def expected(ids: list[int]) -> np.ndarray:
    mean = TABLE[ids].astype(np.float64).mean(0)
    return mean / np.linalg.norm(mean)


def test_a_text_is_embedded_as_its_folder_says(bundle: Path) -> None:
    requires_module("jsonschema")
    with dlpack.load(bundle) as predictor:
        for text in (TEXT, "born", TEXT, ""):  # through both sets of shapes, and back
            ids = predictor.tokenize(text)
            assert predictor.embed(text) == pytest.approx(expected(ids), abs=1e-6)
            assert predictor.inputs["input_ids"][1] == (1, 8 if len(ids) <= 8 else 16)
        assert predictor.manifest["embedding"] == {
            "output": "last_hidden_state", "size": SIZE, "tokens": 16, "pooling": "mean", "normalize": True,
        }  # fmt: skip
        assert problems(predictor.manifest) == []
        assert predictor.detokenize(predictor.tokenize("human beings")) == "human beings"


def test_a_text_with_too_many_tokens_is_refused_or_cut(bundle: Path) -> None:
    with dlpack.load(bundle) as predictor:
        ids = predictor.tokenize(LONG)
        assert len(ids) > 16
        with pytest.raises(UsageError, match="more than the 16 tokens"):
            predictor.embed(LONG)
        cut = [*ids[:15], ids[-1]]
        assert predictor.embed(LONG, cut=True) == pytest.approx(expected(cut), abs=1e-6)
        assert predictor.embed(LONG + " é" * 300, cut=True) == pytest.approx(expected(cut), abs=1e-6)
        with pytest.raises(UsageError, match="201 bytes is too long"):
            predictor.tokenize("a" * 201)


def test_python_checks_its_arguments(bundle: Path) -> None:
    with dlpack.load(bundle) as predictor:
        with pytest.raises(TypeError, match="str or bytes"):
            predictor.tokenize(5)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="no id of a token"):
            predictor.detokenize([-1])
        assert predictor.tokenize(b"human \xff") == predictor.tokenize("human \ufffd")
        assert predictor.detokenize_next([], predictor.tokenize("human", special=False)[0]) != ""


@pytest.fixture(scope="module")
def wasm(folder: Path) -> Path:
    return build(folder / "onnx" / "model.onnx", folder.parent / "wasm", options(target="wasm", verify=False))


def test_the_page_compares_texts(wasm: Path, bundle: Path) -> None:
    """The most similar first; a text that is too long is refused, or cut where the page is asked to."""
    seen = played("similar", wasm, TEXT, "dignity\nAll human\n\nAll human beings", LONG)
    with dlpack.load(bundle) as predictor:
        one, *others = (predictor.embed(text) for text in (TEXT, "dignity", "All human", TEXT))
    scores = sorted((float(one @ other) for other in others), reverse=True)
    assert [float(score) for _, score in seen["shown"]["rows"]] == pytest.approx(scores, abs=6e-4)
    assert seen["shown"]["rows"][0] == [TEXT, "1.000"] and len(seen["cut"]["rows"]) == 1
    assert "too long" in seen["refused"]["status"] and seen["refused"]["rows"] == []
    assert "type a text" in seen["empty"]["status"]


def test_javascript_gives_the_same(wasm: Path, bundle: Path) -> None:
    requires_tool("node")
    script = """
      const { TextModel } = await import(`file://${process.argv[1]}/node.js`);
      const model = await TextModel.load(process.argv[1]);
      const [text, long] = JSON.parse(process.argv[2]);
      const caught = (f) => { try { f(); } catch (e) { return e.message; } };
      const ids = model.tokenize(text);
      console.log(JSON.stringify({
        ids, plain: model.tokenize(text, { special: false }), empty: model.tokenize(""),
        text: model.detokenize(ids), whole: model.detokenize(ids, { special: true }),
        next: ids.map((id, i) => model.detokenizeNext(ids.slice(0, i), id)).join("") + model.detokenizeNext(ids, null),
        embedding: [...model.embed(text)], cut: [...model.embed(long, { cut: true })],
        errors: [() => model.embed(long), () => model.tokenize("a".repeat(201)), () => model.detokenize([-1])]
          .map(caught),
      }));
    """
    got = node_json(script, wasm, json.dumps([TEXT, LONG]))
    with dlpack.load(bundle) as predictor:
        ids = predictor.tokenize(TEXT)
        assert (got["ids"], got["plain"]) == (ids, predictor.tokenize(TEXT, special=False))
        assert (got["text"], got["next"]) == (predictor.detokenize(ids),) * 2
        assert (got["whole"], got["empty"]) == (predictor.detokenize(ids, special=True), predictor.tokenize(""))
        assert got["embedding"] == pytest.approx(predictor.embed(TEXT).tolist(), abs=1e-6)
        assert got["cut"] == pytest.approx(predictor.embed(LONG, cut=True).tolist(), abs=1e-6)
    assert ["too long" in got["errors"][0], "too long" in got["errors"][1], "no id" in got["errors"][2]] == [True] * 3


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    onnx.save(encoder(rows=100), tmp_path / "model.onnx")
    (tmp_path / "tokenizer.json").write_text(json.dumps(TOKENIZER), encoding="utf-8")
    one = {name: (1, 8) for name in ("input_ids", "attention_mask", "token_type_ids")}
    with pytest.raises(UsageError, match=r"does not fit the model: its ids go up to 871.*below 100"):
        build(
            tmp_path / "model.onnx",
            tmp_path / "out",
            options(tokenizer=tmp_path / "tokenizer.json", shapes=one, buckets=None),
        )
    warnings: list[str] = []
    given = options(target="source", shapes=one, buckets=None)
    out = build(tmp_path / "model.onnx", tmp_path / "out", given, Progress(warn=warnings.append))
    assert "tokenizer" not in json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert any("is not used" in text and "does not fit" in text for text in warnings)


POOLING = {"mean": {"pooling_mode_mean_tokens": True}, "named": {"pooling_mode": "mean", "include_prompt": True},
           "weighted": {"pooling_mode_weightedmean_tokens": True}}  # fmt: skip


@pytest.mark.parametrize(
    ("pooling", "modules", "said"),
    [
        ("mean", ["Transformer", "Pooling", "Dense", "Normalize"], "the module Dense"),
        ("weighted", ["Transformer", "Pooling"], "pooling pooling_mode_weightedmean_tokens"),
        ("named", ["Transformer", "Pooling", "Dropout", "Normalize"], ""),
    ],
)
def test_what_sentence_transformers_do_besides_is_not_left_out(
    pooling: str, modules: list[str], said: str, tmp_path: Path
) -> None:
    onnx.save(encoder(), tmp_path / "model.onnx")
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "tokenizer.json").write_text(json.dumps(TOKENIZER), encoding="utf-8")
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(POOLING[pooling]), encoding="utf-8")
    listed = [{"type": f"sentence_transformers.models.{name}"} for name in modules]
    (tmp_path / "modules.json").write_text(json.dumps(listed), encoding="utf-8")
    warnings: list[str] = []
    given = options(target="source", verify=False)
    out = build(tmp_path / "model.onnx", tmp_path / "out", given, Progress(warn=warnings.append))
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert "tokenizer" in manifest and ("embedding" in manifest) is not bool(said)
    assert any(said in text and "no embed()" in text for text in warnings) is bool(said)
    given = options(target="source", verify=False, embedding="mean")
    assert "embedding" in json.loads((build(tmp_path / "model.onnx", out, given) / "manifest.json").read_text())


def test_options_that_cannot_be_are_errors(tmp_path: Path) -> None:
    onnx.save(encoder(), tmp_path / "model.onnx")
    (tmp_path / "damaged.json").write_text('{"model": {"type": "BPE"', encoding="utf-8")
    shapes = [a for name in ("input_ids", "attention_mask", "token_type_ids") for a in ("--shape", f"{name}=1x8")]
    for words, said in (
        (["--tokenizer", tmp_path / "damaged.json"], "tokenizer.json: it is not JSON"),
        (["--tokenizer", tmp_path / "missing.json"], "cannot be read"),
        (["--embedding", "mean"], "--embedding needs a tokenizer"),
    ):
        result = CliRunner().invoke(
            cli, ["build", str(tmp_path / "model.onnx"), *map(str, words), *shapes, "-o", str(tmp_path / "o")]
        )
        assert said in result.output and "Traceback" not in result.output
        assert result.exit_code in (2, 3)
