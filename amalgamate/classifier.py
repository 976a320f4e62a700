"""What lies around the network: pictures, classes, labels and, for detectors, boxes (detector.py); the text of all but
these is in runtime_c/classifier*.h."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import indent
from typing import Any

from dlpack.amalgamate import decoder, detector, sound, text_writer, tokenizer, transcriber
from dlpack.amalgamate.cpp import AXES, literal, number_type
from dlpack.amalgamate.runtime import sections
from dlpack.amalgamate.steps import sizes_of_set
from dlpack.amalgamate.wrap import wrapped
from dlpack.graph.ir import BITS
from dlpack.meaning.preprocess import CHANNELS, Preprocess, by_shorter_side
from dlpack.meaning.quantization import Quantization
from dlpack.plan.program import Program, Tensor


@dataclass(frozen=True)
class Classifier:
    """What a model has of labels (class names in order) and preprocessing (one for each set of shapes, None where it
    takes no picture; () for none), and the manifest's `task`; with none of the first two it is false, adds nothing."""

    labels: tuple[str, ...] = ()
    pictures: tuple[Preprocess | None, ...] = ()
    task: Mapping[str, Any] | None = None

    @property
    def preprocess(self) -> Preprocess | None:
        """That of the first set that takes a picture."""
        return next((p for p in self.pictures if p), None)

    @property
    def detector(self) -> Mapping[str, Any] | None:
        """The task of a model that finds boxes in pictures."""
        return self.task if self.task and self.task["kind"] == "detect" and self.preprocess else None

    def __bool__(self) -> bool:
        return bool(self.parts)

    @property
    def parts(self) -> tuple[str, ...]:
        """What the API gets: sections of classifier_api.h without their endings."""
        labels, pictures = bool(self.labels), self.preprocess is not None
        has = {"label": labels, "top_k": labels or pictures, "preprocess_rgb": pictures, "detections": self.detector}
        return tuple(part for part, there in has.items() if there)

    @property
    def needs(self) -> set[str]:
        """The sections of classifier.h that the definitions use."""
        needs = {s for part in self.parts for s in _NEEDS[part]}
        needs |= detector.needs(self.detector) if self.detector else set()
        quantised = self.preprocess is not None and self.preprocess.quantization is not None
        return needs - {"to_value"} | {"to_quantised"} if quantised else needs


NOTHING = Classifier()

_NEEDS: dict[str, tuple[str, ...]] = {
    "label": (),
    "top_k": ("best_classes",),
    "preprocess_rgb": ("taps", "to_value"),
    "detections": (),
}


def api_text(runtime: Mapping[str, str], program: Program, classifier: Classifier) -> str:
    """api.h with the declarations that the classifier adds."""
    texts = _texts(runtime, classifier)
    declarations = "".join(f"{texts[f'{part}_declaration']}\n\n" for part in classifier.parts)
    if classifier.preprocess:
        declarations = declarations.replace("@input@", str(_input(program, classifier.preprocess)))
        declarations = declarations.replace("@how@", _how(classifier.preprocess, len(classifier.pictures) > 1))
        quantised = " Then quantises." if classifier.preprocess.quantization else ""
        declarations = declarations.replace("@quantised@", quantised)
    methods = "".join(indent(f"{texts[f'{part}_method']}\n", "  ") for part in classifier.parts if part != "label")
    declarations += sound.declaration(runtime, program)
    methods += sound.methods(runtime, program)
    declarations += tokenizer.declarations(runtime, program)
    methods += tokenizer.methods(runtime, program)
    declarations += decoder.declaration(runtime, program)
    methods += decoder.methods(runtime, program)
    declarations += text_writer.declaration(runtime, program)
    methods += text_writer.methods(runtime, program)
    declarations += transcriber.declaration(runtime, program)
    methods += transcriber.methods(runtime, program)
    return runtime["api.h"].replace("@declarations@", declarations).replace("@methods@", methods)


