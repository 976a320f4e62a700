# ruff: noqa: E501  (a table's rows)
"""The Caffe exporter: files of every dialect, and each layer against its definition written in NumPy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from caffe_layers import CASES, MEAN, V6, VAR, Array, B, W, X, blob, block, caffemodel, conv, rnd, softmax, varint
from conformance import cases, harness
from conformance.batch import run_cases
from conftest import requires_module
from test_export_mxnet import run

from dlpack import exporters
from dlpack.errors import ModelError, UnsupportedError, UsageError
from dlpack.exporters import ExportOptions
from dlpack.exporters.caffe.files import parse_prototxt, read_weights
from dlpack.meaning.preprocess import from_json, open_picture


def export(
    folder: Path, text: str, weights: dict[str, Sequence[Array]] | None = None, **options: Any
) -> exporters.Exported:
    path = folder / "net.prototxt"
    path.write_text(text)
    (folder / "net.caffemodel").write_bytes(caffemodel(weights or {}))
    return exporters.export(path, **options)


# --- layers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_layer_computes_its_definition(name: str, tmp_path: Path) -> None:
    text, inputs, blobs, definition = CASES[name]
    net = "".join(
        f'layer {{ name: "{n}" type: "Input" top: "{n}" input_param {{ shape {{ {" ".join(f"dim: {d}" for d in x.shape)} }} }} }}\n'
        for n, x in zip("abc", inputs, strict=False)
    )
    bottoms = " ".join(f'bottom: "{n}"' for n, _ in zip("abc", inputs, strict=False))
    net += f'layer {{ name: "layer" {bottoms} top: "z" {text} }}'
    model = export(tmp_path, net, {"layer": blobs}).model
    onnx.checker.check_model(model, full_check=True)
    got = run(model, dict(zip("abc", inputs, strict=False)))
    want = definition()
    want = want if isinstance(want, list) else [want]
    assert model.graph.output[0].name == "z" and len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert a.shape == np.shape(b)
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def test_prior_boxes(tmp_path: Path) -> None:
    net = """input: "data" input_shape { dim: 1 dim: 3 dim: 40 dim: 60 }
    layer { name: "p" type: "Pooling" bottom: "data" top: "f" pooling_param { kernel_size: 20 stride: 20 } }
    layer { name: "b" type: "PriorBox" bottom: "f" bottom: "data" top: "b"
            prior_box_param { min_size: 10 max_size: 20.0 aspect_ratio: 2 clip: true variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 } }"""
    got = run(export(tmp_path, net).model, {"data": np.zeros((1, 3, 40, 60), np.float32)})[0]
    boxes = []
    for y in (10, 30):
        for x in (10, 30, 50):
            for w, h in ((10, 10), (200**0.5, 200**0.5), (10 * 2**0.5, 10 / 2**0.5), (10 / 2**0.5, 10 * 2**0.5)):
                boxes += [(x - w / 2) / 60, (y - h / 2) / 40, (x + w / 2) / 60, (y + h / 2) / 40]
    np.testing.assert_allclose(got[0, 0], np.clip(boxes, 0, 1), rtol=1e-5)
    np.testing.assert_allclose(got[0, 1], np.tile([0.1, 0.1, 0.2, 0.2], 24), rtol=1e-6)


@pytest.mark.parametrize("code", ["CORNER", "CENTER_SIZE"])
@pytest.mark.parametrize("keep", [6, 100])
def test_detection_output(code: str, keep: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    count, classes, batch, top_k, threshold, limit = 15, 3, 2, 8, 0.2, 0.4
    low = rng.uniform(0, 0.5, (count, 2))
    prior = np.concatenate([low, low + rng.uniform(0.2, 0.5, (count, 2))], 1)
    variance = np.tile([0.1, 0.1, 0.2, 0.2], (count, 1))
    loc = rng.standard_normal((batch, count, 4)) * 0.5
    conf = softmax(rng.standard_normal((batch, count, classes)) * 2, 2)
    net = f"""
    layer {{ name: "a" type: "Input" top: "a" input_param {{ shape {{ dim: {batch} dim: {count * 4} }} }} }}
    layer {{ name: "b" type: "Input" top: "b" input_param {{ shape {{ dim: {batch} dim: {count * classes} }} }} }}
    layer {{ name: "c" type: "Input" top: "c" input_param {{ shape {{ dim: 1 dim: 2 dim: {count * 4} }} }} }}
    layer {{ name: "d" type: "DetectionOutput" bottom: "a" bottom: "b" bottom: "c" top: "d" detection_output_param {{
        num_classes: {classes} code_type: {code} keep_top_k: {keep} confidence_threshold: {threshold}
        nms_param {{ nms_threshold: {limit} top_k: {top_k} }} }} }}"""
    inputs = {
        "a": loc.reshape(batch, -1),
        "b": conf.reshape(batch, -1),
        "c": np.stack([prior.ravel(), variance.ravel()])[None],
    }
    model = export(tmp_path, net).model
    feeds = {k: v.astype(np.float32) for k, v in inputs.items()}
    got = run(model, feeds)[0]
    case = cases.Case(
        "detection", "", "", model, ((tuple(feeds[v.name] for v in model.graph.input), (got,)),), 1e-5, 1e-6
    )
    assert [r.outcome for r in run_cases([case], harness.MACHINES["avx2"], lambda case: None)] == ["passed"]

    def overlap(a: Array, b: Array) -> float:
        w, h = (max(0.0, min(a[k + 2], b[k + 2]) - max(a[k], b[k])) for k in (0, 1))
        both = w * h
        return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)

    for image in range(batch):
        if code == "CORNER":
            boxes = prior + loc[image] * variance
        else:
            size = prior[:, 2:] - prior[:, :2]
            middle = (prior[:, 2:] + prior[:, :2]) / 2 + loc[image, :, :2] * 0.1 * size
            half = np.exp(loc[image, :, 2:] * 0.2) * size / 2
            boxes = np.concatenate([middle - half, middle + half], 1)
        found = []
        for c in range(1, classes):
            kept: list[int] = []
            for k in np.argsort(-conf[image, :, c])[:top_k]:
                if conf[image, k, c] > threshold and all(overlap(boxes[k], boxes[j]) <= limit for j in kept):
                    kept.append(int(k))
            found += [(float(conf[image, k, c]), c, k) for k in kept]
        found = sorted(found, reverse=True)[:keep]
        rows = got[0, 0].reshape(batch, -1, 7)[image]
        assert (rows[len(found) :] == -1).all() and found
        for row, (score, c, k) in zip(rows, found, strict=False):
            np.testing.assert_allclose(row, [image, c, score, *boxes[k]], rtol=1e-3, atol=1e-5)


# --- files ------------------------------------------------------------------------------------------------------------

NET = """
name: "small"  # a comment
input: "data" input_dim: 1 input_dim: 6 input_dim: 9 input_dim: 8
layer { name: 'conv' type: "Conv" "olution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
layer < name: "relu" type: "ReLU", bottom: "conv"; top: "conv" >
layer { name: "prob" type: "Softmax" bottom: "conv" top: "prob" }
"""


def want() -> Array:
    return softmax(np.maximum(conv(X[:1], W, B, 1, 0, 1, 1), 0), 1)


def test_in_place_layers_and_names(tmp_path: Path) -> None:
    model = export(tmp_path, NET, {"conv": [W, B]}).model
    assert [n.name for n in model.graph.node] == ["conv", "relu", "prob"]
    assert [n.output[0] for n in model.graph.node] == ["conv_conv", "conv", "prob"]
    np.testing.assert_allclose(run(model, {"data": X[:1]})[0], want(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("double", [False, True])
def test_version_1(old: bool, double: bool, tmp_path: Path) -> None:
    text = (
        NET.replace("layer", "layers")
        .replace('"Conv" "olution"', "CONVOLUTION")
        .replace('"ReLU"', "RELU")
        .replace('"Softmax"', "SOFTMAX")
    )
    (tmp_path / "net_deploy.prototxt").write_text(text)
    (tmp_path / "net.caffemodel").write_bytes(caffemodel({"conv": [W, B]}, old, double))
    result = exporters.export(tmp_path / "net_deploy.prototxt")
    assert result.params == tmp_path / "net.caffemodel"
    np.testing.assert_allclose(run(result.model, {"data": X[:1]})[0], want(), rtol=1e-4, atol=1e-6)


def test_training_network(tmp_path: Path) -> None:
    mean = np.stack([np.full((5, 5), v, np.float32) for v in (104, 117, 123)])
    (tmp_path / "image_mean.binaryproto").write_bytes(blob(mean, old=True))
    net = """
    layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TRAIN } transform_param { crop_size: 99 } }
    layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TEST }
            transform_param { mean_file: "/data/../image_mean.binaryproto" crop_size: 5 scale: 0.5 } }
    layer { name: "drop" type: "Dropout" bottom: "data" top: "data" }
    layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 2 } }
    layer { name: "acc" type: "Accuracy" bottom: "fc" bottom: "label" top: "acc" }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }"""
    w = rnd(2, 75)
    result = export(tmp_path, net, {"fc": [w, rnd(2) * 0]})
    metadata = {p.key: p.value for p in result.model.metadata_props}
    assert json.loads(metadata["dlpack.preprocess"]) == {
        "input": "data", "channels": "BGR", "scale": 0.5, "mean": [52.0, 58.5, 61.5], "resize": None, "layout": "NCHW"}  # fmt: skip
    assert metadata["dlpack.channels"] == "BGR"
    x = rnd(1, 3, 5, 5)
    np.testing.assert_allclose(run(result.model, {"data": x})[0], softmax(x.reshape(1, -1) @ w.T, 1), rtol=1e-4)


def test_a_mean_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Without its mean nothing is known of the preprocessing: zeros would be wrong."""
    net = """
    layer {{ name: "d" type: "Data" top: "data" transform_param {{ crop_size: 5 scale: 0.5 {} }} }}
    layer {{ name: "drop" type: "Dropout" bottom: "data" top: "y" }}"""
    told = net.format('mean_file: "/data/the_mean.binaryproto"')
    result = export(tmp_path, told)
    assert result.preprocess is None and "the_mean.binaryproto" in result.warnings[0]
    mean = blob(np.ones((3, 5, 5), np.float32))
    (tmp_path / "the_mean.binaryproto").write_bytes(mean[:100])
    with pytest.raises(ModelError, match=r"the_mean\.binaryproto.*damaged"):
        export(tmp_path, told)
    (tmp_path / "the_mean.binaryproto").write_bytes(mean)
    assert (done := export(tmp_path, told)).preprocess and not done.warnings
    with pytest.raises(ModelError, match=r"2 values of mean_value.*3 channels"):
        export(tmp_path, net.format("mean_value: 104 mean_value: 117"))


