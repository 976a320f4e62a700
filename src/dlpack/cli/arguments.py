"""Options that several commands share, and the parsing of their values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dlpack.errors import UsageError
from dlpack.options import DTYPES


def parse_shapes(values: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """The shapes given to a command that accepts one shape per input."""
    sets = parse_shape_sets(values)
    if len(sets) > 1:
        raise UsageError("--shape gives the same input twice; only dlpack build accepts several shapes")
    return sets[0]


def parse_shape_sets(values: tuple[str, ...]) -> list[dict[str, tuple[int, ...]]]:
    """The sets of shapes that repeated --shape options describe: at least one, which may be empty."""
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
    """Parses `tokens=16,32,64`; None without the option."""
    from dlpack.meaning.shape_sets import Buckets

    if value is None:
        return None
    name, _, sizes = value.rpartition("=")
    try:
        return Buckets(name, tuple(int(size) for size in sizes.split(",")))
    except ValueError:
        raise UsageError(f"--buckets {value!r}: write it as INPUT=16,32,64") from None


def parse_values(options: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Parses `sr=16000` and `scales=1,1,2,2`: the elements of each input, as text."""
    values: dict[str, tuple[str, ...]] = {}
    for option in options:
        name, _, text = option.rpartition("=")
        elements = tuple(word.strip() for word in text.split(","))
        if not name or not all(elements):
            raise UsageError(f"--value {option!r}: write it as INPUT=16000 or INPUT=1,1,2,2")
        if name in values:
            raise UsageError(f"--value gives the input {name!r} twice")
        values[name] = elements
    return values


def parse_ranges(options: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """Lowest and highest values of inputs, as in `ids=0:30521`. Raises UsageError."""
    ranges: dict[str, tuple[float, float]] = {}
    for option in options:
        name, _, text = option.rpartition("=")
        low, _, high = text.partition(":")
        try:
            ranges[name] = (float(low), float(high))
        except ValueError:
            name = ""
        if not name:
            raise UsageError(f"--range {option!r}: write it as INPUT=0:30521")
    return ranges


def parse_maxima(options: tuple[str, ...]) -> dict[str, int]:
    """Largest sizes by name, as in `boxes=100`. Raises UsageError."""
    maxima: dict[str, int] = {}
    for option in options:
        name, _, text = option.rpartition("=")
        if not name or not text.isdigit():
            raise UsageError(f"--max {option!r}: write it as NAME=100")
        maxima[name] = int(text)
    return maxima


def parse_dtypes(values: tuple[str, ...]) -> dict[str, str]:
    """The element types appended to shapes, as in `tokens=1x16:int64`."""
    dtypes: dict[str, str] = {}
    for value in values:
        name, _, dims = value.rpartition("=")
        _, colon, dtype = dims.partition(":")
        if colon:
            if dtype not in DTYPES:
                raise UsageError(
                    f"--shape {value!r}: the element type must be {', '.join(DTYPES[:-1])} or {DTYPES[-1]}"
                )
            dtypes[name] = dtype
    return dtypes


quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print only warnings, errors and the result's path.")
inputs_option = click.option(
    "--inputs", type=click.Path(path_type=Path), help="Verify with your data: an .npz file with an array per input."
)
tolerance_option = click.option(
    "--tolerance",
    type=click.FloatRange(0, 1, min_open=True),
    help="Accepted error relative to an output's largest absolute value [default: 1e-4].",
)
params_option = click.option(
    "--params", type=click.Path(path_type=Path), help="Weights file, if it is not next to MODEL."
)
labels_option = click.option("--labels", type=click.Path(path_type=Path), help="Class names, one per line.")
preprocess_option = click.option(
    "--preprocess", metavar="imagenet|caffe|tf|none|FILE.json", help="How a picture is turned into an input."
)
sound_option = click.option(
    "--sound", metavar="whisper|FILE.json", help="How samples of sound are turned into an input (docs/sound.md)."
)
task_option = click.option(
    "--task", metavar="FILE.json", help="What the outputs mean: boxes, classes, a picture or text."
)
value_option = click.option(
    "--value",
    "values",
    multiple=True,
    metavar="INPUT=16000",
    help="Replace an input by a constant; separate several elements by commas. Repeatable.",
)
