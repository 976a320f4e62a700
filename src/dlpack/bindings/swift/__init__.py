"""Swift: a package of two targets, NAME.cc for C and the class over it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from dlpack.bindings.api import Api
from dlpack.bindings.base import Binding, Bundle, fill
from dlpack.bindings.text import camel, common, identifiers, joined, lines, memory_docs, reshapes, sets

_TYPES = {
    "bool": "Bool", "float32": "Float", "float64": "Double", "float16": "UInt16", "bfloat16": "UInt16",
    **{f"{u}int{b}": f"{'UInt' if u else 'Int'}{b}" for u in ("", "u") for b in (8, 16, 32, 64)},
}  # fmt: skip
_TAKEN = frozenset(
    "associatedtype class deinit enum extension fileprivate func import init inout internal let open operator private "
    "protocol public rethrows static struct subscript typealias var break case continue default defer do else "
    "fallthrough for guard if in repeat return switch where while as any catch false is nil super self throw throws "
    "true try rgb width height count handle set get check".split()
)

_SIZE = "{}_of(handle, {{index}}).pointee.bytes / {{each}}"
"""The size of an input or output where there are several sets of shapes."""

_RESHAPE = """/// Gives `{name}` another shape, and all else what goes with it: {choice}.
/// - Throws: `PredictorError` for any other.
public func reshape({name} extents: [Int]) throws {{
    try reshape({index}, extents, "{shown} can be {choice}")
}}

/// The bytes of a predictor that takes no larger `{name}` than this.
/// - Throws: `PredictorError` for what it cannot be.
public static func memoryFor({name} extents: [Int]) throws -> Int {{
    try memory({index}, extents, "{shown} can be {choice}")
}}"""


@dataclass(frozen=True)
class Package:
    """What a package is made of.

    `weights`: "inside" NAME.cc, at a path that the program gives ("side"), a "resource" of the package, or "linked"
    from the file by the assembler. `binary`: NAME.xcframework in place of NAME.cc. `app`: it has the privacy manifest
    that Apple asks for.
    """

    weights: str
    binary: bool = False
    app: bool = False


def write_package(bundle: Path, api: Api, folder: Path, package: Package) -> None:
    """Writes a package over a bundle's sources into a folder, which may be the bundle's. The caller makes the
    xcframework."""
    values = {**placeholders(api), "resources": ", ".join(f'.copy("{name}")' for name in _resources(api, package))}
    conditions = api.conditions - {"side"} | {package.weights}
    conditions |= {"binary"} if package.binary else set()
    conditions |= {"app"} if package.app else set()
    swift, c = folder / "Sources" / values["Name"], folder / "Sources" / f"C{api.name}"
    fill(__name__, folder, {"Package.swift": "Package.swift.txt"}, api, values, conditions)
    fill(__name__, swift, {"Predictor.swift": "Predictor.swift"}, api, values, conditions)
    if api.pictures:
        name = "Detector.swift" if api.boxes else "Classifier.swift"
        fill(__name__, swift, {name: "Classifier.swift"}, api, values, conditions)
    if "texts" in conditions:
        fill(__name__, swift, {"Text.swift": "Text.swift"}, api, values, conditions)
    if package.app:
        fill(__name__, swift, {"PrivacyInfo.xcprivacy": "PrivacyInfo.xcprivacy"}, api, values, conditions)
    if package.weights == "resource":
        shutil.copyfile(bundle / str(api.weights), swift / f"{api.name}.weights")
    if package.binary:
        return
    write_headers(bundle, api, c / "include", package.weights)
    shutil.copyfile(bundle / api.source, c / api.source)
    if package.weights == "linked":
        write_weights_source(api, c)
        shutil.copyfile(bundle / str(api.weights), c / str(api.weights))


def write_headers(bundle: Path, api: Api, folder: Path, weights: str) -> None:
    """Writes what Swift imports as the module CNAME: the headers and their module map."""
    texts = {"module.modulemap": "module.modulemap"}
    if weights == "linked":
        texts[f"{api.name}_weights.h"] = "weights.h"
    fill(__name__, folder, texts, api, placeholders(api), {weights})
    shutil.copyfile(bundle / api.header, folder / api.header)


def write_weights_source(api: Api, folder: Path) -> Path:
    """Writes the source that the assembler links the file of weights into; returns its path."""
    name = f"{api.name}_weights.cc"
    fill(__name__, folder, {name: "weights.cc"}, api, placeholders(api))
    return folder / name


def _resources(api: Api, package: Package) -> list[str]:
    privacy = ["PrivacyInfo.xcprivacy"] if package.app else []
    return [*privacy, *([f"{api.name}.weights"] if package.weights == "resource" else [])]


def placeholders(api: Api) -> dict[str, str]:
    """The placeholders of the templates."""
    inputs = identifiers((t.name for t in api.inputs), camel, _TAKEN)
    outputs = identifiers((t.name for t in api.outputs), camel, _TAKEN)
    output = _SIZE.format(f"{api.name}_output")
    result = "{name}: try get({index}, [{type}](repeating: 0, count: {size}))"
    return {
        **common(api, output),
        "reshapes": reshapes(_RESHAPE, api, inputs),
        "private": "" if "texts" in api.conditions else "private ",
        "flag_list": ", ".join(f'"{f}"' for f in [*api.flags.split()[1:], "-fno-exceptions", "-fno-rtti"]),
        "input_docs": lines("///   - {name}: {about}", api.inputs, inputs),
        "fields": lines("/// {about}\npublic let {name}: [{type}]", api.outputs, outputs, _TYPES),
        "parameters": joined(lines("{name}: [{type}]", api.inputs, inputs, _TYPES)),
        "arguments": ", ".join(f"{name}: {name}" for name in inputs),
        "set_inputs": lines(
            'try set({index}, {name}, {size}, "{shown} ({kind})")',
            api.inputs,
            inputs,
            several=_SIZE.format(f"{api.name}_input"),
        ),
        "results": joined(lines(result, api.outputs, outputs, _TYPES, output)).replace(
            "[Bool](repeating: 0", "[Bool](repeating: false"
        ),
        "memory": "memory" if api.open else "0",
        "memory_parameter": "memory: Int = 0" if api.open else "",
        "memory_argument": "memory: memory" if api.open else "",
        "more_memory": ", memory: Int = 0" if api.open else "",
        "pass_memory": ", memory: memory" if api.open else "",
        "memory_docs": memory_docs("/// - Parameter memory: {about}", "`Predictor.memoryFor({name}:)`", api, inputs),
        "shape_docs": sets(api, "/// - {number}: {shown}"),
    }


def _write(bundle: Bundle, folder: Path) -> None:
    write_package(bundle.folder, bundle.api, folder, Package("side" if bundle.api.weights else "inside"))


BINDING = Binding("swift", "a package for SwiftPM", _write, needs_library=False)
