"""Bindings: a bundle's C API in other languages, a folder each, found by itself: its `BINDING` writes the files."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable

from dlpack.bindings.base import Binding, Bundle
from dlpack.errors import UsageError


def all_bindings() -> dict[str, Binding]:
    """Every binding by name, in alphabetical order."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        if module.ispkg:
            binding: Binding = importlib.import_module(f"{__name__}.{module.name}").BINDING
            found[binding.name] = binding
    return dict(sorted(found.items()))


def check_bindings(names: Iterable[str], target: str, library: bool) -> None:
    """Raises UsageError for a language that there is none for, and where it needs a library that `target` has not."""
    known = all_bindings()
    for name in names:
        if name not in known:
            raise UsageError(f"there is no binding for {name!r}; there are: {', '.join(known)}")
        if known[name].needs_library and not library:
            raise UsageError(
                f"--binding {name} needs a shared library, which target {target} has none of; build for native, "
                "x86-64-v3, linux-arm64 ..."
            )


def write_bindings(bundle: Bundle, names: Iterable[str]) -> str:
    """Writes bindings/NAME into a bundle for each name, once; returns a line for the log."""
    known, wanted = all_bindings(), list(dict.fromkeys(names))
    for name in wanted:
        folder = bundle.folder / "bindings" / name
        folder.mkdir(parents=True)
        known[name].write(bundle, folder)
    return ", ".join(wanted)
