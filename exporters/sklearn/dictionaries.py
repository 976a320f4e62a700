"""A DictVectorizer's dictionaries as a table: its keys are the columns, those of words columns of text.

A fitted vectoriser knows its features: ``key`` for a number, ``key=word`` for a word. A key that a dictionary lacks is
the number 0, and a word that training has not seen, the empty one too, is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx import TensorProto

from dlpack.errors import UnsupportedError
from dlpack.exporters.sklearn.container import Graph


def reads_dictionaries(part: Any) -> bool:
    return hasattr(part, "vocabulary_") and hasattr(part, "feature_names_")


def keys_of(vectoriser: Any) -> dict[str, tuple[str, ...]]:
    """Its keys in the order of its features, and the words of those that have words.

    Raises UnsupportedError for a key that has both numbers and words, and for keys that are no text.
    """
    found: dict[str, list[str]] = {}
    numbers = set()
    for feature in vectoriser.feature_names_:
        if not isinstance(feature, str):
            raise UnsupportedError(f"the DictVectorizer has the key {feature!r}; keys are text")
        key, separator, word = feature.partition(vectoriser.separator)
        words = found.setdefault(key, [])
        if separator:
            words.append(word)
        else:
            numbers.add(key)
    if mixed := [key for key in numbers if found[key]]:
        raise UnsupportedError(
            f"the DictVectorizer has numbers and words for the key '{sorted(mixed)[0]}'; give one of them another key"
        )
    return {key: tuple(words) for key, words in found.items()}


def dictionaries(keys: Sequence[str], numbers: Any, texts: Any, places: tuple[list[int], list[int]]) -> list[Any]:
    """The rows as dictionaries; `places`: which of the keys the columns of numbers and of text are."""
    return [
        {keys[k]: v for columns, row in zip(places, both, strict=True) for k, v in zip(columns, row, strict=True)}
        for both in zip(numbers.tolist(), texts.tolist(), strict=True)
    ]


def convert_dictionaries(scope: Any, operator: Any, container: Any) -> None:
    """The features, of X with the columns of numbers, and of an input for each column of text."""
    vectoriser, graph = operator.raw_operator, Graph(scope, container)
    keys = keys_of(vectoriser)
    names = [value.full_name for value in operator.inputs]
    numbers = [key for key, words in keys.items() if not words]
    parts, made = ([names.pop(0)], list(numbers)) if numbers else ([], [])
    for name, key in zip(names, [key for key, words in keys.items() if words], strict=True):
        words = list(keys[key])
        index = graph.op(
            "LabelEncoder", name, domain="ai.onnx.ml", keys_strings=words, values_int64s=list(range(len(words))),
            default_int64=-1,
        )  # fmt: skip
        hot = graph.op("Equal", index, graph.ints(*range(len(words))))
        parts.append(graph.op("Cast", hot, to=TensorProto.FLOAT))
        made += [f"{key}{vectoriser.separator}{word}" for word in words]
    joined = graph.op("Concat", *parts, axis=1)
    order = [made.index(feature) for feature in vectoriser.feature_names_]
    graph.op("Gather", joined, graph.ints(*order), output=operator.outputs[0].full_name, axis=1)


def dictionary_shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import FloatTensorType

    operator.outputs[0].type = FloatTensorType([None, len(operator.raw_operator.feature_names_)])
