"""`dlpack new`: a starter project around a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from dlpack.cli.console import OUT, plain
from dlpack.errors import UsageError, did_you_mean

PLACES = ("cmake", "gradle", "platformio", "vite", "xcode")


def _complete(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in PLACES if name.startswith(incomplete)]


@click.command(
    epilog="\b\nThe places, and the targets whose bundles they take:\n"
    "  cmake       a program in C++ (native, x86-64, linux-arm64, source ...)\n"
    "  gradle      an Android app in Kotlin (android)\n"
    "  platformio  firmware for a board (cortex-m, rv32)\n"
    "  vite        a page (wasm)\n"
    "  xcode       an app for iOS in Swift (ios)\n"
    "\b\nExamples:\n"
    "  dlpack new cmake build/model -o my-program\n"
    "  dlpack new vite build/model_wasm -o my-page\n"
    "\n\nExit codes: 0 done, 2 usage."
)
@click.argument("place", metavar="PLACE", shell_complete=_complete)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The project's folder [default: NAME-PLACE].")
def new(place: str, bundle: Path, output: Path | None) -> None:
    """Write a starter project for PLACE that runs BUNDLE."""
    from dlpack.bundle.read import read_manifest
    from dlpack.starters import PLACES as places
    from dlpack.starters import start

    if place not in PLACES:
        raise UsageError(f"there is no place {place!r}{did_you_mean(place, PLACES)}; there are {', '.join(PLACES)}")
    folder = output or Path(f"{read_manifest(bundle)['name']}-{place}")
    for path in start(place, bundle, folder):
        if not path.startswith((f"{places[place].model}/", "lib/")):
            OUT.print(plain(f"{folder / path}"), soft_wrap=True)
    OUT.print(plain(f"next: cd {folder}, then {places[place].next}"), soft_wrap=True)
