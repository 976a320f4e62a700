"""The text of the emitted file: only what the model uses, and comments that fit."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest
from conftest import DIGITS

import dlpack
from dlpack.amalgamate.written import written
from dlpack.pipeline import Options, build
from dlpack.plan.memory import Arena
from dlpack.plan.program import Program, ShapeSet


def emitted(folder: Path, **options: object) -> str:
    """The C++ file of the digits example."""
    return (build(DIGITS, folder, Options("source", name="digits", **options)) / "digits.cc").read_text()  # type: ignore


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> str:
    return emitted(tmp_path_factory.mktemp("embedded") / "digits")


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> str:
    return emitted(tmp_path_factory.mktemp("beside") / "digits", weights="file", threads=2)


def test_it_includes_two_headers(embedded: str) -> None:
    """Of the compiler, not of a C library; the self-test, left out by default, prints."""
    assert re.findall(r"#include <(.*)>", embedded.split("[SELF-TEST] ")[0]) == ["stddef.h", "stdint.h"]


def test_the_header_has_the_version_as_text_and_numbers(embedded: str) -> None:
    assert f'#define DIGITS_VERSION "{dlpack.__version__}"\n' in embedded
    found = [re.search(rf"#define DIGITS_VERSION_{part} (\d+)\n", embedded) for part in ("MAJOR", "MINOR", "PATCH")]
    assert [m and m[1] for m in found] == dlpack.__version__.split(".")[:3]


def test_what_maps_weights_is_there_for_a_weights_file(embedded: str, beside: str) -> None:
    for word in ("fingerprint(", "mmap(", "_HOSTED_FILES"):
        assert word not in embedded and word in beside


def test_mxnets_api_is_there_where_it_is_asked_for(tmp_path: Path, embedded: str) -> None:
    """With the option, or in a model that comes from MXNet."""
    assert "MXNET" not in embedded and "MXPred" not in embedded
    asked = emitted(tmp_path / "asked", mxnet_api=True)
    assert "int MXPredCreate(" in asked and "with --mxnet-api." in asked and "[MXNET API]" in asked
    model = onnx.load(DIGITS)
    entry = model.metadata_props.add()
    entry.key, entry.value = "dlpack.source", "MXNet"
    onnx.save(model, tmp_path / "net.onnx")
    folder = build(tmp_path / "net.onnx", tmp_path / "net", Options("source"))
    assert "int MXPredCreate(" in (folder / "net.cc").read_text()


def test_comments_fit_into_100_columns(tmp_path: Path) -> None:
    """Those of the API and of the runtime; and none of the words that say it in a roundabout way."""
    folder = build(DIGITS, tmp_path / "digits", Options("source", name="digits", weights="file", threads=2))
    text = (folder / "digits.cc").read_text()
    runtime = text[text.index("#ifndef DIGITS_H") : text.index("[WEIGHTS] 9")]
    comments = re.findall(r"^ *//[^\n]*|/\*.*?\*/", runtime, re.DOTALL | re.MULTILINE)
    lines = [line for comment in comments for line in comment.split("\n") if not line.startswith("// ===")]
    assert len(lines) > 100
    assert [line for line in lines if len(line) > 100 and "[" not in line] == []
    assert not re.search(r"\b(tells?|told|unless given|hangs? on|shall|surer)\b", "\n".join(lines))


def test_conditions_of_the_runtime_may_be_indented_and_have_an_end() -> None:
    program = Program("net", (ShapeSet((), (), (), Arena({}, 0, 0, 0, "none"), 0, ()),), (), b"")
    text = """\
  if (@name@_kind == 1) {
    //@ shapes
    several();
    //@ end
    //@ one_shape
    //@ threads
    shared();
    //@ end
    one();
    //@ end
  }"""
    assert written(text, program) == "  if (net_kind == 1) {\n    one();\n  }"
    with pytest.raises(ValueError, match="has no end"):
        written("//@ one_shape\none();", program)
