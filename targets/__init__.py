"""The targets: one folder each, found by itself. A folder's `TARGET` says what the compiler needs to know."""

from __future__ import annotations

import importlib
import pkgutil

from dlpack.errors import UsageError
from dlpack.targets.base import Target


def all_targets() -> dict[str, Target]:
    """Every target by name, in alphabetical order."""
    found: dict[str, Target] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.ispkg:
            target: Target | None = getattr(importlib.import_module(f"{__name__}.{module.name}"), "TARGET", None)
            if target is not None:  # else the folder has what several targets share
                found[target.name] = target
    return dict(sorted(found.items()))


def get_target(name: str) -> Target:
    targets = all_targets()
    if name not in targets:
        raise UsageError(f"unknown target {name!r}; known are: {', '.join(targets)}")
    return targets[name]
