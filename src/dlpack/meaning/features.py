"""The features of a table: names, and where their values were in training; the manifest's `features`.

They come from the model's file, in the ONNX metadata key `dlpack.features`: a JSON list with an object for each column
of the first input, {"name": text, "range": [low, high]}, the range only where it is known.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from dlpack.errors import UsageError
from dlpack.meaning.metadata import key_words, read_key

METADATA_KEY = "dlpack.features"
MAX_FEATURES = 1 << 16
MAX_NAME = 1000

Range = tuple[float, float] | None


def to_metadata(names: Sequence[str], ranges: Sequence[Range]) -> str | None:
    """The metadata's value for these columns; None where nothing is known of them, or their names are unreasonable.

    `names` is empty, or has one for each column; `ranges` as well.
    """
    count = len(names) or len(ranges)
    usable = len(names) in (0, count) and len(ranges) in (0, count) and 0 < count <= MAX_FEATURES
    if not usable or not (names or any(ranges)) or any(len(name) > MAX_NAME for name in names):
        return None
    told = []
    for k in range(count):
        span = ranges[k] if ranges else None
        known = {"range": list(span)} if span and span[0] < span[1] and all(map(math.isfinite, span)) else {}
        told.append({"name": names[k] if names else f"column {k}", **known})
    return json.dumps(told)


def from_metadata(text: str, inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The manifest's `features` for a model with these inputs. Raises UsageError for what is none, or does not fit."""
    where = key_words(METADATA_KEY)
    told = read_key(text, METADATA_KEY)
    columns = inputs[0]["shape"][-1] if inputs and len(inputs[0]["shape"]) == 2 else 0
    if not isinstance(told, list) or len(told) != columns or columns > MAX_FEATURES:
        raise UsageError(f"{where} is no list with an object for each of the {columns} columns of the first input")
    for k, feature in enumerate(told):
        if not isinstance(feature, dict) or set(feature) - {"name", "range"} or not _is_name(feature.get("name")):
            raise UsageError(f"{where}: {str(feature)[:60]}, the {k}th, is no feature with a name")
        if "range" in feature and not _is_range(feature["range"]):
            raise UsageError(f"{where}: the range of the {k}th is no pair [low, high]")
    return told


def _is_name(value: object) -> bool:
    if not isinstance(value, str) or len(value) > MAX_NAME or "\0" in value:
        return False
    return not any(0xD800 <= ord(c) < 0xE000 for c in value)  # halves of a surrogate pair have no UTF-8


def _is_range(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 2:
        return False
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in value):
        return False
    return all(map(math.isfinite, value)) and value[0] < value[1]
