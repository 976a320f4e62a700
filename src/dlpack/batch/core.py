"""Rows → scores: rows are cut and padded to the bundle's batch, and results are written where they stay."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.batch.rows import Pictures, Rows, matrix, rows_of
from dlpack.bundle.arrays import numpy_dtype, own_outputs
from dlpack.bundle.loader import Predictor, load
from dlpack.bundle.read import read_manifest
from dlpack.errors import UsageError, did_you_mean
from dlpack.graph.ir import Array
from dlpack.meaning.shape_sets import sets_of

Where = str | Path | Callable[[], str | Path]
"""A bundle's folder, or a function that finds it where rows are scored (Spark: `lambda: SparkFiles.get("net")`)."""


@dataclass(frozen=True)
class Tensor:
    """An input or output: element type, and its shape for one row."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


class Scorer:
    """Scores rows with a bundle for this computer. It holds no handle, so that it can be sent to other processes.

    The first dimension of the bundle's inputs is its batch: rows are computed so many at a time, the last ones padded
    with zeros, which no result is taken of. Where the bundle has several sets of shapes that differ in the batch alone
    (`--shape x=1x28 --shape x=1024x28`), those that fit best are used. Each thread has a handle of its own, kept for
    the next batch; all map the same weights.

    `columns` says which columns an input is made of: one that holds all of a row, or several with a number each. Where
    it says nothing, it is the column with the input's name, or, if the only input has as many elements as the table
    has columns (without `keep`), these in their order. `pictures` is a column of pictures, encoded (which needs
    Pillow) or as uint8 arrays, that the bundle's preprocessing turns into the input. `outputs` chooses outputs,
    `prefix` is put before their names. `constants` are whole inputs that are no rows.

    Raises UsageError for a bundle that does not compute row by row, or has no such inputs or outputs.
    """

    def __init__(
        self,
        bundle: Where,
        *,
        columns: Mapping[str, str | Sequence[str]] | None = None,
        outputs: Sequence[str] | None = None,
        pictures: str | None = None,
        constants: Mapping[str, Array] | None = None,
        keep: Sequence[str] = (),
        prefix: str = "",
    ) -> None:
        self._where = bundle
        self.keep = tuple(keep)
        self.prefix = prefix
        self._columns = {name: c if isinstance(c, str) else tuple(c) for name, c in (columns or {}).items()}
        self.pictures = pictures
        self._constants = dict(constants or {})
        manifest = read_manifest(self.folder)
        self._name = manifest["name"]
        own = {"inputs": manifest["inputs"], "outputs": own_outputs(manifest["outputs"])}
        _check(self._name, "input", self._columns, [t["name"] for t in own["inputs"]])
        _check(self._name, "input", self._constants, [t["name"] for t in own["inputs"]])
        _check(self._name, "output", outputs or (), [t["name"] for t in own["outputs"]])
        rowed = [t for t in own["inputs"] if t["name"] not in self._constants]
        batches = {t["shape"][0] if t["shape"] else 0 for t in rowed}
        if len(batches) != 1 or 0 in batches:
            told = ", ".join(f"{t['name']} {t['shape']}" for t in rowed)
            raise UsageError(
                f"{self._name}: the inputs have no batch in common ({told}): give those that are no rows in constants"
            )
        (batch,) = batches
        wanted = [t for t in own["outputs"] if outputs is None or t["name"] in outputs]
        if double := sorted({prefix + t["name"] for t in wanted} & set(keep)):
            raise UsageError(f"{double[0]!r} is a column to keep and an output: give a prefix for the outputs")
        for t in wanted:
            if "true_shape" in t or t["shape"][:1] != [batch]:
                raise UsageError(
                    f"{self._name}: the output {t['name']!r} ({t['shape']}) has no row per input row (the batch is "
                    f"{batch}): leave it out of outputs"
                )
        self.inputs = {t["name"]: Tensor(t["dtype"], tuple(t["shape"][1:])) for t in rowed}
        self.outputs = {t["name"]: Tensor(t["dtype"], tuple(t["shape"][1:])) for t in wanted}
        sets = sets_of(manifest)
        if len(manifest.get("open", {}).get("dimensions", ())) > 1:
            sets = sets[:1]  # rows of other sizes are other rows
        self.batches = tuple(sorted({size for s in sets if (size := self._batch_of(s))}))
        if pictures is not None and "preprocess" not in manifest:
            raise UsageError(f"{self._name} takes no pictures: build it with --preprocess")
        self._picture_input = manifest["preprocess"]["input"] if pictures is not None else None

    @property
    def folder(self) -> Path:
        return Path(self._where() if callable(self._where) else self._where)

    def _batch_of(self, shapes: Mapping[str, Any]) -> int:
        """The batch of a set of shapes whose rows are as those of the first; 0 for another."""
        mine = {t["name"]: t["shape"] for t in shapes["inputs"] if t["name"] in self.inputs}
        sizes = {shape[0] for shape in mine.values()}
        alike = all(tuple(shape[1:]) == self.inputs[name].shape for name, shape in mine.items())
        return sizes.pop() if alike and len(sizes) == 1 else 0

    def needed(self, names: Sequence[str]) -> dict[str, str | tuple[str, ...]]:
        """The columns that each input is made of, in a table with columns of these names. Raises UsageError."""
        for name in self.keep:
            if name not in names:
                raise UsageError(f"the table has no column {name!r} to keep{did_you_mean(name, names)}")
        found: dict[str, str | tuple[str, ...]] = {}
        free = [name for name in names if name not in self.keep]
        for name, tensor in self.inputs.items():
            if name == self._picture_input and self.pictures is not None:
                found[name] = self.pictures
            elif name in self._columns:
                found[name] = self._columns[name]
            elif name in names:
                found[name] = name
            elif len(self.inputs) == 1 and tensor.elements == len(free):
                found[name] = tuple(free)
            else:
                raise UsageError(
                    f"{self._name}: no column for the input {name!r} ({tensor.elements} elements a row); the table has "
                    f"{', '.join(names) or 'none'}: give it in columns"
                )
            wanted = found[name]
            for column in (wanted,) if isinstance(wanted, str) else wanted:
                if column not in names:
                    raise UsageError(f"the table has no column {column!r}{did_you_mean(column, names)}")
            if not isinstance(wanted, str) and len(wanted) != tensor.elements:
                raise UsageError(
                    f"{self._name}: the input {name!r} has {tensor.elements} elements a row, not {len(wanted)} columns"
                )
        return found

    def score(self, table: Mapping[str, Any]) -> dict[str, Array]:
        """The outputs for the rows of a table: by name, arrays of (rows, ...), and the columns in `keep` as they are.

        A column is an array of (rows,) or (rows, ...); of the input's type, or of one that converts to it without
        loss of more than precision. One that is contiguous and of the right type is read in place, and outputs are
        computed where they are returned. Raises UsageError for columns that do not fit.
        """
        results = self.compute(list(table), table.__getitem__)
        return {**{name: table[name] for name in self.keep}, **{self.prefix + n: x for n, x in results.items()}}

    def compute(self, names: Sequence[str], column: Callable[[str], Any]) -> dict[str, Array]:
        """The outputs for the rows of a table with columns of these names; those that are read are asked for."""
        sources: dict[str, Rows] = {}
        for name, columns in self.needed(names).items():
            tensor = self.inputs[name]
            if name == self._picture_input:
                sources[name] = Pictures(column(str(columns)), lambda picture: self._predictor().preprocess(picture))
            elif isinstance(columns, str):
                sources[name] = rows_of(columns, column(columns), tensor.dtype, tensor.shape)
            else:
                sources[name] = matrix({c: column(c) for c in columns}, tensor.dtype, tensor.shape)
        counts = {len(source) for source in sources.values()}
        if len(counts) != 1:
            raise UsageError(f"the columns have different numbers of rows: {sorted(counts)}")
        return self._run(sources, counts.pop())

    def _run(self, sources: Mapping[str, Rows], rows: int) -> dict[str, Array]:
        predictor = self._predictor()
        results = {n: np.empty((rows, *t.shape), numpy_dtype(t.dtype)) for n, t in self.outputs.items()}
        start = 0
        while start < rows:
            count, size = _step(self.batches, rows - start)
            given = {name: source.take(start, count, size) for name, source in sources.items()}
            predictor.bind({**self._constants, **given})
            if count == size:
                predictor.bind_outputs({name: x[start : start + size] for name, x in results.items()})
                predictor.compute()
            else:
                predictor.bind_outputs(dict.fromkeys(results))
                predictor.compute()
                padded = predictor.results(copy=False)
                for name, x in results.items():
                    x[start:] = padded[name][:count]
            start += count
        predictor.bind_outputs(dict.fromkeys(results))  # later runs of this handle leave them alone
        return results

    def _predictor(self) -> Predictor:
        """This thread's handle."""
        folder = self.folder
        key = (os.getpid(), os.path.abspath(folder), (folder / "manifest.json").stat().st_mtime_ns)
        handles: dict[Any, Predictor] = _THREAD.__dict__.setdefault("handles", {})
        if key not in handles:
            handles[key] = load(folder)
        return handles[key]


_THREAD = threading.local()


def _check(bundle: str, kind: str, given: Iterable[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known)
            raise UsageError(f"{bundle} has no {kind} {name!r}{hint}; it has {', '.join(known) or 'none'}")


def _step(batches: Sequence[int], left: int) -> tuple[int, int]:
    """How many of the rows that are left to compute now, and in which of the ascending batches.

    A full batch if there is one; what is left is padded to the next batch if more than half of that is used.
    """
    full = max((size for size in batches if size <= left), default=0)
    padded = min((size for size in batches if size >= left), default=0)
    if padded and (padded < 2 * left or not full):
        return left, padded
    return full, full
