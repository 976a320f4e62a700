"""Normalizers and pre-tokenizers of a tokenizer.json, as steps of a few kinds."""

from __future__ import annotations

import base64
import re
import struct
import unicodedata
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dlpack.tokenizer.characters import of_category, of_ranges, spaces
from dlpack.tokenizer.regex import Patterns
from dlpack.tokenizer.spec import Node, Step, unsupported, wrong

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""The pattern of the pre-tokenizer ByteLevel."""

BEHAVIOURS = ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")
_MOST_STEPS = 64


def normalizers(node: Node | None, patterns: Patterns) -> list[Step]:
    """The steps of the normalizer. Raises UnsupportedError for one that is not known."""
    steps = _flat(node, "normalizers", lambda n: _normalizer(n, patterns), "normalizer")
    return steps


def levels(node: Node | None, patterns: Patterns) -> list[Step]:
    """The steps of the pre-tokenizer, each applied to the pieces of the one before."""
    steps = _flat(node, "pretokenizers", lambda n: _level(n, patterns), "pre_tokenizer")
    return steps


def _flat(node: Node | None, parts: str, read: Callable[[Node], list[Step]], what: str, depth: int = 0) -> list[Step]:
    if node is None:
        return []
    if depth > 8:
        raise wrong(f"the {what} has Sequences in Sequences in Sequences")
    if node.kind == "Sequence":
        found = [step for part in node.nodes(parts) for step in _flat(part, parts, read, what, depth + 1)]
    else:
        found = read(node)
    if len(found) > _MOST_STEPS:
        raise wrong(f"the {what} has {len(found)} steps, and {_MOST_STEPS} are possible")
    return found


def _normalizer(node: Node, patterns: Patterns) -> list[Step]:
    plain: Mapping[str, list[Step]] = {
        "NFD": [("decompose", False)],
        "NFKD": [("decompose", True)],
        "NFC": [("decompose", False), ("compose",)],
        "NFKC": [("decompose", True), ("compose",)],
        "Lowercase": [("lowercase",)],
        "StripAccents": [("without_marks", True)],
        "Nmt": [("nmt",)],
        "ByteLevel": [("bytes_to_characters",)],
    }
    if node.kind in plain:
        return plain[node.kind]
    if node.kind == "BertNormalizer":
        return _bert_normalizer(node)
    if node.kind == "Strip":
        return [("strip", node.get("strip_left", bool, True), node.get("strip_right", bool, True))]
    if node.kind == "Prepend":
        return [("prepend", node.get("prepend", str))]
    if node.kind == "Replace":
        begin = pattern_of(node, patterns)
        text = str(node.get("content", str))
        pattern = node.get("pattern", dict)
        return [("replace", begin, text, re.escape(pattern["String"]) if "String" in pattern else pattern["Regex"])]
    if node.kind == "Precompiled":
        return _precompiled(node)
    raise unsupported(f"the normalizer {node.kind[:40]!r}")


def _bert_normalizer(node: Node) -> list[Step]:
    lower = node.get("lowercase", bool, True)
    accents = node.get("strip_accents", bool, lower)
    steps: list[Step] = [("bert_clean",)] if node.get("clean_text", bool, True) else []
    steps += [("bert_chinese",)] if node.get("handle_chinese_chars", bool, True) else []
    steps += [("decompose", False), ("without_marks", False)] if accents else []
    return steps + ([("lowercase",)] if lower else [])


def _precompiled(node: Node) -> list[Step]:
    """The map of a SentencePiece model: a trie of units, and the texts that it leads to."""
    text = node.get("precompiled_charsmap", str, "")
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise wrong("the 'precompiled_charsmap' is not in base64") from None
    if not data:
        return []
    size = struct.unpack_from("<I", data)[0] if len(data) >= 4 else 0
    if not size or size % 4 or size > len(data) - 4:
        raise wrong(f"the 'precompiled_charsmap' of {len(data):,} bytes is damaged")
    texts = data[4 + size :]
    try:
        texts.decode()
    except UnicodeDecodeError:
        raise wrong("the texts of the 'precompiled_charsmap' are not UTF-8") from None
    return [("precompiled", np.frombuffer(data, "<u4", size // 4, 4), texts)]


def pattern_of(node: Node, patterns: Patterns) -> int:
    """Where the program of a node's pattern begins."""
    pattern = node.get("pattern", dict)
    kind = next(iter(pattern), "")
    if kind not in ("String", "Regex") or len(pattern) != 1 or not isinstance(pattern[kind], str):
        raise wrong(f"the pattern of {node.where} is neither a String nor a Regex")
    if not pattern[kind]:
        raise wrong(f"the pattern of {node.where} is empty")
    return patterns.literal(pattern[kind]) if kind == "String" else patterns.add(pattern[kind])


