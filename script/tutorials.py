"""Follows the tutorials: writes the files that a page shows, runs its commands, compares what they print.

    python script/tutorials.py [NAME]...

Of a page's fenced blocks

    ```LANGUAGE title="FILE"    is written into FILE
    ```sh                       is run by sh, and stops at the first command that fails
    ```text                     behind commands: lines of their output, in this order; "…" stands for anything
    ```console                  is for another computer, and not run

Each page has a folder of its own, which begins with the repository's folder examples/ and nothing else.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "tutorials"
LIMIT_S = 600
_FENCE = re.compile(r'^( *)```(\w+)(?: title="([^"]+)")?\n(.*?)^\1```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, the file that it is to be written to, if any, and its text."""

    language: str
    file: str | None
    text: str


class TutorialError(Exception):
    """A command failed, or printed something else than the page shows."""


def names() -> list[str]:
    """The pages in the order of their index."""
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    return [match.removesuffix(".md") for match in re.findall(r"\]\(([\w-]+\.md)\)", index)]


def blocks(name: str) -> list[Block]:
    """The fenced blocks of a page."""
    text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    found = []
    for indent, language, file, code in _FENCE.findall(text):
        lines = [line.removeprefix(indent) for line in code.splitlines()]
        found.append(Block(language, file or None, "\n".join(lines) + "\n"))
    return found


def follow(name: str, folder: Path) -> None:
    """Follows a page in an empty folder. Raises TutorialError."""
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    printed = ""
    for block in blocks(name):
        if block.file:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "sh":
            printed = _run(block.text, folder)
        elif block.language == "text" and printed:
            _compare(block.text, printed)


def _run(commands: str, folder: Path) -> str:
    """What the commands print. Raises TutorialError if one fails or takes longer than LIMIT_S seconds."""
    modules = [str(ROOT / "build" / "node" / "node_modules"), os.environ.get("NODE_PATH", "")]
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "NODE_PATH": os.pathsep.join(filter(None, modules)),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    try:
        done = subprocess.run(
            ["sh", "-euc", commands], cwd=folder, env=environment, timeout=LIMIT_S,
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired as e:
        raise TutorialError(f"over {LIMIT_S} s:\n{commands}") from e
    if done.returncode != 0:
        raise TutorialError(f"exit code {done.returncode}:\n{commands}\n{done.stdout}")
    return done.stdout


def _compare(expected: str, printed: str) -> None:
    """Raises TutorialError unless the lines of `expected` are among those that were printed, in their order."""
    lines = iter(printed.splitlines())
    for line in expected.splitlines():
        pattern = ".*".join(re.escape(part) for part in line.strip().split("…"))
        if not any(re.fullmatch(pattern, other.strip()) for other in lines):
            raise TutorialError(f"the page shows\n{line}\nand the commands print\n{printed}")


def main(wanted: list[str]) -> int:
    """Follows the named pages, or all; the exit code."""
    if unknown := sorted(set(wanted) - set(names())):
        print(f"error: there is no tutorial {', '.join(unknown)}; there are {', '.join(names())}", file=sys.stderr)
        return 2
    failed = []
    for name in wanted or names():
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="tutorial-") as folder:
            try:
                follow(name, Path(folder))
                outcome = "done"
            except TutorialError as e:
                outcome = f"FAILED, {e}"
                failed.append(name)
        print(f"{name:20} {time.monotonic() - began:6.1f} s  {outcome}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
