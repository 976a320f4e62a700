"""[SOUND]: from samples to a spectrogram; the text of all but tables is in runtime_c/sound.h."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from textwrap import indent, wrap

from dlpack.amalgamate.cpp import literal
from dlpack.amalgamate.runtime import sections
from dlpack.meaning.sound import Sound
from dlpack.plan.program import Program


def needs(program: Program) -> set[str]:
    """The sections of the rest of runtime_c that the definition uses."""
    return {"log_f64"} if program.sound else set()


def declaration(runtime: Mapping[str, str], program: Program) -> str:
    """What stands in NAME.h."""
    return _text(runtime, program, "sound_declaration") + "\n\n" if program.sound else ""


def methods(runtime: Mapping[str, str], program: Program) -> str:
    """The same as a method of NAME::Predictor."""
    return indent(_text(runtime, program, "sound_method") + "\n", "  ") if program.sound else ""


def definitions(runtime: Mapping[str, str], program: Program) -> list[str]:
    """The tables and the function behind the declaration."""
    assert program.sound is not None
    index = [t.name for t in program.inputs].index(program.sound.input)
    tables = ["namespace @name@_impl { namespace {", *_tables(program.sound, index), "}}  // namespace @name@_impl"]
    return ["\n".join(tables), _text(runtime, program, "sound_definition")]


def _text(runtime: Mapping[str, str], program: Program, section: str) -> str:
    s = program.sound
    assert s is not None
    index = [t.name for t in program.inputs].index(s.input)
    told = {"rate": s.rate, "samples": s.samples, "seconds": f"{s.samples / s.rate:g}", "input": index,
            "mels": s.mels, "frames": s.frames}  # fmt: skip
    text = sections([runtime["sound.h"]])[section].text
    for word, value in told.items():
        text = text.replace(f"@{word}@", str(value))
    return text


def _tables(s: Sound, index: int) -> list[str]:
    rows = next(a for a in range(math.isqrt(s.window), 0, -1) if s.window % a == 0)
    by_mel = s.layout == "mels x frames"
    logarithm = 1 / math.log(10) if s.values == "whisper" else 1.0
    cosines = [_cosine(j, s.window) for j in range(s.window + s.window // 4)]
    bins, weights = [], []
    for triangle in s.filters():
        (above,) = triangle.nonzero()
        begin, end = (int(above[0]), int(above[-1]) + 1) if len(above) else (0, 0)
        bins.append(f"{{{begin}, {end}}}")
        weights += triangle[begin:end].tolist()
    return [
        f"constexpr int32_t kSoundInput = {index}, kSoundMels = {s.mels}, kSoundFrames = {s.frames};",
        f"constexpr int32_t kSoundWindow = {s.window}, kSoundHop = {s.hop};",
        f"constexpr int32_t kSoundRows = {rows}, kSoundColumns = {s.window // rows};  // of the transform",
        f"constexpr int32_t kSoundMelStep = {s.frames if by_mel else 1};",
        f"constexpr int32_t kSoundFrameStep = {1 if by_mel else s.mels};",
        f"constexpr double kSoundFloor = {literal(s.floor, 'float64')};",
        f"constexpr double kSoundLog = {literal(logarithm, 'float64')};",
        "// Of each mel the first frequency and that behind the last one.",
        "struct sound_bins {\n  int16_t begin, end;\n};",
        *_table("sound_bins kSoundBins", bins),
        "// How much a mel takes of each of its frequencies.",
        *_table("float kSoundWeights", (literal(w, "float32") for w in weights or [0.0])),
        "// cos(2 pi j / kSoundWindow) for one turn and a quarter.",
        *_table("double kSoundCos", (literal(c, "float64") for c in cosines)),
    ]


def _cosine(j: int, n: int) -> float:
    """cos(2 pi j / n), exact at the quarters of a turn."""
    return (1.0, 0.0, -1.0, 0.0)[4 * j // n % 4] if 4 * j % n == 0 else math.cos(2 * math.pi * j / n)


def _table(name: str, values: Iterable[str]) -> list[str]:
    return wrap(f"constexpr {name}[] = {{{', '.join(values)}}};", 100, subsequent_indent="    ")
