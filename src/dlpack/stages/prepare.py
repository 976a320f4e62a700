"""From a model file to what every target compiles: read, cleaned, and run by the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlpack.errors import ModelError, UnsupportedError, UsageError
from dlpack.meaning.generation import Generation
from dlpack.meaning.labels import check_labels
from dlpack.meaning.preprocess import resolve
from dlpack.meaning.shape_sets import Shapes, bucket_sets, describe_shapes
from dlpack.options import Options, Progress
from dlpack.source import Source, close_batch, read_source
from dlpack.stages.decoder import (
    cached,
    check_decoder,
    generation_for,
    in_positions,
    in_slots,
    new_texts,
    part_of,
    without_past_of,
)
from dlpack.stages.precision import check_precision, reduce_precision
from dlpack.stages.text import Found, find_tokenizer
from dlpack.stages.ways import ADVICE, Batch, open_batch

if TYPE_CHECKING:
    from dlpack.graph.ir import Array, Graph
    from dlpack.meaning.quantization import Meaning
    from dlpack.targets.base import Build
    from dlpack.verify.trial import Trial


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
    """A model as every target compiles it; `bucketed`: the dimensions of its inputs that have buckets.

    `precision`: what the manifest says of smaller numbers that the user asked for, of the first set of shapes, and
    `arithmetic` of kernels that round to 8 bits.
    """

    source: Source
    cases: tuple[Case, ...]
    bucketed: dict[str, list[int]]
    precision: Mapping[str, Any]
    batch: Batch | None = None
    text: Found | None = None
    generation: Generation | None = None
    heard: Mapping[str, Array] = field(default_factory=dict)
    """What the decoder of a model of speech reads of its encoder, for the features that it is verified with."""
    arithmetic: Mapping[str, Any] | None = None

    def tried(self) -> Sequence[int]:
        """The numbers of the sets of shapes that the cases are of."""
        return self.batch.open.tried() if self.batch else range(len(self.cases))

    def model(self, number: int) -> Callable[[], Any]:
        """Gives the cleaned ONNX model for the set of shapes of that number."""
        return partial(self.batch.model, *self.batch.open.sizes(number)) if self.batch else self.cases[number].model


def prepare(model: Path, options: Options, progress: Progress) -> Prepared:
    """Reads the model, and for each set of shapes cleans it and runs the reference."""
    with progress.stage("read") as detail:
        source = _read(model, options, options.shapes)
        for text in source.warnings:
            progress.warn(text)
        detail.append(f"{len(source.proto.graph.node)} nodes, {source.opset}")
        generation = generation_for(source, options, progress)
        given = in_slots(source.proto, generation) if generation else source.proto
        sets, bucketed = (generation.sets(), {}) if generation else _shape_sets(options, source)
        _check_options(options, source, sets)
    tokenizer = find_tokenizer(model, source, options, progress)
    try:
        cases, precision = _cases(model, source, given, sets, generation, options, progress)
    except (ModelError, UnsupportedError):
        given = in_positions(given, generation) if generation else None
        if given is None:
            raise
        cases, precision = _cases(model, source, given, sets, generation, options, progress)
    batch = _open_batch(model, source, cases[0].graph, options) if options.batch else None
    heard: Mapping[str, Array] = {}
    if generation:
        with progress.stage("decoder") as detail:
            heard, counted = check_decoder(source.proto, given, cases[0].graph, generation, detail)
        if counted is not given:
            cases, precision = _cases(model, source, counted, sets, generation, options, progress)
    return Prepared(source, tuple(cases), bucketed, precision, batch, tokenizer, generation, heard)


def _cases(
    model: Path,
    source: Source,
    given: Any,
    sets: Sequence[Shapes],
    generation: Generation | None,
    options: Options,
    progress: Progress,
) -> tuple[list[Case], dict[str, Any]]:
    """Cleans the model `given` and runs the reference for each set of shapes; and what smaller numbers change."""
    from dlpack.model.meaning import meanings
    from dlpack.verify.trial import try_model

    cases: list[Case] = []
    precision: dict[str, Any] = {}
    for number, shapes in enumerate(sets):
        with progress.stage("clean") as detail:
            try:
                again_read = number and source.exported and not generation
                proto = _read(model, options, shapes).proto if again_read else given
                shapes = shapes if generation else source.open_shapes(shapes)
                made = partial(part_of, proto, generation, number) if generation else _same(proto)
                again = _cleaned(made, shapes, options.maxima)
                proto, graph = clean_graph(made(), shapes, options.maxima)
            except (ModelError, UnsupportedError, UsageError) as e:
                if number:  # the first set had no error
                    asked = describe_shapes(options.shapes, options.batch) if options.batch else describe_shapes(shapes)
                    e.args = (f"with {asked}: {e}",)
                raise
            detail.append(f"{len(graph.nodes)} nodes")
        again_clean = partial(clean_graph, shapes=shapes, maxima=options.maxima)
        reduced = reduce_precision(proto, graph, again_clean, source.metadata, options, progress)
        if reduced:
            proto, graph = reduced.proto, reduced.graph
            again = _same(proto)
        with progress.stage("reference") as detail:  # before it is compiled: it finds operands that do not fit
            said: Mapping[str, tuple[float, float]] = options.seeded(graph.inputs)
            if generation:
                proto, graph, said = cached(proto, graph, generation, said)
                again = partial(without_past_of, again, generation)
                reduced = new_texts(reduced, generation, proto) if reduced else None
            trial = try_model(proto, graph, source.metadata, tolerance(options), said)
            cases.append(Case(graph, meanings(graph, source.metadata), trial, again))
            detail.append("onnxruntime")
        if reduced and not precision:
            precision = reduced.change(trial.inputs, progress)
    return cases, precision


def _open_batch(model: Path, source: Source, one: Graph, options: Options) -> Batch:
    """See `open_batch`."""
    batch = options.batch
    assert batch is not None

    def cleaned(*sizes: int) -> tuple[Any, Graph]:
        shapes = batch.shapes(options.shapes, *sizes)
        proto = _read(model, options, shapes).proto if source.exported else source.proto
        clean = partial(clean_graph, shapes=source.open_shapes(shapes), maxima=options.maxima)
        made, graph = clean(proto)
        reduced = reduce_precision(made, graph, clean, source.metadata, options, Progress())
        return (reduced.proto, reduced.graph) if reduced else (made, graph)

    return open_batch(batch, options.shapes, one, cleaned)


def _read(model: Path, options: Options, shapes: Shapes) -> Source:
    bucketed = options.buckets.input if options.buckets else ""
    source = read_source(model, options.params, shapes, options.dtypes, options.values, options.internals)
    return replace(source, warnings=(*source.warnings, *close_batch(source.proto, shapes, bucketed)))


def _cleaned(made: Callable[[], Any], shapes: Shapes, maxima: Mapping[str, int]) -> Callable[[], Any]:
    return lambda: clean_graph(made(), shapes, maxima)[0]


def _same(proto: Any) -> Callable[[], Any]:
    return lambda: proto


def tolerance(options: Options) -> float:
    from dlpack.verify.reference import RELATIVE_TOLERANCE

    return RELATIVE_TOLERANCE if options.tolerance is None else options.tolerance


def tolerances(builds: Sequence[Build], options: Options) -> dict[str, float]:
    """By name the machines that have a tolerance of their own, which one on the command line replaces."""
    from dlpack.verify.reference import HALVES_TOLERANCE, ROUNDED_TOLERANCE

    own = {
        b.machine().name: HALVES_TOLERANCE if b.halves else ROUNDED_TOLERANCE for b in builds if b.halves or b.rounds
    }
    return own if options.tolerance is None else {}


def clean_graph(proto: Any, shapes: Shapes, maxima: Mapping[str, int] | None = None) -> tuple[Any, Graph]:
    """The cleaned model and its graph. Raises UnsupportedError with all that is not supported."""
    from dlpack import operators
    from dlpack.model.clean import clean
    from dlpack.model.read import read_graph
    from dlpack.model.sequences import plain_borders
    from dlpack.model.sized_limits import limited

    try:
        proto, given = plain_borders(proto, maxima or {})
        proto = clean(proto, shapes, lambda op, domain: not operators.supported(op, domain))
        return limited(proto, given), read_graph(proto, operators.supported, given)
    except UnsupportedError as e:
        from dlpack.model.values import advice

        if text := advice(proto):
            e.args = (f"{e}\n{text}",)
        raise


def _shape_sets(options: Options, source: Source) -> tuple[list[Shapes], dict[str, list[int]]]:
    """The sets of shapes to compile for, and the dimensions that have buckets."""
    if batch := options.batch:
        return [batch.shapes(options.shapes, *batch.sizes(k)) for k in batch.tried()], {}
    if not options.buckets:
        return [options.shapes, *options.more_shapes], {}
    if options.more_shapes:
        raise UsageError(f"{options.buckets}: give each input only one --shape, or remove --buckets")
    return bucket_sets(source.proto, options.shapes, options.buckets)


def _check_options(options: Options, source: Source, sets: Sequence[Shapes]) -> None:
    """Rejects invalid preprocessing, task, labels and precision before anything is compiled."""
    from dlpack.meaning.sound import read_sound
    from dlpack.meaning.task import read_option
    from dlpack.model.metadata import described_inputs

    check_precision(options)
    if options.batch:
        _check_batch(options, source)
    if options.inputs is not None:
        from dlpack.verify.given import read_given

        read_given(options.inputs)
    if options.labels:
        check_labels(options.labels, "--labels")
    if options.task:
        read_option(options.task)
    inputs = [described_inputs(source.proto, shapes) for shapes in sets]
    if options.preprocess and all(inputs):
        resolve(options.preprocess, inputs)
    if options.sound and all(inputs):
        read_sound(options.sound, inputs if len(sets) == 1 else inputs[:1])


def _check_batch(options: Options, source: Source) -> None:
    """Rejects what does not go together with an open batch."""
    from dlpack.targets import takes_any_size

    text = describe_shapes(options.shapes, options.batch)
    mxnet = options.mxnet_api or source.metadata.get("dlpack.source") == "MXNet"
    others = {
        "several sets of shapes": options.more_shapes or options.buckets,
        "--quantize": options.quantize,
        "--max": options.maxima,
        "MXNet's API": mxnet,
        "a target with kernels for GPUs": not takes_any_size(options.target, options.target_options),
    }
    for name, there in others.items():
        if there:
            raise UsageError(f"{text}: an open batch and {name} do not go together yet. {ADVICE}")
    inputs = {value.name: len(value.type.tensor_type.shape.dim) for value in source.proto.graph.input}
    for name in options.batch.inputs if options.batch else ():
        if name not in inputs and not source.exported:
            raise UsageError(f"{text}: the model has no input {name!r}; it has {', '.join(inputs) or 'none'}")
