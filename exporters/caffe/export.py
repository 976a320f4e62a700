"""Caffe → ONNX: a deploy .prototxt with its .caffemodel. Caffe itself is not needed.

The network is what the .prototxt says at test time (phase TEST); layers of training data become inputs, losses give
their prediction, Accuracy is left out. Values are named as the tops; where layers write one top in place, only the last
of them has its name, and the others have TOP_LAYER.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
from onnx import ModelProto

import dlpack.exporters.caffe.detection
import dlpack.exporters.caffe.layers
import dlpack.exporters.caffe.math
import dlpack.exporters.caffe.tensor  # noqa: F401 - these enter their converters
from dlpack.errors import DlpackError, ModelError, UnsupportedError, UsageError
from dlpack.exporters.base import (
    Exported,
    Exporter,
    ExportOptions,
    PictureInput,
    find_params,
    head,
    read_bytes,
    read_text,
    set_metadata,
)
from dlpack.exporters.builder import Array, NotConverted, OnnxBuilder, Shape
from dlpack.exporters.caffe.call import CONVERTERS, Layer
from dlpack.exporters.caffe.files import Message, looks_like_caffemodel, parse_prototxt, read_blob, read_weights

# V1's enumeration of layer types: names in old .prototxt files → today's.
_NAMES = (
    "AbsVal Accuracy ArgMax BNLL Concat ContrastiveLoss Convolution Data Deconvolution Dropout DummyData EuclideanLoss "
    "Eltwise ELU Exp Flatten HDF5Data HDF5Output HingeLoss Im2col ImageData InfogainLoss InnerProduct LRN MemoryData "
    "MultinomialLogisticLoss MVN Pooling Power ReLU PReLU Sigmoid SigmoidCrossEntropyLoss Silence Softmax Split Slice "
    "TanH WindowData Threshold"
)
_V1 = {name.upper(): name for name in _NAMES.split()} | {"SOFTMAXLOSS": "SoftmaxWithLoss"}
_DATA = ("Data", "ImageData", "WindowData", "HDF5Data", "MemoryData", "DummyData", "AnnotatedData", "Input")
_DROPPED = ("Accuracy", "HDF5Output", "Silence")
_LOSSES = ("SoftmaxWithLoss", "SigmoidCrossEntropyLoss", "EuclideanLoss")
_STAGE = "deploy"
"""DIGITS writes one prototxt for training, validation and use; these are the layers of its use."""
_FIELD = re.compile(rb"(^|[\s}])(layers?|input|input_dim|input_shape|name|state|force_backward)\s*[:{]")


def recognises(path: Path, start: bytes) -> bool:
    """Whether it is text that begins with a network's fields."""
    if b"\0" in start or start.lstrip()[:1] in (b"{", b"[", b"<"):
        return False
    text = re.sub(rb"#[^\n]*", b"", start)
    if path.suffix == ".prototxt" and _FIELD.search(text):
        return True
    return bool(re.search(rb"(^|\n)\s*(layers?\s*\{|input\s*:|input_dim\s*:)", text))


def advises(path: Path, start: bytes) -> str | None:
    if path.suffix == ".caffemodel" or (looks_like_caffemodel(start) and path.suffix != ".onnx"):
        return "these are Caffe's weights; give the deploy .prototxt beside them, and this file with --params"
    return None


def export(path: Path, params: Path | None, options: ExportOptions) -> Exported:
    net = parse_prototxt(read_text(path))
    layers = net_layers(net)
    used, weights = None, {}
    needs = any(layer_type(m) in _WEIGHTED for m in layers)
    if needs or params is not None:
        stem = re.sub(r"_?(deploy|train_val)$", "", path.stem, flags=re.IGNORECASE) or path.stem
        used = find_params(path, params, [path.stem, stem], ".caffemodel", _is_weights)
        weights = read_weights(read_bytes(used))
    conversion = Conversion(net, layers, weights, options, net.text("name") or path.stem)
    model = conversion.run()
    preprocess, warnings = _preprocess(path, layers, model)
    if any(
        d.type.tensor_type.shape.dim[1].dim_value == 3
        for d in model.graph.input
        if len(d.type.tensor_type.shape.dim) == 4
    ):
        set_metadata(model, "dlpack.channels", "BGR")  # Caffe reads images through OpenCV
    return Exported(model, None, preprocess, used, warnings)


