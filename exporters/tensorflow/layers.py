"""TF.js layers models: `model.json` and files of weights, as the Keras file (.h5) that they were made from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.errors import ModelError, UnsupportedError
from dlpack.exporters.base import MAX_WEIGHTS_BYTES, parse_json, read_bytes, read_text

_TYPES = {"float32": "<f4", "int32": "<i4", "bool": "?", "uint8": "u1", "uint16": "<u2", "float16": "<f2"}
_DAMAGED = "the weights do not fit model.json; copy or convert them again"


def is_layers_model(start: bytes) -> bool:
    """Whether a file that begins with `start` is the model.json of a layers model: a Keras configuration."""
    if start.lstrip()[:1] != b"{" or b'"graph-model"' in start:
        return False
    return b'"layers-model"' in start or (b'"modelTopology"' in start and b'"class_name"' in start)


def weight_files(path: Path) -> list[Path]:
    """The files of weights that the model.json at `path` names. Raises ModelError for those outside its folder."""
    return [path.parent / name for group in _groups(_description(path)) for name in _names(group)]


def write_h5(path: Path, folder: Path) -> Path:
    """The model of a model.json as an .h5 file in `folder`. Raises a DlpackError."""
    import h5py

    description = _description(path)
    topology = description.get("modelTopology")
    config = topology.get("model_config", topology) if isinstance(topology, dict) else None
    if not isinstance(config, dict) or "class_name" not in config:
        raise ModelError("its modelTopology is no Keras model")
    if isinstance(config.get("config"), list):  # of the first releases
        config = config | {"config": {"name": "model", "layers": config["config"]}}
    names = _layers(config)
    weights: dict[str, Any] = {}
    for group in _groups(description):
        weights |= _decoded(group, path.parent)
    made = folder / "model.h5"
    with h5py.File(made, "w") as file:
        file.attrs["model_config"] = json.dumps(_as_keras(_with_input(config)))
        file.attrs["keras_version"], file.attrs["backend"] = "2.15.0", "tensorflow"
        held = file.create_group("model_weights")
        names = [name for name in names if isinstance(name, str)]
        held.attrs["layer_names"] = [name.encode() for name in names]
        for name in names:
            own = [w for w in weights if w.startswith(f"{name}/")]
            if not own and len(names) == 1:
                own = list(weights)
            layer = held.create_group(name)
            layer.attrs["weight_names"] = [w.encode() for w in own]
            for weight in own:
                layer.create_dataset(weight, data=weights[weight])
    return made


def _description(path: Path) -> dict[str, Any]:
    found = parse_json(read_text(path), path.name)
    if not isinstance(found, dict):
        raise ModelError(f"{path.name} is no TF.js model")
    return found


def _groups(description: Mapping[str, Any]) -> list[dict[str, Any]]:
    groups = description.get("weightsManifest")
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        raise ModelError("its weightsManifest is missing; save the model with its weights (model.save('file://...'))")
    return groups


def _names(group: Mapping[str, Any]) -> list[str]:
    names = group.get("paths")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelError("its weightsManifest names no files")
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ModelError(f"its weights are in {name[:80]!r}, which does not lie in its folder")
    return names


def _decoded(group: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The arrays of one group, whose files are one run of bytes."""
    data = b"".join(read_bytes(folder / name) for name in _names(group))
    found, place = dict[str, Any](), 0
    for weight in group.get("weights", []):
        try:
            name, shape, kind = str(weight["name"]), [int(v) for v in weight["shape"]], weight["dtype"]
            packed = weight.get("quantization") or {}
            dtype = np.dtype(_TYPES[packed.get("dtype", kind)])
            result = np.dtype(_TYPES[kind])
            scale, least = float(packed.get("scale", 1)), float(packed.get("min", 0))
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise ModelError(f"its weightsManifest describes a weight that is not known: {str(e)[:80]}") from e
        count = math.prod(shape)
        if min(shape, default=1) < 0 or count * dtype.itemsize > min(MAX_WEIGHTS_BYTES, len(data) - place):
            raise ModelError(_DAMAGED)
        array = np.frombuffer(data, dtype, count, place).reshape(shape)
        place += count * dtype.itemsize
        if packed and dtype.kind == "u":
            array = array.astype(np.float32) * np.float32(scale) + np.float32(least)
        found[name] = array.astype(result)
    if place != len(data):
        raise ModelError(_DAMAGED)
    return found


def _layers(config: Mapping[str, Any]) -> list[Any]:
    """The names of the layers, in their order. Raises UnsupportedError for a model inside of another."""
    inner = config.get("config")
    layers = inner.get("layers", []) if isinstance(inner, dict) else []
    found = []
    for layer in layers:
        own = layer.get("config") if isinstance(layer, dict) else None
        if not isinstance(own, dict):
            raise ModelError("its modelTopology is no Keras model")
        if layer.get("class_name") in ("Sequential", "Model", "Functional"):
            raise UnsupportedError(
                f"a TF.js model with a model as its layer '{str(own.get('name'))[:60]}' is not supported; convert it "
                "with: pip install tensorflowjs && tensorflowjs_converter --input_format=tfjs_layers_model "
                "--output_format=keras model.json model.h5"
            )
        found.append(layer.get("name") or own.get("name"))
    return found


def _with_input(config: dict[str, Any]) -> dict[str, Any]:
    """A Sequential model with its input as a layer: TF.js states it in the first layer, which Keras 3 misreads."""
    inner = config["config"]
    layers = list(inner["layers"])
    if config["class_name"] != "Sequential" or not layers or layers[0].get("class_name") == "InputLayer":
        return config
    first = dict(layers[0]["config"])
    shape = first.pop("batch_input_shape", None)
    if shape is None:
        return config
    kind = first.get("dtype", "float32")
    given = {"batch_input_shape": shape, "dtype": kind, "sparse": False, "ragged": False, "name": "input"}
    layers[0] = layers[0] | {"config": first}
    return config | {
        "config": inner | {"layers": [{"class_name": "InputLayer", "config": given}, *layers]},
    }


def _as_keras(value: Any) -> Any:
    """The configuration with the class names that Keras has."""
    if isinstance(value, list):
        return [_as_keras(v) for v in value]
    if not isinstance(value, dict):
        return value
    made = {key: _as_keras(v) for key, v in value.items()}
    if made.get("class_name") == "Model":
        made["class_name"] = "Functional"
    return made
