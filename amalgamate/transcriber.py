"""[TRANSCRIBER]: writing speech; the text of all but tables is in runtime_c/transcriber.h."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from textwrap import indent, wrap

from dlpack.amalgamate.runtime import sections
from dlpack.plan.program import Program


def transcribes(program: Program) -> bool:
    """Whether a model writes speech: it knows of its tokens, takes sound and has a tokenizer."""
    return None not in (program.speech, program.sound, program.text)


def declaration(runtime: Mapping[str, str], program: Program) -> str:
    """What stands in NAME.h."""
    return _text(runtime, "transcriber_declaration") + "\n\n" if transcribes(program) else ""


def methods(runtime: Mapping[str, str], program: Program) -> str:
    """The same as a method of NAME::Predictor."""
    return indent(_text(runtime, "transcriber_method") + "\n", "  ") if transcribes(program) else ""


def definitions(runtime: Mapping[str, str], program: Program) -> list[str]:
    """The tables and the function behind the declaration, where there is one."""
    if not transcribes(program):
        return []
    tables = ["namespace @name@_impl { namespace {", *_tables(program), "}}  // namespace @name@_impl"]
    return ["\n".join(tables), _text(runtime, "transcriber_definition")]


def _text(runtime: Mapping[str, str], section: str) -> str:
    return sections([runtime["transcriber.h"]])[section].text


def _tables(program: Program) -> list[str]:
    s = program.speech
    assert s is not None
    languages = [f'{{"{code}", {token}}}' for code, token in s.languages] or ['{"", -1}']
    return [
        f"constexpr int64_t kSpeechStart = {s.start}, kSpeechQuiet = {s.quiet};  // -1: there is none",
        f"constexpr int64_t kSpeechTranscribe = {s.transcribe}, kSpeechTranslate = {s.translate};",
        "struct speech_language {\n  const char* code;\n  int64_t token;\n};",
        f"constexpr int32_t kLanguageCount = {len(s.languages)};",
        *_table("speech_language kLanguages", languages),
        *_table("int32_t kSuppressed", (*s.suppressed, -1)),
        *_table("int32_t kSuppressedFirst", (*s.suppressed_first, -1)),
        *_table("int32_t kSpeechEnds", (*s.ends, -1)),
    ]


def _table(name: str, values: Iterable[object]) -> list[str]:
    return wrap(f"constexpr {name}[] = {{{', '.join(map(str, values))}}};", 100, subsequent_indent="    ")
