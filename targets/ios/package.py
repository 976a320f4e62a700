"""Makes a bundle a Swift package: Package.swift, Sources, and NAME.xcframework unless Xcode compiles NAME.cc."""

from __future__ import annotations

from pathlib import Path

from dlpack.bindings.api import Api, describe
from dlpack.bindings.base import fill
from dlpack.bindings.swift import Package, placeholders, write_package
from dlpack.bindings.text import lines
from dlpack.errors import UsageError
from dlpack.targets.base import Manifest, PackageOptions
from dlpack.targets.ios.xcframework import write_xcframework
from dlpack.targets.toolchains.compiler import source_flags

XCODE_SOURCE = "xcode-source"
"""The option that leaves compiling to Xcode."""


def package(folder: Path, manifest: Manifest, options: PackageOptions) -> str:
    """Writes all that the target ios adds to a bundle. Raises UsageError for a compiler of the user's."""
    source = bool(options.values.get(XCODE_SOURCE))
    if options.cc:
        raise UsageError(
            f"target ios compiles for three platforms by itself: remove --cc (--{XCODE_SOURCE} lets Xcode compile)"
        )
    api = describe(manifest, source_flags(()))
    weights = "linked" if options.links_weights else "resource" if api.weights else "inside"
    made = Package(weights, binary=not source, app=True)
    write_package(folder, api, folder, made)
    _write_readme(folder, api, made)
    name = placeholders(api)["Name"]
    details = [f"Swift package {name}"]
    manifest["swift"] = {"package": name, "weights": weights}
    if not source:
        slices = write_xcframework(folder, api, weights)
        manifest["xcframework"] = {"file": f"{api.name}.xcframework", "slices": slices}
        details += [f"{s['identifier']} {s['bytes']:,} bytes" for s in slices]
    if weights == "resource":
        _moved(folder, manifest, f"Sources/{name}/{api.name}.weights")
    elif weights == "linked" and source:
        _moved(folder, manifest, f"Sources/C{api.name}/{api.name}.weights")
    return ", ".join(details)


def _moved(folder: Path, manifest: Manifest, path: str) -> None:
    """The weights lie in the package alone."""
    (folder / manifest["weights"]["file"]).unlink()
    manifest["weights"] |= {"file": path}


def _write_readme(folder: Path, api: Api, made: Package) -> None:
    conditions = set(api.conditions) | {made.weights} | ({"binary"} if made.binary else set())
    values = placeholders(api)
    for kind, tensors in (("inputs", api.inputs), ("outputs", api.outputs)):
        values[kind] = lines("- `{shown}`: {about}", tensors, [t.name for t in tensors])
    fill(__package__, folder, {"README.md": "readme.txt"}, api, values, conditions)
