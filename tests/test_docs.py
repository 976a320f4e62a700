"""The documentation: links lead somewhere, decisions are indexed, scripts and hooks exist."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from conftest import ROOT
from processes import run


def pages() -> list[Path]:
    """Every Markdown file that is written by hand or by a script, without what tools install."""
    skipped = {".venv", ".typecheck", "build", "dist", "node_modules", "site_home", ".pytest_cache", ".hypothesis"}
    found = []
    for folder, names, files in os.walk(ROOT):
        names[:] = [n for n in names if n not in skipped]
        found += [Path(folder, f) for f in files if f.endswith(".md")]
    return sorted(found)


def prose(page: Path) -> str:
    """A page without code blocks and code spans."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.is_relative_to(ROOT.resolve()) and place.exists(), target
        assert not anchor or anchor in anchors(place), target


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    names = sorted(p.name for p in folder.glob("[0-9]*.md"))
    index = (folder / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| \[(.+)\]\((.+)\) \|$", index, re.MULTILINE)
    assert [name for _, _, name in rows] == names
    for number, title, name in rows:
        text = (folder / name).read_text(encoding="utf-8")
        assert name.startswith(f"{int(number):04}-") and text.startswith(f"# {number}. {title}\n")
        assert "\n## Why\n" in text


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "ARCHITECTURE.md"])
def test_named_scripts_exist(name: str) -> None:
    named = set(re.findall(r"\bscript/[a-z.]+", (ROOT / name).read_text(encoding="utf-8")))
    assert not {n for n in named if not (ROOT / n.rstrip(".")).is_file()}


def test_hooks_call_checks_that_exist() -> None:
    checks = re.findall(r"entry: script/lint (\w+)", (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    known = (ROOT / "script" / "lint").read_text(encoding="utf-8")
    assert checks and all(f"check_{check}() {{" in known for check in checks)
    run(["sh", "-n", ROOT / "script" / "lint"], check=True)
