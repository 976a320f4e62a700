"""Verification: a bundle's predictor against the reference's outputs; `reference.py` says how near is near enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.archives import ZIP_ERRORS
from dlpack.bundle.arrays import own_outputs, restored
from dlpack.bundle.folder import check_files
from dlpack.bundle.loader import read_manifest
from dlpack.errors import UsageError
from dlpack.graph.ir import Array
from dlpack.meaning.generation import generation_of
from dlpack.meaning.shape_sets import reference_names, set_name, sets_of, tried_sets
from dlpack.verify.given import Given
from dlpack.verify.opinions import second_opinion
from dlpack.verify.reference import (
    RELATIVE_TOLERANCE,
    ROUNDED_TOLERANCE,
    Expected,
    OutputError,
    compare,
    more_inputs,
    read_expected,
    reference,
)
from dlpack.verify.run import Run, bundle_runner

Inputs = Mapping[str, Array]
Model = Callable[[], Any]
"""Gives a cleaned model, for the second opinion."""


@dataclass(frozen=True)
class Question:
    """Inputs, what shall be computed from them, and what to call them beside an output's name."""

    inputs: Inputs
    expected: Expected
    label: tuple[str, ...] = ()
    model: Model | None = None


@dataclass(frozen=True)
class Answer:
    """The errors of each output of each build, and what is expected after the second opinion."""

    errors: list[OutputError]
    expected: Expected


def verify_bundle(
    bundle: Path, model: Path | None = None, given: Given | None = None, tolerance: float | None = None
) -> list[OutputError]:
    """Runs the bundle on its seeded inputs, in each set of shapes, and compares each output.

    The expected outputs are those of the build, or what onnxruntime gives now where `model`, an ONNX file, is named.
    `given`: the user's inputs, compared in place of the seeded ones; they need the model. `tolerance`: the accepted
    error as a part of an output's largest absolute value, in place of the build's.
    Raises VerificationError where a file of the bundle is not the one that was built, UsageError for inputs that do not
    fit.
    """
    manifest = read_manifest(bundle)
    check_files(bundle, manifest)
    relative = manifest.get("tolerance", RELATIVE_TOLERANCE) if tolerance is None else tolerance
    own = manifest.get("tolerances", {}) if tolerance is None else {}
    sets, ranges = sets_of(manifest), manifest["ranges"]
    questions = stored_questions(bundle, tried_sets(manifest))
    if given is not None:
        if model is None:
            raise UsageError("--inputs needs the model for the expected outputs: add --model MODEL")
        _, inputs = given.fitting(sets, manifest.get("model_options", {}).get("maxima", {}))
        questions = [Question(inputs, questions[0].expected, (given.file,))]  # what the model gives, see below
    if model is not None:
        cleaned = _as_built(model, manifest.get("model_options", {}), manifest.get("decoder"), "tried" in manifest)
        asked = [(q, cleaned({n: x.shape for n, x in q.inputs.items()})) for q in questions]
        questions = [
            Question(q.inputs, reference(m(), q.inputs, ranges, relative, more=given is None), q.label, m)
            for q, m in asked
        ]
    return [e for answer in answers(bundle, manifest, questions, relative, own) for e in answer.errors]


def _as_built(
    model: Path, options: Mapping[str, Any], decoder: Mapping[str, Any] | None, opened: bool
) -> Callable[[dict[str, tuple[int, ...]]], Model]:
    """The cleaned model of an ONNX file for a set of shapes, as a build with these options of the manifest had it.

    `decoder`: what the manifest says of one, whose past is no input of the bundle; `opened`: whether sizes are open.
    """
    from dlpack.model.clean import clean
    from dlpack.model.internals import keep_internals
    from dlpack.model.load import load_model
    from dlpack.model.past import part_of, without_past
    from dlpack.model.past_group import in_slots
    from dlpack.model.rounded import round_weights
    from dlpack.model.sized_limits import limited
    from dlpack.model.values import fix_values
    from dlpack.verify.decoder import right_with_gaps

    if options.get("quantize"):
        raise UsageError(
            "this bundle is an integer network made by --quantize, so it differs from the model's file: verify it "
            "without --model"
        )
    proto = load_model(model)
    fix_values(proto, options.get("values", {}))
    if internals := options.get("internals"):
        keep_internals(proto, internals)

    source = decoder.get("encoder", {}).get("most") if decoder else None
    generation = generation_of(proto, decoder["context"], {}, source) if decoder else None
    if generation and decoder:
        _, proto = right_with_gaps(proto, in_slots(proto, generation), generation, decoder["vocabulary"])

    dtype = options.get("weights_type")

    def cleaned(shapes: dict[str, tuple[int, ...]]) -> Any:
        if generation:
            rows = shapes[generation.tokens][1]
            size = rows, shapes[generation.mask][1] - rows
            heard = generation.heard_in(shapes)
            part = part_of(proto, generation, size, heard)
            made = clean(part, generation.shapes(*size, heard))
            if dtype:
                round_weights(made, dtype)
            return without_past(made, generation)
        made = limited(clean(proto, shapes), options.get("maxima", {}))
        if dtype:
            round_weights(made, dtype, opened)
        return made

    return lambda shapes: lambda: cleaned(shapes)


