"""The documentation site: its references say what the code says, and its links lead somewhere."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
from pathlib import Path
from subprocess import CompletedProcess
from types import ModuleType

import click
import pytest
from conftest import requires_module
from processes import run

import dlpack
from dlpack.cli import cli

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "script" / "site_pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "script"))
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(script: ModuleType, digits_wasm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "pages"
    script.write_pages(folder)
    script.write_home(folder, digits_wasm)
    return folder


def test_the_reference_of_commands_has_all_options(pages: Path) -> None:
    text = (pages / "reference" / "cli.md").read_text()
    for name, command in cli.commands.items():
        section = text.partition(f"## dlpack {name}\n")[2].partition("\n## ")[0]
        options = {o for p in command.get_params(click.Context(command)) for o in p.opts if o.startswith("--")}
        assert all(o in section for o in options), name


def test_the_reference_of_c_has_the_api(pages: Path) -> None:
    text = (pages / "reference" / "c.md").read_text()
    for name in ("create", "run", "set_input", "get_output", "destroy", "preprocess_rgb", "top_k", "label"):
        assert f"digits_{name}(" in text


def test_the_reference_of_python_has_the_public_names(pages: Path) -> None:
    text = (pages / "reference" / "python.md").read_text()
    assert all(f"## dlpack.{name}" in text for name in dlpack.__all__ if not name.startswith("_"))
    assert "### Predictor.run" in text and "### Predictor.classify" in text


def test_the_reference_of_javascript_has_what_the_package_exports(pages: Path) -> None:
    text = (pages / "reference" / "javascript.md").read_text()
    exported = re.findall(
        r"^export (?:abstract )?(?:class|interface|type|function) (\w+)",
        (ROOT / "web" / "index.d.ts").read_text(),
        re.MULTILINE,
    )
    assert len(exported) > 30 and all(f"\n## {name}\n" in text for name in exported)
    assert text.count("{") == text.count("}") and "### openBundle" in text


def test_the_reference_of_the_manifest_has_every_key(pages: Path) -> None:
    text = (pages / "reference" / "manifest.md").read_text()
    schema = json.loads((pages / "manifest.schema.json").read_text())
    assert all(f"`{key}`" in text for key in schema["properties"]) and "[tensor](#tensor)" in text
    assert all(f"\n## {name}\n" in text for name in schema["$defs"])


def test_lists_keep_what_belongs_to_an_item(script: ModuleType) -> None:
    text = "1. a\n\n   ```sh\n   b\n   ```\n\n2. c\n\nd\n\n```\n   e\n```\n"
    assert script.with_wide_lists(text) == text.replace("   ```", "    ```").replace("   b", "    b")


def test_links_lead_to_pages(pages: Path) -> None:
    for page in pages.rglob("*.md"):
        for target in re.findall(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)", page.read_text()):
            path = target.partition("#")[0]
            if path and "://" not in target and not target.startswith("mailto:") and page.parent.name != "reference":
                assert (page.parent / path).is_file(), (page, target)


def test_the_navigation_names_every_page(pages: Path) -> None:
    named = set(re.findall(r"[-:] ([\w/.-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    there = {p.relative_to(pages).as_posix() for p in pages.rglob("*.md")}
    assert named == {p for p in there if not re.match(r"docs/decisions/0", p)}


def built(pages: Path, folder: Path) -> CompletedProcess[str]:
    """What `mkdocs build --strict` did, which writes into folder/html."""
    config = (ROOT / "mkdocs.yml").read_text().replace("build/site/pages", str(pages))
    (folder / "mkdocs.yml").write_text(config.replace("build/site/html", str(folder / "html")))
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", folder / "mkdocs.yml"]
    return run(command, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})


def test_the_site_builds_without_warnings(pages: Path, tmp_path: Path) -> None:
    requires_module("material")
    done = built(pages, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    html = tmp_path / "html"
    assert all((html / name).is_file() for name in ("reference/cli.html", "overview.html", "dlpack.1"))
    home = (html / "index.html").read_text()
    for name in re.findall(r'(?:src|href)="((?:demo/|home)[\w./]+)"', home):
        assert (html / name).is_file(), name
    bundle = html / "demo" / "digits"
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert all((bundle / name).is_file() for name in manifest["scripts"])
    assert not list(bundle.glob("*.cc")) and (html / "demo" / "held_out.csv").is_file()


@pytest.mark.parametrize("link", ["nowhere.md", "targets.md#nothing"])
def test_a_link_that_leads_nowhere_stops_the_build(pages: Path, tmp_path: Path, link: str) -> None:
    requires_module("material")
    shutil.copytree(pages, tmp_path / "pages")
    with (tmp_path / "pages" / "docs" / "targets.md").open("a") as page:
        page.write(f"\n\n[here]({link})\n")
    done = built(tmp_path / "pages", tmp_path)
    assert done.returncode != 0 and link in done.stderr
