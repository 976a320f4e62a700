"""In which way a bundle does any size of its open dimensions: with kernels for all of them, or sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from dlpack.errors import UnsupportedError
from dlpack.meaning.open_batch import OpenBatch
from dlpack.meaning.shape_sets import Shapes, describe_shapes

if TYPE_CHECKING:
    from dlpack.graph.ir import Graph


@dataclass(frozen=True)
class Batch:
    """Open dimensions, of which the cases are some sizes, and the first the smallest of all.

    `outputs`: the open dimension in each output that has it, or that of the samples. `graph`: one whose kernels do any
    size, None where a run does the first size again and again. `by_sample`: a run does the samples of a batch one by
    one, whose number is the last of several open dimensions, and the graph is that of one.
    """

    open: OpenBatch
    outputs: Mapping[str, int]
    model: Callable[..., Any]
    """Gives the cleaned ONNX model for the open dimensions' sizes."""
    otherwise: Callable[[UnsupportedError], Batch]
    """Gives the batch that is computed in another way where there are no kernels for this one; raises the error with
    what is against all others, too."""
    graph: Graph | None = None
    by_sample: bool = False


_Way = tuple[dict[str, int], "Graph | None", bool]
_WINDOWS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool")
ADVICE = "Give each size that you need: --shape once for each, or --buckets for the lengths of a text"


def open_batch(batch: OpenBatch, shapes: Shapes, one: Graph, cleaned: Callable[..., tuple[Any, Graph]]) -> Batch:
    """Finds one graph for all sizes, or that samples are independent. Raises UnsupportedError where neither holds.

    It has more ways where there are no kernels for the first (`Batch.otherwise`). `shapes` are those of the smallest
    sizes, and `one` is the graph of these; `cleaned` gives the cleaned ONNX model of some sizes, and its graph.
    """
    ways = _ways(batch, shapes, one, lambda *sizes: cleaned(*sizes)[1])

    def first_way(after: int, *problems: UnsupportedError) -> Batch:
        """Of those behind so many, of which `problems` say what is against them."""
        for k, way in enumerate(ways[after:], after):
            try:
                outputs, graph, by_sample = way()
            except UnsupportedError as e:
                problems = (*problems, e)
                continue
            again = partial(first_way, k + 1, *problems)
            return Batch(batch, outputs, lambda *sizes: cleaned(*sizes)[0], again, graph, by_sample)
        text = "; ".join(dict.fromkeys(map(str, problems)))
        raise UnsupportedError(f"{describe_shapes(shapes, batch)}: {text}\n{ADVICE}") from problems[-1]

    return first_way(0)


def _ways(batch: OpenBatch, shapes: Shapes, one: Graph, clean: Callable[..., Graph]) -> list[Callable[[], _Way]]:
    """Those that may do, the best first; `clean` gives the graph of some sizes."""
    samples = _of_samples(batch, shapes, clean) if batch.of_samples else []
    kernels = _of_any_size(batch, shapes, one, clean, not batch.one) if len(batch.bounds) < 3 else []
    alone = [partial(_by_sample, batch, clean)] if batch.one and batch.smallest == 1 else []
    return [*samples, *kernels, *alone]


def _of_any_size(
    batch: OpenBatch, shapes: Shapes, one: Graph, clean: Callable[..., Graph], sized: bool
) -> list[Callable[[], _Way]]:
    """Kernels for any size; `sized`: their sizes are those of pictures, also where they are lengths."""
    pictures = partial(_pictures, batch, clean)
    if len(batch.bounds) > 1:
        return [pictures]
    dims = [(d, len(shapes[name])) for name, d in batch.inputs.items()]
    along = all(d > 0 for d, _ in dims) and any(n.op in _WINDOWS for n in one.nodes)
    first = along or batch.bounds[0].step > 1 or any(d > 1 and rank > 3 for d, rank in dims)
    lengths = partial(_any_size, batch, one, clean, sized)
    return [pictures, lengths] if first else [lengths, pictures]


def _any_size(batch: OpenBatch, one: Graph, clean: Callable[..., Graph], sized: bool) -> _Way:
    """Kernels that do any length; `sized` as for `open_graph`."""
    from dlpack.graph.opened import open_graph
    from dlpack.graph.trimmed import trimmed

    (size,) = batch.bounds
    other = size.largest - size.step
    other = size.largest + size.step if other < 2 else other
    some, most = (trimmed(clean(n)) for n in (other, size.largest))
    graph = open_graph(some, most, other, size.largest, one, size.smallest, batch.dims if sized else None)
    if sized:
        return {}, graph, False
    shapes = {name: graph.types[name].shape for name in graph.outputs}
    return {name: shape.index(graph.open) for name, shape in shapes.items() if graph.open in shape}, graph, False


def _pictures(batch: OpenBatch, clean: Callable[..., Graph]) -> _Way:
    from dlpack.graph.pictures import open_pictures
    from dlpack.graph.trimmed import trimmed

    bounds = [(b.smallest, b.largest, b.step) for b in batch.bounds]
    return {}, open_pictures(lambda *sizes: trimmed(clean(*sizes)), batch.dims, bounds), False


def _by_sample(batch: OpenBatch, clean: Callable[..., Graph]) -> _Way:
    """The steps of one sample, again and again."""
    from dlpack.graph.samples import MARKER, sample_dimensions

    *lengths, _ = batch.bounds
    tried = [b.tried() for b in lengths]
    sizes = [next((n for n in (own[1], own[0]) if n % MARKER), own[-1]) for own in tried]
    several, one = clean(*sizes, MARKER), clean(*sizes, 1)
    outputs = sample_dimensions(several, {name: own[-1] for name, own in batch.dims.items() if own[-1] >= 0})
    for name in several.outputs:
        d, shape = outputs.get(name), several.types[name].shape
        if one.types[name].shape != tuple(n // MARKER if k == d else n for k, n in enumerate(shape)):
            raise UnsupportedError(f"the size of the output '{name}' is not proportional to the open dimension")
    return outputs, None, True


def _of_samples(batch: OpenBatch, shapes: Shapes, clean: Callable[..., Graph]) -> list[Callable[[], _Way]]:
    """Kernels for any size of one sample, and a batch of these sample by sample."""

    def each(*sizes: int) -> Graph:
        return clean(*sizes, 1)

    def way(of_one: Callable[[], _Way]) -> _Way:
        outputs, _, _ = independent()
        _, graph, _ = of_one()
        return outputs, graph, True

    independent = cache(partial(_by_sample, batch, clean))
    own = batch.of_one
    one = each(*(b.smallest for b in own.bounds))
    return [partial(way, of_one) for of_one in _of_any_size(own, shapes, one, each, True)]
