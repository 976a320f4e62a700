"""`dlpack build-all`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from dlpack.cli.arguments import quiet_option
from dlpack.cli.console import ERR, OUT, interrupted, plain

_EPILOG = """\b
Examples:
  dlpack build-all models.toml
  dlpack build-all models.toml --jobs 4 --only squeezenet --only bert
  dlpack build-all models.toml --engine ray --address auto --json

\b
models.toml (docs/build-all.md has all keys):
  targets = ["native", "wasm"]
  [models.squeezenet]
  file = "squeezenet.onnx"
  preprocess = "imagenet"

\b
Exit codes: 0 all bundles are there, else that of the first one that failed (see dlpack build), 130 interrupted."""


@click.command("build-all", epilog=_EPILOG)
@click.argument("models", type=click.Path(path_type=Path))
@click.option("--jobs", type=click.IntRange(1), help="Builds at a time [default: one per processor].")
@click.option("--only", multiple=True, metavar="NAME", help="Build this model of the file alone; repeatable.")
@click.option("--again", is_flag=True, help="Also build what has not changed.")
@click.option(
    "--engine",
    type=click.Choice(["processes", "ray", "dask"]),
    default="processes",
    show_default=True,
    help="Where builds run: on this computer, or on the machines of a Ray or Dask cluster.",
)
@click.option("--address", help="The cluster's address [default: what its environment variable says, or one here].")
@quiet_option
@click.option("--json", "json_", is_flag=True, help="Print each bundle and the counts as JSON lines.")
def build_all(
    models: Path,
    jobs: int | None,
    only: tuple[str, ...],
    again: bool,
    engine: str,
    address: str | None,
    quiet: bool,
    json_: bool,
) -> None:
    """Build all bundles that MODELS, a TOML file, asks for: models x variants x targets.

    Several processes build at a time. A bundle is left as it is where nothing that it was made from has changed: the
    model's files, its options, dlpack. A model that fails does not stop the others.
    """
    from dlpack.many import build_all as build

    def on_row(row: Any, number: int, of: int) -> None:
        if json_:
            click.echo(json.dumps(_as_json(row)))
            return
        for warning in row.warnings:
            ERR.print(f"warning: {plain(row.bundle.label)}: {plain(warning)}", soft_wrap=True)
        if not quiet and row.status != "unchanged":
            state = "[red]failed[/]" if row.status == "failed" else f"[green]{row.status}[/]"
            ERR.print(f"{number:>{len(str(of))}}/{of} {plain(row.bundle.label)} {state} {row.seconds:.1f} s")

    how = {"jobs": jobs or 0, "engine": engine, "address": address, "only": only, "again": again}
    try:
        report = build(models, **how, on_row=on_row)  # type: ignore[arg-type]
    except KeyboardInterrupt:
        interrupted(json_, "finished bundles are whole, and of others nothing is left")
    counts = {status: report.count(status) for status in ("built", "unchanged", "failed")}
    if json_:
        click.echo(json.dumps({**counts, "seconds": round(report.seconds, 3), "exit_code": report.exit_code}))
    else:
        if not quiet:
            _print_table(report.rows)
        for row in report.rows:
            if row.error:
                ERR.print(f"[bold red]error:[/] {plain(row.bundle.label)}: {plain(row.error)}", soft_wrap=True)
            elif quiet:
                click.echo(row.bundle.folder)
        if not quiet:
            text = ", ".join(f"{count} {status}" for status, count in counts.items())
            OUT.print(f"{text} in {report.seconds:.1f} s", soft_wrap=True)
    sys.exit(report.exit_code)


def _as_json(row: Any) -> dict[str, Any]:
    bundle = row.bundle
    told = {"model": bundle.model, "variant": bundle.variant, "target": bundle.options.target}
    told |= {"bundle": str(bundle.folder), "status": row.status, "seconds": round(row.seconds, 3)}
    if row.error:
        told |= {"error": row.error, "exit_code": row.exit_code}
    return told | ({"warnings": list(row.warnings)} if row.warnings else {})


def _print_table(rows: Any) -> None:
    """A line per bundle, aligned, in full also where standard output is no terminal."""
    lines = [("bundle", "result", "seconds", "bytes", "folder")]
    for row in rows:
        size = f"{_bytes(row.bundle.folder):,}" if row.status != "failed" else ""
        seconds = f"{row.seconds:.1f}" if row.seconds else ""
        lines.append((row.bundle.label, row.status, seconds, size, _shown(row.bundle.folder)))
    widths = [max(len(line[k]) for line in lines) for k in range(5)]
    colours = {"failed": "red", "built": "green", "unchanged": "dim", "result": "bold"}
    for label, status, seconds, size, folder in lines:
        state = f"[{colours[status]}]{status:<{widths[1]}}[/]"
        numbers = f"{seconds:>{widths[2]}}  {size:>{widths[3]}}"
        OUT.print(f"{plain(f'{label:<{widths[0]}}')}  {state}  {numbers}  {plain(folder)}", soft_wrap=True)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _shown(folder: Path) -> str:
    """A path as one would type it here."""
    return str(folder.relative_to(Path.cwd())) if folder.is_relative_to(Path.cwd()) else str(folder)
