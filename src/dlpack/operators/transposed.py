"""Transposed convolution: ConvTranspose, as ordinary convolutions.

With stride s, the elements o, o + s, o + 2 s, ... of the output (a phase) depend on the same elements of the kernel:
each phase is a small convolution of stride 1, and no product with an inserted zero is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import gcd, prod

import numpy as np

from dlpack.graph.ir import Array
from dlpack.graph.registry import Builder, Context, rewrite
from dlpack.operators.convolution import add_bias, add_convolution, add_pad, strides_and_dilations

MOST_PHASES = 16
"""Phases that become convolutions of their own; more are channels of one."""

FEW_CHANNELS = 4
"""So few channels of output fill no vector: those of all phases together do."""


@dataclass(frozen=True)
class _Phase:
    """Along one dimension: output ``q * stride + p`` is the sum over t of ``w[taps[t]] * x[q + first + t * step]``."""

    first: int
    step: int
    taps: tuple[int, ...]

    @property
    def end(self) -> int:
        """Just behind the last element that output 0 reads, relative to `first`'s origin."""
        return self.first + (len(self.taps) - 1) * self.step + 1


def _phases(kernel: int, stride: int, dilation: int, low: int) -> list[_Phase]:
    """The phases along one dimension, where `low` elements are cut from the start of the output."""
    phases = []
    shared = gcd(stride, dilation)
    for p in range(stride):
        taps = [k for k in reversed(range(kernel)) if (p + low - k * dilation) % stride == 0]
        first = (p + low - taps[0] * dilation) // stride if taps else 0
        phases.append(_Phase(first, dilation // shared, tuple(taps)))
    return phases


def _low_pads(ctx: Context, strides: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """How many elements are cut from the start of each dimension of the output."""
    x, kernel, out = ctx.input_type(0).shape[2:], ctx.input_type(1).shape[2:], ctx.output_type().shape[2:]
    n = len(x)
    auto = ctx.attr("auto_pad", "NOTSET")
    extra = ctx.attr("output_padding") or [0] * n
    if auto in ("SAME_UPPER", "SAME_LOWER") or ctx.attr("output_shape"):
        full = [(x[d] - 1) * strides[d] + (kernel[d] - 1) * dilations[d] + 1 for d in range(n)]
        total = [max(0, full[d] + extra[d] - out[d]) for d in range(n)]
        return [t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in total]
    return list((ctx.attr("pads") or [0] * (2 * n))[:n]) if auto != "VALID" else [0] * n


@rewrite("ConvTranspose")
def conv_transpose(ctx: Context, b: Builder) -> None:
    """ConvTranspose → a convolution for each phase, interleaved; or one whose channels are those of all phases.

    `fill`, an attribute of our own: the input holds integers that are larger by so much, which is taken off again.
    """
    strides, dilations = strides_and_dilations(ctx, len(ctx.input_type(0).shape) - 2)
    low = _low_pads(ctx, strides, dilations)
    kernel = ctx.input_type(1).shape[2:]
    phases = [_phases(*each) for each in zip(kernel, strides, dilations, low, strict=True)]
    few = prod(strides) > 1 and ctx.output_type().shape[1] <= FEW_CHANNELS
    if (few or prod(strides) > MOST_PHASES) and ctx.maybe_constant(1) is not None:
        _as_channels(ctx, b, phases, strides)
    else:
        _interleaved(ctx, b, phases, strides)


def _ints(b: Builder, values: Sequence[int]) -> str:
    return b.constant(np.array(values, np.int64), "ints")


def _by_output(ctx: Context, w: Array) -> Array:
    """w [C, O/group, kernel...] → [O, C/group, kernel...]."""
    group, (c, o, *kernel) = ctx.attr("group", 1), w.shape
    return w.reshape(group, c // group, o, *kernel).swapaxes(1, 2).reshape(group * o, c // group, *kernel)


class _Weights:
    """The weights of a phase: of constants, or views of what a run computes."""

    def __init__(self, ctx: Context, b: Builder) -> None:
        self.b, self.constant = b, ctx.maybe_constant(1)
        if self.constant is not None:
            self.constant = _by_output(ctx, self.constant)
            return
        group, (c, o, *kernel) = ctx.attr("group", 1), ctx.input_type(1).shape
        self.value = ctx.node.inputs[1]
        order = [0, 2, 1, *range(3, 3 + len(kernel))]
        for op, shape in (
            ("Reshape", [group, c // group, o, *kernel]),
            ("Transpose", [group, o, c // group, *kernel]),
            ("Reshape", [group * o, c // group, *kernel]),
        ):
            if op == "Transpose":
                self.value = b.add(op, [self.value], shape, perm=order)
            else:
                self.value = b.add(op, [self.value, _ints(b, shape)], shape)

    def of(self, phase: Sequence[_Phase]) -> str:
        b, n = self.b, len(phase)
        if self.constant is not None:
            o, c = self.constant.shape[:2]
            taps = np.ix_(range(o), range(c), *(p.taps for p in phase))
            return b.constant(np.ascontiguousarray(self.constant[taps]), "weight")
        shape = [*b.type_of(self.value).shape[:2], *(len(p.taps) for p in phase)]
        first = [p.taps[0] for p in phase]
        steps = [p.taps[1] - p.taps[0] if len(p.taps) > 1 else -(2**31) for p in phase]
        bounds = [_ints(b, v) for v in (first, [-(2**31)] * n, range(2, 2 + n), steps)]
        return b.add("Slice", [self.value, *bounds], shape)


def _padded(
    ctx: Context, b: Builder, phases: Sequence[Sequence[_Phase]], counts: Sequence[int]
) -> tuple[str, list[int]]:
    """The input with the border that some phase reads, and how wide it is at the start of each dimension.

    `counts`: how many outputs a phase has at most along each dimension.
    """
    low, high = [], []
    for size, along, count in zip(ctx.input_type(0).shape[2:], phases, counts, strict=True):
        taken = [p for p in along if p.taps]
        low.append(max(0, *(-p.first for p in taken)))
        high.append(max(0, *(p.end + count - 1 - size for p in taken)))
    return add_pad(b, ctx.node.inputs[0], low, high, ctx.attr("fill", 0.0)), low


def _without_fill(ctx: Context, b: Builder, y: str, w: Array | None, name: str | None = None) -> str:
    """Takes off what `fill` adds to sums of products with all of w [O, C, kernel...]; `name` is given to the result."""
    fill = int(ctx.attr("fill", 0))
    if not fill or w is None:
        return y
    shape = b.type_of(y).shape
    more = -fill * w.astype(np.int64).sum(axis=tuple(range(1, w.ndim)))
    place = [-1, *[1] * (len(shape) - 2)]
    return b.add("Add", [y, b.constant(more.astype(b.type_of(y).dtype).reshape(place), "bias")], shape, output=name)


def _interleaved(ctx: Context, b: Builder, phases: Sequence[Sequence[_Phase]], strides: Sequence[int]) -> None:
    """A convolution for each phase, with the bias, into its places of the output."""
    batch, channels, *out = ctx.output_type().shape
    x = _padded(ctx, b, phases, [-(-size // s) for size, s in zip(out, strides, strict=True)])
    weights = _Weights(ctx, b)
    starts = list(product(*(range(min(s, size)) for s, size in zip(strides, out, strict=True))))
    result = ctx.node.outputs[0] if len(starts) == 1 else None
    parts = []
    for start in starts:
        phase = [along[p] for along, p in zip(phases, start, strict=True)]
        shape = [batch, channels, *(-(-(size - p) // s) for size, p, s in zip(out, start, strides, strict=True))]
        y = _convolved(ctx, b, x, phase, weights, shape, None if ctx.has_input(2) else result)
        if ctx.has_input(2):
            y = add_bias(ctx, b, y, ctx.node.inputs[2], len(shape), 1, result)
        parts.append(y)
    if result is None:
        whole, name = ctx.output_type().shape, ctx.node.outputs[0]
        b.add_internal("Interleave", parts, whole, name, starts=tuple(starts), steps=tuple(strides))


def _convolved(
    ctx: Context,
    b: Builder,
    x: tuple[str, list[int]],
    phase: Sequence[_Phase],
    weights: _Weights,
    shape: Sequence[int],
    name: str | None,
) -> str:
    """A phase of `shape` without the bias: a convolution, or zeros where no element of the kernel reaches it."""
    n = len(phase)
    if not all(p.taps for p in phase):
        zero = b.constant(np.zeros([1] * len(shape), ctx.output_type().dtype), "zero")
        return b.add("Expand", [zero, _ints(b, shape)], shape, output=name)
    data, low = x
    begin = [p.first + edge for p, edge in zip(phase, low, strict=True)]
    end = [p.end + edge + size - 1 for p, edge, size in zip(phase, low, shape[2:], strict=True)]
    window = {"strides": (1,) * n, "dilations": tuple(p.step for p in phase)}
    w, inner = weights.of(phase), None if ctx.attr("fill") else name
    y = add_convolution(ctx, b, _cut(b, data, begin, end), w, shape, window, inner)
    return _without_fill(ctx, b, y, b.constants.get(w), name)


def _cut(b: Builder, x: str, begin: Sequence[int], end: Sequence[int], name: str | None = None) -> str:
    """The part of x's spatial dimensions from `begin` to `end`; x itself where that is all of it and has no `name`."""
    lead, whole = b.type_of(x).shape[:2], b.type_of(x).shape[2:]
    part = [e - s for s, e in zip(begin, end, strict=True)]
    if name is None and part == list(whole):
        return x
    return b.add(
        "Slice", [x, *(_ints(b, v) for v in (begin, end, range(2, 2 + len(part))))], [*lead, *part], output=name
    )


def _as_channels(ctx: Context, b: Builder, phases: Sequence[Sequence[_Phase]], strides: Sequence[int]) -> None:
    """One convolution over the window of all phases, each of which has channels of its own; then these move to their
    places."""
    n, (batch, channels, *out) = len(strides), ctx.output_type().shape
    counts = [-(-size // s) for size, s in zip(out, strides, strict=True)]
    data, low = _padded(ctx, b, phases, counts)
    w = ctx.maybe_constant(1)
    assert w is not None
    w = _by_output(ctx, w)
    ends = [max(p.end for p in along if p.taps) + edge for along, edge in zip(phases, low, strict=True)]
    firsts = [min(p.first for p in along if p.taps) + edge for along, edge in zip(phases, low, strict=True)]
    window = [e - f for f, e in zip(firsts, ends, strict=True)]
    wide = np.zeros([channels, prod(strides), w.shape[1], *window], w.dtype)
    for k, start in enumerate(product(*map(range, strides))):
        phase = [along[p] for along, p in zip(phases, start, strict=True)]
        if all(p.taps for p in phase):
            begins = [p.first + edge - first for p, edge, first in zip(phase, low, firsts, strict=True)]
            at = [range(s, s + len(p.taps) * p.step, p.step) for p, s in zip(phase, begins, strict=True)]
            part = w[np.ix_(range(channels), range(w.shape[1]), *(p.taps for p in phase))]
            wide[:, k][np.ix_(range(channels), range(w.shape[1]), *at)] = part
    data = _cut(b, data, firsts, [e + count - 1 for e, count in zip(ends, counts, strict=True)])
    total = channels * prod(strides)
    y = b.add_internal(
        "Convolution",
        [data, b.constant(wide.reshape(total, w.shape[1], *window), "weight")],
        [batch, total, *counts],
        dtype=ctx.output_type().dtype,
        strides=(1,) * n,
        dilations=(1,) * n,
        group=ctx.attr("group", 1),
    )
    y = _without_fill(ctx, b, y, wide.reshape(total, w.shape[1], *window))
    bias = ctx.maybe_constant(2)
    if bias is not None:
        each = np.repeat(bias, prod(strides)).reshape(-1, *[1] * n)
        y = b.add("Add", [y, b.constant(each, "bias")], b.type_of(y).shape)
    late = ctx.has_input(2) and bias is None
    y = _in_place(b, y, strides, out, None if late else ctx.node.outputs[0])
    if late:
        add_bias(ctx, b, y, ctx.node.inputs[2], n + 2, 1, ctx.node.outputs[0])


def _in_place(b: Builder, y: str, strides: Sequence[int], out: Sequence[int], name: str | None) -> str:
    """y [N, O * strides..., counts...] → [N, O, out...], the channels of a phase at its pixels."""
    n, (batch, total, *counts) = len(strides), b.type_of(y).shape
    split = [batch, total // prod(strides), *strides, *counts]
    order = [0, 1, *(d for k in range(n) for d in (2 + n + k, 2 + k))]
    joined = [*split[:2], *(c * s for c, s in zip(counts, strides, strict=True))]
    whole = joined[2:] == list(out)
    y = b.add("Reshape", [y, _ints(b, split)], split)
    y = b.add("Transpose", [y], [split[d] for d in order], perm=order)
    y = b.add("Reshape", [y, _ints(b, joined)], joined, output=name if whole else None)
    return y if whole else _cut(b, y, [0] * n, out, name)
