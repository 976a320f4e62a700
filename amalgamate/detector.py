"""The detector's part of the file: what its outputs say of boxes; its text is in runtime_c/detector.h."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dlpack.amalgamate.cpp import literal, number_type
from dlpack.amalgamate.runtime import sections
from dlpack.amalgamate.wrap import wrapped
from dlpack.plan.program import Program

Task = Mapping[str, Any]
"""The manifest's `task` of kind `detect`, which web/README.md describes."""

_FORMATS: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "corners": (("scores_of_rows", "corners"), set()),
    "anchors": (("scores_of_rows", "anchors"), {"exp_f64"}),
    "rows": (("rows",), set()),
    "grid": (("grid",), {"exp_f64", "tanh_f64", "pow_f64"}),
}
"""A format's sections of detector.h, and what they need of the others."""


def needs(task: Task) -> set[str]:
    """The sections of the rest of runtime_c that the definitions use."""
    return set(_FORMATS[task["format"]][1])


def texts(runtime: Mapping[str, str], task: Task) -> dict[str, str]:
    """The declaration, the method and the definition, with the task's numbers in words."""
    found = {name: s.text for name, s in sections([runtime["detector.h"]]).items()}
    told = {"threshold": repr(float(task["threshold"])), "iou": f"{task['iou']:g}", "kept": str(task["most"])}
    for word, value in told.items():
        found["detections_declaration"] = found["detections_declaration"].replace(f"@{word}@", value)
    return found


def tables(runtime: Mapping[str, str], program: Program, task: Task) -> list[str]:
    """The constants, what reads the outputs, and the format's own code."""
    found = texts(runtime, task)
    background = task.get("background")
    lines = [
        f"constexpr double kIou = {_double(task['iou'])};",
        f"constexpr int32_t kMostDetections = {task['most']};",
    ]
    if task["format"] != "grid":
        lines.append(f"constexpr int32_t kBackground = {-1 if background is None else background};")
    names = {"boxes": "boxes", "scores": "scores", "output": "found"}
    readers = [line for key, name in names.items() if key in task for line in _reader(program, task[key], name)]
    if task["format"] == "corners":
        lines.append(f"constexpr bool kBoxesInPixels = {_bool(task['coordinates'] == 'pixels')};")
    if task["format"] == "anchors":
        lines += _anchors(task)
    parts, _ = _FORMATS[task["format"]]
    return ["\n".join(lines), found["box_types"], "\n".join(readers), *(found[part] for part in parts)]


def _reader(program: Program, name: str, short: str) -> list[str]:
    """An output's place, and the function that reads it."""
    index = [t.name for t in program.outputs].index(name)
    tensor = program.outputs[index]
    kind, q = number_type(tensor.dtype), tensor.meaning.quantization
    how = f"{_double(q.scale)}, {q.zero_point}" if q else "0, 0"
    place = [] if short == "boxes" else [f"constexpr int32_t k{short.capitalize()} = {index};"]
    return [
        *place,
        f"@NAME@_INLINE reals<{kind}> {short}_of(const @name@_predictor* p) {{ "
        f"return {{output<{kind}>(*p, {index}, 0), {how}}}; }}",
    ]


def _anchors(task: Task) -> list[str]:
    sizes: list[list[float]] = []
    levels = []
    for level in task["anchors"]:
        levels.append(f"{{{_double(level['stride'])}, {len(sizes)}, {len(level['sizes'])}}}")
        sizes += level["sizes"]
    numbers = ", ".join(_double(side) for size in sizes for side in size)
    return [
        f"constexpr bool kClipAnchors = {_bool(task['clip'])};",
        f"constexpr double kVariances[] = {{{', '.join(map(_double, task['variances']))}}};",
        "// `count` sizes of anchors from the one with the number `first` on.",
        "struct anchor_level {\n  double stride;\n  int64_t first, count;\n};",
        f"constexpr anchor_level kAnchors[] = {{{', '.join(levels)}}};",
        "// Width, height, width, height ...",
        *wrapped(f"constexpr double kAnchorSizes[] = {{{numbers}}};"),
    ]


def _double(value: float) -> str:
    return literal(float(value), "float64")


def _bool(value: bool) -> str:
    return "true" if value else "false"
