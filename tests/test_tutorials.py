"""docs/tutorials: each page is in the index, and says commands that exist; the cheap ones are followed.

script/tutorials follows all of them.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest
from conftest import ROOT, requires_module, requires_tool

from dlpack.cli import cli
from dlpack.starters import PLACES
from dlpack.targets import all_targets

FOLLOWED = {"c": ("cc", "c++"), "xgboost": (), "caffe": ()}
"""The pages that the suite follows, and the tools that they need."""


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tutorials", ROOT / "script" / "tutorials.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


tutorials = load()


def commands(name: str) -> list[list[str]]:
    """The `dlpack` commands of a page, those that are not run too, as words."""
    shown = [b.text for b in tutorials.blocks(name) if b.language in ("sh", "console")]
    return [
        shlex.split(line, comments=True)[1:]
        for text in shown
        for line in text.splitlines()
        if line.startswith("dlpack ")
    ]


def test_the_index_has_every_page() -> None:
    pages = {p.stem for p in (ROOT / "docs" / "tutorials").glob("*.md")} - {"README"}
    assert set(tutorials.names()) == pages and len(tutorials.names()) == len(pages)


@pytest.mark.parametrize("name", tutorials.names())
def test_a_page_says_commands_that_exist(name: str) -> None:
    found = commands(name)
    assert 1 <= len(found) <= 8
    for words in found:
        command = cli.commands[words[0]]
        known = {o for p in command.get_params(click.Context(command)) for o in p.opts}
        assert {w for w in words if w.startswith("-")} <= known, words
        if "--target" in words:
            assert words[words.index("--target") + 1] in all_targets()
        if words[0] == "new":
            assert words[1] in PLACES


@pytest.mark.parametrize("name", tutorials.names())
def test_the_python_of_a_page_compiles(name: str) -> None:
    for block in tutorials.blocks(name):
        if block.language == "python":
            compile(block.text, f"{name}: {block.file}", "exec")


@pytest.mark.parametrize("name", FOLLOWED)
def test_a_page_can_be_followed(name: str, tmp_path: Path) -> None:
    for tool in FOLLOWED[name]:
        requires_tool(tool)
    if name == "xgboost":
        requires_module("xgboost")
    tutorials.follow(name, tmp_path)


def test_a_page_that_shows_other_output_is_an_error() -> None:
    tutorials._compare("a … b\nc\n", "x\n  a 1 2 b\nc\n")
    with pytest.raises(tutorials.TutorialError, match="the page shows"):
        tutorials._compare("c\na … b\n", "a 1 b\nc\n")
    with pytest.raises(tutorials.TutorialError, match="exit code 3"):
        tutorials._run("false || exit 3", Path())


# --- pages beside the tutorials that quote other files ----------------------------------------------------------------


def test_how_it_works_shows_what_is_emitted() -> None:
    """Each line of the C++ on the page is in the golden of the same model and machine, in this order."""
    golden = (ROOT / "tests" / "golden" / "digits-avx2.txt").read_text(encoding="utf-8").splitlines()
    page = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```cpp\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        rest = iter(golden)
        for line in block.splitlines():
            assert line.strip() == "..." or any(line == other for other in rest), line


def test_how_it_works_shows_the_operator() -> None:
    page = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    operator = (ROOT / "src" / "dlpack" / "operators" / "convolution.py").read_text(encoding="utf-8")
    block = page.partition("```python\ndef at(")[2].partition("```")[0]
    assert block and all(line.strip() in operator for line in block.splitlines() if line.strip() != "...")


def test_the_comparison_has_measured_figures_alone() -> None:
    """Every number with decimals, and every count above 100, stands on a page of benchmarks."""
    pages = [*(ROOT / "docs").glob("benchmarks*.md"), *(ROOT / "docs/benchmarks").glob("*.md")]
    measured = "".join(p.read_text(encoding="utf-8") for p in pages)
    page = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    figures = set(
        re.findall(r"(?<![\w.])(?:\d+\.\d+|\d{1,3}(?:,\d{3})+|\d{3,})(?![\w.]*\d)", page.replace("AVX-512", ""))
    )
    assert len(figures) > 25
    assert {f for f in figures if not re.search(rf"(?<![\d.,]){re.escape(f)}(?![\d.,]*\d)", measured)} == set()
