"""Core ML models that are no ML programs (fixtures/make_coreml_models.py): neural networks against PyTorch's functions,
models of tables against scikit-learn's predictions, which lie in the fixture."""

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
from test_export_coreml import DEFINITIONS as PROGRAMS
from test_export_coreml import inputs_of
from test_export_mxnet import run

from dlpack import exporters
from dlpack.errors import DlpackError, UnsupportedError, UsageError
from dlpack.exporters import ExportOptions
from dlpack.targets.cpu.machine import AVX2

torch = requires_module("torch")
F = torch.nn.functional
Array = np.ndarray[Any, Any]


def recorded() -> dict[str, dict[str, Array]]:
    """Network, table or program → its model, and the results; "weights" has the arrays that are in them."""
    return recorded_cases(Path(__file__).parent / "fixtures" / "coreml_models.npz")


W = {name: torch.from_numpy(array) for name, array in recorded()["weights"].items()}
TABLES = [name for name in recorded() if name.startswith("table ")]


def mlmodel(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "net.mlmodel"
    path.write_bytes(recorded()[name]["model"].tobytes())
    return path


def old(x: Any, conv: Any = W["conv"], linear: Any = W["linear"]) -> Any:
    """The layers of the first versions, as Apple's NeuralNetwork.proto defines them."""
    y = F.conv2d(F.pad(x[None], (1, 1, 1, 1)), conv, stride=2)
    y = F.leaky_relu(F.local_response_norm(y, 3, 0.5, 0.75, 2.0), 0.1)
    y = F.avg_pool2d(y, 2, 2, ceil_mode=True, count_include_pad=False).permute(0, 2, 3, 1)
    y = y.reshape(1, 3, 3, 8).permute(0, 3, 1, 2)
    y = y - y.mean((2, 3), keepdim=True)
    y = y / torch.sqrt((y * y).mean((2, 3), keepdim=True) + 0.01)
    return torch.softmax((y * y).sum((2, 3)) @ linear.T, -1)


def lstm(x: Any, h: Any, c: Any) -> Any:
    gates = x @ W["w"].T + h @ W["r"].T + W["b"]
    i, f, g, o = gates.reshape(4, 5)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c)


def gru(x: Any, h: Any) -> Any:
    w, r, b = (W[k][:15].reshape(3, 5, -1).squeeze(-1) for k in "wrb")
    reset, update = (torch.clamp(0.2 * (w[k] @ x + r[k] @ h + b[k]) + 0.5, 0, 1) for k in (0, 1))
    return (1 - update) * torch.tanh(w[2] @ x + r[2] @ (reset * h) + b[2]) + update * h


def embedding(x: Any) -> Any:
    row = W["table"][:, int(x[0])]
    row = row / torch.sqrt((row * row).sum() + 0.5)
    return ((2 * row + 0.25) ** 2) * torch.tensor([2.0, 3.0, 4.0, 5.0])


def picture(x: Any) -> Any:
    return old(x[0] / 64 - torch.tensor([0.25, 0.5, 1]).reshape(3, 1, 1))


NETWORKS: dict[str, Callable[..., Any]] = {
    **{f"program {name}": f for name, f in PROGRAMS.items() if f"program {name}" in recorded()},
    "old": old, "lstm": lstm, "gru": gru, "embedding": embedding, "picture": picture,
}  # fmt: skip
ORDER = {"lstm": ("x", "h0", "c0"), "gru": ("x", "h0")}


def values_of(model: Any, name: str) -> dict[str, Array]:
    return {"x": np.array([3], np.float32)} if name == "embedding" else inputs_of(model)


