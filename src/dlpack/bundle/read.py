"""What lies in a bundle: its library, its manifest, the list of its kernels."""

from __future__ import annotations

import ctypes
import json
import tempfile
from pathlib import Path
from typing import Any

from dlpack.errors import UsageError


def open_library(path: Path) -> ctypes.CDLL:
    """The shared library at `path` as it is now: the system's loader takes a name that it has seen for the same file,
    also after a new build, so each load goes by a name of its own."""
    try:
        with tempfile.TemporaryDirectory(prefix="dlpack-") as folder:
            alias = Path(folder) / path.name
            try:
                alias.symlink_to(path.resolve())
            except OSError:  # links are not permitted
                alias = path.resolve()
            return ctypes.CDLL(str(alias))
    except OSError as e:
        raise UsageError(f"{path} cannot be loaded on this computer: {e}") from e


def read_manifest(bundle: Path) -> dict[str, Any]:
    """The bundle's manifest. Raises UsageError if there is none."""
    path = Path(bundle) / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UsageError(f"{bundle} is not a bundle: it has no readable manifest.json ({e})") from e
    if not isinstance(manifest, dict) or manifest.get("format") != 1:
        raise UsageError(f"{path} does not have manifest format 1: build the bundle again")
    return manifest


def read_kernels(bundle: Path) -> list[dict[str, Any]]:
    """The bundle's kernels: name, what it computes, schedule, multiply-adds ("macs"), ONNX nodes.

    Raises UsageError if there is no readable list.
    """
    path = Path(bundle) / "kernels.json"
    try:
        kernels: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(k["name"], str) and isinstance(k["macs"], int) for k in kernels):
            raise ValueError("it is not a list of kernels")
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UsageError(f"{bundle} was not built by this version: it has no readable kernels.json ({e})") from e
    return kernels
