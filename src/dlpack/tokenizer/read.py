"""Reads a tokenizer.json. Nothing of it is trusted: types, sizes and ids are checked; what is not known is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dlpack.errors import UsageError
from dlpack.tokenizer.decoders import raw_bytes, read_decoder
from dlpack.tokenizer.models import MOST_TOKENS, check_token, read_model
from dlpack.tokenizer.regex import Patterns
from dlpack.tokenizer.spec import Added, Length, Node, Step, Tokenizer, unsupported, wrong
from dlpack.tokenizer.steps import levels, normalized, normalizers

LARGEST_FILE = 256 << 20
_MOST_ADDED = 1 << 16
_MOST_AROUND = 256
_MOST_LENGTH = 1 << 24


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in a file.

    Raises UsageError where the file cannot be read, ModelError where it is no tokenizer, or a damaged one, and
    UnsupportedError, which names it, for a part that is not known.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise UsageError(f"{path} has {size:,} bytes, and a tokenizer.json up to {LARGEST_FILE:,}")
        text = path.read_bytes().decode()
    except OSError as e:
        raise UsageError(f"{path} cannot be read: {e.strerror or e}") from e
    except UnicodeDecodeError as e:
        raise wrong(f"{path} is not UTF-8: {e.reason} at byte {e.start}") from e
    return parse_tokenizer(text)


def parse_tokenizer(text: str) -> Tokenizer:
    """The tokenizer that a file's text describes; errors as of `read_tokenizer`."""
    try:
        told = json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError) as e:
        raise wrong(f"it is not JSON: {str(e)[:200]}") from e
    root = Node(told, "the file")
    model_node = root.node("model")
    if model_node is None:
        raise wrong("there is no 'model': this is not a file of Hugging Face's tokenizers")
    model = read_model(model_node)
    patterns = Patterns()
    steps = normalizers(root.node("normalizer"), patterns)
    cuts = levels(root.node("pre_tokenizer"), patterns)
    added = _added(root, steps)
    tokens = _tokens(model.ids, added)
    decoder = read_decoder(root.node("decoder"), tokens)
    byte_level = _byte_level(steps, cuts)
    if (byte_level and decoder.sink != "lossy") or (decoder.sink == "lossy" and not byte_level):
        raise unsupported("a pre-tokenizer ByteLevel without the decoder ByteLevel, or the reverse,")
    before, behind, text_type = _around(root.node("post_processor"), len(tokens))
    return Tokenizer(
        [None if token is None else raw_bytes(token) if byte_level else token.encode() for token in tokens],
        model,
        steps,
        cuts,
        patterns,
        added,
        before,
        behind,
        text_type,
        decoder,
        _length(root, len(before) + len(behind), len(tokens)),
    )


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _byte_level(steps: Sequence[Step], cuts: Sequence[Step]) -> bool:
    """Whether the model reads bytes."""
    return ("bytes_to_characters",) in steps or ("bytes",) in cuts


def _added(root: Node, steps: Sequence[Step]) -> list[Added]:
    """The added tokens. Those that are looked for in normalized text are normalized themselves, and such a token that
    this changes is no longer special, as in `tokenizers`."""
    found = []
    for node in root.nodes("added_tokens"):
        check_token(node.get("content", str))
        flags = {
            key: node.get(key, bool, False) for key in ("single_word", "lstrip", "rstrip", "normalized", "special")
        }
        token = Added(node.number("id", 0, MOST_TOKENS - 1), node.get("content", str), **flags)
        if token.normalized and (content := normalized(steps, token.content)) != token.content:
            token = replace(token, content=content, special=False)
        found.append(token)
    if len(found) > _MOST_ADDED:
        raise wrong(f"there are {len(found):,} added tokens, and {_MOST_ADDED:,} are possible")
    return [token for token in found if token.content]


def _tokens(ids: dict[str, int] | Any, added: Sequence[Added]) -> list[str | None]:
    """The tokens by id: the vocabulary's, and the added ones."""
    most = max([*ids.values(), *(token.id for token in added)]) + 1
    found: list[str | None] = [None] * most
    for token, number in ids.items():
        found[number] = token
    for token in added:
        found[token.id] = token.content
    return found


