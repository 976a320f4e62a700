"""The pipeline: the order of the stages from a model file to a bundle, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    from dlpack.targets.base import Build, Target
    from dlpack.verify.trial import Trial

EMBED_LIMIT = 4 << 20
"""`--weights auto` embeds up to this many bytes and writes a side file beyond; all bytes of a model from MXNet."""


@dataclass(frozen=True)
class Case:
    """The model for one set of input shapes: graph, meaning of inputs and outputs, and expected results."""

    graph: Graph
    meanings: Mapping[str, Meaning]
    trial: Trial
    model: Callable[[], Any]
    """Gives the cleaned ONNX model, which is not kept."""


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
            prepared = _fill(folder, name, target, prepared, options, progress)
        yield Path(output)


def _target(options: Options) -> Target:
    """The target, if it can be built here with these options."""
    from dlpack.targets import check_options, get_target

    target = get_target(options.target)
    if not options.cc and (problem := target.missing()):
        raise ToolchainError(f"target {target.name} cannot be built on this computer: it needs {problem}")
    if target.separates_weights and options.weights == "embed":
        raise UsageError(f"target {target.name} keeps the weights in a separate file: remove --weights embed")
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
        source = _read(model, options, options.shapes)
        for text in source.warnings:
            progress.warn(text)
        detail.append(f"{len(source.proto.graph.node)} nodes, {source.opset}")
        sets, bucketed = _shape_sets(options, source)
        _check_options(options, source, sets)
    cases = []
    for number, shapes in enumerate(sets):
        with progress.stage("clean") as detail:
            try:
                proto = _read(model, options, shapes).proto if number and source.exported else source.proto
                shapes = source.open_shapes(shapes)
                again = _cleaned(proto, shapes, options.maxima)
                proto, graph = clean_graph(proto, shapes, options.maxima)
            except (ModelError, UnsupportedError) as e:
                if number:  # the first set had no error
                    e.args = (f"with {describe_shapes(shapes)}: {e}",)
                raise
            detail.append(f"{len(graph.nodes)} nodes")
        with progress.stage("reference") as detail:  # before it is compiled: it finds operands that do not fit
            trial = try_model(proto, graph, source.metadata, _tolerance(options), options.seeded(graph.inputs))
            cases.append(Case(graph, meanings(graph, source.metadata), trial, again))
            detail.append("onnxruntime")
    return Prepared(source, tuple(cases), bucketed)


def _read(model: Path, options: Options, shapes: Shapes) -> Source:
    return read_source(model, options.params, shapes, options.dtypes, options.values, options.internals)


def _cleaned(proto: Any, shapes: Shapes, maxima: Mapping[str, int]) -> Callable[[], Any]:
    return lambda: clean_graph(proto, shapes, maxima)[0]


def _tolerance(options: Options) -> float:
    from dlpack.verify.reference import RELATIVE_TOLERANCE

    return RELATIVE_TOLERANCE if options.tolerance is None else options.tolerance


def clean_graph(proto: Any, shapes: Shapes, maxima: Mapping[str, int] | None = None) -> tuple[Any, Graph]:
    """The cleaned model and its graph. Raises UnsupportedError with all that is not supported."""
    from dlpack import operators
    from dlpack.model.clean import clean
    from dlpack.model.read import read_graph
    from dlpack.model.sized_limits import limited

    try:
        proto = clean(proto, shapes, lambda op, domain: not operators.supported(op, domain))
        return limited(proto, maxima or {}), read_graph(proto, operators.supported, maxima)
    except UnsupportedError as e:
        from dlpack.model.values import advice

        if text := advice(proto):
            e.args = (f"{e}\n{text}",)
        raise


def _fill(
    folder: Path, name: str, target: Target, prepared: Prepared, options: Options, progress: Progress
) -> Prepared:
    """Compiles the model for a target, and writes all that its bundle holds.

    Gives the model back as it is after verification, where a second opinion may have changed what is expected.
    """
    from dlpack.bundle.folder import checksums, write_json, write_manifest, write_notice, write_sbom
    from dlpack.bundle.manifest import kernels_of
    from dlpack.bundle.report import write_report

    builds = _needed(target.chosen(options.target_options), prepared)
    programs = _compile(name, prepared, options, builds, progress)
    program = next(iter(programs.values()))
    classifier = _classifier(options, prepared, program)
    if classifier.preprocess and (misfit := classifier.preprocess.misfit()):
        progress.warn(misfit)
    kernels = kernels_of(programs)
    write_json(folder / "kernels.json", kernels)
    place = (target, builds)
    manifest = _write(folder, programs, prepared, classifier, place, options, progress)
    labelled = manifest.get("task", {}).get("kind") in (None, "classify", "digits")
    outputs = manifest["outputs"][: prepared.source.outputs]
    if labelled and (warning := labels_warning(classifier.labels, outputs)):
        progress.warn(warning)
    if options.verify and _runs_here(manifest, target, progress):
        verified = _verify(folder, manifest, prepared, options, progress)
        if verified is not prepared:  # the self-test in the file asks what the second opinion says
            prepared = verified
            where = manifest["verified_on"]
            manifest = _write(folder, programs, prepared, classifier, place, options, progress)
            manifest["verified_on"] = where
            _verify(folder, manifest, prepared, options, progress)
    write_notice(folder, manifest)
    manifest["files"] = checksums(folder, name)
    write_manifest(folder / "manifest.json", manifest)
    write_sbom(folder, manifest)
    write_report(folder, manifest, kernels)
    return prepared


def _needed(builds: Sequence[Build], prepared: Prepared) -> tuple[Build, ...]:
    """The builds that are of use to the model."""
    from dlpack.graph.quantized import is_quantized

    integers = any(is_quantized(case.graph) for case in prepared.cases)
    return tuple(b for b in builds if integers or not b.for_dots) or tuple(builds)


def _write(
    folder: Path, programs: Mapping[str, Program], prepared: Prepared, classifier: Classifier,
    place: tuple[Target, tuple[Build, ...]], options: Options, progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    """Writes the sources, the reference and what the target makes of them; gives the manifest, which is written too."""
    from dlpack.bundle.folder import write_manifest
    from dlpack.verify.trial import write_trials

    size = len(next(iter(programs.values())).weights)
    inside = options.weights == "embed" or (
        options.weights == "auto"
        and not place[0].separates_weights
        and (size <= EMBED_LIMIT or _takes_params(prepared))
    )
    linked = inside and size > EMBED_LIMIT and place[0].links_weights
    embed = inside and not linked
    _emit(folder, programs, prepared, classifier, embed, place, options, progress)
    manifest = _manifest(programs, prepared, classifier, embed, place, options)
    write_trials(folder / "reference.npz", [case.trial for case in prepared.cases])
    _package(folder, manifest, place, linked, options, progress)
    if options.bindings:
        _bind(folder, manifest, place, options, progress)
    write_manifest(folder / "manifest.json", manifest)
    return manifest


def _takes_params(prepared: Prepared) -> bool:
    """Whether programs for MXNet give the predictor MXNet's file of weights, in which its own are not."""
    from dlpack.amalgamate.mxnet import mxnet_api

    return mxnet_api(prepared.source.metadata, prepared.source.outputs).params is not None


