"""What both benchmarks in the browser are asked, and what they need to run."""

from __future__ import annotations

import functools
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from bench import ceilings
from bench.report import LOADED, deliver
from bench.revision import revision
from bench.rounds import ROOT
from bench.web.contest import PACKAGES
from bench.web.kept import Stamp

_FOLDER = click.Path(file_okay=False, path_type=Path)


@dataclass(frozen=True)
class Asked:
    """The options; `keep`: enter the rows into bench/results/web."""

    models: Path | None
    only: str
    peer_python: str
    folder: Path
    chromium: str
    rounds: int
    reuse: bool
    prepare: bool
    cache: Path
    keep: bool
    pages: bool
    output: Path | None

    @property
    def modules(self) -> Path:
        return (self.folder / "node_modules").resolve()

    def versions(self) -> dict[str, str]:
        """The versions of the peers' npm packages, of those that are installed."""
        found = {}
        for name, package in PACKAGES.items():
            file = self.modules / package / "package.json"
            if file.is_file():
                found[name] = str(json.loads(file.read_text(encoding="utf-8"))["version"])
        return found

    def missing(self) -> dict[str, str]:
        """Why peers take no part."""
        have = self.versions()
        return {name: f"not installed: npm install {package}" for name, package in PACKAGES.items() if name not in have}

    def program(self) -> str:
        """The browser. Raises click.UsageError where something is missing without which there is no benchmark."""
        program = shutil.which(self.chromium)
        if program is None or shutil.which("node") is None:
            raise click.UsageError(f"{'node' if program else self.chromium} is not installed")
        if not (self.modules / "puppeteer-core").is_dir():
            raise click.UsageError(f"puppeteer-core is not in {self.folder}: npm install --prefix {self.folder} "
                                   f"puppeteer-core {' '.join(PACKAGES.values())}")  # fmt: skip
        return program

    def command(self, name: str, rest: Sequence[str]) -> str:
        """The command as a page tells it, without this machine's paths."""
        words = [f"python -m {name}", *(["--models DIR"] if self.models else [])]
        words += [f"--only '{self.only}'"] if self.only else []
        return " ".join([*words, f"--rounds {self.rounds}", *rest, *(["--keep"] if self.keep else [])])

    def stamp(self, command: str, browser: str, **facts: Any) -> Stamp:
        machine, date = tuple(ceilings.machine()), time.strftime("%Y-%m-%d")
        return Stamp(date, revision(), command, machine, browser, self.versions(), self.missing(), **facts)

    def deliver(self, page: str, usual: str) -> None:
        """Writes the page where it was asked for, by default to `usual` if the rows are kept; else prints it."""
        deliver(page, self.output or (ROOT / usual if self.keep or self.pages else None))


def common_options(page: str, rounds: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command their options, as one `Asked` and before its own. `page`: where the repository has the page;
    `rounds`: the default."""
    options = (
        click.option("--models", type=click.Path(exists=True, file_okay=False, path_type=Path), help="ONNX files to "
                     "run in place of the zoo; a model's inputs are read from NAME.npz."),
        click.option("--only", default="", help="Regular expression: the models to run.", metavar="REGEX"),
        click.option("--peer-python", default=sys.executable, show_default="this one", metavar="PATH",
                     help="The Python with torch and litert-torch, which make the zoo and convert it for LiteRT.js."),
        click.option("--npm", "folder", default=ROOT / "build" / "node-bench", show_default="build/node-bench",
                     metavar="DIR", type=_FOLDER, help="Where npm has installed the peers."),
        click.option("--chromium", default="chromium", metavar="PATH", help="The browser."),
        click.option("--rounds", default=rounds, type=click.IntRange(1), help="Rounds that count, per contestant."),
        click.option("--reuse", is_flag=True, help="Take the bundles of the last run, without building them again."),
        click.option("--prepare", is_flag=True, help="Only make models, conversions and bundles; a run with --reuse "
                     "takes them."),
        click.option("--cache", default=ROOT / "build" / "bench", show_default="build/bench", metavar="DIR",
                     type=_FOLDER, help="For models, bundles and conversions."),
        click.option("--keep", is_flag=True, help="Enter each row into bench/results/web as soon as it is measured, in "
                     f"the place of an older one, and write {page} of all that are there."),
        click.option("--pages", is_flag=True, help=f"Only write {page} of what is kept."),
        click.option("-o", "--output", default=None, type=click.Path(dir_okay=False, path_type=Path),
                     help=f"The page to write; else {page} if the rows are kept, and they are printed if not."),
    )  # fmt: skip

    def added(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def called(**given: Any) -> None:
            asked = {field.name: given.pop(field.name) for field in fields(Asked)}
            asked["cache"] = asked["cache"].resolve()
            command(Asked(**asked), **given)

        for option in reversed(options):
            called = option(called)
        return called

    return added


def warn_of_load(say: Callable[[str], None]) -> None:
    """Says so where others keep the machine busy."""
    load = ceilings.busy_cores()
    if load > LOADED:
        say(f"warning: other programs keep {load:.1f} cores busy; the figures will not be worth publishing")