def test_every_model_has_a_definition() -> None:
    assert {*NETWORKS, *TABLES, "weights", "old 8", "old 4"} == set(recorded())
    assert len(NETWORKS) > 38


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_computes_its_definition(name: str, tmp_path: Path) -> None:
    model = exporters.export(mlmodel(tmp_path, name)).model
    inputs = values_of(model, name)
    ordered = [inputs[n] for n in ORDER.get(name, sorted(inputs))]
    wanted = NETWORKS[name](*(torch.from_numpy(v) for v in ordered))
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    for got, want in zip(run(model, inputs), wanted, strict=False):
        np.testing.assert_allclose(got.reshape(want.shape), want.numpy(), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_gives_what_scikit_learn_predicts(name: str, tmp_path: Path) -> None:
    model = exporters.export(mlmodel(tmp_path, name)).model
    names = [i.name for i in model.graph.input]
    for row, want in zip(recorded()[name]["rows"], recorded()[name]["wanted"], strict=True):
        values = row[None] if len(names) == 1 else None
        inputs = {n: values if values is not None else row[k].reshape(1, 1) for k, n in enumerate(names)}
        got = dict(zip([o.name for o in model.graph.output], run(model, inputs), strict=True))
        if want.shape:
            np.testing.assert_allclose(got["classProbability"][0], want, rtol=1e-4, atol=1e-5)
            assert got["target"] == want.argmax()
        else:
            np.testing.assert_allclose(got["target"].reshape(()), want, rtol=1e-4)


@pytest.mark.parametrize(("name", "levels"), [("old 8", 256), ("old 4", 16)])
def test_quantised_weights_are_near_the_originals(name: str, levels: int, tmp_path: Path) -> None:
    model = exporters.export(mlmodel(tmp_path, name)).model
    conv = next(torch.tensor(np.frombuffer(i.raw_data, np.float32).reshape(tuple(i.dims)))
                for i in model.graph.initializer if i.name == "conv_weight")  # fmt: skip
    step = (W["conv"].amax() - W["conv"].amin()) / (levels - 1)
    assert float((conv - W["conv"]).abs().max()) <= float(step)
    assert conv.unique().numel() <= levels * (8 if levels == 256 else 1)


def test_they_are_compiled_and_right(tmp_path: Path) -> None:
    cases = []
    for name in ("old", "lstm", "gru", "picture", "table forest", "table pipeline"):
        model = exporters.export(mlmodel(tmp_path / name, name)).model
        inputs = values_of(model, name)
        values = tuple(inputs[i.name] for i in model.graph.input)
        cases.append(Case(name, "", "", model, ((values, tuple(run(model, inputs))),), 1e-4, 1e-5))
    results = run_cases(cases, AVX2, lambda _: None)
    assert {r.name: r.detail for r in results if r.outcome != "passed"} == {}


def test_a_classifier_of_pictures(tmp_path: Path) -> None:
    found = exporters.export(mlmodel(tmp_path, "picture"))
    assert found.labels == ("ant", "bee", "cat", "dog")
    assert found.preprocess is not None and found.preprocess.channels == "BGR"
    assert [tuple(d.dim_value for d in o.type.tensor_type.shape.dim) for o in found.model.graph.output] == [(1, 4)]


def test_a_sequence_is_given_by_its_shape(tmp_path: Path) -> None:
    model = exporters.export(mlmodel(tmp_path, "gru"), options=ExportOptions({"x": (3, 6)})).model
    inputs = inputs_of(model)
    h = torch.from_numpy(inputs["h0"])
    for x in torch.from_numpy(inputs["x"]):
        h = gru(x, h)
    np.testing.assert_allclose(run(model, inputs)[0][-1].reshape(5), h.numpy(), rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="another shape than the model's 6"):
        exporters.export(tmp_path / "net.mlmodel", options=ExportOptions({"x": (3, 5)}))


def test_what_is_not_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "svm.mlmodel").write_bytes(b"\x08\x01\x12\x05\x0a\x03\x0a\x01x\xea\x12\x00")  # field 301, empty
    with pytest.raises(UnsupportedError, match=r"of the kind supportVectorRegressor is not read"):
        exporters.export(tmp_path / "svm.mlmodel")


@given(name=st.sampled_from(["old", "lstm", "old 4", "table forest", "table pipeline"]), at=st.integers(0, 1 << 20),
       new=st.binary(min_size=0, max_size=4))  # fmt: skip
def test_a_damaged_file_is_refused_or_exported(
    name: str, at: int, new: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = recorded()[name]["model"].tobytes()
    at %= len(data)
    path = tmp_path_factory.getbasetemp() / "damaged.mlmodel"
    path.write_bytes(data[:at] + (new + data[at + len(new) :] if new else b""))
    try:
        assert exporters.export(path).model.graph.output
    except DlpackError as e:
        assert str(e)
