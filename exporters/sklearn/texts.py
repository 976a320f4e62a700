"""Columns of text among an estimator's columns: which they are, and words to try them with.

A bundle has an input for numbers, X, and one for text, of which each has its columns in the order of the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlpack.errors import UnsupportedError
from dlpack.exporters.sklearn.dictionaries import dictionaries, keys_of, reads_dictionaries

_MAX_WORDS = 200
_MAX_DEPTH = 16


@dataclass(frozen=True)
class Table:
    """The columns of an estimator's input; `words` has those of text, and what may stand in each.

    `lines`: the estimator takes a list of texts in place of a table; `keys`: it takes dictionaries, with a key for each
    column.
    """

    columns: int
    words: Mapping[int, tuple[str, ...]]
    lines: bool = False
    keys: tuple[str, ...] = ()

    @property
    def numbers(self) -> list[int]:
        return [k for k in range(self.columns) if k not in self.words]

    @property
    def texts(self) -> list[int]:
        return sorted(self.words)

    def place(self, column: int) -> int:
        """Where a column is when those of numbers come before those of text."""
        return [*self.numbers, *self.texts].index(column)

    def joined(self, numbers: Any, texts: Any) -> Any:
        """What the estimator takes, of the two inputs' rows: numbers, an array of objects, a list of texts, or
        dictionaries."""
        if self.keys:
            rows = texts if self.words else np.empty((len(numbers), 0), object)
            return dictionaries(self.keys, numbers, rows, (self.numbers, self.texts))
        if not self.words:
            return numbers
        if self.lines:
            return texts[:, 0].tolist()
        made = np.empty((len(texts), self.columns), object)
        made[:, self.numbers] = numbers
        made[:, self.texts] = texts
        return made


def table_of(estimator: Any, columns: int) -> Table:
    """The table of an estimator with so many columns; 0 for one that does not say."""
    if reads_dictionaries(first := innermost(estimator)):
        keys = keys_of(first)
        known = {k: words[:_MAX_WORDS] for k, words in enumerate(keys.values()) if words}
        return Table(len(keys), known, keys=tuple(keys))
    found: dict[int, set[str]] = {}
    _search(estimator, range(max(columns, 1)), found, 0)
    words = {k: tuple(sorted(known)[:_MAX_WORDS]) for k, known in found.items()}
    return Table(columns or len(words), words, not columns)


def columns_of(part: Any, columns: Any) -> list[int]:
    """The places of a ColumnTransformer's columns, which may be names, places, a slice or a mask."""
    names = list(getattr(part, "feature_names_in_", ()))
    if isinstance(columns, slice):
        return list(range(part.n_features_in_))[columns]
    if np.asarray(columns).dtype == bool:
        return [int(k) for k in np.flatnonzero(columns)]
    return [names.index(c) if isinstance(c, str) else int(c) for c in np.atleast_1d(columns).tolist()]


def first_part(part: Any) -> Any:
    """The first part of a pipeline or composite estimator to see the input."""
    if made := [step[1] for step in getattr(part, "steps", ()) if not isinstance(step[1], str)]:
        return made[0]
    return next(iter(_inner_parts(part)), None)


def innermost(part: Any) -> Any:
    """The innermost part that sees the input."""
    while (inner := first_part(part)) is not None:
        part = inner
    return part


def _inner_parts(part: Any) -> list[Any]:
    """The parts of a composite estimator that see its input."""
    if made := [step[1] for step in getattr(part, "transformer_list", ()) if not isinstance(step[1], str)]:
        return made
    for name in ("calibrated_classifiers_", "estimators_", "_predictors"):
        held = np.array(getattr(part, name, ()), object).reshape(-1)
        if held.size and not hasattr(part, "estimators_features_"):
            return list(held)
    parts = (getattr(part, name, None) for name in ("estimator_", "estimator", "best_estimator_"))
    return [p for p in parts if p is not None][:1]


def reorder(part: Any, table: Table) -> None:
    """Lets the transformers that see the table find its columns where `Table.place` says, in place."""
    if hasattr(part, "transformers_"):
        part.transformers_ = [
            (name, transformer, [table.place(k) for k in columns_of(part, columns)])
            for name, transformer, columns in part.transformers_
        ]
        return
    for inner in _seeing(part):
        reorder(inner, table)


def _seeing(part: Any) -> list[Any]:
    """What sees all columns that `part` sees."""
    if not hasattr(part, "steps"):
        return _inner_parts(part)
    steps = [step for _, step in part.steps]
    first = next((k for k, step in enumerate(steps) if not _keeps_columns(step)), len(steps) - 1)
    return steps[: first + 1]


def _search(part: Any, places: Sequence[int], found: dict[int, set[str]], depth: int) -> None:
    """Enters the columns of text that `part` sees at `places`."""
    known = getattr(part, "categories_", ())
    if depth > _MAX_DEPTH or part is None or isinstance(part, str):
        return
    if hasattr(part, "transformers_"):
        for _, transformer, columns in part.transformers_:
            _search(transformer, [places[k] for k in columns_of(part, columns)], found, depth + 1)
    elif hasattr(part, "vocabulary_"):
        found.setdefault(places[0], set()).update(_lines(part))
    elif len(known) == len(places):
        texts = [{v for v in values if isinstance(v, str)} for values in known]
        if any(texts) and not all(texts):
            raise UnsupportedError(
                f"one {type(part).__name__} encodes columns of text and columns of numbers; give it the columns of "
                "text alone, and the others to another one, in a ColumnTransformer"
            )
        for place, words in zip(places, texts, strict=True):
            if words:
                found.setdefault(place, set()).update(words)
    else:
        for inner in _seeing(part):
            _search(inner, places, found, depth + 1)


def _keeps_columns(step: Any) -> bool:
    """Whether what follows a step of a pipeline sees the same columns."""
    return isinstance(step, str) or step is None or type(step).__name__ == "SimpleImputer"


def _lines(part: Any) -> list[str]:
    """Texts of words that a vectoriser knows."""
    known = sorted(part.vocabulary_)
    rng = np.random.default_rng(2)
    return [" ".join(rng.choice(known, min(6, len(known)))) for _ in range(64)] if known else [""]
