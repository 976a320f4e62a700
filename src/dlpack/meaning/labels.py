"""Labels: the class names of a model, which come from untrusted files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlpack.errors import UsageError

MAX_LABELS = 1 << 20
MAX_BYTES = 16 << 20


def read_labels(path: Path) -> tuple[str, ...]:
    """The class names in a file, one per line; blank lines are skipped. Raises UsageError."""
    try:
        labels = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"the labels file {path} cannot be read: {e}") from e
    if not labels:
        raise UsageError(f"the labels file {path} is empty: write one class name per line")
    return labels


def check_labels(labels: Sequence[str], where: str) -> tuple[str, ...]:
    """The labels, if every file of a bundle can hold them: UTF-8 without NUL, at most 16 MiB in all.

    Otherwise raises UsageError, which names `where` they came from.
    """
    if len(labels) > MAX_LABELS:
        raise UsageError(f"{where}: {len(labels):,} labels exceed the limit of {MAX_LABELS:,}")
    size = 0
    for k, label in enumerate(labels):
        try:
            size += len(label.encode())
        except UnicodeEncodeError as e:
            raise UsageError(f"{where}: label {k} contains half of a surrogate pair, which is not a character") from e
        if "\0" in label:
            raise UsageError(f"{where}: label {k} contains a NUL character, which would end a C string")
    if size > MAX_BYTES:
        raise UsageError(f"{where}: labels of {size:,} bytes exceed the limit of {MAX_BYTES:,}")
    return tuple(labels)


def labels_warning(labels: Sequence[str], outputs: Sequence[Mapping[str, Any]]) -> str | None:
    """A warning if no dimension of any output (name, shape) has as many elements as there are labels."""
    if not labels or any(len(labels) in t["shape"] for t in outputs):
        return None
    shapes = ", ".join(f"{t['name']} {'x'.join(map(str, t['shape'])) or 'scalar'}" for t in outputs)
    return f"there are {len(labels):,} labels, but no output has as many classes ({shapes}): check the labels"


def labels_from_metadata(text: str) -> tuple[str, ...]:
    """The labels in the model's metadata key `dlpack.labels`, a JSON list. Raises UsageError."""
    where = "the model's metadata key dlpack.labels"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise UsageError(f"{where} is not a JSON list") from e
    if not isinstance(value, list):
        raise UsageError(f"{where} is not a JSON list")
    return check_labels([str(x) for x in value], where)
