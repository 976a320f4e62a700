"""`python -m bench.arm`: the command line."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import click

from bench.arm.cycles import table
from bench.arm.emulated import MACHINES, count


def row(name: str, machine: str, instructions: Counter[str], error: float, show: int) -> str:
    """A bundle's row of the table, as Markdown."""
    total = instructions.total()
    shares = ", ".join(f"{m} {n / total:.1%}" for m, n in instructions.most_common(show))
    return f"| {name} | {machine} | {total / 1e6:.1f} | {error:.1e} | {shares} |"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """What emitted code costs on Arm, on a computer that has none."""


@main.command("count", context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("bundles", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--machine", "machines", multiple=True, default=["generic"], type=click.Choice(list(MACHINES)))
@click.option("--by-function", is_flag=True, help="By function in place of by mnemonic.")
@click.option("--show", default=8, type=click.IntRange(0), help="How many mnemonics or functions a row names.")
def count_command(bundles: tuple[Path, ...], machines: tuple[str, ...], by_function: bool, show: int) -> None:
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


@main.command("cycles", context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("bundles", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--machine", default="generic", type=click.Choice(list(MACHINES)), help="What is compiled for.")
@click.option("--cpu", "cpus", multiple=True, default=["cortex-a53", "cortex-a57", "neoverse-n1", "apple-m1"])
@click.option("--mca", default="llvm-mca", help="The command of llvm-mca, 16 or newer.", metavar="COMMAND")
def cycles_command(bundles: tuple[Path, ...], machine: str, cpus: tuple[str, ...], mca: str) -> None:
    """FMAs per cycle of the bundles' innermost product loops, by LLVM's models of processors."""
    click.echo(f"| bundle | instructions | FMAs | {' | '.join(cpus)} |\n|---|--:|--:|{'--:|' * len(cpus)}")
    for bundle in bundles:
        try:
            click.echo("\n".join(table(bundle, MACHINES[machine], cpus, shlex.split(mca))))
        except subprocess.CalledProcessError as e:
            raise click.ClickException(f"{e}\n{e.stderr}") from e


if __name__ == "__main__":
    main(prog_name="python -m bench.arm")
