"""CatBoost's columns of words, which a `.cbm` file knows by their hashes only.

A word's number is the low half of its CityHash64 (`dlpack.meaning.cityhash`). A one-hot split asks for one number. What
CatBoost calls a CTR is a number for a combination: of words, and of whether columns are above a border or are a word.
The combination is hashed in its turn, and a table behind the trees has for each hash what training counted there; from
that and a prior comes the feature whose borders are the splits. A combination that training has not seen counts zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto

from dlpack.errors import ModelError, UnsupportedError
from dlpack.exporters.builder import Array
from dlpack.exporters.flatbuffer import FlatFile, Table
from dlpack.exporters.forest import MAX_TARGETS, Graph

_MULTIPLIER = 0x4906BA494954CB65
_NONE = (1 << 64) - 1
"""The hash of an empty place of a table."""
BORDERS, BUCKETS, BINARISED_MEAN, FLOAT_MEAN, COUNTER, FREQUENCY = range(6)
_BUCKET = np.dtype([("hash", "<u8"), ("place", "<u4")])
_MEAN = np.dtype([("sum", "<f4"), ("count", "<i4")])
_EXAMPLES = 48


@dataclass(frozen=True)
class Numeric:
    """A numeric feature: its column, and whether NaN is above every border."""

    column: int
    missing: bool


@dataclass(frozen=True)
class Combination:
    """What is hashed together: words, by the numbers of their features; whether numeric features are above a border;
    whether words are those of a certain number."""

    words: tuple[int, ...]
    above: tuple[tuple[int, float], ...]
    same: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _Base:
    """Which table a feature is computed from."""

    combination: Combination
    kind: int
    classifier: int


@dataclass(frozen=True)
class Counted:
    """A feature: ``((count + prior) / (total + weight) + shift) * scale``."""

    base: _Base
    border: int
    prior: float
    weight: float
    shift: float
    scale: float

    def values(self, good: Any, total: Any) -> Array:
        """Of counts, in float32 as CatBoost computes it."""
        good, total = np.float32(good), np.float32(total)
        with np.errstate(divide="ignore", invalid="ignore"):
            part = (good + np.float32(self.prior)) / (total + np.float32(self.weight))
        return np.asarray((part + np.float32(self.shift)) * np.float32(self.scale), np.float32)


@dataclass(frozen=True)
class _Counts:
    """A table: hashes, sorted, and for each where its counts are."""

    hashes: Array
    places: Array
    blob: Array
    denominator: int
    classes: int

    def of(self, feature: Counted) -> tuple[Array, Array]:
        """The feature for each of the hashes, and for others."""
        kind = feature.base.kind
        if kind in (BINARISED_MEAN, FLOAT_MEAN):
            rows = self._rows(_MEAN, 1)[:, 0]
            return feature.values(rows["sum"], rows["count"]), feature.values(0, 0)
        if kind in (COUNTER, FREQUENCY):
            counts = self._rows(np.dtype("<i4"), 1)[:, 0]
            return feature.values(counts, self.denominator), feature.values(0, self.denominator)
        counts = self._rows(np.dtype("<i4"), max(2, self.classes))
        if not 0 <= feature.border < counts.shape[1]:
            raise ModelError(f"a feature of the class {feature.border} of {counts.shape[1]}; the file is damaged")
        good = counts[:, feature.border] if kind == BUCKETS else counts[:, feature.border + 1 :].sum(axis=1)
        return feature.values(good, counts.sum(axis=1)), feature.values(0, 0)

    def _rows(self, dtype: np.dtype[Any], width: int) -> Array:
        size = dtype.itemsize * width
        found = np.frombuffer(self.blob.tobytes()[: self.blob.size // size * size], dtype).reshape(-1, width)
        if self.places.size and int(self.places.max()) >= len(found):
            raise ModelError("a table of categories that is shorter than its places; the file is damaged")
        return found[self.places]


class Categories:
    """The categorical part of a model: which columns are words, and the features of them that the trees compare.

    The features are columns behind the table's: one for each one-hot feature, the place of the word among its values,
    then the counted ones in the order of `ranked`.
    """

    def __init__(self, trees: Table, tables: bytes, numeric: Mapping[int, Numeric]) -> None:
        """`tables`: what the file has behind the trees; `numeric`: the numeric features by their numbers."""
        self.numeric = numeric
        self.flat = {int(f.number(0, "i", -1)): int(f.number(1, "i", -1)) for f in trees.tables(4)}
        self.texts = sorted(self.flat.values())
        self.names = {int(f.number(1, "i", -1)): f.text(2) for f in trees.tables(4)}
        self.one_hot = [(int(f.number(0, "i", -1)), f.ints(1)) for f in trees.tables(6)]
        self.counted = [_counted(f.table(0)) for f in trees.tables(7)]
        self.borders = [f.vector(1, "<f4") for f in trees.tables(7)]
        self.mixes = list(dict.fromkeys(feature.base.combination for feature in self.counted))
        ranks = {mix: k for k, mix in enumerate(self.mixes)}
        self.ranked = sorted(range(len(self.counted)), key=lambda k: ranks[self.counted[k].base.combination])
        self.counts = _read_tables(tables) if self.counted else {}
        self._check()

    def _check(self) -> None:
        words = {number for number, _ in self.one_hot}
        for mix in self.mixes:
            words |= {*mix.words, *(number for number, _ in mix.same)}
            if not {number for number, _ in mix.above} <= self.numeric.keys() or not (mix.words or mix.same):
                raise ModelError("a combination of features that are not there; the file is damaged")
        lost = [feature for feature in self.counted if feature.base not in self.counts]
        if not words <= self.flat.keys() or lost:
            raise ModelError("a split on categories that are not there; the file is damaged")

    @property
    def size(self) -> int:
        return len(self.one_hot) + len(self.counted)

    def place(self, counted: int) -> int:
        """Which of the columns has this counted feature."""
        return len(self.one_hot) + self.ranked.index(counted)

    def known(self) -> list[int]:
        """The numbers of some words of the training data, of each column in turn."""
        inverse = pow(_MULTIPLIER * _MULTIPLIER, -1, 1 << 64)
        found: dict[int, list[int]] = {number: list(values) for number, values in self.one_hot}
        for base, table in self.counts.items():
            mix = base.combination
            if len(mix.words) == 1 and not mix.above and not mix.same:
                numbers = [int(h) * inverse & _NONE for h in table.hashes[:_EXAMPLES].tolist()]
                found.setdefault(mix.words[0], []).extend((n + (1 << 31)) % (1 << 32) - (1 << 31) for n in numbers)
        rounds = [values[k] for k in range(_EXAMPLES) for values in found.values() if k < len(values)]
        return list(dict.fromkeys(rounds))[:_EXAMPLES]

    def columns(self, graph: Graph, table: str, texts: str) -> str:
        """The features, float32 [rows, size], of the table and of the words' hashes [rows, columns of words]."""
        hashes = {
            number: graph.op("Gather", texts, graph.constant([self.texts.index(flat)], np.int64), axis=1)
            for number, flat in self.flat.items()
        }
        made = []
        for number, values in self.one_hot:
            keys: dict[str, Any] = {"keys_int64s": values, "values_floats": [float(k) for k in range(len(values))]}
            made.append(graph.op("LabelEncoder", hashes[number], domain="ai.onnx.ml", **keys, default_float=-1.0))
        made += [self._look_up(graph, mix, self._hash(graph, mix, table, hashes)) for mix in self.mixes]
        return graph.op("Concat", *made, axis=1)

    def _look_up(self, graph: Graph, mix: Combination, hashed: str) -> str:
        """The features of one combination, [rows, n]."""
        features = [f for f in (self.counted[k] for k in self.ranked) if f.base.combination == mix]
        tables = [self.counts[f.base] for f in features]
        keys = np.unique(np.concatenate([t.hashes for t in tables]))
        values = np.empty((len(keys) + 1, len(features)), np.float32)
        for k, (feature, counts) in enumerate(zip(features, tables, strict=True)):
            found, other = counts.of(feature)
            values[:, k] = other
            values[np.searchsorted(keys, counts.hashes), k] = found
        attributes: dict[str, Any] = {
            "keys_int64s": keys.view(np.int64).tolist(),
            "values_int64s": list(range(len(keys))),
        }
        place = graph.op("LabelEncoder", hashed, domain="ai.onnx.ml", **attributes, default_int64=len(keys))
        return graph.op("Gather", graph.constant(values), graph.op("Squeeze", place, graph.constant([1], np.int64)))

    def _hash(self, graph: Graph, mix: Combination, table: str, hashes: Mapping[int, str]) -> str:
        """The hash of a combination, int64 [rows, 1]; products wrap."""
        parts = [hashes[word] for word in mix.words]
        for number, border in mix.above:
            feature = self.numeric[number]
            x = graph.op("Gather", table, graph.constant([feature.column], np.int64), axis=1)
            above = graph.op("Greater", x, graph.constant(border))
            above = graph.op("Or", above, graph.op("IsNaN", x)) if feature.missing else above
            parts.append(graph.op("Cast", above, to=TensorProto.INT64))
        for word, number in mix.same:
            same = graph.op("Equal", hashes[word], graph.constant(number, np.int64))
            parts.append(graph.op("Cast", same, to=TensorProto.INT64))
        multiplier, made = graph.constant(_MULTIPLIER, np.int64), ""
        for part in parts:
            product = graph.op("Mul", part, multiplier)
            made = graph.op("Mul", graph.op("Add", made, product) if made else product, multiplier)
        return made


