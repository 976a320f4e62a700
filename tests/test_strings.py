"""Models with strings: every operator against onnxruntime, and how C, Python and JavaScript pass strings."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import requires_module, requires_tool
from onnx import NodeProto, TensorProto, helper, numpy_helper
from processes import run
from wasm_bundles import OPEN, node_json

import dlpack
from dlpack.errors import UnsupportedError
from dlpack.model.regex import NotRegular, automaton, runs
from dlpack.options import Options
from dlpack.verify.runners import run_onnxruntime

ML, MICROSOFT = "ai.onnx.ml", "com.microsoft"
WORDS = [["red", "Größe ß"], ["", "ÉCOLE İzmir ǅ"], ["blue", "a,b,,c"]]
SPLIT = [["a  b c ", "x,,y"], [" lead two", "no"], ["", "p,q,r,s"]]
NUMBERS = [["1", "-2.5"], ["1e3", "none"], [" 7", "3.14159265358979"], ["-iNF", "9223372036854775807"]]


def words(name: str, *texts: str) -> TensorProto:
    return helper.make_tensor(name, TensorProto.STRING, [len(texts)], [t.encode() for t in texts])


def ints(name: str, *values: int) -> TensorProto:
    return numpy_helper.from_array(np.array(values), name)


def ml(op: str, x: str, y: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op, x.split(), [y], domain=ML, **attributes)


def op(name: str, x: str, y: str, **attributes: Any) -> NodeProto:
    return helper.make_node(name, x.split(), y.split(), **attributes)


def model(
    nodes: Sequence[NodeProto],
    inputs: dict[str, tuple[int, list[int]]],
    outputs: str,
    constants: Sequence[TensorProto] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "strings",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs.split()],
        list(constants),
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(ML, 4), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def compare(made: onnx.ModelProto, feeds: dict[str, Any], folder: Path) -> None:
    """Builds the model, which verifies it on words of its own, and compares it with onnxruntime on these."""
    onnx.save(made, folder / "s.onnx")
    with dlpack.load(dlpack.build(folder / "s.onnx", folder / "s")) as p:
        found = p.run(feeds)
    given = {n: np.char.encode(np.array(x), "utf-8") if isinstance(x, list) else x for n, x in feeds.items()}
    for (name, got), want in zip(found.items(), run_onnxruntime(made, given), strict=True):
        wanted = np.char.decode(want, "utf-8") if want.dtype.kind == "S" else want
        assert got.dtype.kind == wanted.dtype.kind, name
        np.testing.assert_array_equal(got, wanted, err_msg=name)


def test_strings_are_moved_and_looked_up(tmp_path: Path) -> None:
    """Views, joins and choices of strings; keys and values of every kind; categories."""
    keys = {"keys_strings": ["red", "blue", "a,b,,c", "red"]}
    nodes = [
        op("Transpose", "x", "t", perm=[1, 0]), op("Reshape", "t six", "r"), op("Gather", "r places", "g", axis=0),
        op("Concat", "g k", "moved", axis=0), op("Slice", "x one two one", "sliced"),
        op("Split", "x", "p q", axis=1, num_outputs=2), op("Squeeze", "p one", "flat"), op("Tile", "x twice", "tiled"),
        op("Equal", "x k", "same"), op("Where", "same x k", "chosen"), op("StringConcat", "x k", "joined"),
        ml("LabelEncoder", "x", "i", values_int64s=[5, 6, 7, 8], default_int64=-7, **keys),
        ml("LabelEncoder", "x", "f", keys_strings=["red", "blue"], values_floats=[0.5, 6.0], default_float=2.5),
        ml("LabelEncoder", "x", "s", keys_strings=["red"], values_strings=["rouge"], default_string="?"),
        ml("LabelEncoder", "i", "of_int", keys_int64s=[5, 6], values_strings=["five", "six"]),
        ml("LabelEncoder", "f", "of_float", keys_floats=[0.5], values_strings=["half"], default_string="other"),
        ml("OneHotEncoder", "x", "hot", cats_strings=["blue", "red", "green"], zeros=1),
        ml("CategoryMapper", "x", "m", cats_strings=["blue", "red"], cats_int64s=[3, 4], default_int64=9),
        ml("ArrayFeatureExtractor", "x one", "column"),
    ]  # fmt: skip
    outputs = "moved sliced q flat tiled same chosen joined i f s of_int of_float hot m column"
    constants = [
        ints("six", 6), ints("places", 4, 0), ints("one", 1), ints("two", 2), ints("twice", 2, 1),
        words("k", "red", "a,b,,c"),
    ]  # fmt: skip
    made = model(nodes, {"x": (TensorProto.STRING, [3, 2])}, outputs, constants)
    made.graph.node[3].input[1] = "long"
    made.graph.initializer.append(words("long", "a string of more bytes than the others", "ü"))
    compare(made, {"x": WORDS}, tmp_path)


def test_strings_are_split_normalised_and_matched(tmp_path: Path) -> None:
    """Parts have the true sizes of a run; letters change their case beyond ASCII; stop words go."""
    tokens = {"domain": MICROSOFT, "mark": 0}
    nodes = [
        op("StringSplit", "y", "p1 c1"), op("StringSplit", "y", "p2 c2", delimiter=","),
        op("StringSplit", "y", "p3 c3", delimiter=",", maxsplit=1), op("StringSplit", "y", "p4 c4", maxsplit=1),
        op("Reshape", "x row", "r"), op("StringNormalizer", "r", "low", case_change_action="LOWER", stopwords=["RED"]),
        op("StringNormalizer", "r", "few", is_case_sensitive=1, stopwords=["red", "RED"]),
        op("StringNormalizer", "few", "up", is_case_sensitive=1, case_change_action="UPPER"),
        op("RegexFullMatch", "x", "match", pattern=r"^([a-z]*(,.*)?|.*[Éß].*)$"),
        op("Tokenizer", "r", "t1", mincharnum=2, pad_value="#", tokenexp="[a-zA-Z0-9_]+", **tokens),
        op("Tokenizer", "r", "t2", mincharnum=1, pad_value="", separators=[" ", ","], **tokens),
        op("TfIdfVectorizer", "r", "grams", mode="TFIDF", min_gram_length=1, max_gram_length=2, max_skip_count=1,
           ngram_counts=[0, 2], ngram_indexes=[0, 1, 2], pool_strings=["red", "blue", "red", ""],
           weights=[1.0, 2.0, 3.0]),
    ]  # fmt: skip
    outputs = "p1 c1 p2 c2 p3 c3 p4 c4 low few up match t1 t2 grams"
    strings = (TensorProto.STRING, [3, 2])
    made = model(nodes, {"x": strings, "y": strings}, outputs, [ints("row", 1, 6)])
    compare(made, {"x": WORDS, "y": SPLIT}, tmp_path)


def test_strings_are_numbers_and_numbers_strings(tmp_path: Path) -> None:
    """What is no number is NaN, and 0 among integers, where onnxruntime would end the run."""
    nodes = [
        op("Cast", "x", "f", to=TensorProto.FLOAT), op("Cast", "x", "d", to=TensorProto.DOUBLE),
        op("Cast", "x", "i", to=TensorProto.INT64), op("Cast", "n", "t", to=TensorProto.STRING),
    ]  # fmt: skip
    inputs = {"x": (TensorProto.STRING, [4, 2]), "n": (TensorProto.INT64, [3])}
    onnx.save(model(nodes, inputs, "f d i t"), tmp_path / "n.onnx")
    with dlpack.load(dlpack.build(tmp_path / "n.onnx", tmp_path / "n")) as p:
        y = p.run({"x": NUMBERS, "n": np.array([0, -(2**63), 2**63 - 1])})
    want = np.array([[1, -2.5], [1000, np.nan], [7, 3.14159265358979], [-np.inf, 2.0**63]])
    np.testing.assert_array_equal(y["d"], want)
    np.testing.assert_array_equal(y["f"], want.astype(np.float32))
    assert y["i"].tolist() == [[1, -2], [0, 0], [7, 3], [0, 2**63 - 1]]
    assert y["t"].tolist() == ["0", "-9223372036854775808", "9223372036854775807"]


def test_what_cannot_be_done_with_strings_is_said(tmp_path: Path) -> None:
    nodes = [
        op("Cast", "n", "t", to=TensorProto.STRING), op("RegexFullMatch", "x", "m", pattern=r"a(?=b).*"),
        op("Tokenizer", "x", "w", domain=MICROSOFT, tokenexp="(ab)+", pad_value="", mark=0, mincharnum=1),
        op("Unique", "x", "u"),
    ]  # fmt: skip
    inputs = {"x": (TensorProto.STRING, [4]), "n": (TensorProto.FLOAT, [3])}
    onnx.save(model(nodes, inputs, "t m w u"), tmp_path / "n.onnx")
    with pytest.raises(UnsupportedError) as told:
        dlpack.build(tmp_path / "n.onnx", tmp_path / "n")
    said = str(told.value)
    assert "strings of floats are not supported" in said and "(RegexFullMatch): the expression a(?=b).*" in said
    assert "runs of characters, such as [a-z]+" in said and "(Unique): it is not supported on strings" in said


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Categories and text through skl2onnx, and the pipeline; the labels are strings."""
    requires_module("skl2onnx")
    requires_module("sklearn")
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import StringTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

    rows = np.array([
        ["red", "small", "the cat sat on the mat"], ["grün", "large", "a dog ate the homework"],
        ["red", "large", "cats and dogs, and mats"], ["blue", "small", "the mat was very very red"],
    ], object)  # fmt: skip
    parts = ColumnTransformer([
        ("hot", OneHotEncoder(handle_unknown="ignore"), [0]),
        ("rank", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), [1]),
        ("text", TfidfVectorizer(ngram_range=(1, 2)), 2),
    ])  # fmt: skip
    pipeline = make_pipeline(parts, LogisticRegression(C=100)).fit(rows, ["yes", "no", "no", "yes"])
    names = ["colour", "size", "text"]
    kinds = [(name, StringTensorType([None, 1])) for name in names]
    made = to_onnx(pipeline, initial_types=kinds, options={"zipmap": False})
    folder = tmp_path_factory.mktemp("strings")
    onnx.save(made, folder / "mixed.onnx")
    shapes = {name: (2, 1) for name in names}
    return dlpack.build(folder / "mixed.onnx", folder / "mixed", Options(shapes=shapes, maxima={"text": 100})), pipeline


