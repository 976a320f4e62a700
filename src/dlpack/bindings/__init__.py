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


def check_bindings(names: Iterable[str]) -> None:
    """Raises UsageError for a language that there is none for."""
    known = all_bindings()
    for name in names:
        if name not in known:
            raise UsageError(f"there is no binding for {name!r}; there are: {', '.join(known)}")


def write_bindings(bundle: Bundle, names: Iterable[str]) -> str:
    """Writes bindings/NAME into a bundle for each name, once; returns a line for the log.

    Raises UsageError for a name that there is not, and for a language that needs a library where the target has none.
    """
    known, wanted = all_bindings(), list(dict.fromkeys(names))
    check_bindings(wanted)
    for name in wanted:
        if known[name].needs_library and not bundle.library:
            raise UsageError(
                f"--binding {name} needs a shared library, which target {bundle.manifest['target']} has none of; "
                "build for native, x86-64-v3, linux-arm64 ..."
            )
        folder = bundle.folder / "bindings" / name
        folder.mkdir(parents=True)
        known[name].write(bundle, folder)
    return ", ".join(wanted)
