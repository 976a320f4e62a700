"""Real trained models end to end: built, verified against onnxruntime, and right about real pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import requires_module

import dlpack

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def built(model: Path, tmp_path: Path) -> dlpack.Predictor:
    return dlpack.load(dlpack.build(model, tmp_path / "bundle"))


def test_squeezenet_gives_the_published_outputs(models_dir: Path, tmp_path: Path) -> None:
    folder = models_dir / "onnx" / "squeezenet1.1"
    predictor = built(folder / "squeezenet1.1.onnx", tmp_path)
    pairs = sorted((folder / "reference").iterdir())
    assert len(pairs) == 3
    for pair in pairs:
        files = {p.stem: np.load(p) for p in pair.glob("*.npy")}
        x = next(v for k, v in files.items() if "input" in k)
        want = next(v for k, v in files.items() if "output" in k)
        outputs = predictor.run({next(iter(predictor.inputs)): x.astype(np.float32)})
        errors = [
            np.abs(got.reshape(-1) - want.reshape(-1)).max() / np.abs(want).max()
            for got in outputs.values()
            if got.size == want.size
        ]
        assert min(errors) < 1e-4


def test_squeezenet_knows_the_cat(models_dir: Path, tmp_path: Path) -> None:
    """chelsea.png is an Egyptian cat with probability 0.503, preprocessed as ImageNet models want it."""
    image_module = requires_module("PIL.Image")
    predictor = built(models_dir / "onnx" / "squeezenet1.1" / "squeezenet1.1.onnx", tmp_path)
    image = image_module.open(models_dir / "images" / "chelsea.png").convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), image_module.Resampling.BILINEAR)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) / 255
    x = ((pixels - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)).astype(np.float32).transpose(2, 0, 1)[None]
    outputs = predictor.run({next(iter(predictor.inputs)): np.ascontiguousarray(x)})
    probability = outputs["prob"].reshape(-1) if "prob" in outputs else None
    if probability is None:
        logits = next(iter(outputs.values())).reshape(-1).astype(np.float64)
        probability = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    names = (models_dir / "labels" / "synset.txt").read_text(encoding="utf-8").splitlines()
    assert "Egyptian cat" in names[int(probability.argmax())]
    assert abs(float(probability.max()) - 0.503) < 0.03


def test_mnist_reads_48_of_50_digits(models_dir: Path, tmp_path: Path) -> None:
    predictor = built(models_dir / "onnx" / "mnist-cntk" / "mnist-cntk.onnx", tmp_path)
    data = json.loads((models_dir / "images" / "mnist50.json").read_text(encoding="utf-8"))
    (name,) = predictor.inputs
    right = 0
    for image, label in zip(data["images"], data["labels"], strict=True):
        x = np.asarray(image, np.float32).reshape(1, 1, 28, 28) * 255
        (scores,) = predictor.run({name: x}).values()
        right += int(scores.argmax()) == int(label)
    assert right == 48


@pytest.mark.parametrize("path", ["ultraface-rfb-640/version-RFB-640.onnx", "fastestdet/FastestDet.onnx"])
def test_detectors_verify(models_dir: Path, tmp_path: Path, path: str) -> None:
    dlpack.build(models_dir / "onnx" / path, tmp_path / "bundle")


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet", "densenet121", "inception_v1", "resnet50"])
def test_light_models_verify(tmp_path: Path, name: str) -> None:
    """The nets that ONNX ships; the large ones of them (AlexNet, VGG, ZFNet, Inception v2) are in script/models."""
    dlpack.build(LIGHT / f"light_{name}.onnx", tmp_path / "bundle")
