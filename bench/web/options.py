"""The options that both benchmarks in the browser have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bench.rounds import ROOT

_FOLDER = click.Path(file_okay=False, path_type=Path)
_OPTIONS = (
    click.option("--models", type=click.Path(exists=True, file_okay=False, path_type=Path), help="ONNX files to run in "
                 "place of the zoo; a model's inputs are read from NAME.npz."),
    click.option("--only", default="", help="Regular expression: the models to run.", metavar="REGEX"),
    click.option("--npm", "folder", default=ROOT / "build" / "node-bench", show_default="build/node-bench",
                 metavar="DIR", type=_FOLDER, help="Where npm has installed the peers."),
    click.option("--chromium", default="chromium", metavar="PATH", help="The browser."),
    click.option("--reuse", is_flag=True, help="Take the bundles of the last run, without building them again."),
    click.option("--cache", default=ROOT / "build" / "bench", show_default="build/bench", metavar="DIR", type=_FOLDER,
                 help="For models, bundles and conversions."),
)  # fmt: skip


def common_options(output: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds them to a command, and -o for its page, which the repository keeps as `output`."""

    def added(command: Callable[..., Any]) -> Callable[..., Any]:
        where = click.Path(dir_okay=False, path_type=Path)
        text = f"The page to write, as {output}; else it is printed."
        command = click.option("-o", "--output", default=None, type=where, help=text)(command)
        for option in reversed(_OPTIONS):
            command = option(command)
        return command

    return added


def command_line(program: str, models: Path | None, only: str, rest: str) -> str:
    """The command as a page tells it, without this machine's paths."""
    words = [program, *(["--models DIR"] if models else []), *([f"--only '{only}'"] if only else []), rest]
    return " ".join(words)
