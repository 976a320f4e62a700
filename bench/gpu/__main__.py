"""``python -m bench.gpu build FOLDER`` anywhere, then ``python -m bench.gpu measure FOLDER`` where a GPU is."""

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from bench.gpu import measure as measuring


@click.group()
def main() -> None:
    """The zoo on an NVIDIA GPU."""


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--models", type=click.Path(exists=True, file_okay=False, path_type=Path), help="ONNX files to take.")
@click.option("--only", default="", metavar="REGEX", help="Only models whose name matches.")
@click.option("--arch", default="sm_90", show_default=True, help="GPUs to compile for, as of `dlpack build`.")
@click.option("--cache", default=Path("build/bench"), type=click.Path(path_type=Path), help="Where the zoo is made.")
@click.option("--peer-python", default=sys.executable, help="The Python with PyTorch, which makes the zoo.")
@click.option("--keep-models", is_flag=True, help="Copies the ONNX files beside the bundles, for onnxruntime.")
@click.option(
    "--carry",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.tar.xz",
    help="Also packs what `measure` needs into one small file: weights keep their signs, not their magnitudes.",
)
def build(
    folder: Path,
    models: Path | None,
    only: str,
    arch: str,
    cache: Path,
    peer_python: str,
    keep_models: bool,
    carry: Path | None,
) -> None:
    """Builds a bundle per model and batch into FOLDER; needs no GPU."""
    from bench.gpu.build import build_all, pack, write_cases
    from bench.zoo import choose_models

    failures = build_all(choose_models(models, only, cache, peer_python), folder, arch, keep_models, carry is not None)
    if problem := write_cases(folder):
        failures.append(problem)
    if carry:
        pack(folder, carry)
        click.echo(f"{carry}: {carry.stat().st_size:,} bytes", err=True)
    for line in failures:
        click.echo(f"not built: {line}", err=True)
    sys.exit(1 if failures else 0)


@main.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="JSON to write.")
@click.option("--minutes", default=7.0, show_default=True, help="What is not measured after this time is left out.")
def measure(folder: Path, output: Path, minutes: float) -> None:
    """Runs what is in FOLDER, or in a file of --carry, on this machine's GPU, and writes what it finds row by row;
    exits with 1 where something is wrong."""

    def keep(found: Mapping[str, Any]) -> None:
        part = output.with_name(f"{output.name}.part")
        part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        part.replace(output)

    with TemporaryDirectory() as scratch:
        if folder.is_file():
            with tarfile.open(folder) as tar:
                tar.extractall(scratch, filter="data")
            folder = Path(scratch)
        found = measuring.measure_all(folder, minutes, lambda line: click.echo(line, err=True), keep)
    told = found["summary"]
    wrong = [*told["wrong"], *told["cases_wrong"]]
    right = f"{told['right']} bundles and {told['cases_right']} node tests are right on {found['machine']['gpu']}"
    click.echo(f"{right}, {len(wrong)} wrong{': ' if wrong else ''}{', '.join(wrong)}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
