"""What lies in a bundle: its library, its manifest, the list of its kernels."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlpack.bundle.foreign import why_not_here
from dlpack.errors import UsageError

_LOADS = itertools.count()
_LINUX = sys.platform == "linux"


def open_library(bundle: Path, manifest: Mapping[str, Any]) -> ctypes.CDLL:
    """The bundle's shared library as it is now: the system's loader takes a name that it has seen for the same file,
    also after a new build, so each load goes by a name of its own. Raises UsageError where there is none for this
    computer."""
    if not manifest.get("library"):
        raise UsageError(why_not_here(bundle, manifest))
    path = bundle / manifest["library"]
    try:
        if _LINUX:  # names are compared letter by letter there
            return ctypes.CDLL(_spelled(path, next(_LOADS)))
        with tempfile.TemporaryDirectory(prefix="dlpack-") as folder:
            alias = Path(folder) / path.name
            try:
                alias.symlink_to(path.resolve())
            except OSError:  # links are not permitted
                alias = path.resolve()
            return ctypes.CDLL(str(alias))
    except OSError as e:
        told = why_not_here(bundle, manifest)
        raise UsageError(told or f"{path} cannot be loaded on this computer: {e}") from e


def _spelled(path: Path, number: int) -> str:
    """Another spelling of a path for each number, whose binary digits are written between folder and file."""
    digits = "".join("/." if digit == "1" else "/" for digit in f"{number:b}")
    return f"{os.path.abspath(path.parent)}{digits}/{path.name}"


_FORM: dict[str, type | tuple[type, ...]] = {
    "name": str, "tool": str, "target": str, "machine": str, "model_sha256": str, "opset": str, "source": str,
    "header": str, "library": str, "inputs": list, "outputs": list, "ranges": list, "labels": list, "features": list,
    "shapes": list, "variants": list, "verified_on": list, "macs": int, "weights_bytes": int, "threads": int,
    "code_bytes": int, "open": dict, "processor": str,
    "arena": dict, "weights": dict, "files": dict, "task": dict, "preprocess": dict, "wasm": dict, "android": dict,
    "microcontroller": dict, "verification": (dict, list), "tolerance": (int, float), "tolerances": dict,
    "arithmetic": dict,
}  # fmt: skip
"""The manifest's keys whose kind is checked where they are there."""

_NEEDED = ("name", "target", "source", "header", "inputs", "outputs", "ranges")
"""The keys without which nothing can be done with a bundle."""


def _are_open(told: dict[str, Any]) -> bool:
    """Whether these are sizes of open dimensions, and extents that follow from them."""

    def numbers(of: Any, *needed: str) -> bool:
        return isinstance(of, dict) and {*needed} <= of.keys() and all(type(n) is int for n in of.values())

    dims = told.get("dimensions")
    if (
        type(told.get("macs")) is not int
        or not isinstance(dims, list)
        or not all(numbers(d, "smallest", "largest", "step") and d["step"] > 0 for d in dims)
    ):
        return False
    rules = [told.get(kind) for kind in ("inputs", "outputs")]
    if not all(isinstance(of, dict) and all(isinstance(own, dict) for own in of.values()) for of in rules):
        return False

    def is_rule(rule: Any, columns: bool = True) -> bool:
        if columns and isinstance(rule, dict) and "columns" in rule:
            own = {key: n for key, n in rule.items() if key != "columns"}
            return is_rule(own) and is_rule(rule["columns"], False)
        return numbers(rule, "dimension") and rule["dimension"] in range(len(dims)) and rule.get("by", 1) > 0

    extents = [(d, rule) for of in rules if of for own in of.values() for d, rule in own.items()]
    return all(d.isdigit() and is_rule(rule) for d, rule in extents)


def _damage(manifest: dict[str, Any]) -> str:
    """What is wrong with a manifest's form, in words; "" where it is sound."""
    for key in _NEEDED:
        if key not in manifest:
            return f"it has no {key!r}"
    for key, kind in _FORM.items():
        if key in manifest and not isinstance(manifest[key], kind):
            return f"its {key!r} is {type(manifest[key]).__name__}"
    sets = manifest.get("shapes", [])
    if not all(isinstance(s, dict) and all(isinstance(s.get(k), list) for k in ("inputs", "outputs")) for s in sets):
        return "its 'shapes' are no sets of shapes"
    for place in (manifest, *sets):
        for tensor in (*place["inputs"], *place["outputs"]):
            if not _is_tensor(tensor):
                return f"{str(tensor)[:60]} is no input or output"
    if "open" in manifest and not _are_open(manifest["open"]):
        return "its 'open' is no rule for sizes"
    if not all(isinstance(text, str) for text in manifest.get("files", {}).values()):
        return "its 'files' are no checksums"
    return ""


def _is_tensor(told: Any) -> bool:
    return (
        isinstance(told, dict)
        and all(isinstance(told.get(key), str) for key in ("name", "dtype"))
        and isinstance(told.get("shape"), list)
        and all(isinstance(n, int) and n >= 0 for n in told["shape"])
    )


def read_manifest(bundle: Path) -> dict[str, Any]:
    """The bundle's manifest. Raises UsageError if there is none, or it is damaged."""
    path = Path(bundle) / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes().decode())
    except FileNotFoundError as e:
        what = "it has no manifest.json" if Path(bundle).is_dir() else "there is no such folder"
        raise UsageError(f"{bundle} is not a bundle: {what}; dlpack build MODEL -o {bundle} makes one") from e
    except (OSError, ValueError) as e:
        raise UsageError(f"{bundle} is not a bundle: it has no readable manifest.json ({e})") from e
    if not isinstance(manifest, dict) or manifest.get("format") != 1:
        raise UsageError(f"{path} does not have manifest format 1: build the bundle again")
    if damage := _damage(manifest):
        raise UsageError(f"{path} is damaged: {damage}; build the bundle again")
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
