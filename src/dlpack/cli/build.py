"""`dlpack build` and `dlpack export`."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from dlpack.cli.arguments import (
    inputs_option,
    labels_option,
    params_option,
    parse_buckets,
    parse_dtypes,
    parse_maxima,
    parse_ranges,
    parse_shape_sets,
    parse_shapes,
    parse_values,
    preprocess_option,
    quiet_option,
    sound_option,
    task_option,
    tolerance_option,
    value_option,
)
from dlpack.cli.console import ERR, OUT, plain, progress
from dlpack.cli.shell import complete_target
from dlpack.errors import UsageError
from dlpack.meaning.labels import read_labels
from dlpack.options import CHOICES


class _BuildCommand(click.Command):
    """`dlpack build` with the options that the targets declare; the help lists them in separate sections."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *(option for option, _ in self._of_targets())]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        shapes = [a for a in args if _SHAPE.fullmatch(a)]
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as e:
            if len(shapes) < 2 or "unexpected extra argument" not in e.message:
                raise
            name = shapes[0].partition("=")[0]
            text = f"the shell has made {len(shapes)} words of the bounds in braces: write --shape {name}=1x1..512"
            raise click.UsageError(
                f"{text}: write --shape {name}=1x1..512 without them, or put it into quotes", ctx
            ) from e

    @staticmethod
    @cache
    def _of_targets() -> list[tuple[click.Option, str]]:
        """The targets' options, each with the names of the targets that have it."""
        from dlpack.targets import target_options

        return [
            (click.Option([f"--{o.name}"], is_flag=not o.metavar, metavar=o.metavar or None, help=o.help), ", ".join(t))
            for o, t in target_options().values()
        ]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = [p for p in super().get_params(ctx) if isinstance(p, click.Option)]
        general = [record for p in own if (record := p.get_help_record(ctx)) is not None]
        with formatter.section("Options"):
            formatter.write_dl(general)
        for whose, options in groupby(self._of_targets(), key=lambda entry: entry[1]):
            with formatter.section(f"Options for target {whose}"):
                formatter.write_dl([r for o, _ in options if (r := o.get_help_record(ctx)) is not None])


_SHAPE = re.compile(r"[^=]+=\d+(x\d+)*(:\w+)?")
"""An argument of --shape, of which a shell makes many where it finds {1..512} in one."""

_EPILOG = """\b
Examples:
  dlpack build squeezenet.onnx --preprocess imagenet --labels names.txt
  dlpack build bert.onnx --buckets ids=16,32,64 --target wasm -o build/bert
  dlpack build net.pt --shape x=1x3x224x224 --target linux-arm64

\b
Exit codes: 0 done, 1 verification failed, 2 usage, 3 model not supported, 4 toolchain missing."""


