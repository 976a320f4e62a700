"""A tokenizer as tables behind a program's weights, and as constants for the sections of runtime_c/tokenizer.h."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dlpack.plan.text_part import Embedding, TextPart
from dlpack.tokenizer.characters import (
    Pairs,
    category_runs,
    combining_runs,
    compositions,
    decompositions,
    lower_cases,
)
from dlpack.tokenizer.decoders import raw_bytes
from dlpack.tokenizer.spec import Added, Bpe, Step, Tokenizer, Unigram, WordPiece, unsupported
from dlpack.tokenizer.steps import byte_characters

DEFAULT_TEXT_BYTES = 1 << 15
MOST_TEXT_BYTES = 1 << 24
UNKNOWN_PENALTY = 10.0
"""How much less than the worst token's an unknown character's score is in Unigram."""


@dataclass
class _Tables:
    """The bytes of all tables, each at a multiple of 8, the lines of constants, the sections that these need."""

    data: bytearray = field(default_factory=bytearray)
    lines: list[str] = field(default_factory=list)
    sections: list[str] = field(default_factory=list)

    def add(self, values: npt.ArrayLike | bytes, dtype: str = "u4") -> int:
        """Where a table begins that holds these values, little-endian."""
        self.data += bytes(-len(self.data) % 8)
        begin = len(self.data)
        self.data += values if isinstance(values, bytes) else np.asarray(values, f"<{dtype}").tobytes()
        return begin

    def size(self, **values: int) -> None:
        self.lines += [f"[[maybe_unused]] constexpr size_t kText{name} = {value};" for name, value in values.items()]

    def number(self, **values: int) -> None:
        self.lines += [f"[[maybe_unused]] constexpr int32_t kText{name} = {value};" for name, value in values.items()]

    def truth(self, **values: bool) -> None:
        self.lines += [
            f"[[maybe_unused]] constexpr bool kText{name} = {str(value).lower()};" for name, value in values.items()
        ]

    def needs(self, *sections: str) -> None:
        self.sections += [s for s in sections if s not in self.sections]


def text_part(
    tokenizer: Tokenizer, offset: int, most_bytes: int, embedding: Embedding | None
) -> tuple[bytes, TextPart]:
    """The tables, to be put at `offset` of the weights, and what a program says of them.

    `most_bytes`: the longest text, in bytes of UTF-8.
    """
    t = _Tables()
    room = most_bytes + most_bytes // 2 + 64
    symbols = room + 8
    t.size(Offset=offset, Bytes=most_bytes)
    t.number(Room=room, Symbols=symbols, Tokens=len(tokenizer.strings))
    _categories(tokenizer, t)
    _patterns(tokenizer, t)
    calls = [_NORMALIZERS[step[0]](t, *step[1:]) for step in tokenizer.normalizers]
    if sum(step[0] == "precompiled" for step in tokenizer.normalizers) > 1:
        raise unsupported("more than one Precompiled normalizer")
    _strings(tokenizer, t)
    model = _model(tokenizer, t, symbols)
    _levels(tokenizer.levels, t)
    _around(tokenizer, t)
    _decoder(tokenizer, t)
    longest = max(embedding.lengths) if embedding else 0
    before = -(-(most_bytes + 2 * room) * 4 // 64) * 64
    work = before + -(-model // 64) * 64 + -(-2 * longest * 4 // 64) * 64
    part = TextPart(
        offset, tuple(t.lines), tuple(t.sections), tuple(calls), work, len(tokenizer.strings), most_bytes, embedding
    )
    return bytes(t.data), part


def _categories(tokenizer: Tokenizer, t: _Tables) -> None:
    """Also where they are not needed by a step, the functions for added tokens look at them."""
    runs = category_runs(any(step[0] == "precompiled" for step in tokenizer.normalizers))
    t.size(Categories=t.add(runs))
    t.number(CategoryRuns=len(runs))


def _patterns(tokenizer: Tokenizer, t: _Tables) -> None:
    patterns = tokenizer.patterns
    if patterns.program:
        t.size(Sets=t.add(patterns.set_table()), SetCount=len(patterns.sets), Program=t.add(patterns.program))
        t.number(Retries=patterns.retries)


def _map(t: _Tables, name: str, pairs: Pairs) -> str:
    """Enters a map of characters once; gives its constant's name."""
    constant = f"kText{name}"
    if not any(f" {constant} " in line for line in t.lines):
        keys = sorted(pairs)
        begins = np.cumsum([0, *(len(pairs[k]) for k in keys)])
        codes = [c for k in keys for c in pairs[k]]
        parts = f"{t.add(keys)}, {len(keys)}, {t.add(begins)}, {t.add(codes)}"
        t.lines.append(f"[[maybe_unused]] constexpr text_map {constant} = {{{parts}}};")
    return constant


