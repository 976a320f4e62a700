"""`dlpack inspect`, `verify`, `bench`, `serve` and `targets`: they report on a model, a bundle or this computer."""

from __future__ import annotations

import json
import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from dlpack.cli.arguments import (
    inputs_option,
    params_option,
    parse_dtypes,
    parse_shapes,
    parse_values,
    tolerance_option,
    value_option,
)
from dlpack.cli.console import OUT, plain
from dlpack.errors import UsageError

if TYPE_CHECKING:
    from dlpack.targets.base import Target


@click.command(epilog="\b\nExample:\n  dlpack inspect model.onnx --html model.html")
@click.argument("path", metavar="MODEL|BUNDLE", type=click.Path(path_type=Path))
@click.option("--shape", "shapes", multiple=True, metavar="INPUT=1x3x224x224", help="Set an input's shape; repeatable.")
@value_option
@params_option
@click.option("--html", type=click.Path(path_type=Path), help="Also write a page with pictures: network, arena, sizes.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def inspect(
    path: Path, shapes: tuple[str, ...], values: tuple[str, ...], params: Path | None, html: Path | None, json_: bool
) -> None:
    """Show the inputs, outputs, operators, MACs, weights and memory plan of a MODEL or BUNDLE.

    MODEL is anything that dlpack build accepts; a model from another framework is converted to ONNX first.
    """
    from dlpack.inspection import inspect_path
    from dlpack.meaning.shape_sets import shown_sets

    given = parse_shapes(shapes), parse_dtypes(shapes), params, parse_values(values)
    facts = inspect_path(path, *given)
    if html is not None:
        from dlpack.stages.preview import write_preview

        write_preview(html, path, facts, *given)
    if json_:
        click.echo(json.dumps(facts, indent=2))
        return
    for kind in ("inputs", "outputs"):
        tensors = [t for s in shown_sets(facts).values() for t in s[kind]]
        more = ["scale", "zero point"] if any("quantization" in t for t in tensors) else []
        table = Table("name", "dtype", "shape", *more, title=kind, title_justify="left", box=None, pad_edge=False)
        for t in tensors:
            scaling = [f"{v:.6g}" for v in t.get("quantization", {}).values()] if more else []
            table.add_row(plain(t["name"]), t["dtype"], " x ".join(map(str, t["shape"])) or "scalar", *scaling)
        OUT.print(table)
    if "operators" in facts:
        table = Table(
            "operator", "count", "compiled", title="operators", title_justify="left", box=None, pad_edge=False
        )
        for row in facts["operators"]:
            table.add_row(row["operator"], str(row["count"]), "yes" if row["supported"] else "[red]no[/]")
        OUT.print(table)
    for key in (
        "source",
        "opset",
        "target",
        "processor",
        "macs",
        "weights_bytes",
        "arena_bytes",
        "arena_lower_bound",
        "arena_naive",
        "kernels",
    ):
        if key in facts:
            value = facts[key]
            OUT.print(f"{key.replace('_', ' '):<18} {value:,}" if isinstance(value, int) else f"{key:<18} {value}")
    if html is not None:
        OUT.print(f"[bold green]{plain(str(html))}[/] is written", soft_wrap=True)


@click.command(epilog="Exit codes: 0 all outputs agree, 1 one does not.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="Compute the reference again by running onnxruntime on this ONNX file.",
)
@inputs_option
@tolerance_option
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def verify(bundle: Path, model: Path | None, inputs: Path | None, tolerance: float | None, json_: bool) -> None:
    """Check BUNDLE against onnxruntime and show the error of each output.

    With --inputs, which needs --model, on your data instead of the seeded inputs.
    """
    from dlpack.verify.check import verify_bundle
    from dlpack.verify.given import read_given

    errors = verify_bundle(bundle, model, read_given(inputs) if inputs else None, tolerance)
    if json_:
        click.echo(json.dumps([e.__dict__ for e in errors], indent=2))
    else:
        table = Table("output", "largest error", "relative to range", "range", "", box=None, pad_edge=False)
        for e in errors:
            mark = "[green]ok[/]" if e.passed else "[bold red]wrong[/]"
            table.add_row(plain(e.name), f"{e.absolute:.3g}", f"{e.relative:.3g}", f"{e.range:.4g}", mark)
        OUT.print(table)
    if not all(e.passed for e in errors):
        sys.exit(1)


