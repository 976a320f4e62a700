"""Every manifest that a test's build writes is compared with docs/manifest.schema.json."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dlpack.bundle import folder

SCHEMA: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "docs" / "manifest.schema.json").read_text(encoding="utf-8")
)


def problems(manifest: Any) -> list[str]:
    """Where a manifest is not as the schema says."""
    from jsonschema import Draft202012Validator

    return [f"{e.json_path}: {e.message[:200]}" for e in Draft202012Validator(SCHEMA).iter_errors(manifest)]


@pytest.fixture(scope="session", autouse=True)
def manifests_follow_the_schema() -> Iterator[None]:
    """A build whose manifest does not fails; readers' tests write their own, and damaged ones, with other means."""
    if importlib.util.find_spec("jsonschema") is None:
        yield  # test_manifest_schema.py says so
        return
    written = folder.write_manifest

    def checked(path: Path, manifest: dict[str, Any]) -> None:
        if "files" in manifest:  # the last time, when it is whole
            told = problems(json.loads(json.dumps(manifest)))
            assert not told, f"docs/manifest.schema.json says otherwise: {told}"
        written(path, manifest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "write_manifest", checked)
        yield