def stored_questions(bundle: Path, sets: Sequence[Mapping[str, Any]]) -> list[Question]:
    """The questions of reference.npz, one for each set of shapes."""
    questions = []
    try:
        with np.load(bundle / "reference.npz") as stored:
            for number, s in enumerate(sets):
                names = reference_names("in", len(s["inputs"]), number)
                inputs = {t["name"]: restored(stored[name]) for t, name in zip(s["inputs"], names, strict=True)}
                expected = read_expected(stored, len(own_outputs(s["outputs"])), number)
                questions.append(Question(inputs, expected, (set_name(s),) if len(sets) > 1 else ()))
    except (*ZIP_ERRORS, TypeError) as e:
        raise UsageError(f"{bundle} has no readable reference.npz: {e}") from e
    return questions


def answers(
    bundle: Path, manifest: Mapping[str, Any], questions: Sequence[Question], relative: float, own: Mapping[str, float]
) -> list[Answer]:
    """Runs the bundle on each question's inputs; `own` are the tolerances of machines that have their own."""
    alone = "" if len(manifest.get("variants", ())) > 1 else manifest["machine"]
    with bundle_runner(bundle, manifest) as run:
        if "tried" in manifest:  # what the largest run leaves behind must not matter to the smaller ones
            run(questions[-1].inputs)
        return [_answer(run, q, manifest["ranges"], relative, _Own(own, alone), manifest["macs"]) for q in questions]


@dataclass(frozen=True)
class _Own:
    """The tolerances of machines that have their own, and the only machine, if there is but one."""

    tolerances: Mapping[str, float]
    alone: str

    def of(self, build: str) -> float | None:
        """The tolerance of a build; None where its machine has none of its own."""
        return self.tolerances.get(self.alone or build.partition(" on ")[0])


def _answer(run: Run, question: Question, ranges: list[list[float]], usual: float, own: _Own, macs: int) -> Answer:
    """Of each output of each build the worst error over all inputs."""
    worst: dict[str, OutputError] = {}
    expected = question.expected
    given = [question.inputs, *more_inputs(question.inputs, ranges)[: len(expected.more)]]
    for case, x in enumerate(given):
        for build, outputs in run(x).items():
            where = [w for w in (build, *question.label) if w]
            label = f" ({', '.join(where)})" if where else ""
            apart = own.of(build)
            relative = usual if apart is None else apart
            errors = _errors(outputs, expected, case, label, relative)
            bad = {k: outputs[name] for k, (name, e) in enumerate(zip(outputs, errors, strict=True)) if not e.passed}
            # Integer networks are exact, but for operators with a tolerance, which round near ties: Resize, Softmax.
            doubtful = apart is None and (not expected.more or any(expected.tolerances[k] is not None for k in bad))
            if bad and question.model is not None and not case and doubtful:
                expected = second_opinion(question.model(), x, expected, bad, relative, macs)
                errors = _errors(outputs, expected, case, label, relative)
            for error in errors:
                before = worst.setdefault(error.name, error)
                if (before.passed, -before.absolute) > (error.passed, -error.absolute):
                    worst[error.name] = error
    return Answer(list(worst.values()), expected)


def _errors(
    outputs: Mapping[str, Array], expected: Expected, case: int, label: str, relative: float
) -> list[OutputError]:
    wanted = [expected.outputs, *expected.more][case]
    return [
        compare(f"{name}{label}", outputs[name], want, tolerance, relative)
        for name, want, tolerance in zip(outputs, wanted, expected.tolerances, strict=True)
    ]


def failure(errors: Sequence[OutputError], asked: bool, own: Mapping[str, float]) -> str:
    """What to say of a build whose predictor is refused: which outputs, by how much, and what may be done.

    `asked`: whether there was a second opinion; `own` as in `answers`.
    """
    bad = [e for e in errors if not e.passed]
    lines = [
        f"{e.name}: relative error {e.relative:.3g} (largest error {e.absolute:.3g} of a range of {e.range:.4g}; "
        f"{e.tolerance:.3g} is accepted)"
        for e in bad
    ]
    rounds = ROUNDED_TOLERANCE in own.values()  # then all machines do
    if rounds or all(any(f"({machine}" in e.name for machine in own) for e in bad):
        return (
            f"{'int8' if rounds else 'float16'} is too coarse for this model: {'; '.join(lines)}. Build it with "
            "--arithmetic float32; or, if your application bears such an error on its own data, accept it with "
            "--tolerance"
        )
    also = ", and from all other ways to compute the model here" if asked else ""
    return (
        f"the compiled predictor differs from onnxruntime{also}: {'; '.join(lines)}. That is a fault of dlpack: please "
        "report it with the model. If your application bears such an error on its own data, --tolerance accepts it; "
        "--inputs FILE.npz verifies with your data too"
    )