def _base(base: Table | None) -> _Base:
    mix = base.table(0) if base else None
    if base is None or mix is None:
        raise ModelError("a feature of categories without its combination; the file is damaged")
    above = tuple((int(n), float(border)) for n, border in mix.vector(1, "<i4,<f4").tolist())
    same = tuple((int(n), int(value)) for n, value in mix.vector(2, "<i4,<i4").tolist())
    kind = int(base.number(1, "B", 0))
    if kind > FREQUENCY:
        raise UnsupportedError(f"the CTR type {kind}, which is not known here; train with simple_ctr='Borders'")
    return _Base(Combination(mix.ints(0), above, same), kind, int(base.number(2, "i", 0)))


def _counted(feature: Table | None) -> Counted:
    if feature is None:
        raise ModelError("a feature of categories without its numbers; the file is damaged")
    prior, weight, shift, scale = (float(feature.number(k, "f", d)) for k, d in ((2, 0), (3, 1), (4, 0), (5, 1)))
    return Counted(_base(feature.table(0)), int(feature.number(1, "i", 0)), prior, weight, shift, scale)


def _read_tables(data: bytes) -> dict[_Base, _Counts]:
    """The tables of a file: how many, then for each its size and a FlatBuffer."""
    found: dict[_Base, _Counts] = {}
    at = 4
    for _ in range(int.from_bytes(data[:4], "little")):
        size = int.from_bytes(data[at : at + 4], "little")
        if not 0 < size <= len(data) - at - 4:
            raise ModelError("the tables of categories are cut off; copy or save the file again")
        table = FlatFile(data[at + 4 : at + 4 + size]).root()
        buckets = table.vector(1, "u1")
        rows = np.frombuffer(buckets.tobytes()[: buckets.size // _BUCKET.itemsize * _BUCKET.itemsize], _BUCKET)
        rows = np.sort(rows[rows["hash"] != _NONE], order="hash")
        denominator, classes = int(table.number(3, "i", 0)), int(table.number(4, "i", 0))
        if not 0 <= classes <= MAX_TARGETS:
            raise ModelError(f"a table of {classes} classes; the file is damaged")
        counts = _Counts(
            rows["hash"].copy(), rows["place"].astype(np.int64), table.vector(2, "u1"), denominator, classes
        )
        found[_base(table.table(0))] = counts
        at += 4 + size
    return found
