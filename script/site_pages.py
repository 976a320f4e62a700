"""Writes the pages of the documentation site: the repository's texts, and references made from the code.

    python script/site_pages.py FOLDER

The folders are the repository's, so that links between texts lead where they lead there. The first page is that of
script/site_home; it shows a bundle at work, which this script builds.
"""

from __future__ import annotations

import inspect
import re
import shutil
import sys
import tempfile
from pathlib import Path

import click
from site_reference import javascript_page, manifest_page

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / "script" / "site_home"
DIGITS = ROOT / "examples" / "digits"
OVERVIEW = "overview.md"
"""README.md on the site, whose first page is another."""
TOP = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")


def texts() -> list[Path]:
    """The repository's texts that the site has, relative to its root."""
    found = [ROOT / name for name in TOP]
    found += sorted((ROOT / "docs").rglob("*.md"))
    found += [ROOT / "web" / "README.md", *sorted((ROOT / "examples").glob("**/README.md"))]
    return [p.relative_to(ROOT) for p in found]


def with_links_to_pages(text: str, folder: Path) -> str:
    """A text in `folder` with links that a site can follow: a folder's leads to its README, other files' are names."""

    def link(match: re.Match[str]) -> str:
        label, target = match[1], match[2]
        path, hash_, anchor = target.partition("#")
        if "://" in target or target.startswith(("mailto:", "#")):
            return match[0]
        there = (ROOT / folder / path).resolve()
        if there == ROOT / "README.md":
            return f"[{label}]({path.removesuffix('README.md')}{OVERVIEW}{hash_}{anchor})"
        if there.is_dir():
            if (there / "README.md").is_file() and (there / "README.md").relative_to(ROOT) in texts():
                return f"[{label}]({path.rstrip('/')}/README.md{hash_}{anchor})"
            return label
        if there.suffix == ".md" and there.relative_to(ROOT).as_posix().startswith("reference/"):
            return match[0]
        return match[0] if there.suffix == ".md" and there.relative_to(ROOT) in texts() else label

    return re.sub(r"(?<!!)\[([^\]\n]+)\]\(([^)\s]+)\)", link, text)


def with_wide_lists(text: str) -> str:
    """A text whose numbered lists have what belongs to an item four spaces in, where three are enough on GitHub."""
    lines, within, fenced = [], False, False
    for line in text.split("\n"):
        fenced ^= line.startswith("```")
        if not fenced and line.strip():
            within = bool(re.match(r"\d+\. ", line)) or (within and line.startswith("   "))
        lines.append(f" {line}" if within and line.startswith("   ") else line)
    return "\n".join(lines)


def cli_page() -> str:
    """The commands' help, as click prints it."""
    from dlpack.cli import cli

    parts = ["# Command line", "```text", click.Context(cli, info_name="dlpack").get_help(), "```"]
    with click.Context(cli, info_name="dlpack") as root:
        for name, command in cli.commands.items():
            inner = click.Context(command, info_name=name, parent=root, max_content_width=100)
            parts += [f"## dlpack {name}", "```text", command.get_help(inner), "```"]
    return "\n".join(parts) + "\n"


def c_page() -> str:
    """The header of the digits example, which is the manual of the C API."""
    import dlpack
    from dlpack.options import Options

    with tempfile.TemporaryDirectory() as folder:
        options = Options("source", verify=False, preprocess="none", labels=tuple("0123456789"))
        bundle = dlpack.build(ROOT / "examples" / "digits" / "digits.onnx", Path(folder) / "digits", options)
        header = (bundle / "digits.h").read_text(encoding="utf-8")
    return (
        "# C and C++\n\nThe header of the digits example, built with labels and preprocessing. Every name begins with "
        f"the model's.\n\n```cpp\n{header}```\n"
    )


def python_page() -> str:
    """What `import dlpack` offers, from its docstrings."""
    import dlpack

    parts = ["# Python", inspect.getdoc(dlpack) or ""]
    for name in ("build", "load", "Predictor"):
        thing = getattr(dlpack, name)
        parts += [f"## dlpack.{name}", *_described(name, thing)]
        members = vars(thing).items() if inspect.isclass(thing) else ()
        for member, value in members:
            if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                parts += [f"### {name}.{member}", *_described(member, value)]
    return "\n\n".join(parts) + "\n"


def _described(name: str, thing: object) -> list[str]:
    """The signature and the docstring."""
    if isinstance(thing, property):
        return [inspect.getdoc(thing) or ""]
    signature = str(inspect.signature(thing))  # type: ignore[arg-type]
    return [f"```python\n{name}{signature}\n```", inspect.getdoc(thing) or ""]


_SHOWN = (".html", ".js", ".css", ".wasm", ".weights", ".json")


def demo_bundle(folder: Path) -> Path:
    """Builds the bundle that the first page shows."""
    import dlpack
    from dlpack.options import Options

    options = Options("wasm", weights="file", preprocess=str(DIGITS / "preprocess.json"))
    return dlpack.build(DIGITS / "digits.onnx", folder / "digits", options)


def write_home(folder: Path, bundle: Path) -> None:
    """Writes what the first page needs beside its text: a wasm bundle of the digits example, and ten digits."""
    shutil.copytree(
        bundle, folder / "demo" / "digits",
        ignore=lambda _, names: [n for n in names if not n.endswith(_SHOWN) or n in ("package.json", "node.js")],
    )  # fmt: skip
    shutil.copy(DIGITS / "held_out.csv", folder / "demo")
    for name in ("home.js", "home.css"):
        shutil.copy(HOME / name, folder)


def write_pages(folder: Path) -> None:
    """Writes all pages into `folder`, which is emptied before."""
    from dlpack import __version__
    from dlpack.cli import cli
    from dlpack.cli.man import man_page

    shutil.rmtree(folder, ignore_errors=True)
    pages = {
        "index.md": with_links_to_pages((HOME / "index.md").read_text(encoding="utf-8"), Path()),
        "reference/cli.md": cli_page(),
        "reference/c.md": c_page(),
        "reference/python.md": python_page(),
        "reference/javascript.md": javascript_page(),
        "reference/manifest.md": manifest_page(),
        "dlpack.1": man_page(cli, __version__),
        "manifest.schema.json": (ROOT / "docs" / "manifest.schema.json").read_text(encoding="utf-8"),
    }
    for path in texts():
        name = OVERVIEW if path.as_posix() == "README.md" else path.as_posix()
        pages[name] = with_links_to_pages((ROOT / path).read_text(encoding="utf-8"), path.parent)
    for name, text in pages.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(with_wide_lists(text) if name.endswith(".md") else text, encoding="utf-8")


if __name__ == "__main__":
    pages = Path(sys.argv[1])
    write_pages(pages)
    with tempfile.TemporaryDirectory() as scratch:
        write_home(pages, demo_bundle(Path(scratch)))
