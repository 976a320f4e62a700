"""Swift: a package of two targets, NAME.cc for C and the class over it."""

from __future__ import annotations

from pathlib import Path

from dlpack.bindings.base import Binding, Bundle, copy, fill
from dlpack.bindings.text import camel, common, identifiers, joined, lines

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


def _write(bundle: Bundle, folder: Path) -> None:
    api = bundle.api
    inputs = identifiers((t.name for t in api.inputs), camel, _TAKEN)
    outputs = identifiers((t.name for t in api.outputs), camel, _TAKEN)
    values = {
        **common(api),
        "flag_list": ", ".join(f'"{f}"' for f in [*api.flags.split()[1:], "-fno-exceptions", "-fno-rtti"]),
        "input_docs": lines("///   - {name}: {about}", api.inputs, inputs),
        "fields": lines("/// {about}\npublic let {name}: [{type}]", api.outputs, outputs, _TYPES),
        "parameters": joined(lines("{name}: [{type}]", api.inputs, inputs, _TYPES)),
        "arguments": ", ".join(f"{name}: {name}" for name in inputs),
        "set_inputs": lines('try set({index}, {name}, {size}, "{shown} ({kind})")', api.inputs, inputs),
        "results": joined(
            lines("{name}: try get({index}, [{type}](repeating: 0, count: {size}))", api.outputs, outputs, _TYPES)
        ).replace("[Bool](repeating: 0", "[Bool](repeating: false"),
    }
    swift = f"Sources/{values['Name']}/Predictor.swift"
    module = f"Sources/C{api.name}/include/module.modulemap"
    texts = {"Package.swift": "Package.swift.txt", swift: "Predictor.swift", module: "module.modulemap"}
    fill(__name__, folder, texts, api, values)
    copy(bundle, folder / f"Sources/C{api.name}", api.source)
    copy(bundle, folder / f"Sources/C{api.name}/include", api.header)


BINDING = Binding("swift", "a package for SwiftPM", _write, needs_library=False)