ROWS = np.array([["grün", "large", "The DOG, the mat."], ["pink", "small", "red cats"]], object)


def fed(rows: Any) -> dict[str, Any]:
    return {name: rows[:, k : k + 1] for k, name in enumerate(("colour", "size", "text"))}


def test_a_pipeline_of_categories_and_text(mixed: tuple[Path, Any]) -> None:
    """Lists, arrays of str, of objects and of bytes are taken; unknown words and categories count for nothing."""
    bundle, pipeline = mixed
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert [t["dtype"] for t in manifest["inputs"]] == ["S64", "S64", "S100"] and manifest["strings"]
    with dlpack.load(bundle) as p:
        for rows in (ROWS, ROWS.astype(str), np.char.encode(ROWS.astype(str), "utf-8")):
            y = p.run(fed(rows))
            assert y["label"].tolist() == pipeline.predict(ROWS).tolist()
            np.testing.assert_allclose(y["probabilities"], pipeline.predict_proba(ROWS), atol=2e-6)
        assert p.run({n: x.tolist() for n, x in fed(ROWS).items()})["label"].tolist() == y["label"].tolist()
        assert p.run(fed(ROWS), copy=False)["label"].dtype.kind == "S"


def test_python_refuses_what_is_no_string_or_too_long(mixed: tuple[Path, Any]) -> None:
    with dlpack.load(mixed[0]) as p:
        for wrong, kind, told in (
            ("x" * 100, ValueError, "a string of 100 bytes is too long, 99 are possible; build with --max text=101"),
            ("ü" * 50, ValueError, "too long"),
            ("a\0b", ValueError, "has a zero in it"),
            (1.5, TypeError, "takes strings, and one of its elements is 1.5"),
        ):
            rows = ROWS.copy()
            rows[1, 2] = wrong
            with pytest.raises(kind, match=re.escape(told)):
                p.run(fed(rows))