def _compile(
    name: str, prepared: Prepared, options: Options, builds: Sequence[Build], progress: Progress
) -> dict[str, Program]:
    """By machine, the program for all sets of shapes; all have the same weights."""
    from dlpack.bundle.manifest import described
    from dlpack.kernels.settled import Weights
    from dlpack.plan.compiler import Compiler

    weights, programs = Weights(), {}
    machines = {build.machine().name: build for build in builds}
    for machine, build in machines.items():
        backend = build.backend(build.machine(), options.threads)
        compiler = Compiler(name, backend, options.optimize != "size", options.threads, weights)
        for case in prepared.cases:
            with progress.stage("compile") as detail:
                shape_set = compiler.add(case.graph, case.meanings)
                a = shape_set.arena
                detail.append(f"{len(compiler.kernels)} kernels")
                detail.append(f"arena {a.size:,} bytes (lower bound {a.lower_bound:,}, without sharing {a.naive:,})")
                detail += [set_name(described(shape_set))] if len(prepared.cases) > 1 else []
                detail += [f"for {machine}"] if len(machines) > 1 else []
        programs[machine] = compiler.program()
        check_sets([described(s) for s in programs[machine].shape_sets])
    return {machine: replace(program, weights=bytes(weights.blob)) for machine, program in programs.items()}


