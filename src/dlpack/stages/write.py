"""What a bundle's folder gets: the emitted files, the manifest, the libraries, the target's package, the bindings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlpack import __version__
from dlpack.meaning.features import from_metadata
from dlpack.meaning.shape_sets import describe_buckets
from dlpack.options import Options, Progress, options_text
from dlpack.stages.compile import in_file
from dlpack.stages.prepare import Prepared, tolerance, tolerances
from dlpack.stages.text import described as described_text

if TYPE_CHECKING:
    from dlpack.amalgamate.classifier import Classifier
    from dlpack.plan.program import Program
    from dlpack.targets.base import Build, Target

EMBED_LIMIT = 4 << 20
"""`--weights auto` embeds up to this many bytes and writes a side file beyond; all bytes of a model from MXNet."""


def write(
    folder: Path, programs: Mapping[str, Program], prepared: Prepared, classifier: Classifier,
    place: tuple[Target, tuple[Build, ...]], options: Options, progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    """Writes the sources, the reference and what the target makes of them; gives the manifest, which is written too.

    Of the programs, those of builds without code are the target's to write.
    """
    from dlpack.bundle.folder import write_manifest
    from dlpack.targets.base import PackageOptions
    from dlpack.verify.trial import write_trials

    aside = {machine: program for machine, program in programs.items() if machine not in in_file(programs, place[1])}
    programs = in_file(programs, place[1])
    place = (place[0], tuple(build for build in place[1] if build.code))
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
    target, own = place[0], PackageOptions(options.cc, options.target_options, linked, aside)
    _compile_libraries(folder, manifest, place[1], options, progress)
    if target.package:
        with progress.stage("package") as detail:
            detail.append(target.package(folder, manifest, own))
    if options.bindings:
        _bind(folder, manifest, place, options, progress)
    write_manifest(folder / "manifest.json", manifest)
    return manifest


def _takes_params(prepared: Prepared) -> bool:
    """Whether programs for MXNet give the predictor MXNet's file of weights, in which its own are not."""
    from dlpack.amalgamate.mxnet import mxnet_api

    return mxnet_api(prepared.source.metadata, prepared.source.outputs).params is not None


def _emit(
    folder: Path, programs: Mapping[str, Program], prepared: Prepared, classifier: Classifier, embed: bool,
    place: tuple[Target, tuple[Build, ...]], options: Options, progress: Progress,
) -> None:  # fmt: skip
    """Writes NAME.cc, NAME.h and, if the weights are not embedded, NAME.weights."""
    from dlpack.amalgamate.document import Provenance, emit_header, emit_source
    from dlpack.amalgamate.mxnet import mxnet_api
    from dlpack.runtime_c import read_runtime
    from dlpack.targets.base import about
    from dlpack.targets.toolchains.compiler import source_flags
    from dlpack.verify.trial import self_test

    target, builds = place
    program = next(iter(programs.values()))
    machines = {build.machine().name: (build, build.machine()) for build in builds}
    codes = [build.code(machine, programs[name]) for name, (build, machine) in machines.items() if build.code]
    with progress.stage("emit") as detail:
        provenance = Provenance(
            f"dlpack {__version__}",
            prepared.source.sha256,
            prepared.source.opset,
            f"{target.name} ({', '.join([*machines, *filter(None, [about(m) for _, m in machines.values()])])})",
            options_text(options),
            "SPDX-License-Identifier: Apache-2.0 (this text and the runtime; the weights: the model's licence)",
            source_flags(builds[0].machine().flags if len(machines) == 1 else ()),
        )
        runtime = read_runtime()
        tried, least = prepared.tried(), max(tolerances(builds, options).values(), default=0.0)
        test = [self_test(program, k, c.trial, least) for k, c in zip(tried, prepared.cases, strict=True)]
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
    from dlpack.bundle.manifest import decoder_of, described, manifest_of, open_of, shapes_of, weights_of
    from dlpack.targets.base import about

    source, cases, pictures = prepared.source, prepared.cases, classifier.pictures
    program = next(iter(programs.values()))
    sets = [described(s) for s in program.ends]
    manifest = manifest_of(programs, place[0].name, source.sha256, source.opset)
    if processor := about(place[1][0].machine()):
        manifest["processor"] = processor
    manifest["ranges"] = [list(r) for r in cases[0].trial.ranges]
    manifest["tolerance"] = tolerance(options)
    if apart := tolerances(place[1], options):
        manifest["tolerances"] = apart
    own = {value.name for value in source.proto.graph.input}
    if changed := _model_options(options):
        manifest["model_options"] = changed
    if seeds := [t.name for t in program.inputs if t.name not in own]:
        manifest["seeds"] = seeds
    if prepared.precision:
        manifest["precision"] = dict(prepared.precision)
    if prepared.arithmetic:
        manifest["arithmetic"] = dict(prepared.arithmetic)
    if shapes := shapes_of(program, pictures):
        manifest["shapes"] = shapes
    if prepared.batch:
        manifest["open"] = open_of(program, prepared.batch.open, pictures)
        manifest["tried"] = list(prepared.tried())
    if program.sound:
        manifest["sound"] = program.sound.to_json()
    if program.speech:
        manifest["speech"] = program.speech.to_json()
    if program.decoder:
        manifest["decoder"] = decoder_of(program)
    if options.buckets:
        manifest["buckets"] = describe_buckets(source.proto, options.buckets, prepared.bucketed, sets)
    if "dlpack.features" in source.metadata:
        manifest["features"] = from_metadata(source.metadata["dlpack.features"], manifest["inputs"])
    if classifier.labels:
        manifest["labels"] = list(classifier.labels)
    if classifier.preprocess:
        manifest["preprocess"] = classifier.preprocess.to_json()
    if prepared.text:
        manifest |= described_text(program, prepared.text)
    if classifier.task:
        manifest["task"] = dict(classifier.task)
    if program.weights and not embed:
        manifest["weights"] = weights_of(program)
    return manifest


def _model_options(options: Options) -> dict[str, Any]:
    """The options that change what the model computes: `dlpack verify --model` needs them."""
    values = {name: list(elements) for name, elements in options.values.items()}
    found: dict[str, Any] = {"values": values, "internals": list(options.internals), "maxima": dict(options.maxima)}
    if options.weights_type != "float32":
        found["weights_type"] = options.weights_type
    return {name: value for name, value in {**found, "quantize": options.quantize}.items() if value}


def _compile_libraries(
    folder: Path, manifest: dict[str, Any], builds: Sequence[Build], options: Options, progress: Progress
) -> None:
    """Compiles the libraries; `code_bytes` of the manifest is the first one's size without embedded weights."""
    libraries = {build.library: build for build in builds if build.library}
    for pattern, build in libraries.items():
        with progress.stage("toolchain") as detail:
            library = pattern.format(manifest["name"])
            (folder / library).parent.mkdir(parents=True, exist_ok=True)
            source = folder / manifest["source"]
            compiler = build.toolchain.library(source, folder / library, build.flags, options.cc)
            manifest.setdefault("library", library)
            size = (folder / library).stat().st_size
            code = size if "weights" in manifest else size - manifest["weights_bytes"]
            if manifest["library"] == library:
                manifest["code_bytes"] = code
            apart = f", {code:,} without weights" if code != size else ""
            detail.append(f"{compiler}, {library} {size:,} bytes{apart}")


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