PROGRAM = r"""
#include <stdio.h>
#include "mixed.h"
int main(void) {
  mixed_predictor* p = nullptr;
  if (mixed_create(&p, nullptr, 0, nullptr, 0) != MIXED_OK) return 1;
  char text[101];
  for (int i = 0; i < 101; ++i) text[i] = i < 100 ? 'x' : 0;
  printf("%d %d %d ", mixed_set_string(p, 2, 0, text) == MIXED_TOO_LONG, mixed_set_string(p, 2, 0, text + 1),
         mixed_set_string(p, 2, 2, "a") == MIXED_BAD_ARGUMENT);
  const char* const rows[2][3] = {{"gr\303\274n", "large", "The DOG, the mat."}, {"pink", "small", "red cats"}};
  for (int i = 0; i < 2; ++i)
    for (int k = 0; k < 3; ++k)
      if (mixed_set_string(p, k, i, rows[i][k]) != MIXED_OK) return 2;
  if (mixed_run(p) != MIXED_OK) return 3;
  const char* label = static_cast<const char*>(mixed_output_data(p, 0));
  printf("%s %s %s\n", mixed_output(0)->dtype, label, label + 4);
  mixed_destroy(p);
}
"""


def test_c_sets_strings_and_reads_them(mixed: tuple[Path, Any], tmp_path: Path) -> None:
    bundle, pipeline = mixed
    (tmp_path / "main.cc").write_text(PROGRAM)
    flags = [requires_tool("g++"), "-std=c++17", "-O1", "-march=native", f"-I{bundle}"]
    run([*flags, str(tmp_path / "main.cc"), str(bundle / "mixed.cc"), "-o", str(tmp_path / "main")], check=True)
    labels = " ".join(pipeline.predict(ROWS))
    assert run([str(tmp_path / "main")], check=True).stdout == f"1 0 1 S4 {labels}\n"
    run([*flags, "-DMIXED_SELFTEST", str(bundle / "mixed.cc"), "-o", str(tmp_path / "test")], check=True)
    told = run([str(tmp_path / "test")], check=True).stdout
    assert "label: 2 strings: ok" in told and "WRONG" not in told


