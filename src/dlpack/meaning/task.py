"""The task of a model: what its outputs mean; the manifest's `task` object, which web/ and `detect.py` follow.

web/README.md lists the keys of each kind. The object comes from `--task`, from the model's metadata key `dlpack.task`,
or is guessed from the shapes and values of the outputs; a model with an unknown task has none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.errors import UsageError
from dlpack.meaning.metadata import key_words, read_key
from dlpack.meaning.quantization import dequantized, is_real, quantization_of

Array = np.ndarray[Any, Any]
Tensors = Sequence[Mapping[str, Any]]
"""Inputs or outputs, each with name, dtype, shape, and `quantization` if it is quantised."""

PADS = frozenset({(1, 1, 8, 8), (1, 1, 28, 28), (1, 8, 8, 1), (1, 28, 28, 1)})
"""Input shapes that are taken for drawn digits."""

_DETECT = {"kind": "", "format": "", "threshold": 0.5, "iou": 0.45, "most": 100}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "classify": {"kind": "", "output": ""},
    "digits": {"kind": "", "output": ""},
    "style": {"kind": "", "output": "", "range": [0.0, 255.0]},
    "text": {"kind": "", "input": "", "output": "", "states": {}, "seed": ""},
    "corners": {**_DETECT, "boxes": "", "scores": "", "background": None, "coordinates": "relative"},
    "anchors": {
        **_DETECT,
        "boxes": "",
        "scores": "",
        "background": None,
        "anchors": [],
        "clip": False,
        "variances": [0.1, 0.2],
    },
    "rows": {**_DETECT, "output": "", "background": None},
    "grid": {**_DETECT, "output": ""},
}
"""The keys and their defaults, per kind, and for `detect` per format."""


def task_of(
    text: str | None, metadata: Mapping[str, str], manifest: Mapping[str, Any], values: Sequence[Array]
) -> dict[str, Any] | None:
    """The task of a model: from `--task` (`text`), else from its metadata, else guessed from its outputs' `values`."""
    inputs, outputs = manifest["inputs"], manifest["outputs"]
    if text:
        task = resolve(text, inputs, outputs)
    elif "dlpack.task" in metadata:
        task = from_metadata(metadata["dlpack.task"], inputs, outputs)
    else:
        return guess(inputs, outputs, "preprocess" in manifest, values)
    if task["kind"] in ("classify", "detect", "style") and "preprocess" not in manifest:
        raise UsageError(
            f"the task {task['kind']} needs pictures: add --preprocess to say how they are turned into the input"
        )
    return task


def resolve(text: str, inputs: Tensors, outputs: Tensors) -> dict[str, Any]:
    """The task that `--task` specifies (the path of a JSON file, or JSON itself), for these inputs and outputs.

    Raises UsageError for an unknown or unsuitable value.
    """
    return from_json(read_option(text), inputs, outputs, f"--task {text}")