def _decompose(t: _Tables, compatible: bool) -> str:
    t.needs("text_decompose")
    if not any("kTextCombining " in line for line in t.lines):
        runs = combining_runs()
        t.size(Combining=t.add(runs))
        t.number(CombiningRuns=len(runs))
    return f"decompose(w, {_map(t, 'Compatible' if compatible else 'Canonical', decompositions(compatible))})"


def _compose(t: _Tables) -> str:
    t.needs("text_compose")
    if not any("kTextCompositions " in line for line in t.lines):
        rows = compositions()
        t.size(Compositions=t.add(rows))
        t.number(CompositionCount=len(rows))
    return "compose(w)"


def _lowercase(t: _Tables) -> str:
    t.needs("text_lowercase")
    return f"lowercase(w, {_map(t, 'Lower', lower_cases())})"


def _precompiled(t: _Tables, units: npt.NDArray[np.uint32], texts: bytes) -> str:
    t.needs("text_precompiled")
    t.size(Units=t.add(units), UnitCount=len(units), Texts=t.add(texts), TextBytes=len(texts))
    return "precompiled(w)"


def _codes(t: _Tables, text: str) -> str:
    return f"{t.add([ord(c) for c in text])}, {len(text)}"


def _call(section: str, form: str) -> Callable[..., str]:
    """A step that only needs a section, and whose call depends on its options alone."""

    def call(t: _Tables, *options: Any) -> str:
        t.needs(section)
        return form.format(*(str(o).lower() if isinstance(o, bool) else o for o in options))

    return call


def _replace(t: _Tables, begin: int, content: str, _: str) -> str:
    t.needs("text_replace")
    return f"replace(w, {begin}, {_codes(t, content)})"


def _prepend(t: _Tables, text: str) -> str:
    t.needs("text_prepend")
    return f"prepend(w, {_codes(t, text)})"


_NORMALIZERS: Mapping[str, Callable[..., str]] = {
    "decompose": _decompose,
    "compose": _compose,
    "lowercase": _lowercase,
    "without_marks": _call("text_without_marks", "without_marks(w, {0})"),
    "bert_clean": _call("text_bert_clean", "bert_clean(w)"),
    "bert_chinese": _call("text_bert_chinese", "bert_chinese(w)"),
    "nmt": _call("text_nmt", "nmt(w)"),
    "bytes_to_characters": _call("text_bytes_to_characters", "bytes_to_characters(w)"),
    "strip": _call("text_strip", "strip(w, {0}, {1})"),
    "replace": _replace,
    "prepend": _prepend,
    "precompiled": _precompiled,
}


def _strings(tokenizer: Tokenizer, t: _Tables) -> None:
    """The tokens' strings by id, then those of the added tokens as they stand in a text, and the lists of these."""
    texts: dict[bool, dict[bytes, Added]] = {False: {}, True: {}}
    for token in tokenizer.added:
        texts[token.normalized].setdefault(token.content.encode(), token)
    strings = [s or b"" for s in tokenizer.strings]
    lists = {}
    for kind, found in texts.items():
        order = sorted(found)
        lists[kind] = (order, len(strings), [found[text] for text in order])
        strings += order
    t.size(Strings=t.add(np.cumsum([0, *map(len, strings)])), StringBytes=t.add(b"".join(strings)))
    for kind, (order, first, tokens) in lists.items():
        flags = [token.single_word + 2 * token.lstrip + 4 * token.rstrip for token in tokens]
        ids = t.add([token.id for token in tokens], "i4")
        name = "Normalized" if kind else "Plain"
        listed = _order(t, range(first, first + len(order)), order)
        t.lines.append(
            f"[[maybe_unused]] constexpr added_list kText{name} = {{{listed}, {t.add(flags, 'u1')}, {ids}}};"
        )
    t.needs("text_added")


def _order(t: _Tables, ids: Sequence[int], strings: Sequence[bytes]) -> str:
    """A text_order of ids whose strings are sorted."""
    firsts = [bisect_left(strings, bytes([b])) for b in range(256)] + [len(strings)]
    return f"{{{t.add(list(ids), 'i4')}, {len(strings)}, {t.add(firsts, 'i4')}}}"