def test_shared_weights(tmp_path: Path) -> None:
    one = 'type: "InnerProduct" inner_product_param { num_output: 6 bias_term: false axis: 3 } param { name: "w" }'
    net = f"""input: "data" input_shape {{ dim: 1 dim: 2 dim: 3 dim: 6 }}
    layer {{ name: "a" bottom: "data" top: "a" {one} }} layer {{ name: "b" bottom: "a" top: "b" {one} }}"""
    w, x = rnd(6, 6), rnd(1, 2, 3, 6)
    np.testing.assert_allclose(
        run(export(tmp_path, net, {"a": [w]}).model, {"data": x})[0], x @ w.T @ w.T, rtol=1e-3, atol=1e-5
    )


def test_weights_that_a_layer_would_not_use_are_refused(tmp_path: Path) -> None:
    """Four blobs of BatchNorm are no known form, and a bias behind `bias_term: false` belongs to another prototxt."""
    head = 'input: "data" input_shape { dim: 1 dim: 6 } layer { name: "n" bottom: "data" top: "n" '
    for text, blobs in (
        ('type: "BatchNorm" }', [MEAN, VAR, np.float32([1]), V6]),
        ('type: "InnerProduct" inner_product_param { num_output: 2 bias_term: false } }', [rnd(2, 6), rnd(2)]),
    ):
        with pytest.raises(ModelError, match=r"layer 'n'.*would not be used"):
            export(tmp_path, head + text, {"n": blobs})
    with pytest.raises(ModelError, match="3 blobs for it; it needs 4"):
        export(tmp_path, head + 'type: "BatchNorm" batch_norm_param { scale_bias: true } }', {"n": [MEAN, VAR, V6[:1]]})


