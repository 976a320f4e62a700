"""The targets: one folder each, found by itself. A folder's `TARGET` says what the compiler needs to know."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from typing import Any

from dlpack.errors import UsageError, did_you_mean
from dlpack.targets.base import Target, TargetOption


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
        raise UsageError(f"unknown target {name!r}; known are: {', '.join(targets)}{did_you_mean(name, targets)}")
    return targets[name]


def takes_any_size(name: str, values: Mapping[str, Any]) -> bool:
    """Whether all kernels of a target, with its own options, can do less than their largest size (`Build.opens`)."""
    return all(build.opens for build in get_target(name).chosen(values))


def target_options() -> dict[str, tuple[TargetOption, list[str]]]:
    """The options that targets declare, by name, with the names of these targets."""
    found: dict[str, tuple[TargetOption, list[str]]] = {}
    for target in all_targets().values():
        for option in target.options:
            found.setdefault(option.name, (option, []))[1].append(target.name)
    return found


def check_options(target: Target, given: Iterable[str]) -> None:
    """Raises UsageError for an option that the target does not have."""
    known = target_options()
    for name in given:
        if name not in known:
            raise UsageError(f"no target has an option --{name}")
        if target.name not in known[name][1]:
            raise UsageError(f"--{name} is an option of {', '.join(known[name][1])}, not of {target.name}")