def _vocabulary(tokenizer: Tokenizer, t: _Tables, usable: Callable[[str], bool] = lambda _: True) -> None:
    """The order of the vocabulary's tokens that a text can contain."""
    strings = tokenizer.strings
    found = sorted((strings[k] or b"", k) for token, k in tokenizer.model.ids.items() if usable(token))
    listed = _order(t, [k for _, k in found], [s for s, _ in found])
    t.lines.append(f"[[maybe_unused]] constexpr text_order kTextOrder = {listed};")


def _byte_tokens(ids: Mapping[str, int], t: _Tables, wanted: bool) -> None:
    t.truth(ByteFallback=wanted)
    t.size(ByteTokens=t.add([ids.get(f"<0x{b:02X}>", -1) for b in range(256)] if wanted else [], "i4"))


def _model(tokenizer: Tokenizer, t: _Tables, symbols: int) -> int:
    """The model's tables; gives the bytes that it works in."""
    model = tokenizer.model
    if isinstance(model, Bpe):
        return _bpe(tokenizer, model, t, symbols)
    _vocabulary(tokenizer, t)
    t.number(Unknown=model.unknown)
    if isinstance(model, WordPiece):
        t.needs("text_word_piece")
        prefix = model.prefix.encode()
        t.number(LongestWord=model.longest)
        t.size(Prefix=t.add(prefix), PrefixBytes=len(prefix))
        t.truth(WholeWords=model.whole)
        return 0
    assert isinstance(model, Unigram)
    t.needs("text_unigram")
    _byte_tokens(model.ids, t, model.byte_fallback)
    t.size(Scores=t.add(model.scores, "f8"))
    t.lines.append(
        f"[[maybe_unused]] constexpr double kTextUnknownScore = {(min(model.scores) - UNKNOWN_PENALTY).hex()};"
    )
    return 16 * symbols


def _bpe(tokenizer: Tokenizer, model: Bpe, t: _Tables, symbols: int) -> int:
    t.needs("text_bpe")
    bytewise = tokenizer.decoder.sink == "lossy"
    t.truth(WholeWords=model.whole_words, ByteLevel=bytewise, FuseUnknown=model.fuse_unknown)
    t.number(Unknown=model.unknown)
    characters = set(byte_characters())
    _vocabulary(tokenizer, t, lambda token: model.whole_words and (not bytewise or characters.issuperset(token)))
    _byte_tokens(model.ids, t, model.byte_fallback)
    _initials(model, t)
    last = {(left, right): (rank, both) for rank, (left, right, both) in enumerate(model.merges)}
    rows = np.array([(a, b, *x) for (a, b), x in sorted(last.items())], np.int64).reshape(-1, 4)
    begins = np.searchsorted(rows[:, 0], np.arange(len(tokenizer.strings) + 1))
    t.size(
        Merges=t.add(begins),
        MergeRights=t.add(rows[:, 1], "i4"),
        MergeRanks=t.add(rows[:, 2], "i4"),
        Merged=t.add(rows[:, 3], "i4"),
    )
    return 7 * 4 * symbols


def _initials(model: Bpe, t: _Tables) -> None:
    """The tokens of single characters: anywhere, behind the first one, as the last one, and as both."""
    known: dict[tuple[str, str], str] = {}
    for variant in range(4):
        affixes = (model.prefix if variant & 1 else "", model.suffix if variant & 2 else "")
        if affixes in known:
            continue
        prefix, suffix = affixes
        ids = {
            ord(token[len(prefix) : len(token) - len(suffix)]): k
            for token, k in model.ids.items()
            if len(token) == len(prefix) + 1 + len(suffix) and token.startswith(prefix) and token.endswith(suffix)
        }
        codes = sorted(c for c in ids if c >= 512)
        low, high = [ids.get(c, -1) for c in range(512)], [ids[c] for c in codes]
        known[affixes] = f"{{{t.add(low, 'i4')}, {t.add(codes)}, {t.add(high, 'i4')}, {len(codes)}}}"
    forms = [(model.prefix if k & 1 else "", model.suffix if k & 2 else "") for k in range(4)]
    rows = ",\n".join(f"    {known[affixes]}" for affixes in forms)
    t.lines.append(f"[[maybe_unused]] constexpr bpe_initial kTextInitial[] = {{\n{rows}}};")