def _options_of_targets(targets: tuple[str, ...], values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The given target-specific options, by target. Raises UsageError for an option that no chosen target has."""
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


@click.command(cls=_BuildCommand, epilog=_EPILOG)
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--target",
    "targets",
    multiple=True,
    default=("native",),
    show_default=True,
    help="Where the model will run; repeatable.",
    shell_complete=complete_target,
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Output folder [default: build/NAME].")
@click.option("--name", default="", help="Prefix of the C API and file names [default: from the model's file name].")
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="INPUT=1x3x224x224",
    help="Set an input's shape; repeatable. Repeat it for the same input to add another set of shapes. "
    "1..64x3x224x224 leaves the batch open within bounds, 1x1..512 the length of a text, 1x3x64..512/16x64..512/16 the "
    "sides of a picture, in steps of 16.",
)
@click.option(
    "--buckets",
    metavar="INPUT=16,32,64",
    help="Compile one set of shapes per length of the input's last open dimension; a run pads to the next length.",
)
@click.option(
    "--context",
    type=int,
    metavar="N",
    help="Of a decoder with past_key_values: how many tokens of a text a predictor keeps [default: 1024].",
)
@click.option(
    "--source",
    type=int,
    metavar="N",
    help="Of a model that reads a text and answers it: how many tokens it reads [default: 512].",
)
@value_option
@params_option
@labels_option
@preprocess_option
@sound_option
@task_option
@click.option(
    "--weights",
    type=click.Choice(CHOICES["weights"]),
    default="auto",
    show_default=True,
    help="Weights inside the C++ file or in a separate file; auto embeds up to 4 MiB, and all of a model from MXNet.",
)
@click.option(
    "--optimize",
    type=click.Choice(CHOICES["optimize"]),
    default="speed",
    show_default=True,
    help="Whether to use more memory for speed (Winograd).",
)
@click.option(
    "--weights-type",
    type=click.Choice(CHOICES["weights-type"]),
    default="float32",
    show_default=True,
    help="Round weights to 16 bits, which halves their file; the build says how far the outputs move.",
)
@click.option(
    "--quantize",
    type=click.Choice(CHOICES["quantize"]),
    help="Make an integer network of a float32 one; needs --calibrate. The build says how far the outputs move.",
)
@click.option(
    "--calibrate",
    type=click.Path(path_type=Path),
    metavar="DIR|FILE.npz",
    help="Inputs as they will come: a folder of pictures (see --preprocess) or of .npz files, or one such file.",
)
@click.option(
    "--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="Maximum number of threads for a run."
)
@click.option(
    "--binding",
    "bindings",
    multiple=True,
    metavar="rust|go|java|python-wheel|...",
    help="Write a package for another language into the bundle's folder bindings; repeatable (docs/bindings.md).",
)
@click.option("--mxnet-api", is_flag=True, help="Add MXNet's C API, which models from MXNet have anyway.")
@click.option(
    "--keep-internals",
    "internals",
    multiple=True,
    metavar="NAME|all",
    help="Keep an inner value as a further output (MXPredCreatePartialOut selects it); repeatable.",
)
@click.option(
    "--range",
    "ranges",
    multiple=True,
    metavar="INPUT=0:30521",
    help="Lowest and highest value of an input in the seeded inputs of verification; repeatable.",
)
@click.option(
    "--max",
    "maxima",
    multiple=True,
    metavar="NAME=100",
    help="Largest size of what only a run knows: elements of a value that the data selects, trips of a loop, an "
    "input that is a number of these; repeatable.",
)
@click.option(
    "--tokenizer",
    type=click.Path(path_type=Path),
    metavar="tokenizer.json|none",
    help="Hugging Face's tokenizer of the model, for tokenize, detokenize and embed [default: the one beside it].",
)
@click.option(
    "--text-bytes",
    type=click.IntRange(16, 1 << 24),
    default=1 << 15,
    show_default=True,
    help="The longest text that is tokenized; a predictor takes some 60 bytes of memory for each.",
)
@click.option(
    "--embedding",
    metavar="cls|mean|max|last[,normalize]",
    help="How a text's embedding is made of its tokens' [default: the model's 1_Pooling, or cls].",
)
@inputs_option
@tolerance_option
@click.option("--cc", help="C++ compiler to use, with its options, instead of the bundled Clang.")
@quiet_option
@click.option("-v", "--verbose", is_flag=True, help="Also print each kernel with its schedule, and each file.")
@click.option("--json", "json_", is_flag=True, help="Print progress and the result as JSON lines.")
def build(
    model: Path,
    targets: tuple[str, ...],
    output: Path | None,
    name: str,
    shapes: tuple[str, ...],
    buckets: str | None,
    context: int | None,
    source: int | None,
    values: tuple[str, ...],
    params: Path | None,
    labels: Path | None,
    preprocess: str | None,
    sound: str | None,
    task: str | None,
    weights: str,
    optimize: str,
    weights_type: str,
    quantize: str | None,
    calibrate: Path | None,
    threads: int,
    bindings: tuple[str, ...],
    mxnet_api: bool,
    internals: tuple[str, ...],
    ranges: tuple[str, ...],
    maxima: tuple[str, ...],
    tokenizer: Path | None,
    text_bytes: int,
    embedding: str | None,
    inputs: Path | None,
    tolerance: float | None,
    cc: str | None,
    quiet: bool,
    verbose: bool,
    json_: bool,
    **target_options: Any,
) -> None:
    """Compile MODEL and verify the result against onnxruntime.

    MODEL is a model file, or Python code given as FILE.py:NAME or PACKAGE.MODULE:NAME, which is imported and run.
    """
    from dlpack.bundle.names import bundle_name
    from dlpack.meaning.open_batch import opened_batch
    from dlpack.options import Options, Progress
    from dlpack.pipeline import build_each

    if quiet and verbose:
        raise UsageError("--quiet and --verbose contradict each other: give one of them")
    shapes, batch = opened_batch(shapes)
    first, *more = parse_shape_sets(shapes)
    own = _options_of_targets(targets, target_options)
    common = Options(
        name=name,
        shapes=first,
        labels=read_labels(labels) if labels else None,
        weights=weights,
        cc=cc,
        preprocess=preprocess,
        sound=sound,
        optimize=optimize,
        weights_type=weights_type,
        quantize=quantize,
        calibrate=calibrate,
        threads=threads,
        bindings=bindings,
        mxnet_api=mxnet_api,
        internals=internals,
        params=params,
        dtypes=parse_dtypes(shapes),
        task=task,
        more_shapes=tuple(more),
        batch=batch,
        buckets=parse_buckets(buckets),
        context=context,
        source=source,
        values=parse_values(values),
        ranges=parse_ranges(ranges),
        maxima=parse_maxima(maxima),
        tokenizer=tokenizer,
        text_bytes=text_bytes,
        embedding=embedding,
        inputs=inputs,
        tolerance=tolerance,
    )
    folder = output or Path("build") / bundle_name(name, model)[0]
    folders = {target: folder / target if len(targets) > 1 else folder for target in targets}
    bundles = [(where, replace(common, target=t, target_options=own[t])) for t, where in folders.items()]
    for target, where in zip(folders, build_each(model, bundles, progress(Progress, json_, quiet)), strict=True):
        if json_:
            click.echo(json.dumps({"bundle": str(where), "target": target}))
        elif quiet:
            click.echo(where)
        else:
            if verbose:
                _list(where)
            OUT.print(f"[bold green]{plain(str(where))}[/] is ready for {target}", soft_wrap=True)
            if hint := _hint(target, where):
                ERR.print(f"hint: {plain(hint)}", soft_wrap=True)
            ERR.print(f"next: {plain(_next(target, where))}", soft_wrap=True)


def _list(bundle: Path) -> None:
    """Prints the kernels and the files of a bundle."""
    from dlpack.bundle.read import read_kernels
    from dlpack.bundle.report import file_sizes

    for k in read_kernels(bundle):
        macs = f", {k['macs']:,} multiply-adds" if k["macs"] else ""
        ERR.print(f"  {plain(k['name'])}: {plain(k['computes'])}, {plain(k['schedule'])}{macs}", soft_wrap=True)
    for name, size in file_sizes(bundle):
        ERR.print(f"  {plain(name)} {size:,} bytes", soft_wrap=True)


def _hint(target: str, bundle: Path) -> str:
    """What would make the bundle's page or app better; "" where nothing is known."""
    from dlpack.bundle.read import read_manifest

    manifest = read_manifest(bundle)
    drawn = manifest.get("task") == {"kind": "digits"} and "preprocess" not in manifest
    if drawn and target in ("wasm", "android", "ios"):
        return (
            "the model reads drawn digits, but nothing says how a drawing becomes its input: --preprocess FILE.json "
            'with what it was trained on, as {"channels": "GRAY", "scale": 0.0039} for ink from 0 to 1'
        )
    return ""


def _next(target: str, bundle: Path) -> str:
    """The command to type after a build."""
    from dlpack.bundle.read import read_manifest
    from dlpack.targets import get_target

    where = shlex.quote(str(bundle))
    if target == "wasm":
        return f"dlpack serve {where}"
    if target == "source":
        source = shlex.quote(str(bundle / read_manifest(bundle)["source"]))
        return f"c++ -O2 -march=native -c {source}"
    if get_target(target).runs_here() and "library" in read_manifest(bundle):
        return f"dlpack run {where}"
    return f"dlpack inspect {where}, and report.html in it"


@click.command("export", epilog="\b\nExample:\n  dlpack export net.pt --shape x=1x3x224x224 -o net.onnx")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="ONNX file to write [default: NAME.onnx].")
@value_option
@params_option
@click.option("--shape", "shapes", multiple=True, metavar="INPUT=1x3x224x224",
              help="Set an input's shape, and its element type if not float32 (x=1x16:int64); repeatable.")  # fmt: skip
