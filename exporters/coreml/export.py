"""Core ML → ONNX: packages (.mlpackage) and .mlmodel files. coremltools is not needed.

ML programs are converted here, the older kinds of models by `models.py`.

float16 is computed as float32. A classifier's output is its classes' probabilities; their names are the labels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

import dlpack.exporters.coreml.layers
import dlpack.exporters.coreml.math  # noqa: F401 - these enter their converters
from dlpack.errors import DlpackError, ModelError, UnsupportedError, UsageError
from dlpack.exporters.base import Exported, Exporter, ExportOptions, PictureInput, read_bytes
from dlpack.exporters.builder import NotConverted, OnnxBuilder, Shape
from dlpack.exporters.coreml.call import CONVERTERS, Call, Constant
from dlpack.exporters.coreml.features import COLORS
from dlpack.exporters.coreml.files import Blobs, Message, tensor_type, value
from dlpack.exporters.coreml.models import export_model

_PROGRAM = 502
_INPUTS: dict[int, Any] = {1: np.bool_, 10: np.float32, 11: np.float32, 12: np.float32, 23: np.int32}

Value = str | Constant


def recognises(path: Path, start: bytes) -> bool:
    return path.suffix == ".mlmodel" and start[:1] == b"\x08"


def advises(path: Path, _: bytes) -> str | None:
    package = next((p for p in path.parents if p.suffix == ".mlpackage"), None)
    return f"this is a part of a Core ML package; give its folder, {package}" if package else None


def export(path: Path, params: Path | None, options: ExportOptions) -> Exported:
    if params is not None:
        raise UsageError("a Core ML model holds its weights itself, or in its package; leave --params out")
    model = Message(memoryview(read_bytes(path)), [0])
    if _PROGRAM not in model:
        return export_model(model, options, path.stem)
    blobs = Blobs(path.parent)
    conversion = Conversion(model, blobs, options, path.stem)
    built = conversion.run()
    used = blobs.paths
    return Exported(
        built, conversion.labels, _picture(model, built), used[0] if used else None, tuple(conversion.warnings)
    )


class Conversion:
    """The conversion of the function "main" to an ONNX graph."""

    def __init__(self, model: Message, blobs: Blobs, options: ExportOptions, name: str) -> None:
        self.model, self.blobs, self.options = model, blobs, options
        self.g = OnnxBuilder(name)
        self.values: dict[str, Value | None] = {}
        self.labels: tuple[str, ...] | None = None
        self.problems: list[str] = []
        self.warnings: list[str] = []

    def run(self) -> ModelProto:
        functions = self.model.message(_PROGRAM).entries(2)
        if "main" not in functions:
            raise ModelError(f"the program has no function main, but {', '.join(functions)[:80] or 'none'}")
        main = functions["main"]
        blocks = main.entries(3)
        block = blocks.get(main.text(2)) or next(iter(blocks.values()), None)
        if block is None:
            raise ModelError("its function main is empty")
        self._inputs(main)
        for k, operation in enumerate(block.messages(3)):
            self._operation(k, operation)
        if self.problems:
            raise UnsupportedError("the model cannot be exported:", tuple(dict.fromkeys(self.problems)))
        outputs = []
        for name in block.texts(2):
            made = self.values.get(name)
            if isinstance(made, str):
                outputs.append((made, name))
            elif name not in self.values:
                raise ModelError(f"its output '{name[:60]}' is computed nowhere")
        if not outputs:
            raise ModelError("the program has no outputs that are tensors")
        return self.g.build(outputs)

    def _inputs(self, main: Message) -> None:
        shapes: dict[str, tuple[int, list[int | None]]] = {}
        for named in main.messages(1):
            shapes[named.text(1)] = tensor_type(named.message(2))
        unknown = sorted(set(self.options.shapes) - set(shapes))
        if unknown:
            raise UsageError(
                f"--shape names the input '{unknown[0]}', which the model does not have; its inputs are: "
                f"{', '.join(shapes) or 'none'}"
            )
        for name, (kind, sizes) in shapes.items():
            given = self.options.shapes.get(name)
            if given is not None and not _fits(given, sizes):
                told = "x".join("?" if s is None else str(s) for s in sizes)
                raise UsageError(f"--shape gives the input '{name}' another shape than the model's {told}")
            shape = given or tuple(s or 1 if k == 0 else s or 0 for k, s in enumerate(sizes))
            if not given and sizes[:1] == [None]:
                self.warnings.append(f"the batch of the input '{name}' is taken as 1; --shape gives another size")
            if kind not in _INPUTS:
                raise UnsupportedError(f"the input '{name}' has the element type {kind}, which is not supported")
            if 0 in shape:
                raise UsageError(f"the model leaves dimensions of '{name}' open; give them, for instance: "
                                 f"--shape {name}={'x'.join(str(s or 224) for s in shape)}")  # fmt: skip
            self.values[name] = self.g.input(name, shape, _INPUTS[kind])

    def _operation(self, number: int, operation: Message) -> None:
        kind, outputs = operation.text(1), [named.text(1) for named in operation.messages(3)]
        where = f"operation {number} '{(outputs or [''])[0][:60]}' ({kind[:40]})"
        self.values.update(dict.fromkeys(outputs))
        try:
            if kind == "const":
                self.values[outputs[0]] = Constant(value(operation.entries(5)["val"], self.blobs))
                return
            arguments = {name: self._bindings(where, m) for name, m in operation.entries(2).items()}
            if any(v is None for values in arguments.values() for v in values):
                if kind not in CONVERTERS and kind != "classify":
                    self.problems.append(f"{where}: this operation is not supported")
                return  # its operand is a problem that is told already
            known = {name: [v for v in values if v is not None] for name, values in arguments.items()}
            made = self._made(kind, outputs, known)
            self.values.update(zip(outputs, made, strict=True))
        except (NotConverted, UnsupportedError) as e:
            self.problems.append(f"{where}: {e} is not supported")
        except DlpackError as e:
            raise type(e)(f"{where}: {e}") from e
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, ArithmeticError) as e:
            raise ModelError(f"{where}: its arguments do not fit: {e}") from e

    def _bindings(self, where: str, argument: Message) -> list[Value | None]:
        found: list[Value | None] = []
        for binding in argument.messages(1):
            if 2 in binding:
                found.append(Constant(value(binding.message(2), self.blobs)))
                continue
            name = binding.text(1)
            if name not in self.values:
                raise ModelError(f"{where}: its operand '{name[:60]}' is computed nowhere before it")
            found.append(self.values[name])
        return found

    def _made(self, kind: str, outputs: list[str], arguments: dict[str, list[Value]]) -> list[Value | None]:
        if kind == "classify":
            return self._classified(outputs, arguments)
        converter = CONVERTERS.get(kind)
        if converter is None:
            raise NotConverted("this operation")
        with self.g.scope(outputs[0] if outputs else kind):
            made = converter(Call(self.g, kind, arguments, len(outputs)))
            results = made if isinstance(made, list) else [made]
            if len(results) != len(outputs):
                raise ModelError(f"it has {len(outputs)} outputs; an operation of this kind has {len(results)}")
            return list(self.g.publish(results, outputs, outputs[0]))

    def _classified(self, outputs: list[str], arguments: dict[str, list[Value]]) -> list[Value | None]:
        """The classes become the labels, and the probabilities the output."""
        scores, classes = arguments["probabilities"][0], arguments["classes"][0]
        names = classes.value if isinstance(classes, Constant) else None
        if isinstance(names, np.ndarray):
            names = [str(v) for v in names.reshape(-1).tolist()]
        if not isinstance(names, list) or not isinstance(scores, str) or len(outputs) != 2:
            raise NotConverted("classes that are no constants")
        self.labels = tuple(str(v) for v in names)
        with self.g.scope(outputs[1]):
            published = self.g.publish([self.g.op("Identity", scores)], outputs[1:], outputs[1])
        return [Constant(names), published[0]]


def _fits(given: Shape, sizes: list[int | None]) -> bool:
    return len(given) == len(sizes) and all(s in (None, g) for g, s in zip(given, sizes, strict=True))


def _picture(model: Message, built: ModelProto) -> PictureInput | None:
    """Of the first input that is declared as an image: scaling and means are operations of the program."""
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in built.graph.input}
    for feature in model.message(2).messages(1):
        image, shape = feature.message(3).message(4), shapes.get(feature.text(1), [])
        color = COLORS.get(image.whole(3))
        if color and len(shape) == 4 and shape[:2] == [1, 1 if color == "GRAY" else 3]:
            return PictureInput(feature.text(1), color, 1.0, (0.0,) * shape[1])
    return None


EXPORTER = Exporter("Core ML", "NAME.mlpackage, NAME.mlmodel", recognises, export, advises)