_WEIGHTED = (
    "Convolution", "ConvolutionDepthwise", "DepthwiseConvolution", "Deconvolution", "InnerProduct", "BatchNorm",
    "PReLU", "Embed", "LSTM", "Normalize", "Scale", "Bias",
)  # fmt: skip


def _is_weights(start: bytes) -> bool:
    if start.startswith(b"\x89HDF"):
        raise UsageError(
            "the weights are an HDF5 file; save them as a binary .caffemodel (snapshot_format: BINARYPROTO)"
        )
    return start[:1] in (b"\x0a", b"\x12", b"\x1a", b"\x20", b"\x28", b"\x42", b"\xa2")


def net_layers(net: Message) -> list[Message]:
    """The layers at test time, of either version; with DIGITS' stages those of the stage "deploy"."""
    old, new = net.messages("layers"), net.messages("layer")
    if old and new:
        raise ModelError("the prototxt has both `layer` and `layers`; Caffe reads one of them only")
    layers = [m for m in old or new if _included(m)]
    if not layers:
        raise ModelError("the prototxt has no layers")
    if any("layer" in m for m in layers):
        raise UnsupportedError(
            "the prototxt is of version 0 (a layer within each `layers`); run Caffe's upgrade_net_proto_text on it"
        )
    return layers


def _included(layer: Message) -> bool:
    def meets(rule: Message) -> bool:
        in_stage = set(rule.texts("stage")) <= {_STAGE} and _STAGE not in rule.texts("not_stage")
        in_level = rule.int("min_level", 0) <= 0 <= rule.int("max_level", 0)
        return rule.text("phase", "TEST") in ("TEST", "1") and in_stage and in_level

    include, exclude = layer.messages("include"), layer.messages("exclude")
    return (not include or any(map(meets, include))) and not any(map(meets, exclude))


def _fed(net: Message) -> set[str]:
    """What layers of data give in other stages alone: where no layer is there in its place, the caller gives it."""
    data = [m for m in net.messages("layer") if layer_type(m) in _DATA]
    staged = [m for m in data if any(rule.texts("stage") for rule in m.messages("include"))]
    return {m.texts("top")[0] for m in staged if m.texts("top")}


def layer_type(layer: Message) -> str:
    name = layer.text("type")
    return _V1.get(name.upper().replace("_", ""), name) if name.isupper() else name


