"""The command line: build, export, inspect, verify, bench, targets."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.table import Table

from dlpack import __version__
from dlpack.errors import DlpackError, UsageError

_ERR = Console(stderr=True, highlight=False)
_OUT = Console(highlight=False)


class _Group(click.Group):
    """Turns our errors into a message and an exit code, and Ctrl-C into a clean end."""

    def invoke(self, ctx: click.Context) -> Any:
        as_json = "--json" in ctx.args
        try:
            return super().invoke(ctx)
        except DlpackError as e:
            _fail(str(e), e.exit_code, as_json)
        except KeyboardInterrupt:
            _interrupted(as_json)


def _interrupted(as_json: bool = False) -> NoReturn:
    # CPython remembers an interrupt inside exec(), where dataclasses are made while a module is imported, and ends
    # `python -m` by that signal whatever its exit code. The next exec() makes it forget.
    exec("")
    _fail("interrupted; nothing was written", 130, as_json)


def _fail(message: str, code: int, as_json: bool) -> NoReturn:
    if as_json:
        click.echo(json.dumps({"error": message, "exit_code": code}))
    else:
        _ERR.print(f"[bold red]error:[/] {_plain(message)}", soft_wrap=True)
    sys.exit(code)


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="dlpack")
def cli() -> None:
    """Compiles a trained neural network to one C++ file that needs nothing."""


def _parse_shapes(values: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """The shapes of a command that takes one for each input."""
    sets = _parse_shape_sets(values)
    if len(sets) > 1:
        raise UsageError("--shape names an input twice; only dlpack build takes several shapes")
    return sets[0]


def _parse_shape_sets(values: tuple[str, ...]) -> list[dict[str, tuple[int, ...]]]:
    """The sets of shapes that repeated --shape options mean; at least one, maybe empty."""
    from dlpack.meaning.shape_sets import alternatives

    shapes: list[tuple[str, tuple[int, ...]]] = []
    for value in values:
        name, _, dims = value.rpartition("=")
        dims = dims.partition(":")[0]
        try:
            shape = tuple(int(d) for d in dims.split("x")) if dims else ()
        except ValueError:
            shape = (-1,)
        if not name or any(d < 0 for d in shape):
            raise UsageError(f"--shape {value!r}: write it as INPUT=1x3x224x224")
        shapes.append((name, shape))
    return alternatives(shapes)


def _parse_buckets(value: str | None) -> Any:
    """tokens=16,32,64"""
    from dlpack.meaning.shape_sets import Buckets

    if value is None:
        return None
    name, _, sizes = value.rpartition("=")
    try:
        return Buckets(name, tuple(int(size) for size in sizes.split(",")))
    except ValueError:
        raise UsageError(f"--buckets {value!r}: write it as INPUT=16,32,64") from None


def _parse_values(options: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """sr=16000, scales=1,1,2,2"""
    values: dict[str, tuple[str, ...]] = {}
    for option in options:
        name, _, text = option.rpartition("=")
        elements = tuple(word.strip() for word in text.split(","))
        if not name or not all(elements):
            raise UsageError(f"--value {option!r}: write it as INPUT=16000 or INPUT=1,1,2,2")
        if name in values:
            raise UsageError(f"--value names the input {name!r} twice")
        values[name] = elements
    return values


_value_option = click.option(
    "--value",
    "values",
    multiple=True,
    metavar="INPUT=16000",
    help="Makes a constant of an input, of one element or of several with commas; repeatable.",
)


def _parse_dtypes(values: tuple[str, ...]) -> dict[str, str]:
    """The element types that stand behind shapes: tokens=1x16:int64."""
    dtypes: dict[str, str] = {}
    for value in values:
        name, _, dims = value.rpartition("=")
        _, colon, dtype = dims.partition(":")
        if colon:
            if dtype not in ("float32", "int32", "int64", "uint8", "int8", "bool"):
                raise UsageError(f"--shape {value!r}: the type is float32, int32, int64, uint8, int8 or bool")
            dtypes[name] = dtype
    return dtypes


class _BuildCommand(click.Command):
    """`dlpack build`, with the options that the targets declare; the help has them in groups of their own."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *(option for option, _ in self._of_targets())]

    @staticmethod
    @cache
    def _of_targets() -> list[tuple[click.Option, str]]:
        """The targets' options, and whose they are in words."""
        from dlpack.targets import target_options

        return [
            (click.Option([f"--{o.name}"], is_flag=not o.metavar, metavar=o.metavar or None, help=o.help), ", ".join(t))
            for o, t in target_options().values()
        ]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        general = [record for p in super().get_params(ctx) if (record := p.get_help_record(ctx)) is not None]
        with formatter.section("Options"):
            formatter.write_dl(general)
        for whose, options in groupby(self._of_targets(), key=lambda entry: entry[1]):
            with formatter.section(f"Options of target {whose}"):
                formatter.write_dl([r for o, _ in options if (r := o.get_help_record(ctx)) is not None])