def definitions(runtime: Mapping[str, str], program: Program, classifier: Classifier) -> list[str]:
    """The tables and functions behind the declarations."""
    texts = _texts(runtime, classifier)
    tables = [_labels(classifier.labels)] if classifier.labels else []
    if classifier.preprocess:
        tables.append(_picture(program, classifier.preprocess, classifier.pictures))
    if classifier.detector:
        tables += detector.tables(runtime, program, classifier.detector)
    code = "\n\n".join(texts[f"{part}_definition"] for part in classifier.parts)
    cases = "\n".join(_case(k, [s.outputs[k] for s in program.ends]) for k in range(len(program.outputs)))
    code = code.replace("@cases@", cases)
    for place in ("classes[j]", "d"):
        label = f"@name@_label({place}.index)" if classifier.labels else "nullptr"
        code = code.replace(f"{place}.label = @label@", f"{place}.label = {label}")
    return ["namespace @name@_impl { namespace {", *tables, "}}  // namespace @name@_impl", code]


def quoted(text: str) -> str:
    """A string literal of the text's UTF-8; octal escapes of three digits run into nothing and leave no trigraphs."""
    return '"' + "".join(_ESCAPES[b] for b in text.encode()) + '"'


_ESCAPES = [chr(b) if 32 <= b < 127 and chr(b) not in '"\\?@' else f"\\{b:03o}" for b in range(256)]


def _texts(runtime: Mapping[str, str], classifier: Classifier) -> dict[str, str]:
    own = {name: s.text for name, s in sections([runtime["classifier_api.h"]]).items()}
    return own | (detector.texts(runtime, classifier.detector) if classifier.detector else {})


def _labels(labels: Sequence[str]) -> str:
    rows = ",\n".join(f"    {quoted(label)}" for label in labels)
    return f"constexpr int32_t kLabelCount = {len(labels)};\nconstexpr const char* kLabels[] = {{\n{rows}}};"