@click.command(epilog="\b\nExample:\n  dlpack bench build/model --report --vs onnxruntime --model model.onnx")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--vs", type=click.Choice(["onnxruntime"]), help="Also time this, in alternating rounds.")
@click.option("--model", type=click.Path(path_type=Path), help="ONNX file for onnxruntime.")
@click.option(
    "--compare", "other", type=click.Path(path_type=Path), help="Also time this bundle, in alternating rounds."
)
@click.option("--rounds", default=50, show_default=True, help="Number of timed runs.")
@click.option("--report", is_flag=True, help="Write the times into the bundle's report.html, with the roofline.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def bench(
    bundle: Path, vs: str | None, model: Path | None, other: Path | None, rounds: int, report: bool, json_: bool
) -> None:
    """Measure the latency of BUNDLE, per call and per kernel, for each set of shapes."""
    from dlpack.bundle.timing import bench_bundle

    if vs and model is None:
        raise UsageError("--vs onnxruntime needs the ONNX file: add --model MODEL")
    result = bench_bundle(bundle, model, rounds, other)
    if report:
        from dlpack.bundle.timed_report import write_timed_report

        write_timed_report(bundle, result)
    if json_:
        click.echo(json.dumps(result, indent=2))
        return
    for times in result.get("shapes", [result]):
        _print_times(times, rounds)
    if report:
        OUT.print(f"[bold green]{plain(str(bundle / 'report.html'))}[/] has the times", soft_wrap=True)


def _print_times(result: dict[str, Any], rounds: int) -> None:
    """Prints the tables for one set of shapes."""
    if "inputs" in result:
        OUT.print(f"\n[bold]{plain(result['inputs'])}[/]")
    table = Table("", "median ms", "minimum ms", "CPU ms", box=None, pad_edge=False)
    for row in result["runs"]:
        table.add_row(row["name"], *(f"{row[k]:.4f}" for k in ("median_ms", "minimum_ms", "cpu_ms")))
    OUT.print(table)
    for name, ratio in result.get("ratios", {}).items():
        basis = f"{result['ratio_of']}; medians of {rounds} interleaved runs"
        OUT.print(f"ratio to {plain(name)}: {ratio:.3f} ({basis})", soft_wrap=True)
    for build, rows in groupby(result.get("kernels", []), lambda row: row.get("build")):
        table = Table(
            f"kernel ({build})" if build else "kernel", "calls", "µs", "share", "GFLOP/s", box=None, pad_edge=False
        )
        for row in rows:
            speed = f"{row['gflops']:.1f}" if row["gflops"] else ""
            table.add_row(row["name"], str(row["calls"]), f"{row['us']:.2f}", f"{row['share']:.1%}", speed)
        OUT.print(table)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--port", default=8000, show_default=True, help="Port on localhost; 0 picks a free one.")
def serve(bundle: Path, port: int) -> None:
    """Serve the demo page of BUNDLE (target wasm) on localhost until Ctrl-C."""
    from dlpack.bundle.serve import bundle_server

    with bundle_server(bundle, port) as server:
        click.echo(f"http://localhost:{server.server_address[1]}/")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("stopped", err=True)


@click.command()
@click.argument("name", required=False)
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def targets(name: str | None, json_: bool) -> None:
    """List the targets, and what is missing to build for each; or tell all of the target NAME."""
    from dlpack.targets import all_targets, get_target

    chosen = [get_target(name)] if name else list(all_targets().values())
    rows = [_target_row(target) for target in chosen]
    if json_:
        click.echo(json.dumps(rows[0] if name else rows, indent=2))
    elif name:
        _print_target(chosen[0], rows[0])
    else:
        table = Table("target", "description", "builds here", "runs here", box=None, pad_edge=False)
        for row in rows:
            builds = "yes" if row["missing"] is None else f"no: {row['missing']}"
            if row["missing"] is None and row["limited"]:
                builds = f"in part: {row['limited']}"
            by = [word for word in ("this computer", "QEMU", "Wine") if any(word in how for how in row["runs_by"])]
            here = "yes" if row["runs_here"] else ", ".join(by) or f"no: {row['missing_to_run']}"
            table.add_row(row["name"], row["about"], plain(builds), plain(here))
        OUT.print(table)
        OUT.print("dlpack targets NAME: a target's machines and options", soft_wrap=True)


def _print_target(target: Target, row: dict[str, Any]) -> None:
    """One target, a fact a line."""
    missing = row["missing"] or row["limited"]
    runs = ["this computer"] if row["runs_here"] else row["runs_by"]
    facts = [
        (target.name, [target.about]),
        ("machines", [row["machine"]]),
        ("processor", [row["processor"]] if row["processor"] else []),
        ("builds here", ["yes"] if not missing else [f"{'no' if row['missing'] else 'in part'}: {missing}"]),
        ("runs here", runs or [f"no: {row['missing_to_run']}"]),
        ("options", [f"--{o.name}: {o.help}" for o in target.options]),
    ]
    for key, lines in facts:
        for k, line in enumerate(lines):
            OUT.print(plain(f"{key if k == 0 else '':<12} {line}"), soft_wrap=True)


def _target_row(target: Target) -> dict[str, Any]:
    from dlpack.targets.base import about
    from dlpack.verify.run import not_run, where_run

    machines = [b.machine() for b in target.builds]
    by = where_run(target, target.builds)
    return {
        "name": target.name,
        "about": target.about,
        "machine": ", ".join(dict.fromkeys(m.name for m in machines)),
        "processor": next(filter(None, map(about, machines)), None),
        "missing": target.missing(),
        "limited": target.limited(),
        "runs_here": "this computer" in by,
        "runs_by": by,
        "missing_to_run": None if by else not_run(target, target.builds),
    }
