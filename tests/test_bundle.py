"""The bundle: its files, that the same model gives the same bytes, and weights in a file of their own."""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import nets
import numpy as np
import onnx
import pytest
from conftest import DIGITS, requires_tool
from onnx import helper
from processes import run

import dlpack
from dlpack.bundle.loader import read_kernels
from dlpack.bundle.names import c_name
from dlpack.bundle.report import report_html
from dlpack.errors import UsageError, VerificationError
from dlpack.pipeline import Options, Progress, build, build_each
from dlpack.verify.check import verify_bundle


def manifest_of(bundle: Path) -> dict[str, Any]:
    return json.loads((bundle / "manifest.json").read_text())


def contents(bundle: Path) -> dict[str, bytes]:
    files = sorted(p for p in bundle.rglob("*") if p.is_file())
    return {p.relative_to(bundle).as_posix(): p.read_bytes() for p in files}


# --- what is in it ----------------------------------------------------------------------------------------------------


def test_the_files_of_a_native_bundle(digits: Path) -> None:
    m = manifest_of(digits)
    want = {"digits.cc", "digits.h", "manifest.json", "kernels.json", "report.html", "NOTICE", "digits.spdx.json"}
    want |= {"plan.json", "reference.npz"}
    assert {p.name for p in digits.iterdir()} == want | {m["library"]}
    assert os.access(digits, os.R_OK | os.X_OK) and digits.stat().st_mode & 0o777 == 0o755


def test_the_manifest_tells_what_a_program_needs(digits: Path) -> None:
    m = manifest_of(digits)
    assert (m["format"], m["name"], m["target"]) == (1, "digits", "native")
    assert m["inputs"] == [{"name": "image", "dtype": "float32", "shape": [1, 1, 8, 8]}]
    assert m["outputs"] == [{"name": "probability", "dtype": "float32", "shape": [1, 10], "probabilities": True}]
    assert m["model_sha256"] == hashlib.sha256(DIGITS.read_bytes()).hexdigest()
    assert (m["source"], m["header"], m["opset"]) == ("digits.cc", "digits.h", "ai.onnx opset 17")
    assert m["macs"] == 66600 and m["weights_bytes"] >= 85548
    assert m["arena"]["lower_bound"] <= m["arena"]["bytes"] <= m["arena"]["naive"]
    kernels = read_kernels(digits)
    assert all(set(k) == {"name", "computes", "schedule", "macs", "nodes"} for k in kernels)
    assert {n for k in kernels for n in k["nodes"]} >= {"conv1", "conv2", "dense3", "softmax"}
    (error,) = m["verification"]
    assert error["passed"] and error["relative"] <= 1e-4


def test_the_manifest_tells_how_large_the_code_is(digits: Path, side_file_bundle: Path) -> None:
    for bundle in (digits, side_file_bundle):
        told = json.loads((bundle / "manifest.json").read_text())
        embedded = 0 if "weights" in told else told["weights_bytes"]
        assert told["code_bytes"] == (bundle / told["library"]).stat().st_size - embedded
        assert 5_000 < told["code_bytes"] < 30_000


def test_the_files_name_no_path_and_no_user(digits: Path) -> None:
    """Nothing of the machine that built them."""
    for name, data in contents(digits).items():
        for word in (str(digits.parent), str(DIGITS.parent), str(Path.home()) + "/", "/tmp/"):
            assert word.encode() not in data, (name, word)


def test_notice_names_the_licence_and_the_model(digits: Path) -> None:
    text = (digits / "NOTICE").read_text()
    assert "Apache License, Version 2.0" in text and manifest_of(digits)["model_sha256"] in text


def test_the_sbom_is_valid_spdx(digits: Path) -> None:
    from spdx_tools.spdx.parser.parse_anything import parse_file
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

    document = parse_file(str(digits / "digits.spdx.json"))
    assert validate_full_spdx_document(document) == []
    sums = {f.name.removeprefix("./"): {c.algorithm.name: c.value for c in f.checksums} for f in document.files}
    assert {"digits.cc", "digits.h", "manifest.json", "NOTICE"} <= set(sums)
    for name, by_kind in sums.items():
        data = (digits / name).read_bytes()
        assert by_kind == {"SHA1": hashlib.sha1(data).hexdigest(), "SHA256": hashlib.sha256(data).hexdigest()}