def _case(index: int, tensors: Sequence[Tensor]) -> str:
    """The classes of an output, which has a size in each set of shapes."""
    kind, sizes = number_type(tensors[0].dtype), [t.nbytes // Tensor("", t.dtype, ()).nbytes for t in tensors]
    if max(sizes) >= 1 << 31:
        return f"    case {index}: return @NAME@_BAD_ARGUMENT;  // too many elements"
    count = str(sizes[0])
    if len(sizes) > 1:
        count = f"static_cast<int32_t>(@outputs(p)@[{index}].bytes / sizeof({kind}))"
    scores = f"@name@_impl::output<{kind}>(*p, {index}, 0)"
    call = f"@name@_impl::best_classes({scores}, {count}, k, classes, {_score_kind(tensors)})"
    lines = [f"    case {index}:", *wrapped(f"      count = {call};"), "      break;"]
    return "\n".join(lines)


def _score_kind(tensors: Sequence[Tensor]) -> str:
    """How best_classes reads an output's numbers."""
    q, sure = tensors[0].meaning.quantization, _bool(all(t.meaning.probabilities for t in tensors))
    if q is None:
        return f"{{1, 0, 0, {sure}}}"
    scale = literal(q.scale, "float64")
    return f"{{{scale}, {q.zero_point}, {scale}, {sure}}}"


def _input(program: Program, p: Preprocess) -> int:
    return [t.name for t in program.inputs].index(p.input)


def _numbers(values: Sequence[float], channels: int) -> list[float]:
    """One number per channel."""
    return [float(v) for v in (values if len(values) == channels else list(values) * channels)]


def _how(p: Preprocess, several: bool) -> str:
    def listed(values: Sequence[float]) -> str:
        return " ".join(f"{v:g}" for v in values)

    size = f"{p.width} x {p.height}"
    resized = f"Scales the shorter side to {p.resize} and crops the center {size}" if p.resize else f"Resizes to {size}"
    if several:
        crop = "Scales the shorter side and crops the center" if p.resize else "Resizes"
        resized = f"{crop} to the input's size in the current set of shapes"
    values = f"({p.channels} * {p.scale:g} - ({listed(p.mean)})) / ({listed(p.std)})"
    return f"{resized}.\n   Values: {values}."


def _picture(program: Program, p: Preprocess, sets: Sequence[Preprocess | None]) -> str:
    channels = CHANNELS[p.channels]
    rows = [f"{{{q.height}, {q.width}, {q.resize or 0}}}" if q else "{0, 0, 0}" for q in sets]
    sizes = f"constexpr picture_size kPicture = {rows[0]};"
    if program.counted:
        sizes = _open_picture(program, p, sets, rows)
    elif len(rows) > 1:
        sizes = f"constexpr picture_size kPictures[] = {{{', '.join(rows)}}};"
    mean, std = (", ".join(literal(v, "float64") for v in _numbers(values, channels)) for values in (p.mean, p.std))
    return "\n".join([
        f"constexpr int32_t kPictureInput = {_input(program, p)};",
        "// `resize`: size of the shorter side before cropping; 0: no cropping.\n"
        "struct picture_size {\n  int64_t height, width, resize;\n};",
        sizes,
        f"constexpr int kPictureChannels = {channels};",
        f"constexpr bool kPictureBgr = {_bool(p.channels == 'BGR')};",
        f"constexpr bool kPictureInterleaved = {_bool(p.layout == 'NHWC')};",
        f"constexpr double kPictureScale = {literal(p.scale, 'float64')};",
        f"constexpr double kPictureMean[] = {{{mean}}};",
        f"constexpr double kPictureStd[] = {{{std}}};",
        f"typedef {number_type(p.dtype)} picture_value;",
        *(_quantised_element(p.quantization) if p.quantization else _real_element(p.dtype)),
    ])  # fmt: skip


def _open_picture(program: Program, p: Preprocess, sets: Sequence[Preprocess | None], rows: Sequence[str]) -> str:
    """A function that gives the size in a set of shapes; `sets` and `rows` are those of some of them, the first one's
    first."""
    lines = ["picture_size picture_of([[maybe_unused]] int32_t set) {"]
    if not program.pictures:  # of a batch one picture alone
        same = all(row == rows[0] for row in rows)
        return "\n".join(
            [*lines, f"    return {'' if same else 'set != 0 ? picture_size{0, 0, 0} : '}picture_size{rows[0]};", "}"]
        )
    sizes = program.inputs[_input(program, p)].sizes
    sides = sizes[2:] if p.layout == "NCHW" else sizes[1:3]
    high, wide = (s.text(*AXES) if s else str(n) for s, n in zip(sides, (p.height, p.width), strict=True))
    lines += [
        *sizes_of_set(program.bounds, "set"),
        *(["    if (samples != 1) return {0, 0, 0};"] if program.by_sample else []),
        f"    const int64_t rows = {high}, columns = {wide};",
    ]
    if p.resize is None:
        return "\n".join([*lines, "    return {rows, columns, 0};", "}"])
    lines += [
        "    const int64_t shorter = rows < columns ? rows : columns;",
        "    [[maybe_unused]] const int64_t longer = rows < columns ? columns : rows;",
    ]
    resize = f"shorter * {p.resize} / {min(p.height, p.width)}"
    if by_shorter_side([s for s in sets if s]):
        resize = "shorter * 8 / 7 > longer ? shorter * 8 / 7 : longer"
    return "\n".join([*lines, f"    return {{rows, columns, {resize}}};", "}"])


def _real_element(dtype: str) -> tuple[str, ...]:
    convert = "picture_value" if dtype in BITS else "to_value<picture_value>"
    return (
        "@NAME@_INLINE picture_value picture_element(double byte, int c) {",
        f"  return {convert}((byte * kPictureScale - kPictureMean[c]) / kPictureStd[c]);",
        "}",
    )


def _quantised_element(q: Quantization) -> tuple[str, ...]:
    return (
        f"constexpr double kPictureStep = {literal(q.scale, 'float64')};",
        f"constexpr int32_t kPictureZero = {q.zero_point};",
        "@NAME@_INLINE picture_value picture_element(double byte, int c) {",
        "  const volatile double scaled = byte * kPictureScale;  // never fused: ties fall as in Python",
        "  const double value = (scaled - kPictureMean[c]) / kPictureStd[c];",
        "  return to_quantised<picture_value>(value, kPictureStep, kPictureZero);",
        "}",
    )


def _bool(value: bool) -> str:
    return "true" if value else "false"
