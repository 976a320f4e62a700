"""What `dlpack export` stores in an ONNX file, that a build of it is as one with the options, and `dlpack inspect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nets
import onnx
import pytest
from click.testing import CliRunner
from onnx import helper

from dlpack.bundle.loader import read_manifest
from dlpack.cli import cli
from dlpack.errors import UsageError
from dlpack.model.metadata import describe

NET = """input: "data" input_shape { dim: 1 dim: 3 dim: 12 dim: 16 }
layer { name: "gap" type: "Pooling" bottom: "data" top: "gap" pooling_param { pool: AVE global_pooling: true } }
layer { name: "prob" type: "Softmax" bottom: "gap" top: "prob" }
"""
HOW = {"preset": "caffe", "resize": "8/7", "mean": [1, 2, 3]}


def dlpack(*words: Any) -> str:
    done = CliRunner().invoke(cli, [str(w) for w in words])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "names.txt").write_text("a cat\n\nein Bär\n鳥\n", encoding="utf-8")
    (tmp_path / "how.json").write_text(json.dumps({**HOW, "resize": 20}))
    (tmp_path / "task.json").write_text('{"kind": "classify", "output": "prob"}')
    return tmp_path


def words(folder: Path) -> list[Any]:
    how = ["--preprocess", folder / "how.json", "--task", folder / "task.json"]
    return ["--labels", folder / "names.txt", *how]


def test_a_build_finds_what_export_stores(folder: Path) -> None:
    dlpack("export", folder / "net.prototxt", *words(folder), "-o", folder / "net.onnx")
    dlpack("build", folder / "net.onnx", "--target", "source", "-o", folder / "one")
    dlpack("build", folder / "net.prototxt", "--target", "source", *words(folder), "-o", folder / "two")
    one, two = (read_manifest(folder / name) for name in ("one", "two"))
    assert one["labels"] == ["a cat", "ein Bär", "鳥"] and one["preprocess"]["resize"] == 20
    for key in ("labels", "preprocess", "task"):
        assert one[key] == two[key]


def test_inspect_exports_what_is_no_onnx_model(folder: Path) -> None:
    facts = json.loads(dlpack("inspect", folder / "net.prototxt", "--json"))
    assert facts["inputs"] == [{"name": "data", "dtype": "float32", "shape": [1, 3, 12, 16]}]
    assert {row["operator"] for row in facts["operators"]} == {"GlobalAveragePool", "Softmax"}
    done = CliRunner().invoke(cli, ["inspect", str(folder / "names.txt")])
    assert done.exit_code == 3 and "accepted formats: ONNX: model.onnx; Caffe: deploy.prototxt" in done.output


def test_options_stand_above_what_the_source_says(folder: Path) -> None:
    path = folder / "net.prototxt"
    data = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 12 dim: 16 } } '
    path.write_text(NET.replace(NET.splitlines()[0], data + "transform_param { mean_value: 9 } }"))
    dlpack("export", path, "-o", folder / "own.onnx")
    dlpack("export", path, "--preprocess", "tf", "-o", folder / "told.onnx")
    stored = [
        [json.loads(p.value) for p in onnx.load(folder / name).metadata_props if p.key == "dlpack.preprocess"]
        for name in ("own.onnx", "told.onnx")
    ]
    assert [len(s) for s in stored] == [1, 1]
    assert stored[0][0]["mean"] == [9, 9, 9] and stored[1][0] == {"resize": "8/7", "channels": "RGB",
                                                                  "scale": 1 / 127.5, "mean": [1.0]}  # fmt: skip


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("--labels", "none.txt", "cannot be read"),
        ("--preprocess", "imagnet", "neither a preset"),
        ("--preprocess", '{"channels": "GRAY"}', "do not match input 'data', which has 3"),
        ("--preprocess", '{"resize": 13}', "at least 16"),
        ("--task", '{"kind": "classify", "output": "probs"}', "probs"),
        ("--task", '{"kind": "swim"}', "not one of classify"),
    ],
)
def test_what_does_not_fit_is_not_written(option: str, value: str, text: str, folder: Path) -> None:
    done = CliRunner().invoke(
        cli, ["export", str(folder / "net.prototxt"), option, value, "-o", str(folder / "o.onnx")]
    )
    assert done.exit_code == 2 and text in " ".join(done.output.split())
    assert not (folder / "o.onnx").exists()


def test_open_shapes_are_checked_by_the_build() -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    model = nets.model([node], {"x": ("n", 3, "h", "w")}, {"y": ("n", 3, "h", "w")}, {})
    describe(model, ("a",), json.dumps(HOW), '{"kind": "style"}')
    stored = {p.key: json.loads(p.value) for p in model.metadata_props}
    assert stored["dlpack.preprocess"] == {"resize": "8/7", "channels": "BGR", "mean": [1, 2, 3]}
    assert stored["dlpack.labels"] == ["a"] and stored["dlpack.task"] == {"kind": "style"}
    with pytest.raises(UsageError, match="not JSON"):
        describe(model, None, "{", None)
    assert len(model.metadata_props) == 3