def test_one_prototxt_for_all_stages_is_that_of_deploy(tmp_path: Path) -> None:
    """DIGITS writes `include { stage: ... }`; without the layers of data the caller gives what they gave."""
    net = """
    layer { name: "t" type: "Data" top: "data" top: "label" transform_param { crop_size: 8 } include { stage: "train" } }
    layer { name: "v" type: "Data" top: "data" top: "label" transform_param { crop_size: 8 } include { stage: "val" } }
    layer { name: "r" type: "ReLU" bottom: "data" top: "r" }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "r" bottom: "label" top: "loss" exclude { stage: "deploy" } }
    layer { name: "prob" type: "Softmax" bottom: "r" top: "prob" include { stage: "deploy" } }"""
    with pytest.raises(UsageError, match="--shape data=1x3x224x224"):
        export(tmp_path, net)
    x = rnd(1, 3, 2, 2)
    (got,) = run(export(tmp_path, net, options=ExportOptions({"data": x.shape})).model, {"data": x})
    e = np.exp(np.maximum(x, 0))
    np.testing.assert_allclose(got, e / e.sum(axis=1, keepdims=True), rtol=1e-5)


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'conv'.*its weight 0 has the shape"):
        export(tmp_path, NET, {"conv": [W[:3], B]})
    with pytest.raises(ModelError, match="0 blobs"):
        export(tmp_path, NET, {"other": [W]})
    with pytest.raises(UsageError, match="--shape data=1x3x224x224"):
        export(tmp_path, NET.replace("input_dim: 1 input_dim: 6 input_dim: 9 input_dim: 8", ""), {"conv": [W, B]})
    with pytest.raises(UsageError, match=r"'x'.*inputs are: data"):
        export(tmp_path, NET, {"conv": [W, B]}, options=ExportOptions({"x": (1,)}))
    with pytest.raises(UnsupportedError) as error:
        export(tmp_path, NET.replace('"ReLU"', '"Python"').replace('"Softmax"', '"SPP"'), {"conv": [W, B]})
    assert len(error.value.problems) == 2 and "layer 'relu' (Python)" in str(error.value)
    for text, match in (
        (NET + "layer {", "brace is missing"),
        (NET + "\nlayer ] }", "line 8"),
        (NET + "layer { name: ", "no value"),
    ):
        with pytest.raises(ModelError, match=match):
            export(tmp_path, text, {"conv": [W, B]})
    with pytest.raises(UsageError, match=r"deploy \.prototxt"):
        exporters.export(tmp_path / "net.caffemodel")
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "net.caffemodel").write_bytes(b"\x89HDF\r\n")
    with pytest.raises(UsageError, match="BINARYPROTO"):
        exporters.export(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    (tmp_path / "net.caffemodel").unlink()
    with pytest.raises(UsageError, match="--params"):
        exporters.export(tmp_path / "net.prototxt")


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a\xff",
        block(100, b"\x3a\x7f"),
        block(100, block(7, blob(W)[:-5])),
        block(100, block(7, block(7, block(1, varint(2**60))))),
        b"\x07",
    ],
)
def test_damaged_weights(data: bytes) -> None:
    with pytest.raises(ModelError):
        read_weights(data)


