"""`python -m bench.arm BUNDLE...`: instructions that a run executes on 64-bit Arm, counted under qemu."""

from __future__ import annotations

import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import click

from bench.arm.emulated import MACHINES, count


def row(name: str, machine: str, instructions: Counter[str], error: float, show: int) -> str:
    """A bundle's row of the table, as Markdown."""
    total = instructions.total()
    shares = ", ".join(f"{m} {n / total:.1%}" for m, n in instructions.most_common(show))
    return f"| {name} | {machine} | {total / 1e6:.1f} | {error:.1e} | {shares} |"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("bundles", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--machine", "machines", multiple=True, default=["generic"], type=click.Choice(list(MACHINES)))
@click.option("--by-function", is_flag=True, help="By function in place of by mnemonic.")
@click.option("--show", default=8, type=click.IntRange(0), help="How many mnemonics or functions a row names.")
def main(bundles: tuple[Path, ...], machines: tuple[str, ...], by_function: bool, show: int) -> None:
    """Counts the instructions of one run of each bundle's predictor, compiled for each machine."""
    click.echo("| bundle | machine | million instructions | error / range | the most frequent |\n|---|---|--:|--:|---|")
    for bundle in bundles:
        for machine in machines:
            with tempfile.TemporaryDirectory(prefix="dlpack-") as folder:
                try:
                    counted = count(bundle, MACHINES[machine], Path(folder), by_function)
                except subprocess.CalledProcessError as e:
                    raise click.ClickException(f"{e}\n{e.stderr}") from e
            click.echo(row(bundle.name, machine, counted.instructions, counted.error, show))


if __name__ == "__main__":
    main(prog_name="python -m bench.arm")