def _around(node: Node | None, count: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]], int]:
    """The (id, type) of the tokens before and behind a text, and the type of the text's own."""
    before: list[tuple[int, int]] = []
    behind: list[tuple[int, int]] = []
    text_type = 0
    for part in _processors(node, 0):
        first: list[tuple[int, int]] = []
        last: list[tuple[int, int]] = []
        if part.kind == "TemplateProcessing":
            first, last, text_type = _template(part)
        elif part.kind in ("BertProcessing", "RobertaProcessing"):
            first, last = [(_named(part, "cls"), 0)], [(_named(part, "sep"), 0)]
        elif part.kind != "ByteLevel":
            raise unsupported(f"the post-processor {part.kind[:40]!r}")
        before, behind = [*first, *before], [*behind, *last]
    if len(before) + len(behind) > _MOST_AROUND:
        raise wrong(f"the post-processor puts {len(before) + len(behind)} tokens around a text")
    for number, kind in (*before, *behind, (0, text_type)):
        if not 0 <= number < count or not 0 <= kind < 256:
            raise wrong(f"the post-processor adds the token {number} of type {kind}, and there are {count:,} tokens")
    return before, behind, text_type


def _processors(node: Node | None, depth: int) -> list[Node]:
    if node is None:
        return []
    if depth > 8:
        raise wrong("the post_processor has Sequences in Sequences in Sequences")
    if node.kind != "Sequence":
        return [node]
    return [part for n in node.nodes("processors") for part in _processors(n, depth + 1)]


def _named(node: Node, key: str) -> int:
    pair = node.get(key, list)
    if len(pair) != 2 or isinstance(pair[1], bool) or not isinstance(pair[1], int):
        raise wrong(f"'{key}' of {node.where} is {str(pair)[:40]}, not a token and its id")
    return int(pair[1])


def _template(node: Node) -> tuple[list[tuple[int, int]], list[tuple[int, int]], int]:
    tokens = node.node("special_tokens")
    parts: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
    text_type, texts = 0, 0
    for piece in node.nodes("single"):
        if (text := piece.node("Sequence")) is not None:
            texts += 1
            text_type = text.number("type_id", 0, 255, 0)
            continue
        special = piece.node("SpecialToken")
        told = None if special is None or tokens is None else tokens.node(special.get("id", str))
        if special is None or told is None:
            raise wrong(f"{piece.where} is neither the text nor one of the special tokens")
        kind = special.number("type_id", 0, 255, 0)
        for number in told.get("ids", list):
            if isinstance(number, bool) or not isinstance(number, int):
                raise wrong(f"'ids' of {told.where} has {str(number)[:40]}")
            parts[texts > 0].append((number, kind))
    if texts != 1:
        raise unsupported("a template in which the text does not occur once")
    return parts[0], parts[1], text_type


def _length(root: Node, around: int, count: int) -> Length:
    cut, pad = root.node("truncation"), root.node("padding")
    most, cut_left = 0, False
    if cut is not None:
        most, cut_left = cut.number("max_length", 0, _MOST_LENGTH), _left(cut)
        if cut.get("strategy", str, "LongestFirst") == "OnlySecond":
            raise unsupported("truncation of the second text only")
        if most <= around:
            raise wrong(f"truncation to {most} tokens leaves no room for a text beside {around} special ones")
    if pad is None:
        return Length(most, cut_left)
    strategy = pad.get("strategy", (str, dict), "BatchLongest")
    fixed = 0
    if isinstance(strategy, dict):
        fixed = Node(strategy, "padding.strategy").number("Fixed", 0, _MOST_LENGTH)
    elif strategy != "BatchLongest":
        raise unsupported(f"padding to {strategy[:40]!r}")
    return Length(
        most,
        cut_left,
        True,
        fixed,
        pad.number("pad_to_multiple_of", 0, 1 << 16, 0),
        _left(pad),
        pad.number("pad_id", 0, count - 1, 0),
        pad.number("pad_type_id", 0, 255, 0),
    )


def _left(node: Node) -> bool:
    found = node.get("direction", str, "Right")
    if found not in ("Left", "Right"):
        raise wrong(f"'direction' of {node.where} is {found[:40]!r}")
    return bool(found == "Left")