def _emit(
    folder: Path, programs: Mapping[str, Program], prepared: Prepared, classifier: Classifier, embed: bool,
    place: tuple[Target, tuple[Build, ...]], options: Options, progress: Progress,
) -> None:  # fmt: skip
    """Writes NAME.cc, NAME.h and, if the weights are not embedded, NAME.weights."""
    from dlpack.amalgamate.document import Provenance, emit_header, emit_source
    from dlpack.amalgamate.mxnet import mxnet_api
    from dlpack.runtime_c import read_runtime
    from dlpack.targets.toolchains.compiler import source_flags
    from dlpack.verify.trial import self_test

    target, builds = place
    program = next(iter(programs.values()))
    machines = {build.machine().name: (build, build.machine()) for build in builds}
    codes = [build.code(machine, programs[name]) for name, (build, machine) in machines.items()]
    with progress.stage("emit") as detail:
        provenance = Provenance(
            f"dlpack {__version__}",
            prepared.source.sha256,
            prepared.source.opset,
            f"{target.name} ({', '.join(machines)})",
            options_text(options),
            "SPDX-License-Identifier: Apache-2.0 (this text and the runtime; the weights: the model's licence)",
            source_flags(builds[0].machine().flags if len(machines) == 1 else ()),
        )
        runtime = read_runtime()
        test = [self_test(s, c.trial) for s, c in zip(program.shape_sets, prepared.cases, strict=True)]
        source = prepared.source
        wanted = options.mxnet_api or source.metadata.get("dlpack.source") == "MXNet"
        mxnet = mxnet_api(source.metadata, source.outputs) if wanted else None
        text = emit_source(codes, runtime, provenance, embed, test, classifier, mxnet)
        (folder / f"{program.name}.cc").write_text(text, encoding="utf-8")
        (folder / f"{program.name}.h").write_text(emit_header(codes, runtime, classifier), encoding="utf-8")
        if program.weights and not embed:
            (folder / f"{program.name}.weights").write_bytes(program.weights)
        where = "embedded" if embed else "in a separate file"
        detail.append(f"{program.name}.cc {len(text):,} bytes, weights {len(program.weights):,} bytes {where}")


def _manifest(
    programs: Mapping[str, Program], prepared: Prepared, classifier: Classifier, embed: bool,
    place: tuple[Target, tuple[Build, ...]], options: Options,
) -> dict[str, Any]:  # fmt: skip
    """The manifest before the target and the verification add to it."""
    from dlpack.bundle.manifest import described, manifest_of, shapes_of, weights_of

    source, cases, pictures = prepared.source, prepared.cases, classifier.pictures
    program = next(iter(programs.values()))
    sets = [described(s) for s in program.shape_sets]
    manifest = manifest_of(programs, place[0].name, source.sha256, source.opset)
    manifest["ranges"] = [list(r) for r in cases[0].trial.ranges]
    manifest["tolerance"] = _tolerance(options)
    if shapes := shapes_of(program, pictures):
        manifest["shapes"] = shapes
    if options.buckets:
        manifest["buckets"] = describe_buckets(source.proto, options.buckets, prepared.bucketed, sets)
    if classifier.labels:
        manifest["labels"] = list(classifier.labels)
    if classifier.preprocess:
        manifest["preprocess"] = classifier.preprocess.to_json()
    if classifier.task:
        manifest["task"] = dict(classifier.task)
    if program.weights and not embed:
        manifest["weights"] = weights_of(program)
    return manifest


def _package(
    folder: Path,
    manifest: dict[str, Any],
    place: tuple[Target, tuple[Build, ...]],
    linked: bool,
    options: Options,
    progress: Progress,
) -> None:
    """Compiles the library, or what the target produces instead; `linked`: the target's package links the weights."""
    from dlpack.targets.base import PackageOptions

    target, builds = place
    libraries = {build.library: build for build in builds if build.library}
    for pattern, build in libraries.items():
        with progress.stage("toolchain") as detail:
            library = pattern.format(manifest["name"])
            (folder / library).parent.mkdir(parents=True, exist_ok=True)
            source = folder / manifest["source"]
            compiler = build.toolchain.library(source, folder / library, build.flags, options.cc)
            manifest.setdefault("library", library)
            detail.append(f"{compiler}, {library} {(folder / library).stat().st_size:,} bytes")
    if target.package:
        with progress.stage("package") as detail:
            own = PackageOptions(options.cc, options.target_options, linked)
            detail.append(target.package(folder, manifest, own))