_SCHEMES = {"never": "kNever", "first": "kFirst", "always": "kAlways"}
_BEHAVIOURS = ("kRemoved", "kIsolated", "kWithPrevious", "kWithNext", "kContiguous")


def _levels(steps: Sequence[Step], t: _Tables) -> None:
    forms: Mapping[str, Callable[..., str]] = {
        "split": lambda begin, how, inverted: f"kStepSplit, {begin}, {_BEHAVIOURS[how]}, {int(inverted)}",
        "metaspace": lambda mark, scheme: f"kStepMetaspace, {ord(mark)}, {_SCHEMES[scheme]}, 0",
        "space": lambda: "kStepSpace, 32, kAlways, 0",
        "bytes": lambda: "kStepBytes, 0, kNever, 0",
    }
    rows = [f"    {{{forms[step[0]](*step[1:])}}}" for step in steps]
    if not rows:
        t.needs("text_direct")
        return
    t.needs("text_level" if any(step[0] == "split" for step in steps) else "text_level_unsplit")
    t.number(LevelCount=len(rows))
    t.lines.append("[[maybe_unused]] constexpr text_level kTextLevels[] = {\n" + ",\n".join(rows) + "};")


def _around(tokenizer: Tokenizer, t: _Tables) -> None:
    rows = [*tokenizer.before, *tokenizer.behind] or [(0, 0)]
    listed = ", ".join(f"{{{number}, {kind}}}" for number, kind in rows)
    length = tokenizer.length
    t.size(Before=len(tokenizer.before), Behind=len(tokenizer.behind))
    t.lines.append(f"[[maybe_unused]] constexpr around_token kTextAround[] = {{{listed}}};")
    padded = -(-length.fixed // max(1, length.multiple)) * max(1, length.multiple)  # texts beyond are not padded
    t.size(Most=length.most, PadTo=padded, PadMultiple=max(1, 0 if padded else length.multiple))
    t.truth(CutLeft=length.cut_left, PadLeft=length.pad_left)
    t.number(PadId=pad_id(tokenizer), PadType=length.pad_type, TextType=tokenizer.text_type)


def pad_id(tokenizer: Tokenizer) -> int:
    """The id that pads: the file's, or that of the token which is usually called so, or 0."""
    if tokenizer.length.pad_id is not None:
        return tokenizer.length.pad_id
    names = {token.content: token.id for token in tokenizer.added} | dict(tokenizer.model.ids)
    return next((names[name] for name in ("[PAD]", "<pad>", "<|endoftext|>", "</s>") if name in names), 0)


def _decoder(tokenizer: Tokenizer, t: _Tables) -> None:
    decoder = tokenizer.decoder
    special = {token.id for token in tokenizer.added if token.special}
    rows: list[tuple[int, ...]] = []
    own = bytearray()

    def placed(text: bytes) -> tuple[int, int]:
        own.extend(text)
        return len(own) - len(text), len(text)

    for k, string in enumerate(tokenizer.strings):
        flags = (k in special) + 8 * (string is None)
        first = later = (0, 0)
        if k in decoder.bytes_of:
            flags, first = flags + 2, (decoder.bytes_of[k], 0)
        elif k in decoder.odd:
            flags, first, later = flags + 4, placed(decoder.odd[k][0]), placed(decoder.odd[k][1])
        if flags:
            rows.append((k, flags, *first, *later))
    mark = raw_bytes(decoder.mark) if decoder.sink == "lossy" else decoder.mark.encode()
    character, times = decoder.strip
    if character and ord(character) > 127:
        raise unsupported("the decoder Strip of a character beyond ASCII")
    t.size(Odd=t.add(rows), OddBytes=t.add(bytes(own)))
    t.number(OddCount=len(rows), MarkBytes=len(mark), Stripped=ord(character or " "), Strips=times)
    t.truth(FirstUnmarked=decoder.first_unmarked)
    t.lines.append(f"[[maybe_unused]] constexpr uint8_t kTextMark[] = {{{', '.join(map(str, mark)) or '0'}}};")
    sinks = {"plain": "kTextPlainSink", "lossy": "kTextLossy", "runs": "kTextRuns"}
    kinds = {"raw": "kTextRaw", "marked": "kTextMarked", "spaced": "kTextSpaced"}
    t.lines.append(
        f"[[maybe_unused]] constexpr int kTextSink = {sinks[decoder.sink]}, kTextDecoder = {kinds[decoder.kind]};"
    )
