"""The references of the documentation site that are made from files: JavaScript's types, the manifest's schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def javascript_page() -> str:
    """The types of the browser package, a section for each that it exports, from web/index.d.ts and node.d.ts."""
    parts = [
        "# JavaScript and TypeScript",
        'What `import ... from "NAME"` offers, in pages and workers as in Node.js. [The package](../web/README.md) '
        "describes how it is used; these are its types.",
    ]
    text = (ROOT / "web" / "index.d.ts").read_text(encoding="utf-8")
    for comment, name, code in declarations(text):
        parts += [f"## {name}", comment, f"```ts\n{code}\n```"]
    parts.append("## In Node.js alone")
    for comment, name, code in declarations((ROOT / "web" / "node.d.ts").read_text(encoding="utf-8")):
        parts += [f"### {name}", comment, f"```ts\n{code}\n```"]
    return "\n\n".join(part for part in parts if part) + "\n"


_HEAD = re.compile(r"(?:export )?(?:declare )?(?:abstract )?(?:class|interface|type|function|const) (\w+)")


def declarations(text: str) -> Iterator[tuple[str, str, str]]:
    """Of each declaration at the top of a file its comment as text, its name and its code."""
    comment, code = "", list[str]()
    for line in text.splitlines():
        if code or _HEAD.match(line):
            code.append(line)
            whole = "\n".join(code)
            if line.endswith((";", "}")) and whole.count("{") == whole.count("}"):
                yield comment, _HEAD.match(whole)[1], whole  # type: ignore[index]
                comment, code = "", []
        elif line.startswith(("/**", " *")):
            word = line.removeprefix("/**").removesuffix("*/").strip().removeprefix("*").strip()
            comment = " ".join(filter(None, ["" if line.startswith("/**") else comment, word.removesuffix("/")]))


def manifest_page() -> str:
    """A table of the manifest's keys, and of those of its parts, from docs/manifest.schema.json."""
    schema = json.loads((ROOT / "docs" / "manifest.schema.json").read_text(encoding="utf-8"))
    parts = [
        "# manifest.json",
        schema["description"],
        "The same as a JSON schema, for programs: [manifest.schema.json](../manifest.schema.json). A key in bold is in "
        "every manifest.",
        *_table(schema),
    ]
    for name, inner in schema["$defs"].items():
        parts += [f"## {name}", inner.get("description", ""), *_table(inner)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(schema: Mapping[str, Any]) -> list[str]:
    rows = ["| key | type | meaning |", "|---|---|---|"]
    for path, inner, needed in _keys(schema, ""):
        key = f"**`{path}`**" if needed else f"`{path}`"
        rows.append(f"| {key} | {_type(inner)} | {inner.get('description', '')} |")
    return ["\n".join(rows)]


def _keys(schema: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """The keys of an object and of those within it, with their paths."""
    for name, inner in schema.get("properties", {}).items():
        yield prefix + name, inner, not prefix and name in schema.get("required", ())
        yield from _keys(inner, f"{prefix}{name}.")
        if "properties" in inner.get("items", {}):
            yield from _keys(inner["items"], f"{prefix}{name}[].")


def _type(inner: Mapping[str, Any]) -> str:
    if "$ref" in inner:
        name = inner["$ref"].rpartition("/")[2]
        return f"[{name}](#{name})"
    if "enum" in inner:
        return " or ".join(f"`{json.dumps(value)}`" for value in inner["enum"])
    if "const" in inner:
        return f"`{json.dumps(inner['const'])}`"
    kind = inner.get("type", "any")
    if kind == "array":
        return f"list of {_type(inner['items'])}"
    if kind == "object" and isinstance(inner.get("additionalProperties"), dict):
        return f"object of {_type(inner['additionalProperties'])}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)