def _level(node: Node, patterns: Patterns) -> list[Step]:
    kind = node.kind
    punctuation = of_category("P") | of_ranges((33, 47), (58, 64), (91, 96), (123, 126))

    def split(begin: int, behaviour: str, inverted: bool = False) -> Step:
        return ("split", begin, BEHAVIOURS.index(behaviour), inverted)

    if kind == "ByteLevel":
        steps: list[Step] = [("space",)] if node.get("add_prefix_space", bool, True) else []
        steps += [split(patterns.add(GPT2), "Isolated")] if node.get("use_regex", bool, True) else []
        return [*steps, ("bytes",)]
    if kind == "Split":
        return [split(pattern_of(node, patterns), _behaviour(node, None), node.get("invert", bool, False))]
    if kind == "Whitespace":
        return [split(patterns.add(r"\w+|[^\w\s]+"), "Removed", True)]
    if kind == "WhitespaceSplit":
        return [split(patterns.any_of(spaces()), "Removed")]
    if kind == "BertPreTokenizer":
        return [split(patterns.any_of(spaces()), "Removed"), split(patterns.any_of(punctuation), "Isolated")]
    if kind == "Punctuation":
        return [split(patterns.any_of(punctuation), _behaviour(node, "Isolated"))]
    if kind == "Digits":
        alone = node.get("individual_digits", bool, False)
        return [split(patterns.any_of(of_category("N")), "Isolated" if alone else "Contiguous")]
    if kind == "CharDelimiterSplit":
        return [split(patterns.literal(_character(node, "delimiter")), "Removed")]
    if kind == "Metaspace":
        mark = _character(node, "replacement")
        scheme = prepend_scheme(node)
        steps = [("metaspace", mark, scheme)]
        return steps + ([split(patterns.literal(mark), "MergedWithNext")] if node.get("split", bool, True) else [])
    raise unsupported(f"the pre-tokenizer {kind[:40]!r}")


def prepend_scheme(node: Node) -> str:
    """ "always", "first" or "never": where a Metaspace puts its mark before a text."""
    scheme = node.get("prepend_scheme", str, "")
    if not scheme:
        scheme = "always" if node.get("add_prefix_space", bool, True) else "never"
    if scheme not in ("always", "first", "never"):
        raise wrong(f"'prepend_scheme' of {node.where} is {scheme[:40]!r}")
    return str(scheme)


def _behaviour(node: Node, default: str | None) -> str:
    found = node.get("behavior", str, default) if default else node.get("behavior", str)
    if found not in BEHAVIOURS:
        raise wrong(f"'behavior' of {node.where} is {found[:40]!r}, not one of {', '.join(BEHAVIOURS)}")
    return str(found)


def _character(node: Node, key: str) -> str:
    found = node.get(key, str)
    if len(found) != 1:
        raise wrong(f"'{key}' of {node.where} is {found[:40]!r}, not one character")
    return str(found)


def normalized(steps: Sequence[Step], text: str) -> str:
    """A short text as the normalizer leaves it: the content of an added token that is looked for in such text."""
    for step in steps:
        text = _STEPS[step[0]](text, *step[1:])
    return text


def _replaced(text: str, _begin: int, content: str, pattern: str) -> str:
    try:
        return re.sub(pattern, lambda _: content, text)
    except re.error:
        raise unsupported("a normalized added token with the pattern of a Replace that Python does not know") from None


def _strip(text: str, left: bool, right: bool) -> str:
    text = text.lstrip() if left else text
    return text.rstrip() if right else text


def _through_map(text: str, units: np.ndarray[tuple[int], np.dtype[np.uint32]], texts: bytes) -> str:
    return "".join(_mapped(c, units, texts) for c in text)


def _mapped(character: str, units: np.ndarray[tuple[int], np.dtype[np.uint32]], texts: bytes) -> str:
    """What the map of a SentencePiece model makes of a character."""

    def offset(unit: int) -> int:
        return (unit >> 10) << ((unit & 0x200) >> 6)

    at = offset(int(units[0]))
    for byte in character.encode():
        at ^= byte
        unit = int(units[at]) if at < len(units) else 0
        if unit & 0x800000FF != byte:
            return character
        at ^= offset(unit)
        if unit >> 8 & 1 and at < len(units):
            begin = int(units[at]) & 0x7FFFFFFF
            return texts[begin : texts.find(b"\0", begin)].decode(errors="replace")
    return character


_CJK = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
_CATEGORY = unicodedata.category

_STEPS: Mapping[str, Callable[..., str]] = {
    "decompose": lambda text, compatible: unicodedata.normalize("NFKD" if compatible else "NFD", text),
    "compose": lambda text: unicodedata.normalize("NFC", text),
    "lowercase": lambda text: "".join(c.lower() for c in text),
    "without_marks": lambda text, every: "".join(
        c for c in text if not (_CATEGORY(c)[0] == "M" if every else _CATEGORY(c) == "Mn")
    ),
    "nmt": lambda text: text,
    "bytes_to_characters": lambda text: "".join(byte_characters()[b] for b in text.encode()),
    "bert_clean": lambda text: text,
    "bert_chinese": lambda text: "".join(
        f" {c} " if any(low <= ord(c) <= high for low, high in _CJK) else c for c in text
    ),
    "replace": _replaced,
    "prepend": lambda text, before: before + text if text else text,
    "strip": _strip,
    "precompiled": _through_map,
}


def byte_characters() -> list[str]:
    """The character that stands for each byte in byte-level tokenizers: itself where it is visible."""
    visible = [*range(33, 127), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(b if b in visible else next(others)) for b in range(256)]
