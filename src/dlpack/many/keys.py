"""The options of a build as a file of models writes them: the key, the form of its value, what it sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlpack.errors import UsageError, did_you_mean
from dlpack.meaning.labels import read_labels
from dlpack.meaning.preprocess import PRESETS
from dlpack.meaning.shape_sets import Buckets, alternatives
from dlpack.meaning.sound import PRESETS as SOUNDS
from dlpack.options import CHOICES, DTYPES


@dataclass(frozen=True)
class Place:
    """A place in the file, which errors name: `models.squeezenet.shape`. It also reads the values that lie there."""

    file: str
    root: Path
    key: str = ""

    def at(self, key: str) -> Place:
        return Place(self.file, self.root, f"{self.key}.{key}" if self.key else key)

    def error(self, text: str) -> UsageError:
        return UsageError(f"{self.file}: {self.key}: {text}" if self.key else f"{self.file}: {text}")

    def _expected(self, form: str, value: Any) -> UsageError:
        return self.error(f"{form} is expected here, not {value!r}")

    def table(self, value: Any) -> Mapping[str, Any]:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            raise self.error(f"a list of tables is not expected here: write [{self.key}.NAME], not [[{self.key}]]")
        if not isinstance(value, dict):
            raise self._expected("a table", value)
        return value

    def text(self, value: Any) -> str:
        if not isinstance(value, str) or not value:
            raise self._expected("a text in quotes", value)
        return value

    def texts(self, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
            raise self._expected("a list of texts", value)
        return tuple(value)

    def flag(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise self._expected("true or false", value)
        return value

    def whole(self, value: Any, least: int = 1) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self._expected(f"a whole number from {least}", value)
        return value

    def number(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._expected("a number", value)
        return float(value)

    def path(self, value: Any) -> Path:
        """A path, relative to the file's folder."""
        return self.root / self.text(value)

    def model(self, value: Any) -> Path:
        """A model: a path, FILE.py:NAME or PACKAGE.MODULE:NAME."""
        from dlpack.exporters import is_callable

        text = self.text(value)
        if is_callable(Path(text)) and not text.rpartition(":")[0].endswith(".py"):
            return Path(text)
        return self.root / text

    def target_value(self, value: Any) -> str:
        """The value of a target's option, as on the command line: a list is joined by commas."""
        if isinstance(value, list):
            return ",".join(self.target_value(v) for v in value)
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise self._expected("a text, a number or a list of these", value)
        return str(value)


Fields = dict[str, Any]
"""Fields of `dlpack.options.Options`."""


def _field(name: str, read: Callable[[Place, Any], Any]) -> Callable[[Place, Any], Fields]:
    return lambda place, value: {name: read(place, value)}


def _choice(names: tuple[str, ...]) -> Callable[[Place, Any], str]:
    def read(place: Place, value: Any) -> str:
        text = place.text(value)
        if text not in names:
            raise place.error(f"{text!r} is none of {', '.join(names)}{did_you_mean(text, names)}")
        return text

    return read


def _each(read: Callable[[Place, Any], Any]) -> Callable[[Place, Any], dict[str, Any]]:
    """A table of inputs or other values by their names."""
    return lambda place, value: {name: read(place.at(name), v) for name, v in place.table(value).items()}


def _shape(place: Place, value: Any) -> Fields:
    """`{x = [1, 3, 224, 224]}`; a list of lists makes sets of shapes; a text is as on the command line, with a type."""
    given: list[tuple[str, tuple[int, ...]]] = []
    dtypes: dict[str, str] = {}
    for name, shapes in place.table(value).items():
        where = place.at(name)
        several = isinstance(shapes, list) and any(isinstance(s, list | str) for s in shapes)
        for shape in shapes if several else [shapes]:
            dims, dtype = _dims(where, shape)
            given.append((name, dims))
            if dtype:
                dtypes[name] = dtype
    try:
        first, *more = alternatives(given)
    except UsageError as e:
        raise place.error(str(e)) from e
    return {"shapes": first, "more_shapes": tuple(more), "dtypes": dtypes}


