"""Where the caches of a decoder lie in the predictor."""

from __future__ import annotations

from dlpack.graph.ir import TensorType
from dlpack.kernels.place import Placement
from dlpack.plan.memory import ALIGNMENT
from dlpack.plan.program import StoredCache


def stored_caches(placement: Placement) -> list[StoredCache]:
    """The caches of a graph, one behind the other."""
    found, at = [], 0
    for cache in placement.graph.caches:
        b = placement.buffers[cache.past]
        _, heads, rows, size = b.shape
        _, *strides = b.layout.strides
        found.append(StoredCache(cache.past, cache.present, b.dtype, at, (heads, rows, size), tuple(strides)))
        nbytes = b.elements * TensorType(b.dtype, ()).itemsize
        at += -(-nbytes // ALIGNMENT) * ALIGNMENT
    return found