def _runs_here(manifest: dict[str, Any], target: Target, progress: Progress) -> bool:
    """Whether anything here can run the bundle; enters into the manifest what does, or warns."""
    from dlpack.verify.run import built, not_run, where_run

    builds = built(target, manifest)
    manifest["verified_on"] = where_run(target, builds)
    if not manifest["verified_on"]:
        progress.warn(f"the predictor was compiled but not run: {not_run(target, builds)}")
    return bool(manifest["verified_on"])


def _verify(
    folder: Path, manifest: dict[str, Any], prepared: Prepared, options: Options, progress: Progress
) -> Prepared:
    """Runs the bundle, and adds to the manifest how far it is from the reference.

    Gives the model back as it was, or with what a second opinion expects of it. Raises VerificationError where the
    bundle differs from the reference and from all other opinions.
    """
    from dlpack.meaning.shape_sets import sets_of
    from dlpack.verify.check import Question, answers, failure
    from dlpack.verify.given import read_given
    from dlpack.verify.reference import reference

    with progress.stage("verify") as detail:
        sets, relative = sets_of(manifest), _tolerance(options)
        questions = [
            Question(case.trial.inputs, case.trial.expected, (set_name(s),) if len(sets) > 1 else (), case.model)
            for s, case in zip(sets, prepared.cases, strict=True)
        ]
        if options.inputs is not None:
            given = read_given(options.inputs)
            number, inputs = given.fitting(sets)
            model = prepared.cases[number].model
            expected = reference(model(), inputs, manifest["ranges"], relative, more=False)
            questions.append(Question(inputs, expected, (given.file,), model))
            manifest["verified_with"] = given.to_json()
        found = answers(folder, manifest, questions, relative)
        errors = [e for answer in found for e in answer.errors]
        manifest["verification"] = [e.__dict__ for e in errors]
        if not all(e.passed for e in errors):
            raise VerificationError(failure(errors, asked=True))
        detail.append(f"largest relative error {max((e.relative for e in errors), default=0.0):.2g}")
        if manifest["verified_on"] != ["this computer"]:
            detail.append(f"on {', '.join(manifest['verified_on'])}")
    seconds = [answer.expected for answer in found[: len(sets)]]
    if all(case.trial.expected is e for case, e in zip(prepared.cases, seconds, strict=True)):
        return prepared
    progress.warn("onnxruntime's float32 is off here: the predictor agrees with another way to compute the model")
    cases = (replace(c, trial=replace(c.trial, expected=e)) for c, e in zip(prepared.cases, seconds, strict=True))
    return replace(prepared, cases=tuple(cases))


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
        raise UsageError(f"{options.buckets}: give each input only one --shape, or remove --buckets")
    return bucket_sets(source.proto, options.shapes, options.buckets)


def _check_options(options: Options, source: Source, sets: Sequence[Shapes]) -> None:
    """Rejects invalid preprocessing, task and labels before anything is compiled."""
    from dlpack.meaning.task import read_option
    from dlpack.model.metadata import described_inputs

    if options.inputs is not None:
        from dlpack.verify.given import read_given

        read_given(options.inputs)
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


def _classifier(options: Options, prepared: Prepared, program: Program) -> Classifier:
    """Class names, the preprocessing for each set of shapes, the task: from the options or the model's metadata."""
    from dlpack.amalgamate.classifier import Classifier
    from dlpack.bundle.manifest import described
    from dlpack.meaning.task import task_of

    source = prepared.source
    labels = check_labels(options.labels, "--labels") if options.labels else source.labels or ()
    inputs = [described(s)["inputs"] for s in program.shape_sets]
    pictures: tuple[Preprocess | None, ...] = ()
    if options.preprocess:
        pictures = resolve(options.preprocess, inputs)
    elif "dlpack.preprocess" in source.metadata:
        pictures = from_metadata(source.metadata["dlpack.preprocess"], inputs)
    number = next((k for k, picture in enumerate(pictures) if picture), 0)
    expected = prepared.cases[number].trial.expected.outputs[: source.outputs]
    told = described(program.shape_sets[number])
    own = {**told, "outputs": told["outputs"][: source.outputs], **({"preprocess": {}} if any(pictures) else {})}
    return Classifier(labels, pictures, task_of(options.task, source.metadata, own, expected))
