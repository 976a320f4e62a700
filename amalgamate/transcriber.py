"""[TRANSCRIBER]: writing speech; the text of all but tables is in runtime_c/transcriber.h."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from textwrap import indent, wrap

from dlpack.amalgamate.runtime import sections
from dlpack.meaning.speech import NONE
from dlpack.plan.program import Program


def transcribes(program: Program) -> bool:
    """Whether a model writes speech: it knows of its tokens, takes sound and has a tokenizer."""
    return None not in (program.speech, program.sound, program.text)


def declaration(runtime: Mapping[str, str], program: Program) -> str:
    """What stands in NAME.h."""
    if not transcribes(program):
        return ""
    text = _text(runtime, "transcriber_declaration", _timed(program))
    return text.replace("@time_step@", str(program.speech.step if program.speech else 0)) + "\n\n"


def methods(runtime: Mapping[str, str], program: Program) -> str:
    """The same as a method of NAME::Predictor."""
    return indent(_text(runtime, "transcriber_method", _timed(program)) + "\n", "  ") if transcribes(program) else ""


def definitions(runtime: Mapping[str, str], program: Program) -> list[str]:
    """The tables and the function behind the declaration, where there is one."""
    if not transcribes(program):
        return []
    tables = ["namespace @name@_impl { namespace {", *_tables(program), "}}  // namespace @name@_impl"]
    return ["\n".join(tables), _text(runtime, "transcriber_definition", _timed(program))]


def _timed(program: Program) -> bool:
    return program.speech is not None and program.speech.times != NONE


def _text(runtime: Mapping[str, str], section: str, timed: bool) -> str:
    """A section; `timed`: and what the model's tokens for times add to it."""
    found = sections([runtime["transcriber.h"]])
    names = [section, *([f"timed_{section}"] if timed else [])]
    return "\n\n".join(found[name].text for name in names)


def _tables(program: Program) -> list[str]:
    s = program.speech
    assert s is not None
    languages = [f'{{"{code}", {token}}}' for code, token in s.languages] or ['{"", -1}']
    return [
        f"constexpr int64_t kSpeechStart = {s.start}, kSpeechQuiet = {s.quiet};  // -1: there is none",
        f"constexpr int64_t kSpeechTranscribe = {s.transcribe}, kSpeechTranslate = {s.translate};",
        *(
            [f"constexpr int64_t kFirstTime = {s.times}, kTimeStep = {s.step}, kLatestFirst = {s.latest_first};"]
            if s.times != NONE
            else []
        ),
        "struct speech_language {\n  const char* code;\n  int64_t token;\n};",
        f"constexpr int32_t kLanguageCount = {len(s.languages)};",
        *_table("speech_language kLanguages", languages),
        *_table("int32_t kSuppressed", (*s.suppressed, -1)),
        *_table("int32_t kSuppressedFirst", (*s.suppressed_first, -1)),
        *_table("int32_t kSpeechEnds", (*s.ends, -1)),
    ]


def _table(name: str, values: Iterable[object]) -> list[str]:
    return wrap(f"constexpr {name}[] = {{{', '.join(map(str, values))}}};", 100, subsequent_indent="    ")
