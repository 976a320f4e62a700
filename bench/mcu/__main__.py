"""`python -m bench.mcu [--emx COMMAND]`: docs/benchmarks-microcontrollers.md's table, on standard output.

Counts, no times: QEMU executes the program, and a plugin counts its instructions. Needs qemu-system-arm and gcc.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from pathlib import Path

import click

from bench.mcu.counting import Cost, core, emx, ours
from bench.mcu.nets import NETS
from dlpack.targets.cortex_m import CORES


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--core", "cores", multiple=True, default=["m4", "m7"], type=click.Choice([c.name for c in CORES]))
@click.option("--emx", "emx_command", default="", metavar="COMMAND", help="The command of emx-onnx-cgen, to compare.")
def main(cores: tuple[str, ...], emx_command: str) -> None:
    """Instructions, flash and RAM of predictors for microcontrollers."""
    click.echo("| net | core | by | million instructions | code and constants | weights | RAM with stack | error |")
    click.echo("|---|---|---|--:|--:|--:|--:|--:|")
    for net, model in NETS.items():
        for name in cores:
            with tempfile.TemporaryDirectory(prefix="dlpack-") as folder:
                try:
                    costs = [ours(model(), core(name), Path(folder))]
                    if emx_command:
                        costs.append(emx(model(), core(name), Path(folder), shlex.split(emx_command)))
                except subprocess.CalledProcessError as e:
                    raise click.ClickException(f"{e}\n{e.stderr[-2000:]}") from e
            for cost in costs:
                click.echo(row(net, name, cost))


def row(net: str, name: str, cost: Cost) -> str:
    sizes = " | ".join(f"{n:,}" for n in (cost.code, cost.weights, cost.ram))
    return f"| {net} | {name} | {cost.who} | {cost.instructions / 1e6:.2f} | {sizes} | {cost.error:.0e} |"


if __name__ == "__main__":
    main(prog_name="python -m bench.mcu")
