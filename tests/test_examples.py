"""examples/: every script runs, in its small form, and the command that it prints builds a verified bundle."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import processes
import pytest
from click.testing import CliRunner
from conftest import ROOT

import dlpack
from dlpack.cli import cli
from dlpack.exporters.mxnet.files import read_arrays

EXAMPLES = ROOT / "examples"
SCRIPTS = [["inception.py", version] for version in ("v1", "bn", "v3")] + [
    [path.name]
    for path in sorted(EXAMPLES.glob("*.py"))
    if path.name[0] != "_" and path.name not in ("build_all.py", "inception.py")
]


def run(*words: str | Path) -> str:
    done = processes.run([sys.executable, *map(str, words)])
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=" ".join)
def test_the_script_runs_and_its_command_builds(script: list[str], tmp_path: Path) -> None:
    """Labels and preprocessing are in the bundle where the command names them or the model has them."""
    *told, command = run(EXAMPLES / script[0], *script[1:], tmp_path, "--small").splitlines()
    assert all(line.startswith("# ") for line in told)
    words = shlex.split(command)
    assert words[:2] == ["dlpack", "build"]
    done = CliRunner().invoke(cli, words[1:])
    assert done.exit_code == 0, done.output
    with dlpack.load(words[-1]) as p:
        manifest = p.manifest
        assert manifest["verification"] and all(e["passed"] for e in manifest["verification"])
        if script[0] == "mlp.py":
            accuracy = re.search(r"# ([\d.]+)%", told[0])
            assert accuracy and float(accuracy[1]) > 75
        if "--preprocess" in words or script[0] == "detector.py":
            assert list(p.preprocess(_picture()).shape) == manifest["inputs"][0]["shape"]
        if script[0] in ("mlp.py", "lenet.py"):
            assert sorted(c.label for c in p.classify(_picture(), 10)) == [str(k) for k in range(10)]
        if script[0] == "detector.py":
            assert (p.labels, p.outputs["cells"][1]) == (["disc", "square"], (1, 7, 30, 40))
        if script[0] == "language_model.py":
            assert "that" in (p.labels or []) and len(p.outputs) == 3


def _picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)


def test_all_are_built_by_one_script(tmp_path: Path) -> None:
    names = ("recommender", "style")
    table = run(EXAMPLES / "build_all.py", tmp_path, *names, "--small", "--target", "native").splitlines()
    assert table[0].split()[:2] == ["model", "target"]
    for name, line in zip(names, table[-2:], strict=True):
        assert line.split()[:2] == [name, "native"] and float(line.split()[-1]) < 1e-4
    words = [sys.executable, EXAMPLES / "build_all.py", tmp_path, "x"]
    done = processes.run(words)
    assert done.returncode == 2 and "no example is called x" in done.stderr


def test_the_recommender_recommends(tmp_path: Path) -> None:
    """The compiled predictor gives the products of the factors that were written."""
    run(EXAMPLES / "recommender.py", tmp_path, "--small")
    arrays = read_arrays((tmp_path / "recommender-0000.params").read_bytes())
    user, item = np.arange(16) * 3 % 60, np.arange(16) * 7 % 40
    want = 3 + (arrays["arg:user_weight"][user] * arrays["arg:item_weight"][item]).sum(1)
    words = ["build", str(tmp_path / "recommender-symbol.json"), "--shape", "user=16", "--shape", "item=16"]
    assert CliRunner().invoke(cli, [*words, "-o", str(tmp_path / "bundle")]).exit_code == 0
    with dlpack.load(tmp_path / "bundle") as p:
        got = p.run({"user": user.astype(np.float32), "item": item.astype(np.float32)})["rating_output"]
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_the_readme_names_every_script() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f"`{path.name}`" in text, path.name
    for folder in (p for p in EXAMPLES.iterdir() if p.is_dir() and any(p.glob("*.py"))):
        assert f"`{folder.name}/`" in text, folder.name