@labels_option
@preprocess_option
@task_option
@click.option("--json", "json_", is_flag=True, help="Print the result as JSON.")
def export(
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
    """Convert MODEL from another framework (MXNet, Caffe, PyTorch, NumPy and others) to ONNX.

    MODEL may also be Python code, given as FILE.py:NAME or PACKAGE.MODULE:NAME, which is imported and run. Labels,
    preprocessing and task are stored in the ONNX metadata, where dlpack build finds them.
    """
    from dlpack.exporters import ExportOptions, model_stem
    from dlpack.exporters import export as export_model
    from dlpack.exporters.base import write_model
    from dlpack.model.metadata import describe

    names = read_labels(labels) if labels else None
    exported = export_model(model, params, ExportOptions(parse_shapes(shapes), parse_dtypes(shapes)))
    if values:
        from dlpack.model.values import fix_values

        fix_values(exported.model, parse_values(values))
    describe(exported.model, names, preprocess, task)
    for warning in exported.warnings:
        click.echo(f"warning: {warning}", err=True)
    path = output or Path(f"{model_stem(model)}.onnx")
    write_model(exported.model, path)
    nodes = len(exported.model.graph.node)
    if json_:
        click.echo(json.dumps({"model": str(path), "nodes": nodes, "params": str(exported.params or "")}))
    else:
        OUT.print(
            f"[bold green]{plain(str(path))}[/]: {nodes} nodes, opset {exported.model.opset_import[0].version}",
            soft_wrap=True,
        )