class Conversion:
    """The conversion of one network to an ONNX graph."""

    def __init__(
        self, net: Message, layers: list[Message], weights: dict[str, list[Array]], options: ExportOptions, name: str
    ) -> None:
        self.net, self.layers, self.weights, self.options = net, layers, weights, options
        self.g = OnnxBuilder(name)
        self.values: dict[str, str | None] = {}  # top → value; None where it could not be converted
        self.unread: dict[str, None] = {}  # tops that nothing has read yet, in order
        self.open: list[str] = []
        self.problems: list[str] = []
        self.writers: dict[str, int] = {}
        for k, layer in enumerate(layers):
            for top in layer.texts("top"):
                self.writers[top] = k
        self.shared: dict[str, list[Array]] = {}
        self.fed = _fed(net)

    def run(self) -> ModelProto:
        declared = self._declared()
        for name, shape in declared.items():
            self._input(name, shape)
        names = set(declared)
        for k, layer in enumerate(self.layers):
            kind = layer_type(layer)
            if kind in _DATA:
                names |= set(self._data(layer, kind))
            elif kind not in _DROPPED:
                self._convert(k, layer, kind)
            else:
                for bottom in layer.texts("bottom"):
                    self.unread.pop(bottom, None)
        names |= self.fed & set(self.values)
        unknown = sorted(set(self.options.shapes) - names)
        if unknown:
            raise UsageError(
                f"--shape names the input '{unknown[0]}', which the model does not have; "
                f"its inputs are: {', '.join(sorted(names)) or 'none'}"
            )
        if self.open:
            words = " ".join(f"--shape {n}=1x3x224x224" for n in self.open)
            raise UsageError(f"the prototxt does not give its inputs' shapes; add them, for instance: {words}")
        if self.problems:
            raise UnsupportedError("the model cannot be exported:", tuple(dict.fromkeys(self.problems)))
        outputs = [(value, top) for top in self.unread if (value := self.values.get(top)) is not None]
        if not outputs:
            raise ModelError("the network has no outputs: every top is read by another layer")
        return self.g.build(outputs)

    def _declared(self) -> dict[str, Shape]:
        """`input` with `input_shape`, or four of `input_dim` each."""
        names, dims = self.net.texts("input"), self.net.ints("input_dim")
        shapes = [tuple(m.ints("dim")) for m in self.net.messages("input_shape")]
        if len(set(names)) != len(names):
            raise ModelError("the prototxt names an input twice")
        if not shapes:
            shapes = [tuple(dims[k : k + 4]) for k in range(0, len(dims), 4)]
        if len(shapes) == 1:
            shapes *= len(names)
        shapes += [()] * (len(names) - len(shapes))
        return dict(zip(names, shapes, strict=False))

    def _input(self, name: str, shape: Shape) -> None:
        shape = self.options.shapes.get(name, shape)
        if not shape:
            self.open.append(name)
        self.values[name] = self.g.input(name, shape) if shape else None

    def _data(self, layer: Message, kind: str) -> list[str]:
        """The inputs in place of a layer of data; labels that only losses read are left out."""
        tops = layer.texts("top")
        shapes = [tuple(m.ints("dim")) for m in layer.message("input_param").messages("shape")]
        shapes = shapes or [tuple(m.ints("dim")) for m in layer.message("dummy_data_param").messages("shape")]
        if kind == "MemoryData" and not shapes:
            p = layer.message("memory_data_param")
            shapes = [tuple(p.int(k) for k in ("batch_size", "channels", "height", "width"))]
        crop = layer.message("transform_param").int("crop_size") or layer.message("data_param").int("crop_size")
        if kind not in ("Input", "DummyData"):
            tops = tops[:1]
            if crop and not shapes:
                shapes = [(1, 3, crop, crop)]
        for k, top in enumerate(tops):
            self._input(top, shapes[k] if k < len(shapes) else shapes[-1] if shapes else ())
        return tops

    def _convert(self, index: int, layer: Message, kind: str) -> None:
        name = layer.text("name") or f"layer{index}"
        where = f"layer '{name}' ({kind[:60]})"
        bottoms, tops = layer.texts("bottom"), layer.texts("top")
        if kind in _LOSSES:
            bottoms, tops = bottoms[:1], tops or [name]
        for bottom in bottoms:
            if bottom not in self.values and kind in CONVERTERS and bottom in self.fed:
                self._input(bottom, ())
            if bottom not in self.values and kind in CONVERTERS:
                raise ModelError(f"{where}: its bottom '{bottom}' is not the top of an earlier layer")
            self.unread.pop(bottom, None)
        converter = CONVERTERS.get(kind)
        values = [self.values.get(b) for b in bottoms]
        if converter is None:
            self.problems.append(f"{where}: this type of layer is not supported")
        if converter is None or any(v is None for v in values):
            for top in tops:
                self.values[top] = None
            return
        try:
            with self.g.scope(name):
                blobs = self._blobs(name, layer)
                call = Layer(self.g, name, kind, layer, [v for v in values if v is not None], len(tops), blobs)
                result = converter(call)
                call.check_all_read()
                results = result if isinstance(result, list) else [result]
                if len(results) < len(tops):
                    raise ModelError(f"it has {len(tops)} tops; a layer of this type has {len(results)}")
                names = [t if self.writers.get(t, index) == index else f"{t}_{name}" for t in tops]
                published = self.g.publish(results[: len(tops)], names, name)
            for top, value in zip(tops, published, strict=True):
                self.values[top] = value
                self.unread[top] = None
        except (NotConverted, UnsupportedError) as e:
            self.problems.append(f"{where}: {e} is not supported")
            for top in tops:
                self.values[top] = None
        except DlpackError as e:
            raise type(e)(f"{where}: {e}") from e
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, ArithmeticError) as e:
            shapes = ", ".join(str(list(self.g.shape(v))) for v in values if v is not None)
            raise ModelError(f"{where}: its bottoms or parameters do not fit (bottoms {shapes}): {e}") from e

    def _blobs(self, name: str, layer: Message) -> list[Array]:
        """The layer's weights; a named `param` shares those of the first layer with that name."""
        blobs = self.weights.get(name, [])
        names = (
            [m.text("name") for m in layer.messages("param")] if layer.messages_only("param") else layer.texts("param")
        )
        key = "\0".join(names)
        if key.strip("\0"):
            if not blobs:
                return self.shared.get(key, [])
            self.shared.setdefault(key, blobs)
        return blobs


