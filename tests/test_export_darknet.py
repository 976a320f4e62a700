"""The Darknet exporter: networks against what OpenCV computes, the rest against its definition in NumPy.

fixtures/make_darknet.py recorded OpenCV's results; its detectors give rows of centre, size, objectness and scores, in
which scores below 0.001 are 0.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance.batch import run_cases
from conformance.cases import Case
from hypothesis import given
from hypothesis import strategies as st
from recorded import recorded_cases
from test_export_mxnet import run

from dlpack import exporters
from dlpack.errors import DlpackError, ModelError, UnsupportedError, UsageError
from dlpack.exporters import ExportOptions
from dlpack.targets.cpu.machine import AVX2

Array = np.ndarray[Any, Any]


def recorded() -> dict[str, dict[str, Array]]:
    """Network → cfg, weights, x and out0, out1 ..."""
    return recorded_cases(Path(__file__).parent / "fixtures" / "darknet_networks.npz")


def header(*numbers: float | Array, version: tuple[int, int] = (0, 2)) -> bytes:
    """A .weights file with these numbers."""
    counted = struct.pack("<q" if sum(version) >= 2 and version[0] < 1000 else "<i", 5)
    return struct.pack("<3i", *version, 0) + counted + b"".join(np.asarray(v, "<f4").tobytes() for v in numbers)


def export(folder: Path, text: str, weights: bytes = b"", **options: Any) -> exporters.Exported:
    (folder / "net.cfg").write_text(text)
    (folder / "net.weights").write_bytes(weights or header())
    return exporters.export(folder / "net.cfg", **options)


def rows(boxes: Array, scores: Array) -> Array:
    """Centre, size and scores."""
    low, high = boxes[0, :, :2], boxes[0, :, 2:]
    return np.concatenate([(low + high) / 2, high - low, scores[0]], 1)


@pytest.mark.parametrize("name", recorded())
def test_computes_what_opencv_computes(name: str, tmp_path: Path) -> None:
    record = recorded()[name]
    model = export(tmp_path, str(record["cfg"]), record["weights"].tobytes()).model
    got = run(model, {"data": record["x"]})
    wanted = [record[k] for k in sorted(record) if k.startswith("out")]
    case = Case(name, "", "", model, (((record["x"],), tuple(got)),), 1e-4, 1e-6)
    assert [r.detail for r in run_cases([case], AVX2, lambda _: None) if r.outcome != "passed"] == []
    if [v.name for v in model.graph.output] != ["boxes", "scores"]:
        np.testing.assert_allclose(got[0].reshape(wanted[0].shape), wanted[0], rtol=1e-4, atol=1e-5)
        return
    anchors = 3 if name == "yolo" else 2
    heads = [np.delete(w, 4, 1).reshape(-1, anchors, 7).transpose(1, 0, 2).reshape(-1, 7) for w in wanted]
    found, want = rows(*got), np.concatenate(heads)
    np.testing.assert_allclose(found, np.where(want == 0, found, want), rtol=2e-4, atol=2e-5)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "gelu": lambda x: x / 2 * (1 + np.tanh(0.797885 * x + 0.035677 * x**3)),
    "hard_mish": lambda x: np.where(x > 0, x, np.where(x > -2, x * x / 2 + x, 0)),
    "hardtan": lambda x: x.clip(-1, 1),
    "loggy": lambda x: 2 / (1 + np.exp(-x)) - 1,
    "ramp": lambda x: np.where(x > 0, x, 0) + 0.1 * x,
    "relie": lambda x: np.where(x > 0, x, 0.01 * x),
    "relu6": lambda x: x.clip(0, 6),
    "selu": lambda x: 1.0507 * np.where(x > 0, x, 1.6732 * np.expm1(x)),
    "logistic": sigmoid,
    "tanh": np.tanh,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str, tmp_path: Path) -> None:
    x = np.linspace(-9, 9, 41, dtype=np.float32)[None]
    model = export(tmp_path, f"[net]\ninputs=41\n[activation]\nactivation={name}\n").model
    np.testing.assert_allclose(run(model, {"data": x})[0], ACTIVATIONS[name](x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("version", [(0, 1), (0, 2), (1001, 0)])
def test_connected_layers_of_every_version(version: tuple[int, int], normalised: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x, w, b = (random.normal(size=s).astype(np.float32) for s in ((1, 2, 3, 4), (5, 24), 5))
    scales, mean, var = (random.uniform(0.5, 1, 5).astype(np.float32) for _ in range(3))
    stored = w.T if version[0] > 1000 else w
    data = header(b, stored, *([scales, mean, var] if normalised else []), version=version)
    text = f"[net]\nchannels=2\nheight=3\nwidth=4\n[connected]\noutput=5\nbatch_normalize={int(normalised)}\n"
    got = run(export(tmp_path, text, data).model, {"data": x})[0]
    y = x.reshape(1, 24) @ w.T
    y = (y - mean) / np.sqrt(var + 1e-5) * scales + b if normalised else y + b
    np.testing.assert_allclose(got, sigmoid(y), rtol=1e-4, atol=1e-5)


def test_a_shortcut_takes_the_channels_that_both_have(tmp_path: Path) -> None:
    text = "[net]\nchannels=3\nheight=2\nwidth=2\n[route]\nlayers=0\n"
    with pytest.raises(ModelError, match="layer 0 is not an earlier one"):
        export(tmp_path, text)
    x = np.random.default_rng(0).normal(size=(1, 3, 2, 2)).astype(np.float32)
    more = "[net]\nchannels=3\nheight=2\nwidth=2\n[dropout]\n[route]\nlayers=0,0\n[shortcut]\nfrom=0\n"
    both = np.concatenate([x, x], 1)
    got = run(export(tmp_path, more).model, {"data": x})[0]
    np.testing.assert_allclose(got, both + np.pad(x, [(0, 0), (0, 3), (0, 0), (0, 0)]), rtol=1e-6)
    fewer = more.replace("[shortcut]\nfrom=0", "[dropout]\n[shortcut]\nfrom=0").replace("layers=0,0", "layers=0")
    np.testing.assert_allclose(run(export(tmp_path, fewer).model, {"data": x})[0], 2 * x, rtol=1e-6)


def test_a_detector_is_known_as_one(tmp_path: Path) -> None:
    """Its task, preprocessing and classes, so that the bundle finds boxes in pictures."""
    record = recorded()["yolo"]
    (tmp_path / "some.names").write_text("cat\ndog\nbird\n")
    (tmp_path / "other.names").write_text("one\ntwo\n")
    found = export(tmp_path, str(record["cfg"]), record["weights"].tobytes())
    metadata = {p.key: p.value for p in found.model.metadata_props}
    assert json.loads(metadata["dlpack.task"]) == {
        "kind": "detect", "format": "corners", "boxes": "boxes", "scores": "scores", "threshold": 0.25}  # fmt: skip
    assert found.labels == ("cat", "dog", "bird")
    assert found.preprocess is not None and found.preprocess.channels == "RGB" and found.preprocess.resize is None
    larger = export(tmp_path, str(record["cfg"]), record["weights"].tobytes(),
                    options=ExportOptions({"data": (1, 3, 48, 64)}))  # fmt: skip
    assert larger.model.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 4 * 720


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    net = "[net]\nchannels=3\nheight=4\nwidth=4\n"
    with pytest.raises(UnsupportedError) as e:
        export(tmp_path, f"{net}[dropout]\n[gru]\noutput=3\n[dropout]\n[lstm]\n")
    first, second = e.value.problems
    assert first == "layer 1 [gru] (line 6): this kind of layer is not supported"
    assert second == "layer 3 [lstm] (line 9): it is not supported"
    with pytest.raises(ModelError, match=r"layer 0 \[convolutional\] \(line 5\): it needs 27 numbers.*has 9 left"):
        export(tmp_path, f"{net}[convolutional]\nsize=3\n", header(np.zeros(10)))
    assert "has 2 numbers more" in export(tmp_path, f"{net}[dropout]\n", header(np.zeros(2))).warnings[0]
    with pytest.raises(UsageError, match="the model's only input is 'data'"):
        export(tmp_path, f"{net}[dropout]\n", options=ExportOptions({"x": (1, 3, 4, 4)}))
    with pytest.raises(UsageError, match=r"these are Darknet's weights; give the \.cfg"):
        exporters.export(tmp_path / "net.weights")
    (tmp_path / "net.weights").unlink()
    with pytest.raises(UsageError, match=r"its weights, a \.weights file, are not beside it; give them with --params"):
        exporters.export(tmp_path / "net.cfg")


@given(at=st.integers(0, 1 << 20), new=st.binary(min_size=0, max_size=4), part=st.sampled_from(["cfg", "weights"]))
def test_a_damaged_file_is_refused_or_exported(
    at: int, new: bytes, part: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, record = tmp_path_factory.getbasetemp(), recorded()["yolo"]
    files = {"cfg": str(record["cfg"]).encode(), "weights": record["weights"].tobytes()}
    at %= len(files[part])
    files[part] = files[part][:at] + (new + files[part][at + len(new) :] if new else b"")
    for suffix, data in files.items():
        (folder / f"damaged.{suffix}").write_bytes(data)
    try:
        found = exporters.export(folder / "damaged.cfg", folder / "damaged.weights")
    except DlpackError as e:
        assert str(e)
    else:
        assert found.model.graph.node
