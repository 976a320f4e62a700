"""Options that several commands share, and what their values mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dlpack.errors import UsageError


def parse_shapes(values: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """The shapes of a command that takes one for each input."""
    sets = parse_shape_sets(values)
    if len(sets) > 1:
        raise UsageError("--shape names an input twice; only dlpack build takes several shapes")
    return sets[0]


def parse_shape_sets(values: tuple[str, ...]) -> list[dict[str, tuple[int, ...]]]:
    """The sets of shapes that repeated --shape options mean; at least one, maybe empty."""
    from dlpack.meaning.shape_sets import alternatives

    shapes: list[tuple[str, tuple[int, ...]]] = []
    for value in values:
        name, _, dims = value.rpartition("=")
        dims = dims.partition(":")[0]
        try:
            shape = tuple(int(d) for d in dims.split("x")) if dims else ()
        except ValueError:
            shape = (-1,)
        if not name or any(d < 0 for d in shape):
            raise UsageError(f"--shape {value!r}: write it as INPUT=1x3x224x224")
        shapes.append((name, shape))
    return alternatives(shapes)


def parse_buckets(value: str | None) -> Any:
    """tokens=16,32,64"""
    from dlpack.meaning.shape_sets import Buckets

    if value is None:
        return None
    name, _, sizes = value.rpartition("=")
    try:
        return Buckets(name, tuple(int(size) for size in sizes.split(",")))
    except ValueError:
        raise UsageError(f"--buckets {value!r}: write it as INPUT=16,32,64") from None


def parse_values(options: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """sr=16000, scales=1,1,2,2"""
    values: dict[str, tuple[str, ...]] = {}
    for option in options:
        name, _, text = option.rpartition("=")
        elements = tuple(word.strip() for word in text.split(","))
        if not name or not all(elements):
            raise UsageError(f"--value {option!r}: write it as INPUT=16000 or INPUT=1,1,2,2")
        if name in values:
            raise UsageError(f"--value names the input {name!r} twice")
        values[name] = elements
    return values


def parse_dtypes(values: tuple[str, ...]) -> dict[str, str]:
    """The element types that stand behind shapes: tokens=1x16:int64."""
    dtypes: dict[str, str] = {}
    for value in values:
        name, _, dims = value.rpartition("=")
        _, colon, dtype = dims.partition(":")
        if colon:
            if dtype not in ("float32", "int32", "int64", "uint8", "int8", "bool"):
                raise UsageError(f"--shape {value!r}: the type is float32, int32, int64, uint8, int8 or bool")
            dtypes[name] = dtype
    return dtypes


def read_labels(path: Path) -> tuple[str, ...]:
    try:
        labels = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"the labels file {path} cannot be read: {e}") from e
    if not labels:
        raise UsageError(f"the labels file {path} holds no names: write one per line")
    return labels


value_option = click.option(
    "--value",
    "values",
    multiple=True,
    metavar="INPUT=16000",
    help="Makes a constant of an input, of one element or of several with commas; repeatable.",
)
