"""A target is one folder: this one brings a backend, another dialect, a section and an option, and nothing else knows
of it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import DIGITS

import dlpack
import dlpack.targets
from dlpack.cli.build import _BuildCommand


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folder tests/toy_target stands among the targets' folders; the command line looks at them anew."""
    folders = [*dlpack.targets.__path__, str(Path(__file__).parent / "toy_target")]
    monkeypatch.setattr(dlpack.targets, "__path__", folders)
    _BuildCommand._of_targets.cache_clear()
    yield
    _BuildCommand._of_targets.cache_clear()


def command(*words: str) -> str:
    from dlpack.cli import cli

    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_target_is_one_folder(tmp_path: Path) -> None:
    assert "a machine that does not exist" in command("targets", "--json")
    command("build", str(DIGITS), "--target", "toy", "-o", str(tmp_path / "toy"), "--toy-count")
    text = (tmp_path / "toy" / "digits.cc").read_text()
    assert "// [TOY] the language of the kernels below" in text
    assert "REPEAT(" in text and "TOY k00_" in text and "TAPE(k00_" in text
    with dlpack.load(tmp_path / "toy") as p:
        x = np.linspace(0, 1, 64, dtype=np.float32).reshape(next(iter(p.inputs.values()))[1])
        launches = ctypes.c_int.in_dll(p._library, "toy_launches")
        before = launches.value
        got = p.run({next(iter(p.inputs)): x})
        assert launches.value - before == sum(step.startswith("k") for step in p.steps)
    command("build", str(DIGITS), "-o", str(tmp_path / "native"))
    with dlpack.load(tmp_path / "native") as q:
        want = q.run({next(iter(q.inputs)): x})
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-5, atol=1e-6)


def test_its_option_is_its_own(tmp_path: Path) -> None:
    from dlpack.cli import cli

    assert "Options for target toy" in command("build", "--help")
    result = CliRunner().invoke(cli, ["build", str(DIGITS), "-o", str(tmp_path / "n"), "--toy-count"])
    assert result.exit_code == 2 and "--toy-count is an option of toy, not of native" in " ".join(result.output.split())
