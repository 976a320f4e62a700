"""The Core ML exporter: ML programs that coremltools wrote (fixtures/make_coreml.py), against PyTorch's functions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance.batch import run_cases
from conformance.cases import Case
from conftest import requires_module
from hypothesis import given
from hypothesis import strategies as st
from recorded import recorded_cases
from test_export_mxnet import run

from dlpack import exporters
from dlpack.errors import DlpackError, UnsupportedError, UsageError
from dlpack.exporters import ExportOptions
from dlpack.targets.cpu.machine import AVX2

torch = requires_module("torch")
F = torch.nn.functional
Array = np.ndarray[Any, Any]


def recorded() -> dict[str, dict[str, Array]]:
    """Program → model, and bin where it has weights in a file; "weights" has the arrays that are in them."""
    return recorded_cases(Path(__file__).parent / "fixtures" / "coreml_programs.npz")


W = {name: torch.from_numpy(array) for name, array in recorded()["weights"].items()}


def package(folder: Path, name: str) -> Path:
    inside = folder / "net.mlpackage" / "Data" / "com.apple.CoreML"
    (inside / "weights").mkdir(parents=True, exist_ok=True)
    (inside / "model.mlmodel").write_bytes(recorded()[name]["model"].tobytes())
    if "bin" in recorded()[name]:
        (inside / "weights" / "weight.bin").write_bytes(recorded()[name]["bin"].tobytes())
    (folder / "net.mlpackage" / "Manifest.json").write_text("{}")
    return folder / "net.mlpackage"


def same(x: Any, stride: int, kernel: int) -> Any:
    pads = []
    for n in x.shape[:1:-1]:
        total = max(0, (-(-n // stride) - 1) * stride + kernel - n)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


def classifier(x: Any) -> Any:
    return torch.softmax(F.conv2d(x / 127.5 - 1, W["conv"]).mean((2, 3)) @ W["linear"].T, -1)


DEFINITIONS: dict[str, Callable[..., Any]] = {
    "conv": lambda x: F.conv2d(F.pad(x, (2, 0, 1, 1)), W["conv"], W["bias"], stride=(2, 1), dilation=(1, 2)),
    "conv same": lambda x: F.conv2d(same(x, 2, 3), W["conv"], stride=2),
    "conv grouped": lambda x: F.conv2d(x, W["grouped"], groups=3),
    "conv transpose": lambda x: F.conv_transpose2d(x, W["deconv"], stride=2, padding=1, output_padding=1),
    "linear": lambda x: x @ W["linear"].T + W["linear"][:, 0],
    "matmul": lambda x, y: x @ y.transpose(1, 2),
    "max pool": lambda x: F.max_pool2d(x, (3, 2), (2, 2), (1, 0), ceil_mode=True),
    "avg pool": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "avg pool excluding": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "batch norm": lambda x: F.batch_norm(x, W["three"], W["three"].abs(), W["three"], W["three"], eps=0.01),
    "instance norm": lambda x: F.instance_norm(x, weight=W["three"], bias=W["three"], eps=0.01),
    "layer norm": lambda x: F.layer_norm(x, (6,), W["rows"], W["rows"], 0.01),
    "prelu": lambda x: F.prelu(x, W["three"].abs()),
    "nearest": lambda x: F.interpolate(x, scale_factor=(2, 3), mode="nearest"),
    "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "concat": lambda x, y: torch.cat([x, y, x], 1),
    "split": lambda x: torch.split(x, [1, 3, 2], 1),
    "movement": lambda x: x.reshape(2, 3, -1).permute(2, 0, 1).unsqueeze(1),
    "slice": lambda x: x[1, 1::2, :-1:2],
    "pad": lambda x: F.pad(x, (0, 3, 1, 2), value=0.5),
    "pad reflect": lambda x: F.pad(x, (0, 3, 1, 2), mode="reflect"),
    "pixel shuffle": lambda x: F.pixel_shuffle(x, 2),
    "reductions": lambda x: x.mean(-1, keepdim=True) - x.amax(1, keepdim=True) * x.sum(0, keepdim=True),
    "arithmetic": lambda x: x.abs() ** 1.5 / torch.clamp((x * x).rsqrt(), min=0.5),
    **{name: getattr(torch, name) for name in ("relu", "sigmoid", "tanh", "erf", "exp")},
    **{name: getattr(F, name) for name in ("relu6", "silu", "softplus", "gelu", "softsign", "elu", "leaky_relu")},
    "softmax": lambda x: torch.softmax(x, -1),
    "sigmoid_hard": lambda x: torch.clamp(0.2 * x + 0.5, 0, 1),
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "clip": lambda x: torch.clamp(x, -0.5, 0.75),
    "half": lambda x: torch.relu(F.conv2d(x, W["conv"].half().float())),
    "classifier": classifier,
}


def inputs_of(model: Any) -> dict[str, Array]:
    random = np.random.default_rng(3)
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    return {name: random.normal(0, 1.5, shape).astype(np.float32) for name, shape in sorted(shapes.items())}


def test_every_program_has_a_definition() -> None:
    assert set(DEFINITIONS) | {"weights", "unread"} == set(recorded())


@pytest.mark.parametrize("name", DEFINITIONS)
def test_computes_its_definition(name: str, tmp_path: Path) -> None:
    model = exporters.export(package(tmp_path, name)).model
    inputs = inputs_of(model)
    wanted = DEFINITIONS[name](*(torch.from_numpy(v) for v in inputs.values()))
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    for got, want in zip(run(model, inputs), wanted, strict=True):
        assert got.shape == tuple(want.shape)
        np.testing.assert_allclose(got, want.numpy(), rtol=2e-4, atol=2e-5)


def test_they_are_compiled_and_right(tmp_path: Path) -> None:
    cases = []
    for name in DEFINITIONS:
        model = exporters.export(package(tmp_path / name, name)).model
        inputs = inputs_of(model)
        values = tuple(inputs[i.name] for i in model.graph.input)
        cases.append(Case(name, "", "", model, ((values, tuple(run(model, inputs))),), 1e-4, 1e-5))
    results = run_cases(cases, AVX2, lambda _: None)
    assert {r.name: r.detail for r in results if r.outcome != "passed"} == {}


def test_a_classifier_knows_its_classes_and_pictures(tmp_path: Path) -> None:
    found = exporters.export(package(tmp_path, "classifier"))
    assert found.labels == ("ant", "bee", "cat", "dog") and found.params is not None
    assert [o.name for o in found.model.graph.output] == ["classLabel_probs"]
    assert found.preprocess is not None and (found.preprocess.input, found.preprocess.channels) == ("x", "RGB")


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError) as e:
        exporters.export(package(tmp_path / "a", "unread"))
    assert [p.split("(")[1] for p in e.value.problems] == [
        "cumsum): this operation is not supported", "non_zero): this operation is not supported"]  # fmt: skip
    conv = package(tmp_path / "b", "conv")
    with pytest.raises(UsageError, match="'z', which the model does not have; its inputs are: x"):
        exporters.export(conv, options=ExportOptions({"z": (1, 3, 9, 8)}))
    with pytest.raises(UsageError, match="another shape than the model's 1x3x9x8"):
        exporters.export(conv, options=ExportOptions({"x": (1, 3, 9, 9)}))
    weights = conv / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    with pytest.raises(UsageError, match=r"a part of a Core ML package; give its folder, .*net\.mlpackage"):
        exporters.export(weights)


@given(name=st.sampled_from(["conv", "classifier", "slice", "half"]), part=st.sampled_from(["model", "bin"]),
       at=st.integers(0, 1 << 20), new=st.binary(min_size=0, max_size=4))  # fmt: skip
def test_a_damaged_file_is_refused_or_exported(
    name: str, part: str, at: int, new: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = package(tmp_path_factory.getbasetemp(), name)
    inside = path / "Data" / "com.apple.CoreML"
    file = inside / ("model.mlmodel" if part == "model" or name == "slice" else "weights/weight.bin")
    data = file.read_bytes()
    at %= len(data)
    file.write_bytes(data[:at] + (new + data[at + len(new) :] if new else b""))
    try:
        found = exporters.export(path)
    except DlpackError as e:
        assert str(e)
    else:
        assert found.model.graph.node
