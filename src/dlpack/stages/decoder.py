"""What the stages do for a decoder that generates text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlpack.errors import UsageError
from dlpack.meaning import answers as answering
from dlpack.meaning.answers import Answers
from dlpack.meaning.generation import CONTEXT, SOURCE, Decoder, Generation, TextEncoder, generation_of
from dlpack.meaning.speech import from_metadata
from dlpack.options import Options, Progress
from dlpack.source import Source

if TYPE_CHECKING:
    from dlpack.graph.ir import Array, Graph
    from dlpack.plan.program import Program
    from dlpack.stages.precision import Reduced
    from dlpack.verify.reference import OutputError


def generation_for(source: Source, options: Options, progress: Progress) -> Generation | None:
    """How the model generates text, where it does and no shapes are given.

    Raises UsageError for options that do not go together with it.
    """
    from dlpack.targets import takes_any_size

    opened = options.batch is not None or options.buckets is not None
    speech, answers = from_metadata(source.metadata), answering.from_metadata(source.metadata)
    context, read = options.context, options.source
    if not options.shapes:
        context = speech.context if speech and context is None else context
        context, read = _usual(answers, context, read) if answers else (context, read)
    found = generation_of(source.proto, context, {**options.shapes, **({"": ()} if opened else {})}, read)
    if found is None:
        return None
    mxnet = options.mxnet_api or source.metadata.get("dlpack.source") == "MXNet"
    others = {
        "--quantize": options.quantize,
        "--max": options.maxima,
        "--inputs": options.inputs,
        "--keep-internals": options.internals,
        "MXNet's API": mxnet,
        "a target with kernels for GPUs": not takes_any_size(options.target, options.target_options),
    }
    for name, there in others.items():
        if there:
            raise UsageError(f"the model generates text, which does not go together with {name} yet")
    if speech and found.context > speech.context:
        raise UsageError(f"--context {found.context}: the model knows texts of {speech.context} tokens")
    if found.heard_mask:
        return _answering(found, answers, options, progress)
    if context is None:
        progress.warn(f"the predictor keeps {CONTEXT} tokens of a text; --context gives another number")
    return found


def _usual(answers: Answers, context: int | None, read: int | None) -> tuple[int, int]:
    """The tokens of an answer and of the text that is read: as stated, else a usual number that the model knows."""
    most = [min(SOURCE, known or SOURCE) for known in (answers.context, answers.source)]
    return most[0] if context is None else context, most[1] if read is None else read


def _answering(found: Generation, answers: Answers | None, options: Options, progress: Progress) -> Generation:
    """The same with what is known of answers. Raises UsageError for more than the model knows, or an unknown token."""
    if answers is None:
        raise UsageError(
            f"the model has an encoder of text, and no metadata {answering.METADATA_KEY}, which say how answers begin"
        )
    for option, stated, known in (
        ("context", found.context, answers.context),
        ("source", found.heard[-1], answers.source),
    ):
        if known and stated > known:
            raise UsageError(f"--{option} {stated}: the model knows texts of {known} tokens")
    if found.context <= len(answers.start):
        raise UsageError(f"--context {found.context}: answers begin with {len(answers.start)} tokens")
    if options.context is None or options.source is None:
        progress.warn(
            f"the model reads texts of {found.heard[-1]} tokens and writes answers of {found.context}; --source and "
            "--context give other numbers"
        )
    return replace(found, answers=answers)


def in_slots(proto: Any, generation: Generation) -> Any:
    """The export as the bundle computes it: the mask says which slots of the past have a token."""
    from dlpack.model.past_group import in_slots

    return in_slots(proto, generation)


def in_positions(proto: Any, generation: Generation) -> Any | None:
    """The same with positions where it numbers slots, which may be more than the model knows positions; None where it
    numbers none."""
    from dlpack.model.past_positions import in_positions
    from dlpack.verify.runners import runner

    return in_positions(proto, generation, runner)


def part_of(proto: Any, generation: Generation, number: int) -> Any:
    """What the set of shapes of that number computes of the model."""
    from dlpack.model.past import part_of

    return part_of(proto, generation, generation.sizes[number], generation.heard_by(number))


def cached(
    proto: Any, graph: Graph, generation: Generation, said: Mapping[str, tuple[float, float]]
) -> tuple[Any, Graph, Mapping[str, tuple[float, float]]]:
    """The cleaned model as a new predictor computes it, its graph with caches, and the ranges of seeded inputs."""
    from dlpack.model.past import with_caches, without_past

    ranges = generation.ranges(graph.types[generation.logits].shape[-1])
    return without_past(proto, generation), with_caches(graph, generation), {**ranges, **said}


def new_texts(reduced: Reduced, generation: Generation, proto: Any) -> Reduced:
    """The change of a model as a new predictor computes it, which is `proto` with smaller numbers."""
    from dlpack.model.past import without_past

    return replace(reduced, before=without_past(reduced.before, generation), proto=proto)


def without_past_of(again: Callable[[], Any], generation: Generation) -> Any:
    """The cleaned model, made again, as a new predictor computes it."""
    from dlpack.model.past import without_past

    return without_past(again(), generation)


def check_decoder(
    export: Any, slotted: Any, graph: Graph, generation: Generation, detail: list[str]
) -> tuple[Mapping[str, Array], Any]:
    """What an encoder has given, and the model that is right with slots left empty; says in `detail` what there
    is. Raises UnsupportedError where none is what the export is."""
    from dlpack.verify.decoder import right_with_gaps

    detail.append(f"{len(generation.caches)} caches of {generation.context} tokens")
    heard, counted = right_with_gaps(export, slotted, generation, graph.types[generation.logits].shape[-1])
    if counted is not slotted:
        detail.append("positions in place of slots")
    return heard, counted


def verify_text(
    bundle: Path, proto: Any, generation: Generation, given: Mapping[str, Array], relative: float, weights: str
) -> list[OutputError]:
    """Reads a text with the bundle, in blocks and one by one, and compares with the export's run of a growing past,
    whose weights are rounded to the type `weights`."""
    import numpy as np

    from dlpack.bundle.loader import load, read_manifest
    from dlpack.model.rounded import round_weights
    from dlpack.verify.decoder import GrowingDecoder, some_heard
    from dlpack.verify.reference import compare

    length = min(generation.context, 2 * max(generation.blocks, default=1) + 5)
    vocabulary = read_manifest(bundle)["decoder"]["vocabulary"]
    text = [int(t) for t in np.random.default_rng(2).integers(0, vocabulary, length)]
    starts = sorted(
        {0, length - 3, length - 1, *([generation.blocks[0] + 1] if length > 8 else [])} & set(range(length))
    )
    parts = [text[a:b] for a, b in pairwise([*starts, length])]
    if weights != "float32":
        export, proto = proto, type(proto)()
        proto.CopyFrom(export)
        round_weights(proto, weights)
    grown = GrowingDecoder(proto, generation, given)
    expected = np.stack([grown.read(part)[-1] for part in parts])
    with load(bundle) as predictor:
        found: list[Array] = []
        if generation.features:
            heard = some_heard(generation)
            if generation.heard_mask:
                predictor.read(heard[generation.features][heard[generation.heard_mask] > 0])
                predictor.rewind(0)
            else:
                predictor.hear(heard[generation.features])
        for part in parts:
            predictor.append(part)
            scores = predictor.scores()
            found += [] if scores is None else [scores]
    return [
        compare(f"{generation.logits} after {length} tokens", np.stack(found), expected, None, grown.same(relative))
    ]


def with_decoder(program: Program, generation: Generation) -> Program:
    """The program with what it knows of reading and writing tokens."""
    names = [t.name for t in program.inputs]
    tokens, mask = names.index(generation.tokens), names.index(generation.mask)
    positions = names.index(generation.positions) if generation.positions in names else -1
    logits = [t.name for t in program.outputs].index(generation.logits)
    vocabulary = program.outputs[logits].shape[-1]
    last = all(s.outputs[logits].shape[-2] == 1 for s in program.shape_sets)
    sizes, context = generation.sizes, generation.context
    features = names.index(generation.features) if generation.features else -1
    encoder = _encoder(generation, features, names) if generation.answers else None
    features = -1 if encoder else features
    decoder = Decoder(tokens, mask, positions, logits, context, vocabulary, sizes, last, features, encoder)
    return replace(program, decoder=decoder)


def _encoder(generation: Generation, tokens: int, names: list[str]) -> TextEncoder:
    answers = generation.answers
    assert answers is not None
    mask = names.index(generation.heard_mask)
    return TextEncoder(tokens, mask, generation.lengths, generation.readable, answers.start, answers.suppressed)
