"""Node: an npm package whose addon, compiled here, speaks N-API: no toolchain and no dependency where it is used."""

from __future__ import annotations

import json
import sys
from importlib import resources
from pathlib import Path

from dlpack.bindings.base import Binding, Bundle, copy, fill, part
from dlpack.bindings.text import camel, class_count, common, lines, sets
from dlpack.errors import UsageError

_TYPES = {
    "bool": "Uint8Array", "float32": "Float32Array", "float64": "Float64Array", "float16": "Uint16Array",
    "bfloat16": "Uint16Array", "int8": "Int8Array", "uint8": "Uint8Array", "int16": "Int16Array",
    "uint16": "Uint16Array", "int32": "Int32Array", "uint32": "Uint32Array", "int64": "BigInt64Array",
    "uint64": "BigUint64Array",
}  # fmt: skip

_BUILT_IN = frozenset(
    "assert async_hooks buffer child_process cluster console constants crypto dgram diagnostics_channel dns domain "
    "events fs http http2 https inspector module net os path perf_hooks process punycode querystring readline repl "
    "stream string_decoder sys timers tls trace_events tty url util v8 vm wasi worker_threads zlib".split()
)


_RENAMED = {
    "create_from_file": "create", "create_from_file_within": "create", "input_of": "input_bytes",
    "output_of": "output_bytes",
}  # fmt: skip
"""What the addon calls what it makes of functions of the C API."""


def _write(bundle: Bundle, folder: Path) -> None:
    if "linux" not in (bundle.platform or sys.platform):
        raise UsageError(
            "--binding node has an addon for Linux alone; build the target wasm, whose package node loads too"
        )
    api = bundle.api
    if api.name in _BUILT_IN:
        raise UsageError(
            f"the npm package would be called {api.name!r}, which is a module of node's: give another --name"
        )
    names = [t.name for t in (*api.inputs, *api.outputs)]
    inputs, outputs = names[: len(api.inputs)], names[len(api.inputs) :]
    size = "bytes: addon.{}Bytes" if api.sets else "size: {{size}}"
    table = "{{literal}}: {{{{ index: {{index}}, type: {{type}}, " + size + ", kind: '{{kind}}'"
    shapes = ", shapes: '{choice}'" if api.open else ""
    values = {
        **common(api),
        "options": "{ largest = {} } = {}" if api.open else "",
        "more_options": ", { largest = {} } = {}" if api.open else "",
        "memory": "memoryFor(largest)" if api.open else "",
        "more_memory": ", memoryFor(largest)" if api.open else "",
        "option_types": "options?: Options",
        "more_option_types": ", options?: Options" if api.open else "",
        "c_memory": "static_cast<size_t>(call.real(0))" if api.open else "0",
        "shape_docs": sets(api, "* - {number}: {shown}"),
        "inputs": lines(table.format("input") + shapes + " }},", api.inputs, inputs, _TYPES),
        "outputs": lines(table.format("output") + " }},", api.outputs, outputs, _TYPES),
        "input_types": lines("/** {about} */\n{literal}: {type};", api.inputs, inputs, _TYPES),
        "output_types": lines("/** {about} */\n{literal}: {type};", api.outputs, outputs, _TYPES),
    }
    parts = {
        "text_functions": "text.js",
        "text_values": "text_values.js",
        "text_types": "text.d.ts",
        "text_calls": "text.cc",
    }
    values |= {name: part(__name__, template, api, values) for name, template in parts.items()}
    called = [f.name for f in api.functions if f.name != "error_text"]
    called += ["error_text"] if "texts" in api.conditions else []
    called = [_RENAMED.get(name, name) for name in called]
    values["functions"] = "\n".join(f'{{"{camel(name)}", {name}}},' for name in called)
    texts = {"index.js": "index.js", "index.d.ts": "index.d.ts", f"{api.name}_node.cc": "addon.cc"}
    if api.sets:
        values["class_count"] = class_count(api, "addon.outputBytes(this.#handle, {index}) / {each}")
    fill(__name__, folder, texts, api, values)
    about = {
        "name": api.name.replace("_", "-"),
        "version": values["version"],
        "description": "A trained model compiled by dlpack",
        "type": "module",
        "main": "index.js",
        "types": "index.d.ts",
        "files": ["index.js", "index.d.ts", f"{api.name}.node", *([api.weights] if api.weights else [])],
        "engines": {"node": ">=18"},
    }
    (folder / "package.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    (folder / "napi.h").write_bytes(resources.files(__name__).joinpath("napi.h").read_bytes())
    copy(bundle, folder, api.source, *([api.weights] if api.weights else []))
    bundle.compile(folder / f"{api.name}_node.cc", folder / f"{api.name}.node")
    (folder / api.source).unlink()


BINDING = Binding("node", "an npm package with an addon", _write)
