"""The ncnn exporter: each layer against what ncnn computes, which fixtures/make_ncnn.py recorded."""

from __future__ import annotations

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
    """Layer → param, bin, its inputs a, b, c, and its outputs y0, y1 ..."""
    return recorded_cases(Path(__file__).parent / "fixtures" / "ncnn_layers.npz")


def export(folder: Path, text: str, weights: bytes = b"", **options: Any) -> exporters.Exported:
    (folder / "net.param").write_text(text)
    (folder / "net.bin").write_bytes(weights)
    return exporters.export(folder / "net.param", **options)


def exported(folder: Path, name: str) -> tuple[Any, dict[str, Array], list[Array]]:
    """The model, its inputs, and the outputs that ncnn has for them."""
    record = recorded()[name]
    model = export(folder, str(record["param"]), record["bin"].tobytes()).model
    inputs = {i.name: record[i.name][None] for i in model.graph.input}
    return model, inputs, [record[o.name] for o in model.graph.output]


@pytest.mark.parametrize("name", recorded())
def test_computes_what_ncnn_computes(name: str, tmp_path: Path) -> None:
    model, inputs, wanted = exported(tmp_path, name)
    for got, want in zip(run(model, inputs), wanted, strict=True):
        assert got.shape == (1, *want.shape)
        np.testing.assert_allclose(got[0], want, rtol=2e-4, atol=2e-5)


def test_they_are_compiled_and_right(tmp_path: Path) -> None:
    cases = []
    for name in recorded():
        model, inputs, _ = exported(tmp_path, name)
        values = tuple(inputs[i.name] for i in model.graph.input)
        cases.append(Case(name, "", "", model, ((values, tuple(run(model, inputs))),), 1e-4, 1e-5))
    results = run_cases(cases, AVX2, lambda _: None)
    assert {r.name: r.detail for r in results if r.outcome != "passed"} == {}


NET = """7767517
4 4
Input data 0 1 data
Convolution conv 1 1 data conv 0=2 1=1 5=1 6=6 9=1
Split split 1 2 conv one two
BinaryOp add 2 1 one two sum
"""


def test_a_network_of_several_layers(tmp_path: Path) -> None:
    weights = b"\0" * 4 + np.arange(8, dtype="<f4").tobytes()
    with pytest.raises(UsageError, match="--shape data=1x3x224x224"):
        export(tmp_path, NET, weights)
    found = export(tmp_path, NET, weights, options=ExportOptions({"data": (1, 3, 1, 2)}))
    x = np.arange(6, dtype=np.float32).reshape(1, 3, 1, 2)
    y = np.einsum("oc,nchw->nohw", np.arange(6).reshape(2, 3), x) + np.array([6, 7]).reshape(2, 1, 1)
    np.testing.assert_allclose(run(found.model, {"data": x})[0], 2 * y)
    assert [o.name for o in found.model.graph.output] == ["sum"] and found.params == tmp_path / "net.bin"
    more = export(tmp_path, NET, weights + b"1234", options=ExportOptions({"data": (1, 3, 1, 2)}))
    assert "has 4 bytes more" in more.warnings[0]


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    shape = {"options": ExportOptions({"data": (1, 3, 1, 2)})}
    with pytest.raises(UnsupportedError) as e:
        export(
            tmp_path, NET.replace("BinaryOp add", "DetectionOutput add").replace("Split", "Fold"), b"\0" * 36, **shape
        )
    assert e.value.problems == ("layer 'split' (Fold): this type of layer is not supported",
                                "layer 'add' (DetectionOutput): this type of layer is not supported")  # fmt: skip
    with pytest.raises(
        ModelError, match=r"'conv' \(Convolution\): its weights need 24 bytes, and the \.bin has 6 left"
    ):
        export(tmp_path, NET, b"\0" * 10, **shape)
    with pytest.raises(ModelError, match="it announces 4 layers and has 3; it may be cut off"):
        export(tmp_path, NET[: NET.index("BinaryOp")])
    with pytest.raises(UsageError, match="'x', which the model does not have; its inputs are: data"):
        export(tmp_path, NET, options=ExportOptions({"x": (1, 3, 4, 4)}))
    with pytest.raises(UsageError, match=r"these are ncnn's weights; give net\.param"):
        exporters.export(tmp_path / "net.bin")
    (tmp_path / "net.bin").unlink()
    with pytest.raises(UsageError, match=r"its weights, a \.bin file, are not beside it"):
        exporters.export(tmp_path / "net.param")
    (tmp_path / "net.param.bin").write_bytes((7767517).to_bytes(4, "little") + b"\0" * 20)
    with pytest.raises(UsageError, match=r"this is ncnn's \.param\.bin, which has no names"):
        exporters.export(tmp_path / "net.param.bin")


@given(name=st.sampled_from(sorted(recorded())), at=st.integers(0, 1 << 20), new=st.binary(min_size=0, max_size=4),
       part=st.sampled_from(["param", "bin"]))  # fmt: skip
def test_a_damaged_file_is_refused_or_exported(
    name: str, at: int, new: bytes, part: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, record = tmp_path_factory.getbasetemp(), recorded()[name]
    files = {"param": str(record["param"]).encode(), "bin": record["bin"].tobytes()}
    at %= len(files[part]) or 1
    files[part] = files[part][:at] + (new + files[part][at + len(new) :] if new else b"")
    for suffix, data in files.items():
        (folder / f"damaged.{suffix}").write_bytes(data)
    try:
        found = exporters.export(folder / "damaged.param", folder / "damaged.bin")
    except DlpackError as e:
        assert str(e)
    else:
        assert found.model.graph.node
