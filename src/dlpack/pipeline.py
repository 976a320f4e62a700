"""The pipeline: the order of the stages from a model file to a bundle, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    from dlpack.targets.base import Build, Target
    from dlpack.verify.trial import Trial

EMBED_LIMIT = 4 << 20
"""`--weights auto` embeds up to this many bytes and writes a side file beyond."""


@dataclass(frozen=True)
class Case:
    """The model for one set of input shapes: its graph, what inputs and outputs mean, and what it shall compute."""

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

    Raises a `DlpackError` for everything a user can mend; then nothing is left behind.
    """
    (folder,) = build_each(model, [(output, options or Options())], progress)
    return folder


def build_each(
    model: str | Path, bundles: Iterable[tuple[str | Path, Options]], progress: Progress | None = None
) -> Iterator[Path]:
    """Builds a bundle in each folder, with the options that stand beside it, and tells each that is done.

    The model is read, cleaned and run by the reference once: only the options that concern a target may differ.
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
        raise ToolchainError(f"target {target.name} cannot be built here: it needs {problem}")
    if target.downloads_weights and options.weights == "embed":
        raise UsageError(f"target {target.name} keeps the weights in a file of their own: leave --weights embed out")
    check_options(target, options.target_options)
    if options.bindings:
        from dlpack.bindings import check_bindings

        library = bool(target.chosen(options.target_options)[0].library)
        check_bindings(options.bindings, target.name, library)
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
    """Compiles the model for a target, and writes all that its bundle holds."""
    from dlpack.bundle.folder import checksums, write_json, write_manifest, write_notice, write_sbom
    from dlpack.bundle.manifest import kernels_of
    from dlpack.bundle.report import write_report
    from dlpack.verify.trial import write_trials

    builds = target.chosen(options.target_options)
    program = _compile(name, prepared, options, builds[0], progress)
    classifier = _classifier(options, prepared.source, program)
    if classifier.preprocess and (misfit := classifier.preprocess.misfit()):
        progress.warn(misfit)
    embed = options.weights == "embed" or (
        options.weights == "auto" and len(program.weights) <= EMBED_LIMIT and not target.downloads_weights
    )
    _emit(folder, program, prepared, classifier, embed, (target, builds), options, progress)
    manifest = _manifest(program, prepared, classifier, embed, (target, builds), options)
    if manifest.get("task", {}).get("kind") in (None, "classify", "digits"):
        if warning := labels_warning(classifier.labels, manifest["outputs"]):
            progress.warn(warning)
    kernels = kernels_of(program)
    write_json(folder / "kernels.json", kernels)
    write_trials(folder / "reference.npz", [case.trial for case in prepared.cases])
    _package(folder, manifest, (target, builds), options, progress)
    if options.bindings:
        _bind(folder, manifest, (target, builds), options, progress)
    write_manifest(folder / "manifest.json", manifest)
    if (builds[0].library or target.run) and any(b.runs_here() for b in builds) and options.verify:
        _verify(folder, manifest, progress)
    write_notice(folder, manifest)
    manifest["files"] = checksums(folder, name)
    write_manifest(folder / "manifest.json", manifest)
    write_sbom(folder, manifest)
    write_report(folder, manifest, kernels)


def _compile(name: str, prepared: Prepared, options: Options, build: Build, progress: Progress) -> Program:
    """The program for all sets of shapes."""
    from dlpack.bundle.manifest import described
    from dlpack.plan.compiler import Compiler

    backend = build.backend(build.machine(), options.threads)
    compiler = Compiler(name, backend, winograd=options.optimize != "size", threads=options.threads)
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
    place: tuple[Target, tuple[Build, ...]], options: Options, progress: Progress,
) -> None:  # fmt: skip
    """Writes NAME.cc, NAME.h and, unless they are embedded, NAME.weights."""
    from dlpack.amalgamate.document import Provenance, emit_header, emit_source
    from dlpack.runtime_c import read_runtime
    from dlpack.targets.toolchains.compiler import source_flags
    from dlpack.verify.trial import self_test

    target, builds = place
    machine = builds[0].machine()
    with progress.stage("emit") as detail:
        provenance = Provenance(
            f"dlpack {__version__}",
            prepared.source.sha256,
            prepared.source.opset,
            f"{target.name} ({machine.name})",
            options_text(options),
            "SPDX-License-Identifier: Apache-2.0 (this text and the runtime; the weights: the model's licence)",
            source_flags(machine.flags),
        )
        runtime = read_runtime()
        test = [self_test(v, c.trial) for v, c in zip(program.variants, prepared.cases, strict=True)]
        text = emit_source(program, runtime, provenance, embed, test, machine.fma_call, classifier)
        (folder / f"{program.name}.cc").write_text(text, encoding="utf-8")
        (folder / f"{program.name}.h").write_text(emit_header(program, runtime, classifier), encoding="utf-8")
        if program.weights and not embed:
            (folder / f"{program.name}.weights").write_bytes(program.weights)
        where = "inside" if embed else "beside"
        detail.append(f"{program.name}.cc {len(text):,} bytes, weights {len(program.weights):,} bytes {where}")


def _manifest(
    program: Program, prepared: Prepared, classifier: Classifier, embed: bool,
    place: tuple[Target, tuple[Build, ...]], options: Options,
) -> dict[str, Any]:  # fmt: skip
    """The manifest before the target and the verification add to it."""
    from dlpack.bundle.manifest import described, manifest_of, shapes_of, weights_of
    from dlpack.meaning.task import task_of

    source, cases, pictures = prepared.source, prepared.cases, classifier.pictures
    sets = [described(v) for v in program.variants]
    manifest = manifest_of(program, place[0].name, place[1][0].machine().name, source.sha256, source.opset)
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


def _package(
    folder: Path,
    manifest: dict[str, Any],
    place: tuple[Target, tuple[Build, ...]],
    options: Options,
    progress: Progress,
) -> None:
    """Compiles the library, or what the target makes in its place."""
    from dlpack.targets.base import PackageOptions

    target, builds = place
    if builds[0].library:
        with progress.stage("toolchain") as detail:
            library = builds[0].library.format(manifest["name"])
            source = folder / manifest["source"]
            compiler = builds[0].toolchain.library(source, folder / library, builds[0].flags, options.cc)
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


def _bind(
    folder: Path,
    manifest: dict[str, Any],
    place: tuple[Target, tuple[Build, ...]],
    options: Options,
    progress: Progress,
) -> None:
    """Writes the bindings that the options ask for."""
    from dlpack.bindings import write_bindings
    from dlpack.bindings.api import describe
    from dlpack.bindings.base import Bundle
    from dlpack.bundle.folder import notice_text
    from dlpack.targets.toolchains.compiler import source_flags

    build = place[1][0]
    machines = {b.machine().name: b.machine() for b in place[1]}

    def compile_(source: Path, library: Path) -> None:
        build.toolchain.library(source, library, build.flags, options.cc)

    with progress.stage("bindings") as detail:
        # Code for several machines chooses among them itself.
        api = describe(manifest, source_flags(build.machine().flags if len(machines) == 1 else ()))
        zig_target, notice = build.toolchain.zig_target, notice_text(manifest)
        bundle = Bundle(folder, api, manifest, manifest.get("library"), compile_, zig_target, notice)
        detail.append(write_bindings(bundle, options.bindings))
        manifest["bindings"] = list(dict.fromkeys(options.bindings))


# --- options ----------------------------------------------------------------------------------------------------------


def _shape_sets(options: Options, source: Source) -> tuple[list[Shapes], dict[str, list[int]]]:
    """The sets of shapes to compile for, and the dimensions that have buckets."""
    if not options.buckets:
        return [options.shapes, *options.more_shapes], {}
    if options.more_shapes:
        raise UsageError(f"{options.buckets}: give each input one --shape, or leave the buckets out")
    return bucket_sets(source.proto, options.shapes, options.buckets)


def _check_options(options: Options, source: Source, sets: Sequence[Shapes]) -> None:
    """Refuses preprocessing, task and labels that can be seen to be wrong before anything is compiled."""
    from dlpack.meaning.task import read_option
    from dlpack.model.metadata import described_inputs

    if options.bindings:
        from dlpack.bindings import check_shapes

        check_shapes(options.bindings, len(sets))
    if options.labels:
        check_labels(options.labels, "--labels")
    if options.task:
        read_option(options.task)
    inputs = [described_inputs(source.proto, shapes) for shapes in sets]
    if options.preprocess and all(inputs):
        resolve(options.preprocess, inputs)


def _classifier(options: Options, source: Source, program: Program) -> Classifier:
    """The class names and what to do to a picture in each set of shapes: as told, else as the model has them."""
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
