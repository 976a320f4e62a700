"""Darknet → ONNX: a .cfg with its .weights. Darknet itself is not needed.

The input is `data`, a picture with values 0..1 in RGB. A detector's outputs are `boxes`, [1, N, 4], left, top, right
and bottom relative to the picture, and `scores`, [1, N, classes], of all its yolo or region layers; other networks have
one output, that of the last layer. Values are named KIND_NUMBER, numbered as Darknet does.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

from onnx import ModelProto

import dlpack.exporters.darknet.heads
import dlpack.exporters.darknet.layers  # noqa: F401 - these enter their converters
from dlpack.errors import DlpackError, ModelError, UnsupportedError, UsageError
from dlpack.exporters.base import (
    Exported,
    Exporter,
    ExportOptions,
    PictureInput,
    find_params,
    read_bytes,
    read_labels,
    read_text,
    set_metadata,
)
from dlpack.exporters.builder import NotConverted, OnnxBuilder, Shape
from dlpack.exporters.darknet.call import CONVERTERS, Layer
from dlpack.exporters.darknet.files import Section, Weights, is_weights, parse_cfg

INPUT = "data"
_BEGIN = re.compile(rb"\s*(?:[#;][^\n]*\n\s*)*\[net(?:work)?\]", re.IGNORECASE)
_DETECTORS = ("yolo", "region")


def recognises(_: Path, start: bytes) -> bool:
    return _BEGIN.match(start.removeprefix(b"\xef\xbb\xbf")) is not None


def advises(path: Path, start: bytes) -> str | None:
    if path.suffix == ".weights" and is_weights(start):
        return "these are Darknet's weights; give the .cfg beside them, and this file with --params"
    return None


def export(path: Path, params: Path | None, options: ExportOptions) -> Exported:
    net, *layers = parse_cfg(read_text(path))
    shape = _input(net, options)
    stems = [path.stem, re.sub(r"[-_.]?(test|deploy)$", "", path.stem)]
    used = find_params(path, params, stems, ".weights", is_weights)
    weights = Weights(read_bytes(used))
    model, count = _convert(layers, weights, shape, path.stem)
    warnings: tuple[str, ...] = ()
    if weights.left:
        warnings = (f"{used.name} has {weights.left:,} numbers more than {path.name} needs; check that they belong "
                    "together",)  # fmt: skip
    picture = None
    if len(shape) == 4 and shape[0] == 1 and shape[1] in (1, 3):
        resize = None if layers[-1].kind in _DETECTORS else min(shape[2:])
        picture = PictureInput(INPUT, "RGB" if shape[1] == 3 else "GRAY", 1 / 255, (0.0,) * shape[1], resize)
    return Exported(model, _labels(path, count), picture, used, warnings)


def _input(net: Section, options: ExportOptions) -> Shape:
    """The shape of the input: one picture, or one row of `inputs` numbers."""
    sizes = [net.int(k) for k in ("channels", "height", "width")]
    shape: Shape = (1, *sizes) if all(sizes) else (1, net.int("inputs"))
    given = dict(options.shapes)
    wanted = given.pop(INPUT, shape)
    if given:
        raise UsageError(f"--shape {min(given)}=...: the model's only input is '{INPUT}'")
    if len(wanted) != len(shape) or (len(shape) == 4 and wanted[1] != shape[1]):
        raise UsageError(f"--shape {INPUT}={'x'.join(map(str, wanted))}: the .cfg has {'x'.join(map(str, shape))}")
    if not all(wanted):
        raise ModelError("[net] gives neither channels, height and width nor inputs")
    return wanted


def _convert(layers: list[Section], weights: Weights, shape: Shape, name: str) -> tuple[ModelProto, int]:
    """The model, and the number of its classes (0 if it has none)."""
    g = OnnxBuilder(name)
    x = g.input(INPUT, shape)
    values: list[str] = []
    heads: list[tuple[str, str]] = []
    for k, section in enumerate(layers):
        where = _where(k, section)
        converter = CONVERTERS.get(section.kind)
        try:
            if converter is None:
                raise NotConverted("this kind of layer")
            layer_name = f"{section.kind}_{k}"
            with g.scope(layer_name):
                call = Layer(g, layer_name, section, x, values, weights, shape, heads)
                made = converter(call)
                x = g.publish([made], [layer_name], layer_name)[0]
        except (NotConverted, UnsupportedError) as e:
            rest = [(n, s) for n, s in enumerate(layers) if n > k and s.kind not in CONVERTERS]
            raise UnsupportedError(
                "the model cannot be exported:",
                (f"{where}: {e} is not supported", *(f"{_where(n, s)}: it is not supported" for n, s in rest)),
            ) from e
        except DlpackError as e:
            raise type(e)(f"{where}: {e}") from e
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, ArithmeticError) as e:
            raise ModelError(f"{where}: its options do not fit its input {list(g.shape(x))}: {e}") from e
        values.append(x)
    if not heads:
        count = math.prod(g.shape(x)[1:]) if layers[-1].kind in ("softmax", "soft", "cost") else 0
        return g.build([(x, x)]), count
    return _detector(g, heads)


def _where(number: int, section: Section) -> str:
    return f"layer {number} [{section.kind[:40]}] (line {section.line})"


def _detector(g: OnnxBuilder, heads: list[tuple[str, str]]) -> tuple[ModelProto, int]:
    classes = {g.shape(scores)[2] for _, scores in heads}
    if len(classes) > 1:
        raise ModelError(f"its detection layers differ in their classes: {sorted(classes)}")
    outputs = []
    for k, name in enumerate(("boxes", "scores")):
        parts = [head[k] for head in heads]
        outputs.append((g.op("Concat", *parts, axis=1) if len(parts) > 1 else parts[0], name))
    with g.scope("detections"):
        results = [g.op("Identity", value) for value, _ in outputs]
        results = g.publish(results, [name for _, name in outputs], "detections")
    model = g.build([(value, value) for value in results])
    if g.shape(results[0])[0] == 1:
        task = {"kind": "detect", "format": "corners", "boxes": results[0], "scores": results[1], "threshold": 0.25}
        set_metadata(model, "dlpack.task", json.dumps(task))
    return model, classes.pop()


def _labels(path: Path, count: int) -> tuple[str, ...] | None:
    """The classes' names: of the only .names file beside the .cfg that has so many."""
    if not count:
        return None
    found = [read_labels(read_text(p)) for p in sorted(path.parent.glob("*.names")) if p.is_file()]
    fitting = {names for names in found if len(names) == count}
    return fitting.pop() if len(fitting) == 1 else None


EXPORTER = Exporter("Darknet", "NAME.cfg with NAME.weights", recognises, export, advises)
