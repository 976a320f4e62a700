"""Keras' layers of vocabularies: numbers looked up by comparison; what takes words is refused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from dlpack.errors import UnsupportedError

_WORDS = {
    "StringLookup": "takes words",
    "TextVectorization": "takes text",
    "Hashing": "hashes the text of what it is given",
    "HashedCrossing": "hashes the text of what it is given",
}


class Table:
    """In place of a TensorFlow table of numbers: its `lookup`, as plain operators."""

    def __init__(self, table: Any, tf: Any) -> None:
        self.tf = tf
        keys, values = table.export()
        self.keys, self.values = np.asarray(keys), np.asarray(values)
        self.default = table._default_value if hasattr(table, "_default_value") else -1
        self.table = table

    def lookup(self, x: Any) -> Any:
        """The value of each key, the table's default for others."""
        tf = self.tf
        if tf.executing_eagerly():  # what the exported model is compared with
            return self.table.lookup(x)
        hit = tf.cast(tf.equal(tf.expand_dims(x, -1), tf.constant(self.keys, x.dtype)), tf.int32)
        found = tf.gather(tf.constant(self.values), tf.argmax(hit, -1))
        return tf.where(tf.reduce_max(hit, -1) > 0, found, tf.cast(self.default, found.dtype))

    def size(self) -> Any:
        return self.table.size()


def check(objects: Iterable[tuple[str, str, str]]) -> None:
    """Raises UnsupportedError for layers that take words, out of a configuration's (class, module, name)."""
    problems = [f"layer '{name}' ({kind}): {_WORDS[kind]}" for kind, _, name in objects if kind in _WORDS and name]
    if problems:
        first = problems[0].split("'")[1]
        raise UnsupportedError(
            "its inputs are words, and a bundle's are numbers; save the part behind such layers, and call them in your "
            f"program: behind = model.get_layer('{first}').output; keras.Model(behind, model.outputs).save("
            "'numbers.keras'):",
            tuple(dict.fromkeys(problems)),
        )


def use(model: Any, tf: Any) -> None:
    """Gives the model's lookup layers such tables."""
    for layer in model._flatten_layers():
        table = getattr(layer, "lookup_table", None)
        if table is not None:
            layer.lookup_table = Table(table, tf)