def test_deep_prototxt() -> None:
    with pytest.raises(ModelError, match="deep"):
        parse_prototxt("a {" * 100000)
    assert parse_prototxt('a: [1, 2] b: -1e3f c { d: "x\\n" }').ints("a") == [1, 2]


# --- real models ------------------------------------------------------------------------------------------------------


def pictures(models_dir: Path, name: str, size: tuple[int, int]) -> Array:
    image = requires_module("PIL.Image")
    with image.open(models_dir / "images" / name) as picture:
        return np.asarray(picture.convert("RGB").resize(size, image.Resampling.BILINEAR), np.float32)


def test_lenet(models_dir: Path) -> None:
    digits = json.loads((models_dir / "images" / "mnist50.json").read_text())
    x = np.float32(digits["images"]).reshape(50, 1, 28, 28) * np.float32(255 / 256)
    path = models_dir / "caffe" / "lenet" / "lenet.prototxt"
    model = exporters.export(path, options=ExportOptions({"data": (50, 1, 28, 28)})).model
    labels = np.array(digits["labels"])
    labels = labels.argmax(1) if labels.ndim > 1 else labels
    assert int((run(model, {"data": x})[0].argmax(1) == labels).sum()) == 49


@pytest.mark.parametrize(
    ("name", "label", "score"), [("cat_snow.jpg", "Egyptian cat", 0.69), ("coyote.jpg", "coyote", 0.75)]
)
def test_squeezenet(name: str, label: str, score: float, models_dir: Path) -> None:
    model = exporters.export(models_dir / "caffe" / "squeezenet1.0" / "SqueezeNet_deploy.prototxt").model
    told = {"channels": "BGR", "mean": [104, 117, 123], "resize": 256}  # the deploy net does not say it
    preprocess = from_json(told, [{"name": "data", "shape": [1, 3, 227, 227], "dtype": "float32"}])
    x = preprocess(open_picture(models_dir / "images" / name))
    p = softmax(run(model, {"data": x})[0].ravel(), 0)
    names = (models_dir / "labels" / "synset.txt").read_text().splitlines()
    assert label in names[int(p.argmax())]
    assert abs(float(p.max()) - score) < 0.01