def test_javascript_takes_and_gives_strings(tmp_path: Path) -> None:
    made = model(
        [op("StringNormalizer", "x", "y", case_change_action="UPPER", is_case_sensitive=1),
         op("StringSplit", "y", "p c")],
        {"x": (TensorProto.STRING, [2])}, "y p c",
    )  # fmt: skip
    onnx.save(made, tmp_path / "s.onnx")
    bundle = dlpack.build(tmp_path / "s.onnx", tmp_path / "s", Options("wasm", maxima={"x": 32}))  # which verifies it
    script = """
      const p = await Predictor.load(await openBundle(process.argv[1]));
      const { y, p: parts, c } = await p.run({ x: ["größe a", "b"] });
      const told = [];
      for (const wrong of ["x".repeat(32), "a\\0", 5]) {
        try { await p.run({ x: ["", wrong] }); } catch (e) { told.push(e.message); }
      }
      console.log(JSON.stringify([y, parts, p.outputs[1].shape, Array.from(c, Number), told]));"""
    y, parts, shape, counts, told = node_json(OPEN + script, bundle)
    assert (y, parts, shape, counts) == (["GRÖßE A", "B"], ["GRÖßE", "A", "B", ""], [2, 2], [2, 1])
    assert [t.split(" ", 1)[1] for t in told[:1]] == ["has 32 bytes; 31 without a zero are possible"]
    assert "without a zero" in told[1] and told[2] == "the model takes strings, and 5 is none"


@pytest.mark.parametrize(
    "pattern",
    [
        r"[a-z]+\d{2,3}",
        r"(foo|ba[rz])*",
        r".*é[^x]+",
        r"(\W.+\D\S|ü?)",
        r"^[Ω一-龥]{2}?$",
        r"[+-]?\d*\.?\d+",
        r"(\W|^)\b[a-f.]{0,5}\B.(\W|$)",
    ],
)
def test_an_automaton_matches_as_python_does(pattern: str) -> None:
    rng, found = random.Random(1), automaton(pattern)
    some = ["foobar", "abc12", "abc123", ".5", "+1.5", "ΩΩ", "一字", "1é x", "foobaz", "-é\n7", ""]
    texts = some + [
        "".join(rng.choice("abfozr019.éx -+üΩ一字\U0001f600") for _ in range(rng.randrange(7))) for _ in range(500)
    ]
    for text in texts:
        assert found.accepts(text.encode()) == bool(re.fullmatch(pattern.strip("^$"), text, re.ASCII)), text


def test_expressions_that_are_not_regular_are_refused() -> None:
    for pattern in (r"(a)\1", r"a(?=b)", r"(?i)a", r"a{2000}", "("):
        with pytest.raises(NotRegular):
            automaton(pattern)
    takes, least, most = runs(r"[^\s,]{2,}")
    assert (least, most) == (2, 0) and takes[128] and not takes[ord(",")] and not takes[9]