def test_the_report_shows_kernels_and_errors(digits: Path) -> None:
    text = (digits / "report.html").read_text()
    m = manifest_of(digits)
    assert all(k["name"] in text and html.escape(k["computes"]) in text for k in read_kernels(digits))
    assert f"{m['verification'][0]['relative']:.3g}" in text and "probability" in text
    assert f"{m['arena']['lower_bound']:,}" in text
    assert "<script" not in text and "http" not in text


def test_the_report_escapes_names(digits: Path) -> None:
    """A model's names are not ours: a tag in one stays text."""
    m, kernels = manifest_of(digits), read_kernels(digits)
    evil = "<script>alert('x')</script>&"
    for part in (m["inputs"][0], m["outputs"][0], kernels[0], m["verification"][0]):
        part["name"] = evil
    kernels[0].update(computes=evil, schedule=evil, nodes=[evil])
    m.update(name=evil, opset=evil)
    text = report_html(m, kernels, [(evil, 1)])
    assert "<script" not in text and html.escape(evil) in text


# --- the same bytes ---------------------------------------------------------------------------------------------------


def test_two_builds_from_two_folders_are_byte_identical(tmp_path: Path, digits: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    copy = Path(shutil.copy(DIGITS, tmp_path / "elsewhere" / "digits.onnx"))
    second = contents(build(copy, tmp_path / "a" / "longer-folder-name"))
    first = contents(digits)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_an_existing_bundle_is_replaced(tmp_path: Path) -> None:
    where = build(DIGITS, tmp_path / "digits", Options("source", name="old"))
    assert (where / "old.cc").exists()
    build(DIGITS, where, Options("source", name="young"))
    assert (where / "young.cc").exists() and not (where / "old.cc").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["digits"]


@pytest.mark.parametrize("name", ["notes.txt", "old.cc.orig", "native/manifest.json", "empty/"])
def test_a_file_that_a_build_has_not_written_is_kept(tmp_path: Path, name: str) -> None:
    where = build(DIGITS, tmp_path / "digits", Options("source", name="old"))
    mine = where / name
    mine.parent.mkdir(exist_ok=True)
    if name.endswith("/"):
        mine.mkdir()
    else:
        mine.write_text("mine")
    (where / ".DS_Store").write_text("a file manager's")
    before = {p: p.read_bytes() for p in where.rglob("*") if p.is_file()}
    with pytest.raises(UsageError, match=f"{re.escape(name.rstrip('/'))} was not written by the build"):
        build(DIGITS, where, Options("source"))
    assert {p: p.read_bytes() for p in where.rglob("*") if p.is_file()} == before
    assert mine.exists()
    shutil.rmtree(mine) if mine.is_dir() else mine.unlink()
    if mine.parent != where and mine.parent.is_dir():
        mine.parent.rmdir()
    assert (build(DIGITS, where, Options("source")) / "digits.cc").exists()


def test_a_file_that_appears_during_a_build_is_kept(tmp_path: Path) -> None:
    where = build(DIGITS, tmp_path / "digits", Options("source"))
    with pytest.raises(UsageError, match="was not written"):
        build(DIGITS, where, Options("source"), Progress(start=lambda _: (where / "mine").touch()))
    assert (where / "mine").exists() and (where / "digits.cc").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["digits"]


@pytest.mark.parametrize("target", ["native", "wasm"])
def test_the_manifest_has_a_checksum_of_each_file(tmp_path: Path, digits: Path, target: str) -> None:
    """But of what tells about it: itself, the SBOM, which has the manifest's, and the report."""
    where = digits if target == "native" else build(DIGITS, tmp_path / "wasm", Options(target, verify=False))
    files = {n for n in contents(where) if n not in ("manifest.json", "digits.spdx.json", "report.html")}
    sums = {n: hashlib.sha256((where / n).read_bytes()).hexdigest() for n in files}
    assert manifest_of(where)["files"] == sums


def test_verification_checks_the_files(tmp_path: Path, digits: Path) -> None:
    where = shutil.copytree(digits, tmp_path / "digits")
    (where / "digits.h").write_text("// changed\n" + (where / "digits.h").read_text())
    with pytest.raises(VerificationError, match=r"digits\.h has changed since the build"):
        verify_bundle(where)
    (where / "digits.h").unlink()
    with pytest.raises(VerificationError, match=r"digits\.h cannot be read"):
        verify_bundle(where)


@pytest.mark.parametrize(
    "name, reason",
    [
        ("my net", "lower-case letters, digits and underscores, a letter first; try --name my_net"),
        ("8bit", "a letter first; try --name net_8bit"),
        ("Digits", "a letter first; try --name digits"),
        ("class", "a word of C or C"),
        ("free", "a word of C or C"),
        ("pthread_x", "a word of C or C"),
        ("x", "C has a macro X_OK"),
    ],
)
def test_a_name_that_cannot_be_taken_is_refused_or_told(tmp_path: Path, name: str, reason: str) -> None:
    """`--name` is what a user wants to have; the file's name is what there happens to be."""
    with pytest.raises(UsageError, match=re.escape(reason)):
        build(DIGITS, tmp_path / "no", Options("source", name=name))
    assert not (tmp_path / "no").exists()
    warnings: list[str] = []
    model = shutil.copy(DIGITS, tmp_path / f"{name}.onnx")
    where = build(model, tmp_path / "yes", Options("source"), Progress(warn=warnings.append))
    (warning,) = warnings
    assert f"{manifest_of(where)['name']!r} instead of {name!r}" in warning and reason.split(";")[0] in warning


def test_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    build(DIGITS, tmp_path / "link", Options("source"))
    assert (tmp_path / "real" / "digits.cc").exists() and (tmp_path / "link").is_symlink()


@pytest.mark.parametrize(
    "text, name",
    [
        ("digits", "digits"),
        ("ResNet-50 v1.5", "resnet_50_v1_5"),
        ("8bit", "net_8bit"),
        ("---", "net"),
        ("class", "class_net"),
        ("free", "free_net"),
        ("sinf", "sinf_net"),
        ("int8_t", "int8_t_net"),
        ("w", "w_net"),
        ("constexpr", "constexpr_net"),
        ("mask", "mask"),
        ("input", "input"),
        ("model", "model"),
    ],
)
def test_names_become_c_identifiers(text: str, name: str) -> None:
    """The name is a C++ namespace: keywords and what C's library declares are avoided, words of the runtime are not."""
    assert c_name(text) == name


# --- weights in a file ------------------------------------------------------------------------------------------------


def test_weights_in_a_file(side_file_bundle: Path, digits: Path) -> None:
    m = manifest_of(side_file_bundle)
    data = (side_file_bundle / "digits.weights").read_bytes()
    assert m["weights"] == {"file": "digits.weights", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert (side_file_bundle / "digits.cc").stat().st_size < (digits / "digits.cc").stat().st_size / 2
    with dlpack.load(side_file_bundle) as a, dlpack.load(digits) as b:
        x = {"image": bytearray(256)}
        x = {"image": memoryview(x["image"]).cast("f", (1, 1, 8, 8))}
        assert a.run(x)["probability"].tobytes() == b.run(x)["probability"].tobytes()


def damage(bundle: Path, how: str) -> None:
    path = bundle / "digits.weights"
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    else:
        changed = bytes([data[0] ^ 1]) + data[1:]
        at_end = data[:-1] + bytes([data[-1] ^ 128])
        path.write_bytes(
            {"wrong": changed, "wrong at the end": at_end, "short": data[:-1], "long": data + b"\0", "empty": b""}[how]
        )


DAMAGES = {
    "wrong": "wrong weights",
    "wrong at the end": "wrong weights",
    "short": "wrong weights",
    "long": "wrong weights",
    "empty": "wrong weights",
    "missing": "cannot be opened",
    "a folder": "cannot be opened",
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_weights_file_is_an_error_in_python(tmp_path: Path, side_file_bundle: Path, how: str) -> None:
    bundle = shutil.copytree(side_file_bundle, tmp_path / "digits")
    damage(bundle, how)
    with pytest.raises(UsageError, match=DAMAGES[how]):
        dlpack.load(bundle)


@pytest.fixture(scope="module")
def weights_program(tmp_path_factory: pytest.TempPathFactory, side_file_bundle: Path) -> Path:
    """A C program that prints what digits_create_from_file says of the file it is given."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "main.c").write_text(
        """\
#include <stdio.h>
#include "digits.h"
int main(int argc, char** argv) {
  digits_predictor* p = NULL;
  digits_status status = argc > 1 ? digits_create_from_file(&p, argv[1]) : digits_create(&p, NULL, 0, NULL, 0);
  printf("%d %s\\n", (int)status, digits_error_text(status));
  if (status == DIGITS_OK) status = digits_run(p);
  digits_destroy(p);
  return status != DIGITS_OK || (p == NULL);
}
"""
    )
    include = f"-I{side_file_bundle}"
    run([requires_tool("gcc"), "-c", include, "main.c", "-o", "main.o"], cwd=folder, check=True)
    source = side_file_bundle / "digits.cc"
    run(
        [requires_tool("g++"), "-O1", "-march=native", "-fsanitize=address", source, "main.o", "-o", "program"],
        cwd=folder,
        check=True,
    )
    return folder / "program"


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_weights_file_is_an_error_in_c(
    tmp_path: Path, side_file_bundle: Path, weights_program: Path, how: str
) -> None:
    bundle = shutil.copytree(side_file_bundle, tmp_path / "digits")
    good = run([weights_program, bundle / "digits.weights"])
    assert (good.returncode, good.stdout) == (0, "0 no error\n"), good.stderr
    damage(bundle, how)
    bad = run([weights_program, bundle / "digits.weights"])
    assert bad.returncode == 1 and re.search(DAMAGES[how], bad.stdout), bad.stderr


def test_weights_that_were_not_given_are_an_error_in_c(weights_program: Path) -> None:
    done = run([weights_program])
    assert done.returncode == 1 and "no weights" in done.stdout


@pytest.mark.parametrize("how", ["choice", "products"])
def test_indices_that_may_be_negative_stay_within_their_table(how: str, tmp_path: Path) -> None:
    """Keras and TensorFlow Lite add the table's length to indices below 0: i < 0 ? i + n : i."""
    table = np.linspace(-1, 1, 12, dtype=np.float32).reshape(6, 2)
    constants = {"table": table, "zero": np.array(0, np.int64), "n": np.array(6, np.int64)}
    nodes = [helper.make_node("Less", ["words", "zero"], ["below"]), helper.make_node("Add", ["words", "n"], ["moved"])]
    if how == "choice":
        nodes.append(helper.make_node("Where", ["below", "moved", "words"], ["place"]))
    else:
        nodes += [
            helper.make_node("Cast", ["below"], ["taken"], to=onnx.TensorProto.INT64),
            helper.make_node("Mul", ["taken", "moved"], ["one"]),
            helper.make_node("Sub", ["one_more", "taken"], ["left"]),
            helper.make_node("Mul", ["words", "left"], ["other"]),
            helper.make_node("Add", ["one", "other"], ["place"]),
        ]
        constants["one_more"] = np.array(1, np.int64)
    nodes.append(helper.make_node("Gather", ["table", "place"], ["y"]))
    net = nets.model(nodes, {"words": (3, 40)}, {"y": (3, 40, 2)}, constants)
    net.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    onnx.save(net, tmp_path / "net.onnx")
    bundle = build(tmp_path / "net.onnx", tmp_path / "b")
    ((low, high),) = manifest_of(bundle)["ranges"]
    assert (low, high) == (0, 6) if how == "choice" else 0 <= low < high <= 6


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_constant_picture_behind_a_convolution(op: str, tmp_path: Path) -> None:
    """A constant of the output's whole shape is stored in the order in which the output lies (channels last)."""
    random = np.random.default_rng(4)
    weights = {"w": random.normal(size=(5, 2, 3, 3)), "k": random.normal(size=(1, 5, 4, 6))}
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node(op, ["c", "k"], ["y"])]
    constants = {name: value.astype(np.float32) for name, value in weights.items()}
    net = nets.model(nodes, {"x": ("n", 2, 6, 8)}, {"y": ("n", 5, 4, 6)}, constants)
    onnx.save(net, tmp_path / "net.onnx")
    sets = [{"x": (1, 2, 6, 8)}, {"x": (3, 2, 6, 8)}]
    build(tmp_path / "net.onnx", tmp_path / "b", Options(shapes=sets[0], more_shapes=tuple(sets[1:])))  # verifies both


def test_several_targets_share_one_reading_and_one_reference(tmp_path: Path) -> None:
    stages: list[str] = []
    progress = Progress(done=lambda name, *_: stages.append(name))
    bundles = [(tmp_path / name, Options(name)) for name in ("native", "source")]
    made = list(build_each(DIGITS, bundles, progress))
    assert made == [folder for folder, _ in bundles]
    assert [stages.count(stage) for stage in ("read", "clean", "reference", "compile", "emit")] == [1, 1, 1, 2, 2]
    alone = build(DIGITS, tmp_path / "alone", Options("source"))
    assert (alone / "digits.cc").read_bytes() == (tmp_path / "source" / "digits.cc").read_bytes()