def test_ultraface_agrees_with_the_larger_one(models_dir: Path) -> None:
    import onnxruntime

    model = exporters.export(models_dir / "caffe" / "ultraface-rfb-320" / "RFB-320.prototxt").model
    x = (pictures(models_dir, "astronaut.png", (320, 240)) - 127) / 128
    boxes, scores = run(model, {"input": x.transpose(2, 0, 1)[None].astype(np.float32)})
    priors = []
    for step, sizes in ((8, (10, 16, 24)), (16, (32, 48)), (32, (64, 96)), (64, (128, 192, 256))):
        rows, columns = -(-240 // step), -(-320 // step)
        for j in range(rows):
            for i in range(columns):
                priors += [((i + 0.5) / (320 / step), (j + 0.5) / (240 / step), s / 320, s / 240) for s in sizes]
    prior = np.clip(priors, 0, 1)
    best = int(scores[0, :, 1].argmax())
    middle = boxes[0, best, :2] * 0.1 * prior[best, 2:] + prior[best, :2]
    size = np.exp(boxes[0, best, 2:] * 0.2) * prior[best, 2:]
    face = np.concatenate([middle - size / 2, middle + size / 2])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    larger = onnxruntime.InferenceSession(models_dir / "onnx" / "ultraface-rfb-640" / "version-RFB-640.onnx", options)
    y = (pictures(models_dir, "astronaut.png", (640, 480)) - 127) / 128
    found, corners = larger.run(None, {"input": y.transpose(2, 0, 1)[None].astype(np.float32)})
    other = corners[0, int(found[0, :, 1].argmax())]
    assert scores[0, best, 1] > 0.999
    low, high = np.maximum(face[:2], other[:2]), np.minimum(face[2:], other[2:])
    both = float(np.prod(np.maximum(high - low, 0)))
    areas = float(np.prod(face[2:] - face[:2]) + np.prod(other[2:] - other[:2]))
    assert both / (areas - both) > 0.7
