"""[TOKENIZER]: from text to ids and back, and a text's embedding; the text of all but constants is in
runtime_c/tokenizer*.h."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import indent

from dlpack.amalgamate.runtime import closure, sections
from dlpack.plan.program import Program
from dlpack.plan.text_part import Embedding, TextPart

_POOLED = {
    "cls": "its first token's row",
    "mean": "the mean over its tokens",
    "max": "the largest numbers of its tokens",
    "last": "its last token's row",
    "none": "the model's own",
}
_POOLINGS = {"cls": "kPoolCls", "mean": "kPoolMean", "max": "kPoolMax", "last": "kPoolLast", "none": "kPoolCls"}


def declarations(runtime: Mapping[str, str], program: Program) -> str:
    """What the API declares where there is a tokenizer, else ""."""
    return "".join(f"{text}\n\n" for text in _texts(runtime, program, "declaration"))


def methods(runtime: Mapping[str, str], program: Program) -> str:
    """The methods of the C++ class for it."""
    return "".join(indent(f"{text}\n", "  ") for text in _texts(runtime, program, "method"))


def definitions(runtime: Mapping[str, str], program: Program) -> list[str]:
    """The constants, the sections that they choose, and the functions of the API."""
    part = program.text
    if part is None:
        return []
    everything = sections([runtime["tokenizer.h"]])
    wanted = closure(everything, [*part.sections, "text_types"])
    calls = " &&\n      ".join(part.normalize) or "true"
    unused = "" if part.normalize else "[[maybe_unused]] "
    return [
        "namespace @name@_impl { namespace {",
        next(s.text for s in wanted if s.name == "text_types"),
        "\n".join([*part.constants, *(_embedding(program, part.embedding) if part.embedding else ())]),
        *(s.text for s in wanted if s.name != "text_types"),
        f"// The steps of the normalizer.\nbool normalized({unused}text_work& w) {{\n  return {calls};\n}}",
        "}}  // namespace @name@_impl",
        *_texts(runtime, program, "definition"),
    ]


def needs(program: Program) -> set[str]:
    """The sections of the runtime that lie in front of kernels."""
    embedding = program.text.embedding if program.text else None
    return {"sqrt"} if embedding and embedding.normalize else set()


def _texts(runtime: Mapping[str, str], program: Program, which: str) -> list[str]:
    part = program.text
    if part is None:
        return []
    own = sections([runtime["tokenizer_api.h"]])
    parts = ["text", "embed"] if part.embedding else ["text"]
    return [_filled(own[f"{name}_{which}"].text, program, part) for name in parts]


def _filled(text: str, program: Program, part: TextPart) -> str:
    text = text.replace("@most_bytes@", str(part.most_bytes)).replace("@tokens@", str(part.tokens))
    if part.embedding:
        e = part.embedding
        pooled = _POOLED[e.pooling] + (", of length 1" if e.normalize else "")
        text = text.replace("@size@", str(e.size)).replace("@longest@", str(max(e.lengths)))
        text = text.replace("@pooled@", pooled).replace("@fill@", "\n".join(_fills(program, e)))
    return text


def _fills(program: Program, e: Embedding) -> list[str]:
    """The lines that fill the inputs: `ids` are padded, and the text's tokens are from `begin` to `end`."""

    def filled(index: int, values: str) -> str:
        kind = {"int64": "int64_t", "int32": "int32_t"}[program.inputs[index].dtype]
        return f"  @name@_impl::fill_input<{kind}>(*p, {index}, {values}, length);"

    lines = [filled(e.ids, "ids")]
    if e.mask is not None:
        lines.append("  for (int32_t k = 0; k < length; ++k) others[k] = k >= begin && k < end;")
        lines.append(filled(e.mask, "others"))
    if e.types is not None:
        lines += [
            "  for (int32_t k = 0; k < length; ++k) {",
            "    const int32_t at = k - begin, behind = count - at;",
            "    constexpr int32_t before = @name@_impl::kTextBefore, after = @name@_impl::kTextBehind;",
            "    others[k] = at < 0 || behind <= 0 ? @name@_impl::kTextPadType",
            "        : at < before ? @name@_impl::kTextAround[at].type",
            "        : behind <= after ? @name@_impl::kTextAround[before + after - behind].type",
            "                         : @name@_impl::kTextTextType;",
            "  }",
            filled(e.types, "others"),
        ]
    if e.mask is None and e.types is None:
        lines.append("  (void)others;")
    return lines


def _embedding(program: Program, e: Embedding) -> list[str]:
    if program.counted:
        first, last = e.lengths
        sets = len(program.shape_sets) // program.batches if last else 1  # else of a batch, one text alone
        step = (last - first) // (sets - 1) if sets > 1 else 0
        told = f"return {first} + {step} * set;"
    else:
        sets = len(e.lengths)
        told = f"constexpr int32_t lengths[] = {{{', '.join(map(str, e.lengths))}}};\n    return lengths[set];"
    return [
        f"constexpr int32_t kEmbedSize = {e.size}, kEmbedOutput = {e.output};",
        f"constexpr int32_t kEmbedSets = {sets}, kEmbedApart = {program.batches};",
        f"int32_t embed_length([[maybe_unused]] int32_t set) {{\n    {told}\n}}",
        f"constexpr int32_t kEmbedLongest = {max(e.lengths)};",
        f"constexpr int kEmbedPooling = {_POOLINGS[e.pooling]};",
        f"constexpr bool kEmbedPooled = {str(e.pooling == 'none').lower()};  // the output is one row",
    ]
