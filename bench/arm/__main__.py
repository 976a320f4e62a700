"""`python -m bench.arm`: the command line."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from bench.arm.cycles import table
from bench.arm.emulated import MACHINES, count
from bench.arm.page import loops_table, page
from bench.arm.peers import make_root
from bench.arm.results import KEPT, Results
from bench.arm.zoo import Bench, measure
from bench.rounds import ROOT
from bench.zoo import choose_models


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
    click.echo(cycles_table(bundles, machine, cpus, mca))


def cycles_table(bundles: Sequence[Path], machine: str, cpus: Sequence[str], mca: str) -> str:
    lines: list[str] = []
    for bundle in bundles:
        try:
            lines += table(bundle, MACHINES[machine], cpus, shlex.split(mca))
        except subprocess.CalledProcessError as e:
            raise click.ClickException(f"{e}\n{e.stderr}") from e
    return loops_table(lines, cpus)


@main.command("root", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def root_command(folder: Path) -> None:
    """Fills FOLDER with Debian's Python for arm64 and the contestants' wheels (debootstrap and pip, 0.6 GB)."""
    try:
        make_root(folder)
    except (OSError, subprocess.CalledProcessError) as e:
        raise click.ClickException(str(e)) from e


@main.command("zoo", context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--root", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="What `root` made; without it ours is counted alone.")  # fmt: skip
@click.option("--models", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR",
              help="ONNX files with their inputs in NAME.npz, in place of the zoo.")  # fmt: skip
@click.option("--only", default="", metavar="REGEX", help="Measure those models alone; the page has all measured ones.")
@click.option("--cache", default=ROOT / "build" / "bench" / "arm", show_default="build/bench/arm", metavar="DIR",
              type=click.Path(file_okay=False, path_type=Path),
              help="For models and bundles.")  # fmt: skip
@click.option("--timeout", default=3600.0, type=click.FloatRange(0, min_open=True), metavar="SECONDS",
              help="What one step may take: a build, a count, a check.")  # fmt: skip
@click.option("--measure", "wanted", default="missing", type=click.Choice(["missing", "failed", "nothing"]),
              help="What has no result yet, that and what failed or took too long, or nothing.")  # fmt: skip
@click.option("--mca", metavar="COMMAND", help="llvm-mca, 16 or newer, for the table of FMAs per cycle.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="The page; else it is printed.")
def zoo_command(
    root: Path | None, models: Path | None, only: str, cache: Path, timeout: float, wanted: str,
    mca: str | None, output: Path | None,
) -> None:  # fmt: skip
    """Whether the zoo is right on four Arm processors, and the instructions of ours, onnxruntime and ncnn: a page.

    What was measured is kept in bench/results/arm/zoo.json, and a run completes it: a result stands while its model,
    and of ours the emitted source, is the same."""
    cache = cache.resolve()
    results, bench = Results(KEPT), Bench(root, cache / "bundles", timeout, mca)
    if wanted == "failed":
        results.forget_reasons()
    for model in () if wanted == "nothing" else choose_models(models, only, cache, sys.executable):
        measure(model, bench, results, lambda text: click.echo(text, err=True))
    text = page(list(results.rows.values()))
    if output:
        output.write_text(text, encoding="utf-8")
    else:
        click.echo(text, nl=False)


if __name__ == "__main__":
    main(prog_name="python -m bench.arm")
