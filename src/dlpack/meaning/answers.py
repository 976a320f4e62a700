"""Answers: what a model with an encoder of text writes about a text that it reads, such as its translation.

The encoder reads a text, at most `source` tokens of it (0: any number). An answer begins with the tokens in `start`,
which are not part of it, and has at most `context` tokens with them (0: any number); those in `suppressed` are never
written. The ONNX metadata key `dlpack.answers` has it as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dlpack.errors import UsageError
from dlpack.meaning.metadata import key_words, read_key

METADATA_KEY = "dlpack.answers"


@dataclass(frozen=True)
class Answers:
    """The module says what these are."""

    start: tuple[int, ...]
    suppressed: tuple[int, ...] = ()
    source: int = 0
    context: int = 0


def from_metadata(metadata: Mapping[str, str]) -> Answers | None:
    """What the model's metadata say of answers; None where they say nothing. Raises UsageError for nonsense."""
    if METADATA_KEY not in metadata:
        return None
    where = key_words(METADATA_KEY)
    told = read_key(metadata[METADATA_KEY], METADATA_KEY)
    if not isinstance(told, dict):
        raise UsageError(f"{where} is not a JSON object")
    lists = {key: told.get(key, []) for key in ("start", "suppressed")}
    numbers = {key: told.get(key, 0) for key in ("source", "context")}
    every = [*numbers.values(), *(t for v in lists.values() if isinstance(v, list) for t in v)]
    whole = all(type(t) is int and 0 <= t < 1 << 31 for t in every)
    if not whole or not all(isinstance(v, list) for v in lists.values()) or not lists["start"]:
        raise UsageError(f"{where}: start must have tokens, and all that it names must be whole numbers from 0 on")
    if 0 < numbers["source"] < 2 or 0 < numbers["context"] <= len(lists["start"]):
        raise UsageError(f"{where}: source {numbers['source']} or context {numbers['context']} leaves no room")
    return Answers(tuple(lists["start"]), tuple(dict.fromkeys(lists["suppressed"])), **numbers)
