"""What the stages do for a decoder that generates text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlpack.errors import UsageError
from dlpack.meaning.generation import CONTEXT, Decoder, Generation, generation_of
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
    speech = from_metadata(source.metadata)
    context = speech.context if speech and options.context is None and not options.shapes else options.context
    found = generation_of(source.proto, context, {**options.shapes, **({"": ()} if opened else {})})
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
    if context is None:
        progress.warn(f"the predictor keeps {CONTEXT} tokens of a text; --context gives another number")
    return found


def in_slots(proto: Any, generation: Generation) -> Any:
    """The export as the bundle computes it: the mask says which slots of the past have a token."""
    from dlpack.model.past_group import in_slots

    return in_slots(proto, generation)


def part_of(proto: Any, generation: Generation, number: int) -> Any:
    """What the set of shapes of that number computes of the model."""
    from dlpack.model.past import part_of

    return part_of(proto, generation, generation.sizes[number], bool(generation.features) and not number)


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
    """What a model of speech has heard, and the model that is right with slots left empty; says in `detail` what there
    is. Raises UnsupportedError where none is what the export is."""
    from dlpack.verify.decoder import right_with_gaps

    detail.append(f"{len(generation.caches)} caches of {generation.context} tokens")
    heard, counted = right_with_gaps(export, slotted, generation, graph.types[generation.logits].shape[-1])
    if counted is not slotted:
        detail.append("positions in place of slots")
    return heard, counted


def verify_text(
    bundle: Path, proto: Any, generation: Generation, heard: Mapping[str, Array], relative: float, weights: str
) -> list[OutputError]:
    """Reads a text with the bundle, in blocks and one by one, and compares with the export's run of a growing past,
    whose weights are rounded to the type `weights`."""
    import numpy as np

    from dlpack.bundle.loader import load, read_manifest
    from dlpack.model.rounded import round_weights
    from dlpack.verify.decoder import GrowingDecoder, some_features
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
    grown = GrowingDecoder(proto, generation, heard)
    expected = np.stack([grown.read(part)[-1] for part in parts])
    with load(bundle) as predictor:
        found: list[Array] = []
        if generation.features:
            predictor.hear(some_features(generation))
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
    features = names.index(generation.features) if generation.features else -1
    positions = names.index(generation.positions) if generation.positions in names else -1
    logits = [t.name for t in program.outputs].index(generation.logits)
    vocabulary = program.outputs[logits].shape[-1]
    last = all(s.outputs[logits].shape[-2] == 1 for s in program.shape_sets)
    sizes, context = generation.sizes, generation.context
    decoder = Decoder(tokens, mask, positions, logits, context, vocabulary, sizes, last, features)
    return replace(program, decoder=decoder)
