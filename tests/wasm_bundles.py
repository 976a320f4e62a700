"""The digits example for wasm, and ES modules run in node. A plugin of conftest.py, for its fixture."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import processes
import pytest
from conftest import DIGITS, ROOT, requires_tool

from dlpack.pipeline import Options, build
from dlpack.targets.wasm.run import node_command

DIGITS_SPEC = str(ROOT / "examples" / "digits" / "preprocess.json")


@pytest.fixture(scope="session")
def digits_wasm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits example built for wasm, unverified, with the single file. Tests must not write in it."""
    where = tmp_path_factory.mktemp("wasm") / "digits"
    return build(
        DIGITS, where, Options("wasm", verify=False, preprocess=DIGITS_SPEC, target_options={"single-file-html": True})
    )


def manifest_of(bundle: Path) -> dict[str, Any]:
    return json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))


def node(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs an ES module in node, with the arguments from process.argv[1] on."""
    requires_tool("node")
    command = [*node_command(), "--input-type=module", "-e", script, *map(str, arguments)]
    return processes.run(command, limit_s=120)


def node_json(script: str, *arguments: str | Path) -> Any:
    done = node(script, *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


OPEN = "const { Predictor, Classifier, openBundle } = await import(`file://${process.argv[1]}/node.js`);\n"