def _options_of_targets(targets: tuple[str, ...], values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By target, those of its own options that are given; UsageError for one that none of the targets has."""
    from dlpack.targets import check_options, get_target, target_options

    own: dict[str, dict[str, Any]] = {name: {} for name in targets}
    for name, (_, having) in target_options().items():
        value = values.get(name.replace("-", "_"))
        if value:
            takers = [target for target in targets if target in having]
            if not takers:
                check_options(get_target(targets[0]), [name])
            for target in takers:
                own[target][name] = value
    return own


@cli.command(cls=_BuildCommand)
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--target", "targets", multiple=True, default=("native",), show_default=True, help="Where it shall run; repeatable."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The bundle's folder [default: build/NAME].")
@click.option("--name", default="", help="Prefix of the C API [default: the model file's name].")
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="INPUT=1x3x224x224",
    help="Fixes an input's shape; repeatable. Given again for the same input it adds a set of shapes to the bundle.",
)
@click.option(
    "--buckets",
    metavar="INPUT=16,32,64",
    help="A set of shapes for each of these lengths of the input's last open dimension; a run pads up to the next.",
)
@_value_option
@click.option(
    "--params", type=click.Path(path_type=Path), help="The weights' file, where it is not found beside MODEL."
)
@click.option("--labels", type=click.Path(path_type=Path), help="Class names, one per line.")
@click.option("--preprocess", metavar="imagenet|caffe|tf|none|FILE.json", help="What makes an input of a picture.")
@click.option("--task", metavar="FILE.json", help="What the outputs mean: boxes, classes, a picture, text.")
@click.option("--weights", type=click.Choice(["auto", "embed", "file"]), default="auto", show_default=True,
              help="Weights inside the C++ file or beside it; auto embeds up to 4 MiB.")  # fmt: skip
@click.option(
    "--optimize",
    type=click.Choice(["speed", "size"]),
    default="speed",
    show_default=True,
    help="Whether memory may grow for speed (Winograd).",
)
@click.option(
    "--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="Most threads that a run may use."
)
@click.option("--cc", help="Your own C++ compiler, with its options, in place of zig's clang.")
@click.option(
    "--binding",
    "bindings",
    multiple=True,
    metavar="rust|go|java|python-wheel|...",
    help="A package for another language, in the bundle's folder bindings; repeatable (docs/bindings.md).",
)
@click.option("--json", "json_", is_flag=True, help="Events and the result as JSON lines.")
def build(
    model: Path,
    targets: tuple[str, ...],
    output: Path | None,
    name: str,
    shapes: tuple[str, ...],
    buckets: str | None,
    values: tuple[str, ...],
    params: Path | None,
    labels: Path | None,
    preprocess: str | None,
    task: str | None,
    weights: str,
    optimize: str,
    threads: int,
    cc: str | None,
    bindings: tuple[str, ...],
    json_: bool,
    **target_options: Any,
) -> None:
    """Compiles MODEL and verifies the result against onnxruntime.

    MODEL is a file, or Python code as FILE.py:NAME or PACKAGE.MODULE:NAME, which is imported and run.
    """
    from dlpack.bundle.names import bundle_name
    from dlpack.options import Options, Progress
    from dlpack.pipeline import build_each

    first, *more = _parse_shape_sets(shapes)
    own = _options_of_targets(targets, target_options)
    common = Options(
        name=name,
        shapes=first,
        labels=_read_labels(labels) if labels else None,
        weights=weights,
        cc=cc,
        preprocess=preprocess,
        optimize=optimize,
        threads=threads,
        params=params,
        dtypes=_parse_dtypes(shapes),
        task=task,
        more_shapes=tuple(more),
        buckets=_parse_buckets(buckets),
        values=_parse_values(values),
        bindings=bindings,
    )
    folder = output or Path("build") / bundle_name(name, model)[0]
    folders = {target: folder / target if len(targets) > 1 else folder for target in targets}
    bundles = [(where, replace(common, target=t, target_options=own[t])) for t, where in folders.items()]
    for target, where in zip(folders, build_each(model, bundles, _progress(Progress, json_)), strict=True):
        if json_:
            click.echo(json.dumps({"bundle": str(where), "target": target}))
        else:
            _OUT.print(f"[bold green]{_plain(str(where))}[/] is ready for {target}", soft_wrap=True)


@cli.command("export")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The ONNX file [default: NAME.onnx].")
@_value_option
@click.option(
    "--params", type=click.Path(path_type=Path), help="The weights' file, where it is not found beside MODEL."
)
@click.option("--shape", "shapes", multiple=True, metavar="INPUT=1x3x224x224",
              help="An input's shape, and its type where it is not float32 (x=1x16:int64); repeatable.")  # fmt: skip
@click.option("--labels", type=click.Path(path_type=Path), help="Class names, one per line.")
@click.option("--preprocess", metavar="imagenet|caffe|tf|none|FILE.json", help="What makes an input of a picture.")
@click.option("--task", metavar="FILE.json", help="What the outputs mean: boxes, classes, a picture, text.")
@click.option("--json", "json_", is_flag=True, help="The result as JSON.")
def export_command(
    model: Path,
    output: Path | None,
    values: tuple[str, ...],
    params: Path | None,
    shapes: tuple[str, ...],
    labels: Path | None,
    preprocess: str | None,
    task: str | None,
    json_: bool,
) -> None:
    """Converts MODEL from another framework (MXNet, Caffe, PyTorch, NumPy ...) to an ONNX file.

    A model may be Python code: FILE.py:NAME or PACKAGE.MODULE:NAME, which is imported and run. Labels, preprocessing
    and task are stored in the file's metadata, where dlpack build finds them.
    """
    from dlpack.exporters import ExportOptions, export, model_stem
    from dlpack.exporters.base import write_model
    from dlpack.model.metadata import describe

    names = _read_labels(labels) if labels else None
    exported = export(model, params, ExportOptions(_parse_shapes(shapes), _parse_dtypes(shapes)))
    if values:
        from dlpack.model.values import fix_values

        fix_values(exported.model, _parse_values(values))
    describe(exported.model, names, preprocess, task)
    for warning in exported.warnings:
        click.echo(f"warning: {warning}", err=True)
    path = output or Path(f"{model_stem(model)}.onnx")
    write_model(exported.model, path)
    nodes = len(exported.model.graph.node)
    if json_:
        click.echo(json.dumps({"model": str(path), "nodes": nodes, "params": str(exported.params or "")}))
    else:
        _OUT.print(
            f"[bold green]{_plain(str(path))}[/]: {nodes} nodes, opset {exported.model.opset_import[0].version}",
            soft_wrap=True,
        )


def _read_labels(path: Path) -> tuple[str, ...]:
    try:
        labels = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"the labels file {path} cannot be read: {e}") from e
    if not labels:
        raise UsageError(f"the labels file {path} holds no names: write one per line")
    return labels


def _progress(kind: Any, as_json: bool) -> Any:
    if as_json:
        return kind(
            done=lambda name, s, d: click.echo(json.dumps({"stage": name, "seconds": round(s, 3), "detail": d})),
            warn=lambda text: click.echo(json.dumps({"warning": text})),
        )
    if not _ERR.is_terminal:
        return kind(
            done=lambda name, s, d: click.echo(f"{name:<10} {s:6.2f} s  {d}", err=True),
            warn=lambda text: click.echo(f"warning: {text}", err=True),
        )
    status = _ERR.status("")

    def start(name: str) -> None:
        status.update(name)
        status.start()

    def done(name: str, seconds: float, detail: str) -> None:
        status.stop()
        _ERR.print(f"[green]✓[/] {name:<10} [dim]{seconds:6.2f} s[/]  {_plain(detail)}", soft_wrap=True)

    return kind(start, done, lambda text: _ERR.print(f"[yellow]warning:[/] {_plain(text)}"))


@cli.command()
@click.argument("path", metavar="MODEL|BUNDLE", type=click.Path(path_type=Path))
@click.option(
    "--shape", "shapes", multiple=True, metavar="INPUT=1x3x224x224", help="Fixes an input's shape; repeatable."
)
@_value_option
@click.option(
    "--params", type=click.Path(path_type=Path), help="The weights' file, where it is not found beside MODEL."
)
@click.option("--json", "json_", is_flag=True, help="As JSON.")
def inspect(path: Path, shapes: tuple[str, ...], values: tuple[str, ...], params: Path | None, json_: bool) -> None:
    """Shows what a MODEL or a BUNDLE holds: inputs, outputs, operators, MACs, weights, memory plan.

    MODEL is all that dlpack build takes; one of another framework is shown as the ONNX that is made of it.
    """
    from dlpack.inspection import inspect_path

    facts = inspect_path(path, _parse_shapes(shapes), _parse_dtypes(shapes), params, _parse_values(values))
    if json_:
        click.echo(json.dumps(facts, indent=2))
        return
    for kind in ("inputs", "outputs"):
        tensors = [t for s in facts.get("shapes", [facts]) for t in s[kind]]
        more = ["scale", "zero point"] if any("quantization" in t for t in tensors) else []
        table = Table("name", "dtype", "shape", *more, title=kind, title_justify="left", box=None, pad_edge=False)
        for t in tensors:
            scaling = [f"{v:.6g}" for v in t.get("quantization", {}).values()] if more else []
            table.add_row(_plain(t["name"]), t["dtype"], " x ".join(map(str, t["shape"])) or "scalar", *scaling)
        _OUT.print(table)
    if "operators" in facts:
        table = Table(
            "operator", "count", "compiled", title="operators", title_justify="left", box=None, pad_edge=False
        )
        for row in facts["operators"]:
            table.add_row(row["operator"], str(row["count"]), "yes" if row["supported"] else "[red]no[/]")
        _OUT.print(table)
    for key in (
        "source",
        "opset",
        "target",
        "macs",
        "weights_bytes",
        "arena_bytes",
        "arena_lower_bound",
        "arena_naive",
        "kernels",
    ):
        if key in facts:
            value = facts[key]
            _OUT.print(f"{key.replace('_', ' '):<18} {value:,}" if isinstance(value, int) else f"{key:<18} {value}")


@cli.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--model", type=click.Path(path_type=Path), help="Run onnxruntime again on this ONNX file.")
@click.option("--json", "json_", is_flag=True, help="As JSON.")
def verify(bundle: Path, model: Path | None, json_: bool) -> None:
    """Runs BUNDLE against onnxruntime and shows the errors per output."""
    from dlpack.verify.check import verify_bundle

    errors = verify_bundle(bundle, model)
    if json_:
        click.echo(json.dumps([e.__dict__ for e in errors], indent=2))
    else:
        table = Table("output", "largest error", "of the range", "range", "", box=None, pad_edge=False)
        for e in errors:
            mark = "[green]ok[/]" if e.passed else "[bold red]wrong[/]"
            table.add_row(_plain(e.name), f"{e.absolute:.3g}", f"{e.relative:.3g}", f"{e.range:.4g}", mark)
        _OUT.print(table)
    if not all(e.passed for e in errors):
        sys.exit(1)


@cli.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--vs", type=click.Choice(["onnxruntime"]), help="Time this beside it, in turn.")
@click.option("--model", type=click.Path(path_type=Path), help="The ONNX file that onnxruntime runs.")
@click.option("--rounds", default=50, show_default=True, help="Runs of each.")
@click.option("--json", "json_", is_flag=True, help="As JSON.")
def bench(bundle: Path, vs: str | None, model: Path | None, rounds: int, json_: bool) -> None:
    """Times BUNDLE: latency per call, and per kernel; for several sets of shapes, each of them."""
    from dlpack.bundle.timing import bench_bundle

    if vs and model is None:
        raise UsageError("--vs onnxruntime needs the ONNX file: --model MODEL")
    result = bench_bundle(bundle, model, rounds)
    if json_:
        click.echo(json.dumps(result, indent=2))
        return
    for times in result.get("shapes", [result]):
        _print_times(times, rounds)


def _print_times(result: dict[str, Any], rounds: int) -> None:
    """The tables of one set of shapes."""
    if "inputs" in result:
        _OUT.print(f"\n[bold]{_plain(result['inputs'])}[/]")
    table = Table("", "median ms", "minimum ms", "CPU ms", box=None, pad_edge=False)
    for row in result["runs"]:
        table.add_row(row["name"], *(f"{row[k]:.4f}" for k in ("median_ms", "minimum_ms", "cpu_ms")))
    _OUT.print(table)
    if "ratio" in result:
        _OUT.print(
            f"ratio to onnxruntime: {result['ratio']:.3f} ({result['ratio_of']}, medians of {rounds} rounds in turn)"
        )
    for build, rows in groupby(result.get("kernels", []), lambda row: row.get("build")):
        table = Table(
            f"kernel ({build})" if build else "kernel", "calls", "µs", "share", "GFLOP/s", box=None, pad_edge=False
        )
        for row in rows:
            speed = f"{row['gflops']:.1f}" if row["gflops"] else ""
            table.add_row(row["name"], str(row["calls"]), f"{row['us']:.2f}", f"{row['share']:.1%}", speed)
        _OUT.print(table)


@cli.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--port", default=8000, show_default=True, help="On localhost; 0 takes a free one.")
def serve(bundle: Path, port: int) -> None:
    """Shows the demo page of BUNDLE, built for wasm, on localhost; Ctrl-C ends it."""
    from dlpack.bundle.serve import bundle_server

    with bundle_server(bundle, port) as server:
        click.echo(f"http://localhost:{server.server_address[1]}/")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("stopped", err=True)


@cli.command()
@click.option("--json", "json_", is_flag=True, help="As JSON.")
def targets(json_: bool) -> None:
    """Lists what can be built here, and what is missing for the rest."""
    from dlpack.targets import all_targets

    rows = [(t.name, t.about, t.builds[0].machine().name, t.missing(), t.runs_here()) for t in all_targets().values()]
    if json_:
        keys = ("name", "about", "machine", "missing", "runs_here")
        click.echo(json.dumps([dict(zip(keys, r, strict=True)) for r in rows], indent=2))
        return
    table = Table("target", "for", "machine", "can be built here", "runs here", box=None, pad_edge=False)
    for name, about, machine, missing, here in rows:
        table.add_row(name, about, machine, "yes" if missing is None else f"no: {missing}", "yes" if here else "no")
    _OUT.print(table)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    """The console entry point."""
    try:
        signal.signal(signal.SIGTERM, _interrupt)  # ends as Ctrl-C does: nothing half-written is left
        cli(standalone_mode=True)
    except KeyboardInterrupt:
        _interrupted()


if __name__ == "__main__":
    main()
