"""The bundle is run, and compared with what is expected of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlpack.errors import VerificationError
from dlpack.meaning.shape_sets import set_name
from dlpack.options import Options, Progress
from dlpack.stages.decoder import verify_text
from dlpack.stages.prepare import Prepared, tolerance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dlpack.targets.base import Target
    from dlpack.verify.reference import OutputError


def runs_here(manifest: dict[str, Any], target: Target, progress: Progress) -> bool:
    """Whether anything here can run the bundle; enters into the manifest what does, or warns."""
    from dlpack.verify.run import built, not_run, where_run

    builds = built(target, manifest)
    manifest["verified_on"] = where_run(target, builds)
    if not manifest["verified_on"]:
        progress.warn(f"the predictor was compiled but not run: {not_run(target, builds)}")
    return bool(manifest["verified_on"])


def verify(
    folder: Path, manifest: dict[str, Any], prepared: Prepared, options: Options, progress: Progress
) -> Prepared:
    """Runs the bundle, and adds to the manifest how far it is from the reference.

    Gives the model back as it was, or with what a second opinion expects of it. Raises VerificationError where the
    bundle differs from the reference and from all other opinions.
    """
    from dlpack.meaning.shape_sets import sets_of, tried_sets
    from dlpack.verify.check import Question, answers, failure
    from dlpack.verify.given import read_given
    from dlpack.verify.reference import reference

    with progress.stage("verify") as detail:
        sets, relative = tried_sets(manifest), tolerance(options)
        questions = [
            Question(case.trial.inputs, case.trial.expected, (set_name(s),) if len(sets) > 1 else (), case.model)
            for s, case in zip(sets, prepared.cases, strict=True)
        ]
        if options.inputs is not None:
            given = read_given(options.inputs)
            number, inputs = given.fitting(sets_of(manifest), options.maxima)
            model = prepared.model(number)
            expected = reference(model(), inputs, manifest["ranges"], relative, more=False)
            questions.append(Question(inputs, expected, (given.file,), model))
            manifest["verified_with"] = given.to_json()
        own = manifest.get("tolerances", {})
        found = answers(folder, manifest, questions, relative, own)
        errors = [e for answer in found for e in answer.errors]
        if prepared.generation and "library" in manifest and "this computer" in manifest["verified_on"]:
            export, heard, accepted = prepared.source.proto, prepared.heard, max(relative, *own.values(), 0.0)
            errors += verify_text(folder, export, prepared.generation, heard, accepted, options.weights_type)
        manifest["verification"] = [e.__dict__ for e in errors]
        if not all(e.passed for e in errors):
            raise VerificationError(failure(errors, asked=True, own=own))
        if says_nothing(manifest, errors):
            progress.warn(
                "all numbers of the outputs are zero for the inputs that were tried, so little is verified: give real "
                "inputs with --inputs FILE.npz, or their ranges with --range"
            )
        detail.append(f"largest relative error {max((e.relative for e in errors), default=0.0):.2g}")
        if manifest["verified_on"] != ["this computer"]:
            detail.append(f"on {', '.join(manifest['verified_on'])}")
    seconds = [answer.expected for answer in found[: len(sets)]]
    if all(case.trial.expected is e for case, e in zip(prepared.cases, seconds, strict=True)):
        return prepared
    progress.warn("onnxruntime's float32 is off here: the predictor agrees with another way to compute the model")
    cases = (replace(c, trial=replace(c.trial, expected=e)) for c, e in zip(prepared.cases, seconds, strict=True))
    return replace(prepared, cases=tuple(cases))


def says_nothing(manifest: Mapping[str, Any], errors: Sequence[OutputError]) -> bool:
    """Whether there are outputs of floats, and each is zero everywhere, or empty."""
    floats = {t["name"] for t in manifest["outputs"] if "float" in t["dtype"]}
    ranges = [e.range for e in errors if e.name in floats]
    return bool(ranges) and not any(ranges)