def _dims(place: Place, value: Any) -> tuple[tuple[int, ...], str]:
    """A shape and its element type, "" where none is given."""
    if isinstance(value, list) and all(type(n) is int and n >= 0 for n in value):
        return tuple(value), ""
    words, _, dtype = value.partition(":") if isinstance(value, str) else ("?", "", "")
    if dtype not in ("", *DTYPES):
        raise place.error(f"the element type must be one of {', '.join(DTYPES)}{did_you_mean(dtype, DTYPES)}")
    sizes = words.split("x") if words else []
    if not all(n.isdigit() for n in sizes):
        raise place.error(f'{value!r} is no shape: write [1, 3, 224, 224] or "1x16:int64"')
    return tuple(map(int, sizes)), dtype


def _buckets(place: Place, value: Any) -> Buckets:
    lengths = _each(lambda where, v: tuple(where.whole(n) for n in _list(where, v)))(place, value)
    if len(lengths) != 1:
        raise place.error("one input has buckets: write { ids = [16, 32, 64] }")
    ((name, sizes),) = lengths.items()
    return Buckets(name, sizes)


def _list(place: Place, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise place.error(f"a list is expected here, not {value!r}")
    return value


def _constant(place: Place, value: Any) -> tuple[str, ...]:
    """The elements of a constant as text."""
    elements = value if isinstance(value, list) else [value]
    if not elements or not all(isinstance(v, int | float | str) for v in elements):
        raise place.error(f"numbers are expected here, not {value!r}")
    return tuple(str(v).lower() if isinstance(v, bool) else str(v) for v in elements)


def _range(place: Place, value: Any) -> tuple[float, float]:
    ends = _list(place, value)
    if len(ends) != 2:
        raise place.error("write the lowest and the highest value: [0, 30521]")
    return place.number(ends[0]), place.number(ends[1])


def _labels(place: Place, value: Any) -> tuple[str, ...]:
    if isinstance(value, list):
        return place.texts(value)
    try:
        return read_labels(place.path(value))
    except UsageError as e:
        raise place.error(str(e)) from e


def _preset_or_path(place: Place, value: Any) -> str:
    text = place.text(value)
    return text if text in (*PRESETS, "none") else str(place.path(text))


def _sound(place: Place, value: Any) -> str:
    text = place.text(value)
    return text if text in SOUNDS else str(place.path(text))


def _tolerance(place: Place, value: Any) -> float:
    number = place.number(value)
    if not 0 < number <= 1:
        raise place.error(f"a number over 0 and up to 1 is expected here, not {value!r}")
    return number


def _threads(place: Place, value: Any) -> int:
    count = place.whole(value)
    if count > 256:
        raise place.error(f"at most 256 threads are possible, not {count}")
    return count


OPTIONS: dict[str, Callable[[Place, Any], Fields]] = {
    "name": _field("name", Place.text),
    "shape": _shape,
    "buckets": _field("buckets", _buckets),
    "value": _field("values", _each(_constant)),
    "params": _field("params", Place.path),
    "labels": _field("labels", _labels),
    "preprocess": _field("preprocess", _preset_or_path),
    "sound": _field("sound", _sound),
    "task": _field("task", lambda place, value: str(place.path(value))),
    **{key: _field(key.replace("-", "_"), _choice(names)) for key, names in CHOICES.items()},
    "calibrate": _field("calibrate", Place.path),
    "threads": _field("threads", _threads),
    "binding": _field("bindings", Place.texts),
    "mxnet-api": _field("mxnet_api", Place.flag),
    "keep-internals": _field("internals", Place.texts),
    "range": _field("ranges", _each(_range)),
    "max": _field("maxima", _each(Place.whole)),
    "tokenizer": _field("tokenizer", lambda place, value: Path(value) if value == "none" else place.path(value)),
    "text-bytes": _field("text_bytes", Place.whole),
    "embedding": _field("embedding", Place.text),
    "context": _field("context", Place.whole),
    "source": _field("source", Place.whole),
    "inputs": _field("inputs", Place.path),
    "tolerance": _field("tolerance", _tolerance),
    "cc": _field("cc", Place.text),
}
"""The options of `dlpack build` by their names there."""
