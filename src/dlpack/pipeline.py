"""The pipeline: the order of the stages from a model file to a bundle, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dlpack.errors import ToolchainError, UsageError
from dlpack.meaning.labels import labels_warning
from dlpack.options import Options, Progress
from dlpack.stages.compile import check_addresses, classifier_of, compile_for, in_file, needed
from dlpack.stages.precision import gains_little, rounding
from dlpack.stages.prepare import Prepared, prepare
from dlpack.stages.sound import with_sound
from dlpack.stages.text import with_tokenizer
from dlpack.stages.verify import runs_here, verify
from dlpack.stages.write import write

if TYPE_CHECKING:
    from dlpack.targets.base import Target

__all__ = ["Options", "Progress", "build", "build_each"]


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
        with new_bundle(Path(output)) as folder:
            if prepared is None:
                prepared = prepare(model, options, progress)
                if renamed:
                    progress.warn(renamed)
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
    builds = target.chosen(options.target_options)
    if any(build.halves for build in builds) and options.weights_type != "float16":
        raise UsageError("arithmetic in float16 takes weights of float16: add --weights-type float16")
    if options.bindings:
        from dlpack.bindings import check_bindings

        check_bindings(options.bindings, target.name, bool(builds[0].library))
    return target


def _fill(
    folder: Path, name: str, target: Target, prepared: Prepared, options: Options, progress: Progress
) -> Prepared:
    """Compiles the model for a target, and writes all that its bundle holds.

    Gives the model back as it is after verification, where a second opinion may have changed what is expected.
    """
    from dlpack.bundle.folder import checksums, write_json, write_manifest, write_notice, write_sbom
    from dlpack.bundle.manifest import kernels_of
    from dlpack.bundle.plan_file import plan_of, write_plan
    from dlpack.bundle.report import write_report

    builds = needed(target.chosen(options.target_options), prepared)
    if (prepared.batch or prepared.generation) and not all(build.opens for build in builds):
        what = "an open batch" if prepared.batch else "the generation of text"
        raise UsageError(
            f"target {target.name}: kernels for GPUs and {what} do not go together yet; leave the target out"
        )
    programs = compile_for(name, prepared, options, builds, progress)
    programs = with_sound(programs, prepared.source.metadata, options)
    programs = with_tokenizer(programs, prepared.text, prepared.source.outputs, options, progress)
    check_addresses(target.name, programs, builds)
    program = next(iter(programs.values()))
    classifier = classifier_of(options, prepared, program)
    if classifier.preprocess and (misfit := classifier.preprocess.misfit()):
        progress.warn(misfit)
    if options.quantize and (warning := gains_little(program)):
        progress.warn(warning)
    first = prepared.cases[0]
    rounds = any(build.rounds for build in builds)
    arithmetic = rounding(program, first.model, first.trial.inputs, progress) if rounds else None
    prepared = replace(prepared, arithmetic=arithmetic)
    kernels = kernels_of(in_file(programs, builds))
    write_json(folder / "kernels.json", kernels)
    write_plan(folder / "plan.json", plan := plan_of(programs))
    place = (target, builds)
    manifest = write(folder, programs, prepared, classifier, place, options, progress)
    labelled = manifest.get("task", {}).get("kind") in (None, "classify", "digits")
    outputs = manifest["outputs"][: prepared.source.outputs]
    if labelled and (warning := labels_warning(classifier.labels, outputs)):
        progress.warn(warning)
    if options.verify and runs_here(manifest, target, progress):
        verified = verify(folder, manifest, prepared, options, progress)
        if verified is not prepared:  # the self-test in the file asks what the second opinion says
            prepared = verified
            where = manifest["verified_on"]
            manifest = write(folder, programs, prepared, classifier, place, options, progress)
            manifest["verified_on"] = where
            verify(folder, manifest, prepared, options, progress)
    write_notice(folder, manifest)
    manifest["files"] = checksums(folder, name)
    write_manifest(folder / "manifest.json", manifest)
    write_sbom(folder, manifest)
    write_report(folder, manifest, kernels, plan)
    return prepared
