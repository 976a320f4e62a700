"""docs/manifest.schema.json: valid, complete, and refusing what is none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import DIGITS, requires_module
from manifest_schema import SCHEMA, problems

from dlpack.pipeline import Options, build


def read(bundle: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    return manifest


@pytest.fixture(scope="module")
def manifests(digits: Path, picture_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Of the digits example, native and for other targets with options, and of one with several sets of shapes."""
    folder = tmp_path_factory.mktemp("manifests")
    wasm = build(DIGITS, folder / "wasm", Options("wasm", weights="file", verify=False, preprocess="none"))
    source = build(DIGITS, folder / "source", Options("source", weights_type="float16", verify=False))
    return [read(bundle) for bundle in (digits, picture_bundle, wasm, source)]


def unknown(schema: Mapping[str, Any], value: Any, path: str = "$") -> Iterator[str]:
    """The keys of a manifest that the schema does not describe."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    if isinstance(value, dict) and path != "$.task":
        more = schema.get("additionalProperties", {})
        for key, inner in value.items():
            own = schema.get("properties", {}).get(key, more)
            if own:
                yield from unknown(own, inner, f"{path}.{key}")
            else:
                yield f"{path}.{key}"
    elif isinstance(value, list):
        for inner in value:
            yield from unknown(schema.get("items", {}), inner, path)


def test_the_schema_is_one() -> None:
    requires_module("jsonschema").Draft202012Validator.check_schema(SCHEMA)


def test_the_schema_describes_every_key(manifests: list[dict[str, Any]]) -> None:
    requires_module("jsonschema")
    for manifest in manifests:
        assert problems(manifest) == []
        assert list(unknown(SCHEMA, manifest)) == []


def test_each_key_is_explained() -> None:
    assert [key for key, inner in SCHEMA["properties"].items() if not inner.get("description")] == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda m: m.pop("inputs"),
        lambda m: m.update(format=2),
        lambda m: m.update(name="Digits"),
        lambda m: m["inputs"][0].update(shape=[-1]),
        lambda m: m["files"].update({"digits.cc": "no checksum"}),
        lambda m: m["arena"].pop("bytes"),
    ],
)
def test_the_schema_refuses_what_is_no_manifest(
    manifests: list[dict[str, Any]], damage: Callable[[dict[str, Any]], object]
) -> None:
    requires_module("jsonschema")
    manifest = json.loads(json.dumps(manifests[0]))
    damage(manifest)
    assert len(problems(manifest)) == 1
