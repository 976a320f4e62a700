"""[TEXT WRITER]: a decoder and a tokenizer together; its text is in runtime_c/text_writer.h."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import indent

from dlpack.amalgamate.runtime import sections
from dlpack.plan.program import Program


def writes(program: Program) -> bool:
    """Whether a model writes text: it has a decoder and a tokenizer."""
    return program.decoder is not None and program.text is not None


def declaration(runtime: Mapping[str, str], program: Program) -> str:
    """What stands in NAME.h."""
    return _text(runtime, program, "writer_declaration") + "\n\n" if writes(program) else ""


def methods(runtime: Mapping[str, str], program: Program) -> str:
    """The same as a method of NAME::Predictor."""
    return indent(_text(runtime, program, "writer_method") + "\n", "  ") if writes(program) else ""


def definition(runtime: Mapping[str, str], program: Program) -> str:
    """The function behind the declaration."""
    part = program.text
    assert part is not None
    offset = f"namespace @name@_impl {{ namespace {{\nconstexpr size_t kWriterOffset = {part.writer};\n}}}}\n\n"
    return offset + _text(runtime, program, "writer_definition")


def _text(runtime: Mapping[str, str], program: Program, section: str) -> str:
    part = program.text
    assert part is not None
    listed = ", ".join(map(str, part.stops))
    text = sections([runtime["text_writer.h"]])[section].text
    return (
        text.replace("@stops@", listed or "of which none are known")
        .replace("@stop_list@", listed or "-1")
        .replace("@stop_count@", str(len(part.stops)))
        .replace("@piece_bytes@", str(part.piece))
        .replace("@most_tokens@", str(program.decoder.most if program.decoder else 0))
    )
