"""Bundles for a machine with a GPU: every model of the zoo at batch 1 and 8."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from dlpack.errors import DlpackError
from dlpack.options import Options
from dlpack.pipeline import build

BATCHES = (1, 8)


def batched(model: Path, batch: int, folder: Path) -> Path:
    """The model with another first dimension of its inputs; shapes behind them are inferred anew."""
    if batch == 1:
        return model
    proto = onnx.load(model)
    del proto.graph.value_info[:]
    for value in (*proto.graph.input, *proto.graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].dim_value == 1:
            dims[0].dim_value = batch
    for tensor in proto.graph.initializer:  # shapes that a Reshape gets
        _widen(tensor, batch, {node.input[1] for node in proto.graph.node if node.op_type == "Reshape"})
    path = folder / f"{model.stem}_{batch}.onnx"
    onnx.save(proto, path)
    return path


def _widen(tensor: onnx.TensorProto, batch: int, shapes: set[str]) -> None:
    if tensor.name not in shapes:
        return
    shape = onnx.numpy_helper.to_array(tensor).copy()
    if shape.size > 1 and shape[0] == 1:
        shape[0] = batch
        tensor.CopyFrom(onnx.numpy_helper.from_array(shape, tensor.name))


def build_all(models: list[Path], folder: Path, archs: str, keep_models: bool) -> list[str]:
    """Builds the bundles, and returns what could not be built, a line each; models stay beside them if kept."""
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for model in models:
        for batch in BATCHES:
            name = model.stem if batch == 1 else f"{model.stem}_{batch}"
            target = folder / name
            if (target / "manifest.json").is_file():
                continue
            try:
                with TemporaryDirectory() as scratch:
                    source = batched(model, batch, Path(scratch))
                    build(source, target, Options("cuda", name="net", target_options={"arch": archs}))
                    if keep_models:
                        shutil.copy(source, folder / f"{name}.onnx")
            except DlpackError as e:
                failures.append(f"{name}: {str(e).splitlines()[0]}")
                shutil.rmtree(target, ignore_errors=True)
    return failures
