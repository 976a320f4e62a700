"""Speech: the tokens around a text that a model writes of what it hears; the manifest's `speech` object.

A text begins with `start`, then, where the model knows several languages, with the token of its language and
`transcribe` or `translate` (into English), then with `quiet`, which says that it has no times. It ends at one of
`ends`. Tokens in `suppressed` are never written, those in `suppressed_first` not at the beginning.

A text with times has no `quiet`. The tokens from `times` on are times then: the first is the beginning of the window,
each further one `step` samples later. A text begins with one, of which at most `latest_first` is after the first.

The ONNX metadata key `dlpack.speech` has it as JSON, with `context`, the most tokens of a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dlpack.errors import UsageError
from dlpack.meaning.metadata import key_words, read_key

METADATA_KEY = "dlpack.speech"
NONE = -1
"""In place of a token that the model has not."""

_TOKENS = ("start", "transcribe", "translate", "quiet", "times")


@dataclass(frozen=True)
class Speech:
    """`languages` has a token for each language's code, none where the model knows one; the module has the rest."""

    start: int
    languages: tuple[tuple[str, int], ...]
    transcribe: int
    translate: int
    quiet: int
    suppressed: tuple[int, ...]
    suppressed_first: tuple[int, ...]
    ends: tuple[int, ...]
    context: int
    times: int = NONE
    step: int = 0
    latest_first: int = NONE

    def to_json(self) -> dict[str, Any]:
        """The manifest's `speech`; tokens that the model has not are left out."""
        tokens = {key: getattr(self, key) for key in (*_TOKENS, "latest_first")}
        tokens |= {"step": self.step} if self.times != NONE else {}
        lists = {key: list(getattr(self, key)) for key in ("suppressed", "suppressed_first", "ends")}
        return {**{k: v for k, v in tokens.items() if v != NONE}, "languages": dict(self.languages), **lists}


def from_metadata(metadata: Mapping[str, str]) -> Speech | None:
    """What the model's metadata say of speech; None where they say nothing. Raises UsageError for nonsense."""
    if METADATA_KEY not in metadata:
        return None
    where = key_words(METADATA_KEY)
    told = read_key(metadata[METADATA_KEY], METADATA_KEY)
    if not isinstance(told, dict):
        raise UsageError(f"{where} is not a JSON object")
    tokens = {key: told.get(key, NONE) for key in _TOKENS}
    lists = {key: told.get(key, []) for key in ("suppressed", "suppressed_first", "ends")}
    languages, context = told.get("languages", {}), told.get("context")
    if not isinstance(languages, dict) or not all(isinstance(v, list) for v in lists.values()):
        raise UsageError(f"{where}: languages is no object, or one of {', '.join(lists)} no list")
    every = [*tokens.values(), *languages.values(), *(t for v in lists.values() for t in v)]
    if not all(type(t) is int and NONE <= t < 1 << 31 for t in every) or tokens["start"] == NONE or not lists["ends"]:
        raise UsageError(
            f"{where}: start and ends, and all other tokens that it names, must be whole numbers from 0 on"
        )
    step, latest = told.get("step", 0), told.get("latest_first", NONE)
    if not all(type(n) is int and NONE <= n < 1 << 31 for n in (step, latest)) or (
        tokens["times"] != NONE and step < 1
    ):
        raise UsageError(f"{where}: step {step!r} and latest_first {latest!r} make no sense of tokens that are times")
    if type(context) is not int or context < 5:
        raise UsageError(f"{where}: context {context!r} is no number of tokens")
    if languages and tokens["transcribe"] == NONE:
        raise UsageError(f"{where}: there are languages, but no token transcribe")
    if not all(code.isascii() and code.isalpha() for code in languages):
        raise UsageError(f"{where}: a language's code has letters other than a to z")
    kinds = ("suppressed", "suppressed_first", "ends")
    suppressed, first, ends = (tuple(dict.fromkeys(lists[key])) for key in kinds)
    known = tuple(languages.items())
    return Speech(
        **tokens, languages=known, suppressed=suppressed, suppressed_first=first, ends=ends, context=context, step=step,
        latest_first=latest,
    )  # fmt: skip


def largest_token(speech: Speech) -> int:
    """The largest of the tokens that it names."""
    named: list[int] = [getattr(speech, key) for key in _TOKENS]
    return max(*named, *speech.suppressed, *speech.suppressed_first, *speech.ends, *(t for _, t in speech.languages))
