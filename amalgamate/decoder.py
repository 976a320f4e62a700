"""[DECODER]: reading and writing tokens with a decoder's caches; its text is in runtime_c/decoder.h."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import indent

from dlpack.amalgamate.cpp import number_type
from dlpack.amalgamate.runtime import sections
from dlpack.amalgamate.wrap import wrapped
from dlpack.graph.ir import TensorType
from dlpack.meaning.generation import TextEncoder
from dlpack.plan.program import Program

SAMPLER_BYTES = 12
"""Of the sampler's memory for each token: its chance and a place in an order."""


def needs(program: Program) -> set[str]:
    """The sections of the rest of runtime_c that the definitions use."""
    return {"exp_f64", "copy_bytes"} if program.decoder else set()


def cache_bytes(program: Program) -> int:
    """Bytes of the caches and the sampler's memory, which lie before the arena."""
    if program.decoder is None:
        return 0
    return program.cached + -(-program.decoder.vocabulary * SAMPLER_BYTES // 64) * 64


def declaration(runtime: Mapping[str, str], program: Program) -> str:
    """What stands in NAME.h."""
    return _text(runtime, program, "decoder_declaration") + "\n\n" if program.decoder else ""


def methods(runtime: Mapping[str, str], program: Program) -> str:
    """The same as methods of NAME::Predictor."""
    if program.decoder is None:
        return ""
    d = program.decoder
    first = "hear_method" if d.features >= 0 else "read_method"
    parts = (*([first] if d.encoding else []), "decoder_method")
    return "".join(indent(_text(runtime, program, part) + "\n", "  ") for part in parts)


def definitions(runtime: Mapping[str, str], program: Program) -> list[str]:
    """The tables and functions behind the declarations."""
    tables = ["namespace @name@_impl { namespace {", *_tables(program), "}}  // namespace @name@_impl"]
    return ["\n".join(tables), _text(runtime, program, "decoder_definition")]


def _text(runtime: Mapping[str, str], program: Program, section: str) -> str:
    d = program.decoder
    assert d is not None
    text = sections([runtime["decoder.h"]])[section].text
    text = text.replace("@features@", str(d.features))
    if e := d.encoder:
        text = text.replace("@source@", str(e.lengths[-1])).replace("@readable@", str(e.vocabulary))
        text = text.replace("@start@", ", ".join(map(str, e.start)))
    return text.replace("@context@", str(d.context)).replace("@vocabulary@", str(d.vocabulary))


def _encoder(program: Program, e: TextEncoder) -> list[str]:
    """What is known of an encoder of text and of its answers."""
    return [
        *(
            f"typedef {number_type(program.inputs[index].dtype)} {kind}_type;"
            for kind, index in (("source", e.tokens), ("source_mask", e.mask))
        ),
        f"constexpr int32_t kSourceInput = {e.tokens}, kSourceMaskInput = {e.mask};",
        *wrapped(f"constexpr int32_t kSourceLengths[] = {{{', '.join(map(str, e.lengths))}}};"),
        *wrapped(f"constexpr int64_t kAnswerStart[] = {{{', '.join(map(str, e.start))}}};"),
        *wrapped(f"constexpr int32_t kNeverWritten[] = {{{', '.join(map(str, (*e.suppressed, -1)))}}};"),
    ]


def _tables(program: Program) -> list[str]:
    d = program.decoder
    assert d is not None
    kinds = {"token": d.tokens, "mask": d.mask, "position": d.positions}
    lines = [
        f"typedef {number_type(program.inputs[index].dtype)} {kind}_type;"
        for kind, index in kinds.items()
        if index >= 0
    ]
    lines.append(f"constexpr int32_t kTokensInput = {d.tokens}, kMaskInput = {d.mask}, kLogitsOutput = {d.logits};")
    lines.append(
        f"constexpr int32_t kEncodingSets = {d.encoding};  // sets of shapes that run an encoder, the first ones"
    )
    lines += [f"constexpr int32_t kFeaturesInput = {d.features};"] if d.features >= 0 else []
    lines += _encoder(program, d.encoder) if d.encoder else []
    lines += [f"constexpr int32_t kPositionsInput = {d.positions};"] if d.positions >= 0 else []
    rows = ", ".join(f"{{{rows}, {slots}}}" for rows, slots in d.sets)
    lines += [
        "// Of each set of shapes: the tokens that a run reads, and the slots of the cache before them.",
        "struct reading_set_sizes {\n  int32_t rows, slots;\n};",
        f"constexpr int32_t kReadingSetCount = {len(d.sets)}, kMostRows = {d.block};",
        f"constexpr bool kScoresOfLast = {'true' if d.last else 'false'};  // of the tokens that a run reads",
        *wrapped(f"constexpr reading_set_sizes kReadingSets[] = {{{rows}}};"),
        "// Keys or values: where they lie, and how many bytes apart heads, rows and elements are.",
        "struct cache {\n  size_t offset;\n  int32_t heads, size, bytes;\n  ptrdiff_t head, row, element;\n};",
        "constexpr cache kCaches[] = {",
    ]
    for c in (c for c in program.caches if not c.heard):
        each = TensorType(c.dtype, ()).itemsize
        heads, _, size = c.shape
        strides = ", ".join(str(s * each) for s in c.strides)
        lines.append(f"    {{{c.offset}, {heads}, {size}, {each}, {strides}}},")
    return [*lines, "};"]