def read_option(text: str) -> Any:
    """The JSON that `--task` specifies, unchecked. Raises UsageError if it is not JSON."""
    try:
        return json.loads(text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8"))
    except OSError as e:
        raise UsageError(f"--task {text}: not a readable file: {e}") from e
    except (ValueError, RecursionError) as e:
        raise UsageError(f"--task {text}: not JSON: {e}") from e


def from_metadata(text: str, inputs: Tensors, outputs: Tensors) -> dict[str, Any]:
    """The task in the model's metadata key `dlpack.task`: JSON that cannot refer to a file."""
    where = key_words("dlpack.task")
    value = read_key(text, "dlpack.task")
    return from_json(value, inputs, outputs, where)


def from_json(value: Any, inputs: Tensors, outputs: Tensors, where: str = "--task") -> dict[str, Any]:
    """The task with every key filled in and checked against the model; errors name `where` it came from."""
    if not isinstance(value, dict):
        raise UsageError(f"{where}: not a JSON object")
    kind = value.get("kind")
    kinds = ("classify", "detect", "style", "digits", "text")  # and "generate" and "transcribe", which the build finds
    if kind not in kinds:
        raise UsageError(f"{where}: kind {kind!r} is not one of {', '.join(kinds)}")
    formats = ("corners", "anchors", "rows", "grid")
    if kind == "detect" and value.get("format") not in formats:
        raise UsageError(f"{where}: format {value.get('format')!r} is not one of {', '.join(formats)}")
    variant = value["format"] if kind == "detect" else kind
    unknown = set(value) - set(_DEFAULTS[variant])
    if unknown:
        raise UsageError(f"{where}: unknown key {sorted(unknown)[0]!r}; the keys are {', '.join(_DEFAULTS[variant])}")
    task = {**_DEFAULTS[variant], **value}
    check = _Check(task, inputs, outputs, where)
    if kind == "detect":
        check.number("threshold", 0, 1)
        check.number("iou", 0, 1)
        check.whole("most", 1, 10_000)
    _CHECKS[variant](check)
    return task


class _Check:
    """Checks the keys of one task; `shape` gives the shape of the tensor that a key names."""

    def __init__(self, task: dict[str, Any], inputs: Tensors, outputs: Tensors, where: str) -> None:
        self.task, self.where = task, where
        self.tensors = {"input": {t["name"]: t for t in inputs}, "output": {t["name"]: t for t in outputs}}

    def fail(self, text: str) -> UsageError:
        return UsageError(f"{self.where}: {text}")

    def tensor(self, name: Any, what: str) -> Mapping[str, Any]:
        known = self.tensors[what]
        if not isinstance(name, str) or name not in known:
            raise self.fail(f"the model has no {what} {name!r}; it has {', '.join(known)}")
        return known[name]

    def output(self, key: str, *forms: str, but: str = "") -> tuple[int, ...]:
        """The shape of the output that `key` names; by default the first of the forms ("1x3xH") except `but`."""
        letters = [form.split("x") for form in forms]

        def fits(t: Mapping[str, Any]) -> bool:
            shape = t["shape"]
            return any(
                len(shape) == len(form)
                and all(not f.isdigit() or int(f) == d for f, d in zip(form, shape, strict=True))
                for form in letters
            )

        if not self.task[key]:
            named = [t["name"] for t in self.tensors["output"].values() if fits(t) and t["name"] != but]
            if not named:
                raise self.fail(f"the model has no output of shape {' or '.join(forms)} for {key}")
            self.task[key] = named[0]
        found = self.tensor(self.task[key], "output")
        if not fits(found) or not is_real(found):
            shape = "x".join(map(str, found["shape"]))
            raise self.fail(
                f"{key} {self.task[key]!r} is {found['dtype']} {shape}; expected float of {' or '.join(forms)}"
            )
        return tuple(found["shape"])

    def number(self, key: str, low: float, high: float) -> None:
        value = self.task[key]
        if type(value) not in (int, float) or not low <= value <= high:
            raise self.fail(f"{key} {value!r} is not a number from {low} to {high}")

    def whole(self, key: str, low: int, high: int, none: bool = False) -> None:
        value = self.task[key]
        if not (none and value is None) and (type(value) is not int or not low <= value <= high):
            raise self.fail(
                f"{key} {value!r} is not a whole number from {low} to {high}" + (" or null" if none else "")
            )

    def numbers(self, value: Any, count: int, what: str, low: float = -math.inf) -> None:
        if (
            not isinstance(value, list)
            or len(value) != count
            or not all(type(v) in (int, float) and math.isfinite(v) and v > low for v in value)
        ):
            raise self.fail(f"{what} must be {count} finite numbers" + (f" above {low:g}" if low > -math.inf else ""))


def _check_classify(check: _Check) -> None:
    if check.task["output"]:
        check.tensor(check.task["output"], "output")
    else:
        del check.task["output"]


def _check_style(check: _Check) -> None:
    check.output("output", "1x3xHxW")
    check.numbers(check.task["range"], 2, "range")
    if check.task["range"][0] == check.task["range"][1]:
        raise check.fail("both ends of range are equal")


def _check_text(check: _Check) -> None:
    task = check.task
    given = check.tensor(task["input"], "input")
    if math.prod(given["shape"]) != 1 and not is_real(given):
        raise check.fail(f"input {task['input']!r} must be one number (a character's index) or floats (one-hot)")
    if not is_real(check.tensor(task["output"], "output")):
        raise check.fail(f"output {task['output']!r} does not hold floats")
    if not isinstance(task["states"], dict) or not isinstance(task["seed"], str):
        raise check.fail("states must be an object {input: output}, and seed a string")
    for before, after in task["states"].items():
        a, b = check.tensor(before, "input"), check.tensor(after, "output")
        if (a["dtype"], list(a["shape"])) != (b["dtype"], list(b["shape"])):
            raise check.fail(f"the states {before!r} and {after!r} differ in type or shape")
        if quantization_of(a) != quantization_of(b):
            raise check.fail(f"the states {before!r} and {after!r} differ in scale or zero point")
    missing = set(check.tensors["input"]) - {task["input"], *task["states"]}
    if missing:
        raise check.fail(f"input {sorted(missing)[0]!r} is neither the character nor a state")


def _check_boxes(check: _Check) -> int:
    count = check.output("boxes", "1xNx4")[1]
    scored, classes = check.output("scores", "1xNxC", but=check.task["boxes"])[1:]
    if scored != count:
        raise check.fail(f"boxes {check.task['boxes']!r} and scores {check.task['scores']!r} differ in length")
    check.whole("background", 0, classes - 1, none=True)
    return count


def _check_corners(check: _Check) -> None:
    _check_boxes(check)
    if check.task["coordinates"] not in ("relative", "pixels"):
        raise check.fail(f"coordinates {check.task['coordinates']!r} must be relative or pixels")


def _check_anchors(check: _Check) -> None:
    task = check.task
    count = _check_boxes(check)
    check.numbers(task["variances"], 2, "variances", 0)
    if type(task["clip"]) is not bool:
        raise check.fail("clip must be true or false")
    levels = task["anchors"]
    if not isinstance(levels, list) or not levels:
        raise check.fail(
            'anchors must be a list of {"stride": S, "sizes": [[width, height], ...]}, in pixels of the input'
        )
    made = 0
    pictures = [t["shape"] for t in check.tensors["input"].values() if len(t["shape"]) == 4]
    for level in levels:
        if not isinstance(level, dict) or set(level) != {"stride", "sizes"} or not isinstance(level["sizes"], list):
            raise check.fail('anchors must be a list of {"stride": S, "sizes": [[width, height], ...]}')
        check.numbers([level["stride"]], 1, "stride", 0)
        for size in level["sizes"]:
            check.numbers(size, 2, "an anchor's size", 0)
        if pictures:
            sides = pictures[0][1:3] if pictures[0][3] in (1, 3) else pictures[0][2:]
            made += math.prod(math.ceil(side / level["stride"]) for side in sides) * len(level["sizes"])
    if made != count:
        raise check.fail(f"there are {made} anchors but {count} boxes")


def _check_rows(check: _Check) -> None:
    check.output("output", "1xNx6", "1x1xNx7")
    check.whole("background", 0, 1 << 20, none=True)


def _check_grid(check: _Check) -> None:
    channels = check.output("output", "1xCxHxW")[1]
    if channels < 6:
        raise check.fail(f"output {check.task['output']!r} has {channels} channels; a grid needs 5 plus one per class")


_CHECKS: dict[str, Callable[[_Check], None]] = {
    "classify": _check_classify,
    "digits": _check_classify,
    "style": _check_style,
    "text": _check_text,
    "corners": _check_corners,
    "anchors": _check_anchors,
    "rows": _check_rows,
    "grid": _check_grid,
}


# --- guessing ---------------------------------------------------------------------------------------------------------


def guess(inputs: Tensors, outputs: Tensors, pictures: bool, values: Sequence[Array]) -> dict[str, Any] | None:
    """The task of a model that does not state it, guessed from shapes and some outputs, `values`; or None.

    `pictures`: whether the model has preprocessing, so that its input can be a picture.
    """
    if len(inputs) != 1:
        return None
    floats = {t["name"]: dequantized(t, v) for t, v in zip(outputs, values, strict=True) if is_real(t)}
    if tuple(inputs[0]["shape"]) in PADS and any(v.size == 10 for v in floats.values()):
        return from_json({"kind": "digits"}, inputs, outputs)
    if not pictures:
        return None
    steps = {t["name"]: q.scale for t in outputs if (q := quantization_of(t))}
    found = _guess_detector(floats, steps)
    if found is None and floats:
        value = next(iter(floats.values()))
        if value.ndim == 4 and value.shape[:2] == (1, 3) and min(value.shape[2:]) > 8:
            found = {"kind": "style", "range": [0, 255] if np.nanmax(value) > 2 else [0, 1]}
        elif any(v.size > 1 and v.size == max(v.shape) for v in floats.values()):
            found = {"kind": "classify"}
    return found and from_json(found, inputs, outputs)


def _guess_detector(floats: Mapping[str, Array], steps: Mapping[str, float]) -> dict[str, Any] | None:
    """A detector: two outputs 1xNx4 (each box's right is right of its left) and 1xNxC, or one of a known form.

    `steps` are the scales of quantised ones.
    """
    if len(floats) == 2:
        for (boxes, b), (scores, s) in (list(floats.items()), list(floats.items())[::-1]):
            if b.ndim != 3 or s.ndim != 3 or b.shape[2] != 4 or b.shape[:2] != s.shape[:2] or b.shape[0] != 1:
                continue
            if b.shape[1] > 1 and np.mean((b[..., 2:] > b[..., :2]).all(-1)) > 0.9:
                unit = "relative" if np.quantile(np.abs(b), 0.9) <= 2 else "pixels"
                background = 0 if s.shape[2] > 1 else None
                names = {"boxes": boxes, "scores": scores}
                return {"kind": "detect", "format": "corners", **names, "background": background, "coordinates": unit}
        return None
    if len(floats) != 1:
        return None
    ((name, value),) = floats.items()
    if value.ndim == 4 and value.shape[:2] == (1, 1) and value.shape[3] == 7:
        return {"kind": "detect", "format": "rows", "background": 0}  # Caffe's DetectionOutput
    if value.ndim == 3 and value.shape[0] == 1 and value.shape[2] == 6:
        return {"kind": "detect", "format": "rows"}  # MXNet's MultiBoxDetection, without its background
    if value.ndim == 4 and value.shape[0] == 1 and value.shape[1] > 6:
        shares = value[0, 5:].sum(0)
        objects = value[0, 0]
        off = 1e-3 + steps.get(name, 0.0) / 2 * (value.shape[1] - 5)  # quantising moves each by up to half a step
        if np.allclose(shares, 1, rtol=0, atol=off) and objects.min() >= 0 and objects.max() <= 1:
            return {"kind": "detect", "format": "grid"}
    return None