def _preprocess(path: Path, layers: list[Message], model: ModelProto) -> tuple[PictureInput | None, tuple[str, ...]]:
    """From `transform_param` (its mean file by its bare name beside the model), or from a lone mean file there; and
    warnings."""
    found = [m.message("transform_param") for m in layers if "transform_param" in m]
    transform = found[0] if found else Message()
    means, scale = transform.floats("mean_value"), transform.float("scale", 1.0)
    mean_path = None if means else _mean_path(path, transform.text("mean_file"))
    mean = _read_mean(mean_path) if mean_path else None
    pictures = [v for v in model.graph.input if len(v.type.tensor_type.shape.dim) == 4]
    dims = [d.dim_value for d in pictures[0].type.tensor_type.shape.dim] if pictures else []
    if not dims or dims[0] != 1 or dims[1] not in (1, 3) or not (found or mean is not None):
        return None, ()
    if "mean_file" in transform and mean is None:
        named = transform.text("mean_file")[:200]
        return None, (
            f"the mean {named} is not beside {path.name}, so its preprocessing is not known: put the file there, or "
            "give --preprocess",
        )
    if mean is not None and mean.ndim >= 3 and mean.shape[-3] == dims[1]:
        means = mean.reshape(-1, dims[1], mean.shape[-2] * mean.shape[-1]).mean((0, 2), dtype=np.float64).tolist()
    means = means * dims[1] if len(means) == 1 else means or [0.0] * dims[1]
    if len(means) != dims[1]:
        raise ModelError(f"transform_param has {len(means)} values of mean_value; the input has {dims[1]} channels")
    if not all(map(math.isfinite, [*means, scale])):
        return None, ()
    channels = "BGR" if dims[1] == 3 else "GRAY"
    return PictureInput(pictures[0].name, channels, scale, tuple(round(m * scale, 6) for m in means)), ()


def _mean_path(path: Path, named: str) -> Path | None:
    bare = re.split(r"[/\\]", named)[-1]
    candidates = [path.parent / bare] if bare else sorted(path.parent.glob("*mean*.binaryproto"))
    if len(candidates) != 1 or not candidates[0].is_file() or not head(candidates[0]):
        return None
    return candidates[0]


def _read_mean(path: Path) -> Array:
    try:
        return read_blob(memoryview(read_bytes(path, 1 << 30)))
    except ModelError as e:
        raise ModelError(f"the mean {path.name} is damaged or cut off ({e})") from e


EXPORTER = Exporter("Caffe", "deploy.prototxt with NAME.caffemodel", recognises, export, advises)
