"""What a Core ML model's description says: its inputs and outputs, and a classifier's labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlpack.errors import UnsupportedError, UsageError
from dlpack.exporters.base import MAX_LABELS
from dlpack.exporters.builder import OnnxBuilder, Shape
from dlpack.exporters.coreml.files import Message

COLORS = {10: "GRAY", 20: "RGB", 30: "BGR", 40: "GRAY"}
_DEFAULT_SIZE = 224


@dataclass(frozen=True)
class Feature:
    """An input or output: `kind` is "number", "whole", "image", "array", or the name of what is not read.

    `shape` is that of the ONNX value: a number is [1, 1], a picture [1, channels, height, width], an array as declared.
    """

    name: str
    kind: str
    shape: Shape
    color: str = ""
    flexible: bool = False
    integers: bool = False


def feature(message: Message) -> Feature:
    """A FeatureDescription."""
    name, kind = message.text(1), message.message(3)
    if 4 in kind:
        image = kind.message(4)
        color = COLORS.get(image.whole(3), "")
        size = (image.whole(2), image.whole(1))
        return Feature(name, "image", (1, 1 if color == "GRAY" else 3, *size), color, 21 in image or 31 in image)
    if 5 in kind:
        array = kind.message(5)
        flexible = 21 in array or 31 in array
        return Feature(name, "array", tuple(array.wholes(1)), "", flexible, array.whole(2) in (131104, 131080))
    others = {1: "whole", 2: "number", 3: "text", 6: "dictionary", 7: "sequence", 8: "state"}
    found = next((text for number, text in others.items() if number in kind), "none")
    return Feature(name, found, (1, 1))


def inputs_of(model: Message) -> list[Feature]:
    return [feature(m) for m in model.message(2).messages(1)]


def outputs_of(model: Message) -> list[Feature]:
    return [feature(m) for m in model.message(2).messages(10)]


def labels_of(classifier: Message) -> tuple[str, ...]:
    """The names of a classifier's classes; () without."""
    if 101 in classifier:
        return tuple(str(v) for v in classifier.message(101).wholes(1)[:MAX_LABELS])
    return tuple(classifier.message(100).texts(1)[:MAX_LABELS])


def make_input(g: OnnxBuilder, f: Feature, given: Shape | None) -> str:
    """The graph's input of a feature, in the shape that --shape gives or the file has."""
    if f.kind not in ("number", "whole", "image", "array"):
        raise UnsupportedError(f"the input '{f.name}' is a {f.kind}, which is not supported; numbers, arrays and "
                               "pictures are")  # fmt: skip
    declared = f.shape
    if given is not None:
        tail = declared[1:] if f.kind == "image" else declared
        more = f.kind == "array" and len(given) > len(declared) and given[len(given) - len(tail) :] == tail
        rank_fits = len(given) == len(declared) or not declared
        if not (given == declared or more or (rank_fits and (f.flexible or 0 in declared or not declared))):
            told = "x".join(map(str, declared)) or "one number"
            raise UsageError(f"--shape gives the input '{f.name}' another shape than the model's {told}")
        declared = given
    declared = tuple(1 if k == 0 and d < 1 else d for k, d in enumerate(declared)) or (1,)
    if min(declared) < 1:
        asked = "x".join(str(d if d > 0 else _DEFAULT_SIZE) for d in declared)
        raise UsageError(f"the model leaves dimensions of '{f.name}' open; give them, for instance: "
                         f"--shape {f.name}={asked}")  # fmt: skip
    return g.input(f.name, declared, np.int32 if f.integers else np.float32)
