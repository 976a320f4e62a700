"""Modules of web/ as one script: a request where there were ten, and names that need not be told apart any more."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from dlpack.targets.wasm.minify import minified

_IMPORT = re.compile(r'^import (?:\* as (\w+)|(\{[^}]*\})) from "\./([\w.]+)";$', re.MULTILINE)
_LATE = re.compile(r'\(await import\("\./([\w.]+)"\)\)')
_PASS_ON = re.compile(r'^export (\{[^}]*\}) from "\./([\w.]+)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:function\*?|class|const) ([\w$]+))", re.MULTILINE)


def bundled(modules: Mapping[str, str], kept: Iterable[str], entry: str | None = None) -> str:
    """Modules, their texts by name in the order of their imports, as one minified script.

    Names in `kept` stay.
    Each becomes a function that is called once and returns its exports. The script itself exports what the module
    `entry` does, which only passes on exports of others. What is not among `modules` is imported as it is.

    They are written for this: an import or an export takes one line, and names its module as "./FILE".
    """
    inside = [name for name in modules if name != entry]
    places = {name: f"M{k}" for k, name in enumerate(inside)}
    texts = {name: _function(name, modules[name], places) for name in inside}
    outside = [name for name in places if name not in modules]
    kept = {*kept, *places.values()}
    parts = [f'import*as {places[name]} from"./{name}";' for name in outside]
    parts += [f"const {places[name]}=(()=>{{{minified(text, kept)}}})();" for name, text in texts.items()]
    if entry:
        parts += [f"export const{m[1].replace(' ', '')}={places[m[2]]};" for m in _PASS_ON.finditer(modules[entry])]
    return "".join(part + "\n" for part in parts)


def _function(name: str, text: str, places: dict[str, str]) -> str:
    """The body of a module's function. Enters into `places` what it imports from outside."""

    def place(module: str) -> str:
        return places.setdefault(module, f"M{len(places)}")

    exports = [m[2] for m in _EXPORT.finditer(text)]
    passed_on = [(m[1], place(m[2])) for m in _PASS_ON.finditer(text)]
    text = _IMPORT.sub(lambda m: f"const {m[1] or m[2].replace(' as ', ': ')} = {place(m[3])};", text)
    text = _LATE.sub(lambda m: places.get(m[1], m[0]), text)
    text = _EXPORT.sub(r"\1", _PASS_ON.sub("", text))
    for names, module in passed_on:
        text += f"const {names} = {module};\n"
        exports += re.findall(r"\w+", names)
    if re.search(r"^(import|export) ", text, re.MULTILINE) or "</script" in text:
        raise AssertionError(f"web/{name}: an import or export that cannot be inlined")
    return f"{text}\nreturn {{ {', '.join(exports)} }};" if exports else text
