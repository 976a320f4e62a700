"""What a tokenizer.json says, after it has been read: plain data for `tables.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dlpack.errors import ModelError, UnsupportedError
from dlpack.tokenizer.regex import Patterns


@dataclass(frozen=True)
class Added:
    """A token that is found in a text before the model sees it."""

    id: int
    content: str
    single_word: bool
    lstrip: bool
    rstrip: bool
    normalized: bool
    special: bool


@dataclass(frozen=True)
class Bpe:
    """`merges`: rows (left, right, merged) in the order of their ranks."""

    ids: Mapping[str, int]
    merges: Sequence[tuple[int, int, int]]
    unknown: int
    fuse_unknown: bool
    byte_fallback: bool
    whole_words: bool
    """A word of the vocabulary is taken as it is (`ignore_merges`)."""
    prefix: str
    suffix: str


@dataclass(frozen=True)
class WordPiece:
    """`longest`: the most characters of a word that is cut; WordLevel is WordPiece that cuts no word (`whole`)."""

    ids: Mapping[str, int]
    unknown: int
    prefix: str
    longest: int
    whole: bool = False


@dataclass(frozen=True)
class Unigram:
    """`scores`: of each id of the vocabulary."""

    ids: Mapping[str, int]
    scores: Sequence[float]
    unknown: int
    byte_fallback: bool


@dataclass(frozen=True)
class Decoder:
    """How tokens become text.

    `kind`: "raw" as they are; "marked": `mark` is a space; "spaced": words are put apart, but for tokens that begin
    with `mark`. `odd`: tokens of which this is not true, with what they are as the first token and later. `bytes_of`:
    the tokens that are a byte. `sink`: "plain"; "lossy": the bytes together are UTF-8, or U+FFFD; "runs": those of byte
    tokens are. `strip`: a character, and how often it is dropped at the beginning of the text.
    """

    kind: str
    mark: str
    first_unmarked: bool
    odd: Mapping[int, tuple[bytes, bytes]]
    bytes_of: Mapping[int, int]
    sink: str
    strip: tuple[str, int]


@dataclass(frozen=True)
class Length:
    """Truncation (`most` tokens; 0: none), and padding to `fixed` tokens or a multiple of `multiple`."""

    most: int = 0
    cut_left: bool = False
    pads: bool = False
    fixed: int = 0
    multiple: int = 0
    pad_left: bool = False
    pad_id: int | None = None
    pad_type: int = 0


Step = tuple[Any, ...]


@dataclass(frozen=True)
class Tokenizer:
    """`strings`: each id's token as the model reads it, of byte-level tokenizers its bytes; None for an unused id.

    `normalizers`: steps over all characters, ("lowercase",), ("replace", program, text) ...; `levels`: steps that cut
    the text into words, ("split", program, behaviour, inverted), ("metaspace", mark, scheme), ("space",), ("bytes",).
    `before` and `behind`: (id, type) of the tokens around a text.
    """

    strings: Sequence[bytes | None]
    model: Bpe | WordPiece | Unigram
    normalizers: Sequence[Step]
    levels: Sequence[Step]
    patterns: Patterns
    added: Sequence[Added]
    before: Sequence[tuple[int, int]]
    behind: Sequence[tuple[int, int]]
    text_type: int
    decoder: Decoder
    length: Length = field(default_factory=Length)

    @property
    def model_name(self) -> str:
        """The model's type as the file says it."""
        if isinstance(self.model, WordPiece) and self.model.whole:
            return "WordLevel"
        return "BPE" if isinstance(self.model, Bpe) else type(self.model).__name__


def wrong(what: str) -> ModelError:
    return ModelError(f"tokenizer.json: {what}")


def unsupported(what: str) -> UnsupportedError:
    return UnsupportedError(f"tokenizer.json: {what} is not supported")


_MISSING = object()


class Node:
    """An object of the JSON file, read with its types checked; `where` names it in errors."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise wrong(f"{where} is {str(value)[:40]!r}, not an object")
        self.value, self.where = value, where

    def get(self, key: str, kinds: type | tuple[type, ...], default: Any = _MISSING) -> Any:
        """The value of a key; `default` where it is missing or null. Raises ModelError for another type."""
        found = self.value.get(key)
        if found is None:
            if default is _MISSING:
                raise wrong(f"{self.where} has no '{key}'")
            return default
        wanted = kinds if isinstance(kinds, tuple) else (kinds,)
        if not isinstance(found, wanted) or (isinstance(found, bool) and bool not in wanted):
            names = " or ".join(kind.__name__ for kind in wanted)
            raise wrong(f"'{key}' of {self.where} is {str(found)[:40]!r}, not {names}")
        if isinstance(found, str) and any(0xD800 <= ord(c) < 0xE000 for c in found):
            raise wrong(f"'{key}' of {self.where} is no text: it has half of a surrogate pair")
        return found

    def node(self, key: str) -> Node | None:
        found = self.value.get(key)
        return None if found is None else Node(found, f"{self.where}.{key}")

    def nodes(self, key: str) -> list[Node]:
        return [Node(x, f"{self.where}.{key}[{k}]") for k, x in enumerate(self.get(key, list, []))]

    def number(self, key: str, least: int, most: int, default: Any = _MISSING) -> int:
        """A whole number within bounds."""
        found = self.get(key, int, default)
        if not least <= found <= most:
            raise wrong(f"'{key}' of {self.where} is {found}, not from {least} to {most:,}")
        return int(found)

    @property
    def kind(self) -> str:
        found: str = self.get("type", str)
        return found
