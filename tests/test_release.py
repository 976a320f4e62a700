"""script/release: the version, the notes, links for PyPI, and what a wheel must and must not have."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT
from processes import run

CHANGELOG = "# Changelog\n\n## Unreleased\n\n- New.\n\n## 0.1.0 (2026-01-01)\n\n- Old.\n"
FOLDERS = {"amalgamate": "amalgamate", "exporters": "exporters", "runtime_c": "runtime_c", "targets": "targets",
           "web": "web", "src/dlpack": ""}  # fmt: skip


@pytest.fixture(scope="module")
def release() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / "script" / "release.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_release_takes_what_is_unreleased(release: ModuleType) -> None:
    text = release.with_version(CHANGELOG, "0.2.0", "2026-02-01")
    assert release.notes(text, "0.2.0") == "- New." and release.notes(text, "0.1.0") == "- Old."
    assert release.notes(text, "Unreleased") == ""
    with pytest.raises(ValueError, match="is empty"):
        release.with_version(text, "0.3.0", "2026-03-01")


@pytest.mark.parametrize("version", ["", "1", "1.2", "v1.2.3", "1.2.3-beta"])
def test_other_versions_are_refused(release: ModuleType, version: str) -> None:
    with pytest.raises(ValueError, match="is no version"):
        release.prepare(version)


def test_a_wheel_of_this_tree_has_all_that_is_needed(release: ModuleType) -> None:
    """By the folders that pyproject.toml maps into the package."""
    names = []
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*"):
            inside = path.relative_to(ROOT / folder).as_posix()
            if path.is_file() and "__pycache__" not in inside:
                names.append("/".join(filter(None, ("dlpack", package, inside))))
    assert release.missing(names) == []
    assert release.missing(n for n in names if "py.typed" not in n) == ["dlpack/py.typed is missing"]
    assert release.missing([*names, "dlpack/tests/a.py"]) == ["dlpack/tests/a.py does not belong there"]


@pytest.mark.parametrize(
    "origin",
    ["https://example.org/o/r", "https://example.org/o/r.git", "git@example.org:o/r.git", "ssh://git@example.org/o/r"],
)
def test_links_of_the_readme_lead_into_the_repository(release: ModuleType, tmp_path: Path, origin: str) -> None:
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    release.links(release.address(origin), tmp_path)
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "](https://example.org/o/r/blob/HEAD/docs/targets.md)" in readme and release.local_links(readme) == []
    assert 'Repository = "https://example.org/o/r"' in (tmp_path / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("origin", ["", "/srv/git/dlpack"])
def test_a_folder_is_no_address(release: ModuleType, origin: str) -> None:
    with pytest.raises(ValueError, match="none on the web"):
        release.address(origin)


def test_a_release_without_an_address_changes_nothing(tmp_path: Path) -> None:
    """It ends before it installs anything."""
    (tmp_path / "script").mkdir()
    for name in ("script/release", "script/release.py", "script/environment.sh", "pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "a"]):
        run([*git, *command], cwd=tmp_path, check=True)
    environment = {k: v for k, v in os.environ.items() if k != "REPOSITORY"} | {"PYTHON": sys.executable}
    done = run(["script/release", "1.2.3"], cwd=tmp_path, env=environment)
    assert done.returncode == 1 and "REPOSITORY=https://" in done.stderr, done.stderr
    assert run(["git", "status", "--porcelain"], cwd=tmp_path).stdout == ""
    assert not (tmp_path / ".venv").exists()
