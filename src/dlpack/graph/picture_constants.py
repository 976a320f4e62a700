"""Constants of a model of pictures of any size that are others in each: places of pixels, numbers of these.

A table that begins alike in all sizes along each open dimension is that of the graph's size. A number that is an
extent, a product of two, or one over such, is written in a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from math import prod

import numpy as np

from dlpack.graph.ir import Array, Node, Sizes
from dlpack.graph.opened import is_data
from dlpack.graph.opened_numbers import first_part
from dlpack.graph.picture_node import PictureNode, Witness, differ
from dlpack.graph.registry import Builder
from dlpack.loops.sizes import Size


def varies(node: Node, witnesses: Sequence[Witness]) -> bool:
    """Whether a node reads the elements of constants that are others in each size."""
    for k, i in enumerate(node.inputs):
        seen = [w.graph.constants[i] for w in witnesses if i in w.graph.constants]
        if len(seen) > 1 and is_data(node, k) and any(not _same(value, seen[0]) for value in seen):
            return True
    return False


def constants_of_a_run(n: PictureNode, b: Builder) -> tuple[Node, dict[str, Sizes]]:
    """The node with constants that are right in any size; and what a run has of tables, by name. Those that follow no
    known function are left as they are."""
    inputs, tables = list(n.node.inputs), dict[str, Sizes]()
    for k, i in enumerate(n.node.inputs):
        seen = [(w, w.graph.constants[i]) for w in n.witnesses if i in w.graph.constants]
        if i not in n.graph.constants or len(seen) < len(n.witnesses) or not is_data(n.node, k):
            continue
        if all(_same(value, seen[0][1]) for _, value in seen):
            continue
        if sizes := _table(n, n.graph.constants[i], seen):
            tables[i] = sizes
        elif made := _number(n, n.graph.constants[i], seen, b):
            inputs[k] = made
    return replace(n.node, inputs=tuple(inputs)), tables


def _table(n: PictureNode, whole: Array, seen: Sequence[tuple[Witness, Array]]) -> Sizes:
    """The sizes of a table that begins alike in all sizes; empty where it does not."""
    if any(value.ndim != whole.ndim or not _same(first_part(whole, value.shape), value) for _, value in seen):
        return ()
    out: list[Size | None] = []
    for d in range(whole.ndim):
        extents = [(w, value.shape[d]) for w, value in seen]
        if len({m for _, m in extents}) == 1:
            out.append(None)
            continue
        found = [s for s in _sizes(n.known) if all(s.in_run(w.numbers) == m for w, m in extents)]
        if not found or differ(found, [w.numbers for w, _ in seen]):
            return ()
        out.append(found[0])
    return tuple(out)


def _number(n: PictureNode, whole: Array, seen: Sequence[tuple[Witness, Array]], b: Builder) -> str:
    """What a step writes of a number; empty where it is no known function."""
    if any(value.size != 1 for _, value in seen):
        return ""
    numbers, values = [w.numbers for w, _ in seen], [value.item() for _, value in seen]
    sizes = _sizes(n.known)
    pairs = [(s, t) for s, t in combinations(sizes, 2) if s.axis != t.axis]
    for own in (*((s,) for s in sizes), *pairs):
        count = [prod(s.in_run(at) for s in own) for at in numbers]
        others = [[s for s in sizes if all(s.in_run(at) == t.in_run(at) for at in numbers)] for t in own]
        if 0 in count or any(differ(found, numbers) for found in others):
            continue
        for less in (0, 1):
            if [whole.dtype.type(c - less) for c in count] == values:
                size = own[0] if len(own) == 1 else replace(own[0], columns=own[1])
                made = b.count(size, whole.ndim, whole.dtype.name)
                one = b.constant(np.ones((), whole.dtype), "one") if less else ""
                return b.add("Sub", [made, one], whole.shape) if less else made
        if whole.dtype == np.float32 and [np.float32(1) / np.float32(c) for c in count] == values:
            return b.share(own, 1, whole.ndim)
    return ""


def _sizes(known: Mapping[str, Sizes]) -> list[Size]:
    """All extents of sides that are known."""
    found = dict.fromkeys(s for sizes in known.values() for s in sizes if s is not None and s.columns is None)
    return list(found)


def _same(a: Array, b: Array) -> bool:
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
