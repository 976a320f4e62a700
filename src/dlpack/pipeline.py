"""The pipeline: the order of the stages from a model file to a bundle, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlpack import __version__
from dlpack.errors import ModelError, ToolchainError, UnsupportedError, UsageError, VerificationError
from dlpack.meaning.labels import check_labels, labels_warning
from dlpack.meaning.preprocess import Preprocess, from_metadata, resolve
from dlpack.meaning.shape_sets import Shapes, bucket_sets, check_sets, describe_buckets, describe_shapes, set_name
from dlpack.options import Options, Progress, options_text
from dlpack.source import Source, read_source

if TYPE_CHECKING:
    from dlpack.amalgamate.classifier import Classifier
    from dlpack.graph.ir import Graph
    from dlpack.meaning.quantization import Meaning
    from dlpack.plan.program import Program
    from dlpack.targets.base import Target
    from dlpack.targets.cpu.machine import Machine
    from dlpack.verify.trial import Trial

EMBED_LIMIT = 4 << 20
"""`--weights auto` embeds up to this many bytes and writes a side file beyond."""


@dataclass(frozen=True)
class Case:
    """The model for one set of input shapes: graph, meaning of inputs and outputs, and expected results."""

    graph: Graph
    meanings: Mapping[str, Meaning]
    trial: Trial


@dataclass(frozen=True)
class Prepared:
    """A model as every target compiles it; `bucketed`: the dimensions of its inputs that have buckets."""

    source: Source
    cases: tuple[Case, ...]
    bucketed: dict[str, list[int]]


def build(
    model: str | Path, output: str | Path, options: Options | None = None, progress: Progress | None = None
) -> Path:
    """Builds a bundle from a model file; returns its folder.

    Raises a `DlpackError` for anything the user can fix, and leaves nothing behind.
    """
    (folder,) = build_each(model, [(output, options or Options())], progress)
    return folder


def build_each(
    model: str | Path, bundles: Iterable[tuple[str | Path, Options]], progress: Progress | None = None
) -> Iterator[Path]:
    """Builds a bundle in each folder with the options paired with it, and yields each folder as it is finished.

    The model is read, cleaned and run by the reference only once, so only target-specific options may differ.
    """
    from dlpack.bundle.folder import new_bundle
    from dlpack.bundle.names import bundle_name

    model, progress = Path(model), progress or Progress()
    prepared: Prepared | None = None
    for output, options in bundles:
        target = _target(options)
        name, renamed = bundle_name(options.name, model)
        if renamed and prepared is None:
            progress.warn(renamed)
        with new_bundle(Path(output)) as folder:
            prepared = prepared or _prepare(model, options, progress)
            _fill(folder, name, target, prepared, options, progress)
        yield Path(output)


def _target(options: Options) -> Target:
    """The target, if it can be built here with these options."""
    from dlpack.targets import check_options, get_target

    target = get_target(options.target)
    if not options.cc and (problem := target.missing()):
        raise ToolchainError(f"target {target.name} cannot be built on this computer: it needs {problem}")
    if target.downloads_weights and options.weights == "embed":
        raise UsageError(f"target {target.name} keeps the weights in a separate file: remove --weights embed")
    check_options(target, options.target_options)
    return target


def _prepare(model: Path, options: Options, progress: Progress) -> Prepared:
    """Reads the model, and for each set of shapes cleans it and runs the reference."""
    from dlpack.model.meaning import meanings
    from dlpack.verify.trial import try_model

    with progress.stage("read") as detail:
        source = read_source(model, options.params, options.shapes, options.dtypes, options.values)
        for text in source.warnings:
            progress.warn(text)
        detail.append(f"{len(source.proto.graph.node)} nodes, {source.opset}")
        sets, bucketed = _shape_sets(options, source)
        _check_options(options, source, sets)
    cases = []
    for number, shapes in enumerate(sets):
        with progress.stage("clean") as detail:
            try:
                proto = source.proto
                if number and source.exported:
                    proto = read_source(model, options.params, shapes, options.dtypes, options.values).proto
                proto, graph = clean_graph(proto, shapes)
            except (ModelError, UnsupportedError) as e:
                if number:  # the first set had no error
                    e.args = (f"with {describe_shapes(shapes)}: {e}",)
                raise
            detail.append(f"{len(graph.nodes)} nodes")
        with progress.stage("reference") as detail:  # before it is compiled: it finds operands that do not fit
            cases.append(Case(graph, meanings(graph, source.metadata), try_model(proto, graph, source.metadata)))
            detail.append("onnxruntime")
    return Prepared(source, tuple(cases), bucketed)


def clean_graph(proto: Any, shapes: Shapes) -> tuple[Any, Graph]:
    """The cleaned model and its graph. Raises UnsupportedError with all that is not supported."""
    from dlpack import operators
    from dlpack.model.clean import clean
    from dlpack.model.read import read_graph

    try:
        proto = clean(proto, shapes, lambda op, domain: not operators.supported(op, domain))
        return proto, read_graph(proto, operators.supported)
    except UnsupportedError as e:
        from dlpack.model.values import advice

        if text := advice(proto):
            e.args = (f"{e}\n{text}",)
        raise


def _fill(folder: Path, name: str, target: Target, prepared: Prepared, options: Options, progress: Progress) -> None:
    """Compiles the model for a target, and writes the contents of its bundle."""
    from dlpack.bundle.folder import checksums, write_json, write_manifest, write_notice, write_sbom
    from dlpack.bundle.manifest import kernels_of
    from dlpack.bundle.report import write_report
    from dlpack.verify.trial import write_trials

    machine = replace(target.machine(), threads=options.threads)
    program = _compile(name, prepared, options, machine, progress)
    classifier = _classifier(options, prepared.source, program)
    if classifier.preprocess and (misfit := classifier.preprocess.misfit()):
        progress.warn(misfit)
    embed = options.weights == "embed" or (
        options.weights == "auto" and len(program.weights) <= EMBED_LIMIT and not target.downloads_weights
    )
    _emit(folder, program, prepared, classifier, embed, (target, machine), options, progress)
    manifest = _manifest(program, prepared, classifier, embed, (target, machine), options)
    if manifest.get("task", {}).get("kind") in (None, "classify", "digits"):
        if warning := labels_warning(classifier.labels, manifest["outputs"]):
            progress.warn(warning)
    kernels = kernels_of(program)
    write_json(folder / "kernels.json", kernels)
    write_trials(folder / "reference.npz", [case.trial for case in prepared.cases])
    _package(folder, manifest, target, options, progress)
    write_manifest(folder / "manifest.json", manifest)
    if (target.library or target.run) and target.runs_here() and options.verify:
        _verify(folder, manifest, progress)
    write_notice(folder, manifest)
    manifest["files"] = checksums(folder, name)
    write_manifest(folder / "manifest.json", manifest)
    write_sbom(folder, manifest)
    write_report(folder, manifest, kernels)


def _compile(name: str, prepared: Prepared, options: Options, machine: Machine, progress: Progress) -> Program:
    """The program for all sets of shapes."""
    from dlpack.bundle.manifest import described
    from dlpack.plan.compiler import Compiler
    from dlpack.targets.cpu.schedule import CpuBackend

    backend = CpuBackend(machine)
    tile = (lambda layer: 0) if options.optimize == "size" else backend.winograd_tile
    compiler = Compiler(name, backend.schedule, tile, options.threads)
    for case in prepared.cases:
        with progress.stage("compile") as detail:
            variant = compiler.add(case.graph, case.meanings)
            a = variant.arena
            detail.append(f"{len(compiler.kernels)} kernels")
            detail.append(f"arena {a.size:,} bytes (lower bound {a.lower_bound:,}, without sharing {a.naive:,})")
            if len(prepared.cases) > 1:
                detail.append(set_name(described(variant)))
    program = compiler.program()
    check_sets([described(v) for v in program.variants])
    return program


def _emit(
    folder: Path, program: Program, prepared: Prepared, classifier: Classifier, embed: bool,
    place: tuple[Target, Machine], options: Options, progress: Progress,
) -> None:  # fmt: skip
    """Writes NAME.cc, NAME.h and, if the weights are not embedded, NAME.weights."""
    from dlpack.amalgamate.document import Provenance, emit_header, emit_source
    from dlpack.runtime_c import read_runtime
    from dlpack.targets.toolchains.compiler import source_flags
    from dlpack.verify.trial import self_test

    target, machine = place
    with progress.stage("emit") as detail:
        provenance = Provenance(
            f"dlpack {__version__}",
            prepared.source.sha256,
            prepared.source.opset,
            f"{target.name} ({machine.name})",
            options_text(options),
            "SPDX-License-Identifier: Apache-2.0 (this text and the runtime; the weights: the model's licence)",
            source_flags(machine.name),
        )
        runtime = read_runtime()
        test = [self_test(v, c.trial) for v, c in zip(program.variants, prepared.cases, strict=True)]
        text = emit_source(program, runtime, provenance, embed, test, machine.fma_call, classifier)
        (folder / f"{program.name}.cc").write_text(text, encoding="utf-8")
        (folder / f"{program.name}.h").write_text(emit_header(program, runtime, classifier), encoding="utf-8")
        if program.weights and not embed:
            (folder / f"{program.name}.weights").write_bytes(program.weights)
        where = "embedded" if embed else "in a separate file"
        detail.append(f"{program.name}.cc {len(text):,} bytes, weights {len(program.weights):,} bytes {where}")


def _manifest(
    program: Program, prepared: Prepared, classifier: Classifier, embed: bool, place: tuple[Target, Machine],
    options: Options,
) -> dict[str, Any]:  # fmt: skip
    """The manifest before the target and the verification add to it."""
    from dlpack.bundle.manifest import described, manifest_of, shapes_of, weights_of
    from dlpack.meaning.task import task_of

    source, cases, pictures = prepared.source, prepared.cases, classifier.pictures
    sets = [described(v) for v in program.variants]
    manifest = manifest_of(program, place[0].name, place[1].name, source.sha256, source.opset)
    manifest["ranges"] = [list(r) for r in cases[0].trial.ranges]
    if shapes := shapes_of(program, pictures):
        manifest["shapes"] = shapes
    if options.buckets:
        manifest["buckets"] = describe_buckets(source.proto, options.buckets, prepared.bucketed, sets)
    if classifier.labels:
        manifest["labels"] = list(classifier.labels)
    if classifier.preprocess:
        manifest["preprocess"] = classifier.preprocess.to_json()
    number = next((k for k, picture in enumerate(pictures) if picture), 0)
    expected = cases[number].trial.expected.outputs
    if task := task_of(options.task, source.metadata, {**manifest, **sets[number]}, expected):
        manifest["task"] = task
    if program.weights and not embed:
        manifest["weights"] = weights_of(program)
    return manifest


def _package(folder: Path, manifest: dict[str, Any], target: Target, options: Options, progress: Progress) -> None:
    """Compiles the library, or what the target produces instead."""
    from dlpack.targets.base import PackageOptions
    from dlpack.targets.toolchains.compiler import compile_library

    if target.library:
        with progress.stage("toolchain") as detail:
            library = target.library.format(manifest["name"])
            compiler = compile_library(
                folder / manifest["source"], folder / library, target.zig_target, target.flags, options.cc
            )
            manifest["library"] = library
            detail.append(f"{compiler}, {library} {(folder / library).stat().st_size:,} bytes")
    if target.package:
        with progress.stage("package") as detail:
            detail.append(target.package(folder, manifest, PackageOptions(options.cc, options.target_options)))


def _verify(folder: Path, manifest: dict[str, Any], progress: Progress) -> None:
    """Runs the bundle. Raises VerificationError where it differs from the reference."""
    from dlpack.verify.check import verify_bundle

    with progress.stage("verify") as detail:
        errors = verify_bundle(folder)
        manifest["verification"] = [e.__dict__ for e in errors]
        bad = [e for e in errors if not e.passed]
        if bad:
            lines = "; ".join(f"{e.name}: relative error {e.relative:.3g}" for e in bad)
            raise VerificationError(f"the compiled predictor differs from onnxruntime: {lines}")
        detail.append(f"largest relative error {max((e.relative for e in errors), default=0.0):.2g}")


# --- options ----------------------------------------------------------------------------------------------------------


def _shape_sets(options: Options, source: Source) -> tuple[list[Shapes], dict[str, list[int]]]:
    """The sets of shapes to compile for, and the dimensions that have buckets."""
    if not options.buckets:
        return [options.shapes, *options.more_shapes], {}
    if options.more_shapes:
        raise UsageError(f"{options.buckets}: give each input only one --shape, or remove --buckets")
    return bucket_sets(source.proto, options.shapes, options.buckets)


def _check_options(options: Options, source: Source, sets: Sequence[Shapes]) -> None:
    """Rejects invalid preprocessing, task and labels before anything is compiled."""
    from dlpack.meaning.task import read_option
    from dlpack.model.metadata import described_inputs

    if options.labels:
        check_labels(options.labels, "--labels")
    if options.task:
        read_option(options.task)
    inputs = [described_inputs(source.proto, shapes) for shapes in sets]
    if options.preprocess and all(inputs):
        resolve(options.preprocess, inputs)


def _classifier(options: Options, source: Source, program: Program) -> Classifier:
    """The class names and the preprocessing for each set of shapes, from the options or else the model's metadata."""
    from dlpack.amalgamate.classifier import Classifier
    from dlpack.bundle.manifest import described

    labels = check_labels(options.labels, "--labels") if options.labels else source.labels or ()
    inputs = [described(v)["inputs"] for v in program.variants]
    pictures: tuple[Preprocess | None, ...] = ()
    if options.preprocess:
        pictures = resolve(options.preprocess, inputs)
    elif "dlpack.preprocess" in source.metadata:
        pictures = from_metadata(source.metadata["dlpack.preprocess"], inputs)
    return Classifier(labels, pictures)
