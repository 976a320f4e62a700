"""Operators that are made anew for pictures of any size: of what a step of the run computes, and of sums.

Interpolation and mirrored borders read places that depend on the size: a step writes them and their weights into
tables (`Taps`), which `FollowTaps` follows. Normalisation over a picture is a mean that counts at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np

from dlpack.graph.ir import Node, Sizes, TensorType
from dlpack.graph.picture_node import PictureNode, Witness, differ, is_open
from dlpack.graph.registry import Builder, slice_of
from dlpack.loops.sizes import Size

POSITIONS = (
    "asymmetric", "align_corners", "half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "tf_half_pixel_for_nn",
)  # fmt: skip
"""Where output places lie in the input, as runtime_c/values.h numbers them."""

KERNELS = ("nearest", "linear", "cubic", "reflect", "edge", "wrap")
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")

_DENOMINATOR = 64
"""Scales are fractions with at most this below the line."""


_ONE_PLACE = {
    "taps": 1, "start": 0, "low": 0, "positions": 0, "rounding": 0, "normalise": 0, "scale": 0.0, "shrink": 1.0,
    "cubic": 0.0,
}  # fmt: skip


def _followed(n: PictureNode, b: Builder, x: str, axis: int, to: Size | None, **how: Any) -> str:
    """A value along an axis at places that the step "Taps" computes; see `TapsStep`, whose rule is `how`."""
    how = {**_ONE_PLACE, **how}
    shape = list(b.type_of(x).shape)
    sizes = n.known.get(x) or (None,) * len(shape)
    own = {"from": sizes[axis] or shape[axis], "to": to, **how}
    shape[axis] = how["whole"]
    rows = (how["whole"], how["taps"])
    names = [b.fresh("places"), *([b.fresh("weights")] if KERNELS[how["kernel"]] in ("linear", "cubic") else [])]
    for name, dtype in zip(names, ("int32", "float32"), strict=False):
        b.types[name] = TensorType(dtype, rows)
    b.raw_internal("Taps", (), names, own)
    y = b.add_internal("FollowTaps", [x, *names], shape, axis=axis, to=to)
    known = {**n.known, y: tuple(to if d == axis else s for d, s in enumerate(sizes))}
    object.__setattr__(n, "known", known)
    return y


def _resize(n: PictureNode, b: Builder) -> bool:
    """Whole enlargements by the nearest pixel stay, since nothing of them depends on the size; else taps."""
    node, t, shape = n.node, n.output_type(), list(n.input_type(0).shape)
    old = node.op == "Upsample" or node.opset < 11
    mode, kernel = _word(n, "coordinate_transformation_mode", "asymmetric" if old else "half_pixel"), _word(n, "mode")
    rounding = "floor" if old else _word(n, "nearest_mode", "round_prefer_floor")
    sizes, scales = _new_sizes(n), _scales(n)
    changed = [d for d, (a, m) in enumerate(zip(shape, t.shape, strict=True)) if a != m or n.sizes()[d] != sizes[d]]
    kept = kernel == "nearest" and mode not in ("align_corners", "tf_crop_and_resize")
    if kept and all(_whole(n.sizes()[d], sizes[d], scales[d], shape[d], t.shape[d]) for d in changed):
        b.raw(node, [t])
        return True
    if mode not in POSITIONS or kernel not in KERNELS or rounding not in ROUNDINGS or t.dtype != "float32":
        raise n.fail(f"resizes by {kernel}, {mode} of {t.dtype}, which is not supported for pictures of any size")
    if _word(n, "keep_aspect_ratio_policy", "stretch") != "stretch":
        raise n.fail("keeps the aspect ratio (keep_aspect_ratio_policy), so its scale depends on both sides")
    reach = {"nearest": 0, "linear": 1, "cubic": 2}[kernel]
    x = node.inputs[0]
    for d in sorted(changed, key=lambda a: t.shape[a] / shape[a]):
        scale, shrink = scales[d], 1.0
        if n.attr("antialias", 0) and reach and (scale is None or scale < 1):
            if scale is None:
                raise n.fail("smooths (antialias) by a scale that depends on the size: give it scales, not sizes")
            shrink = scale
        start = int(np.floor(-reach / shrink)) + 1
        x = _followed(
            n, b, x, d, sizes[d], whole=t.shape[d], taps=2 * (1 - start) if reach else 1, start=start,
            positions=POSITIONS.index(mode), kernel=KERNELS.index(kernel), rounding=ROUNDINGS.index(rounding),
            normalise=int(n.attr("exclude_outside", 0)) + 2 * (shrink < 1), scale=scale or 0.0, shrink=shrink,
            cubic=float(n.attr("cubic_coeff_a", -0.75)),
        )  # fmt: skip
    b.add("Identity", [x], t.shape, output=node.outputs[0])
    return True


def enlarged(node: Node, witnesses: Sequence[Witness]) -> bool:
    """Whether a value whose size is always the same is brought to one that depends on the picture's."""
    if node.op not in ("Resize", "Upsample", "Expand"):
        return False
    return len({w.graph.types[node.outputs[0]].shape for w in witnesses if node.outputs[0] in w.graph.types}) > 1


def _expand(n: PictureNode, b: Builder) -> bool:
    """Repeated pixels, each by taps of a border."""
    x, t = n.node.inputs[0], n.output_type()
    shape = n.input_type(0).shape
    if len(shape) != len(t.shape) or t.dtype != "float32":
        raise n.fail("repeats a value over the picture, which is supported for values of as many dimensions of float32")
    sizes = _new_sizes(n)
    for d, (a, m) in enumerate(zip(shape, t.shape, strict=True)):
        if a != m:
            x = _followed(n, b, x, d, sizes[d], whole=m, kernel=KERNELS.index("edge"))
    b.add("Identity", [x], t.shape, output=n.node.outputs[0])
    return True


def _word(n: PictureNode, key: str, usual: str = "nearest") -> str:
    value = n.attr(key, usual)
    return value.decode() if isinstance(value, bytes) else str(value)


def _whole(size: Size | None, to: Size | None, scale: float | None, a: int, m: int) -> bool:
    """Whether an axis becomes so many times as long in every size."""
    if size is None:
        return to is None
    times, rest = divmod(m, a)
    return not rest and to == size * times and (scale is None or scale == times)


def _scales(n: PictureNode) -> list[float | None]:
    """The scale of each dimension, None where it follows from the sizes."""
    rank = len(n.output_type().shape)
    axes = [int(a) % rank for a in n.attr("axes") or range(rank)]
    at = 1 if n.node.op == "Upsample" or n.node.opset < 11 else 2
    if n.node.op == "Upsample" and n.node.opset < 9:
        given: list[Any] = [np.array(n.attr("scales"))]
    elif n.has_input(at):
        name = n.node.inputs[at]
        given = [g.constants.get(name) for g in (n.graph, *(w.graph for w in n.witnesses))]
    else:
        return [None] * rank
    if given[0] is None:
        raise n.fail("has scales that only a run knows")
    out: list[float | None] = [None] * rank
    for k, a in enumerate(axes if given[0].size else ()):
        own = {None if g is None or g.size <= k else float(g.reshape(-1)[k]) for g in given}
        out[a] = own.pop() if len(own) == 1 else None
    return out if given[0].size else [None] * rank


def _new_sizes(n: PictureNode) -> Sizes:
    """What each extent of the output is in a run: it agrees with the model at all sizes that are known."""
    name, t = n.node.outputs[0], n.output_type()
    scales = _scales(n)
    out: list[Size | None] = []
    for d, extent in enumerate(t.shape):
        seen = [(w.numbers, w.graph.types[name].shape[d]) for w in n.witnesses if name in w.graph.types]
        if n.sizes()[d] is None and all(m == extent for _, m in seen):
            out.append(None)
            continue
        found = [s for s in dict.fromkeys(_candidates(n, d, scales[d])) if all(s.in_run(at) == m for at, m in seen)]
        if (not found and any(m != extent for _, m in seen)) or differ(found, [at for at, _ in seen]):
            raise n.fail("has a size that is no function of the open dimension that is known: give steps, as in /16")
        out.append(found[0] if found else None)
    return tuple(out)


def _candidates(n: PictureNode, d: int, scale: float | None) -> Iterator[Size]:
    size = n.sizes()[d]
    for sizes in n.known.values() if scale is None else ():  # what a size was taken from
        yield from (s for k, s in enumerate(sizes) if s is not None and k == d)
    if size is not None:
        a, m = n.input_type(0).shape[d], n.output_type().shape[d]
        part = Fraction(scale).limit_denominator(_DENOMINATOR) if scale else Fraction(m, a)
        scaled = (size * part.numerator) // part.denominator
        if scaled is not None:
            yield scaled


def _pad(n: PictureNode, b: Builder) -> bool:
    """Constant borders stay; mirrored ones are read by taps."""
    rank = len(n.input_type(0).shape)
    pads = list(n.attr("pads") if n.node.opset < 11 else n.ints(1, "pads"))
    mode = _word(n, "mode", "constant")
    if n.has_input(3):
        axes, given = [int(a) % rank for a in n.ints(3, "axes")], pads
        pads = [0] * (2 * rank)
        for k, a in enumerate(axes):
            pads[a], pads[rank + a] = given[k], given[len(axes) + k]
    opened = [d for d in range(rank) if n.sizes()[d] is not None and (pads[d] or pads[rank + d])]
    if min(pads) < 0:
        raise n.fail("cuts (negative pads) pictures of any size")
    if mode == "constant" or not opened:
        b.raw(n.node, [n.output_type()])
        return True
    if n.output_type().dtype != "float32":
        raise n.fail(f"mirrors {n.output_type().dtype}, and pictures of any size are of float32")
    x, shape = n.node.inputs[0], n.input_type(0).shape
    for d in range(rank):
        low, high = pads[d], pads[rank + d]
        if low or high:
            size = n.sizes()[d]
            to = None if size is None else size + (low + high)
            x = _followed(n, b, x, d, to, whole=shape[d] + low + high, kernel=KERNELS.index(mode), low=low)
    b.add("Identity", [x], n.output_type().shape, output=n.node.outputs[0])
    return True


# --- means and deviations ---------------------------------------------------------------------------------------------


def over_pictures(b: Builder, x: str, axes: Sequence[int], largest: bool = False) -> str:
    """The sum, or the maximum, along some axes, which are kept: first over the pixels of each channel, if over all."""
    shape = list(b.type_of(x).shape)
    spatial = list(range(2, len(shape)))
    if spatial and set(axes) >= set(spatial):
        shape[2:] = [1] * len(spatial)
        x = b.add("GlobalMaxPool", [x], shape) if largest else b.add_internal("GlobalSum", [x], shape)
        axes = [a for a in axes if a < 2 and shape[a] != 1]
    if axes:
        kept = [1 if d in axes else m for d, m in enumerate(shape)]
        op = "ReduceMax" if largest else "ReduceSum"
        x = b.add_internal(op, [x], kept, axes=tuple(axes), keepdims=1, of="")
    return x


def average(b: Builder, x: str, axes: Sequence[int], sizes: Sequence[Size | None]) -> str:
    """The mean along some axes, which are kept; `sizes` are those of all."""
    shape = b.type_of(x).shape
    kept = [1 if d in axes else m for d, m in enumerate(shape)]
    total = over_pictures(b, x, axes)
    fixed = prod(shape[a] for a in axes if sizes[a] is None)
    own = [s for a in axes if (s := sizes[a]) is not None]
    factor = b.share(own, fixed, len(shape)) if own else b.constant(np.asarray(1.0 / fixed, np.float32), "factor")
    return b.add("Mul", [total, factor], kept)


_OF = {"ReduceL1": "Abs", "ReduceL2": "Mul", "ReduceSumSquare": "Mul"}
_THEN = {"ReduceL2": "Sqrt", "ReduceLogSum": "Log"}


def _reduce(n: PictureNode, b: Builder) -> bool:
    """Over all pixels, and perhaps others, a sum or a maximum of pictures; over other dimensions as it is."""
    t, shape, op, axes = n.output_type(), n.input_type(0).shape, n.node.op, n.axes()
    spatial = set(range(2, len(shape)))
    if not spatial or not spatial <= set(axes) or t.dtype != "float32":
        b.raw(n.node, [t])
        return True
    x, kept = n.node.inputs[0], [1 if d in axes else m for d, m in enumerate(shape)]
    if op in _OF:
        x = b.add(_OF[op], [x, x] if _OF[op] == "Mul" else [x], shape)
    if op == "ReduceMin":
        x = b.add("Neg", [x], shape)
    y = over_pictures(b, x, axes, largest=op in ("ReduceMax", "ReduceMin"))
    if op == "ReduceMin":
        y = b.add("Neg", [y], kept)
    if op in _THEN:
        y = b.add(_THEN[op], [y], kept)
    b.add("Reshape", [y, b.constant(np.array(t.shape, np.int64), "shape")], t.shape, output=n.node.outputs[0])
    return True


def _per_channel(n: PictureNode, b: Builder, name: str) -> str:
    """A value per channel, or up to opset 20 per group of channels, as one that is broadcast."""
    _, channels, *rest = n.output_type().shape
    shape = [channels] + [1] * len(rest)
    count, value = b.type_of(name).shape[0], b.graph.constants.get(name)
    if value is not None:
        return b.constant(np.repeat(value, channels // count).reshape(shape), "channel")
    if count != channels:
        raise n.fail("has a scale per group that only a run knows")
    return b.add("Reshape", [name, b.constant(np.array(shape, np.int64), "shape")], shape)


def _instance_norm(n: PictureNode, b: Builder) -> bool:
    x, t = n.node.inputs[0], n.output_type()
    rank = len(t.shape)
    axes = list(range(2, rank))
    kept = [*t.shape[:2], *[1] * (rank - 2)]
    centred = b.add("Sub", [x, average(b, x, axes, n.sizes())], t.shape)
    variance = average(b, b.add("Mul", [centred, centred], t.shape), axes, n.sizes())
    _scaled(n, b, centred, variance, kept)
    return True


def _deviation(n: PictureNode, b: Builder, variance: str, kept: Sequence[int]) -> str:
    """One over the deviation."""
    dtype = n.output_type().dtype
    epsilon = b.constant(np.asarray(n.attr("epsilon", 1e-5), dtype), "epsilon")
    shifted = b.add("Add", [variance, epsilon], kept)
    return b.add("Pow", [shifted, b.constant(np.asarray(-0.5, dtype), "power")], kept)


def _scaled(n: PictureNode, b: Builder, centred: str, variance: str, kept: Sequence[int]) -> None:
    """What is centred by its deviation, times a scale and plus a bias per channel."""
    t = n.output_type()
    factor = _deviation(n, b, variance, kept)
    factor = b.add("Mul", [factor, _per_channel(n, b, n.node.inputs[1])], kept)
    y = b.add("Mul", [centred, factor], t.shape)
    b.add("Add", [y, _per_channel(n, b, n.node.inputs[2])], t.shape, output=n.node.outputs[0])


def _group_norm(n: PictureNode, b: Builder) -> bool:
    """Sums of channels first, then of a group's channels."""
    x, t, groups = n.node.inputs[0], n.output_type(), int(n.attr("num_groups"))
    rank, (batch, channels) = len(t.shape), t.shape[:2]
    each, kept = channels // groups, [*t.shape[:2], *[1] * (len(t.shape) - 2)]
    split = [batch, groups, each]

    def of_group(value: str) -> str:
        """The mean over a group of its channels' means, for each channel."""
        mean = average(b, value, list(range(2, rank)), n.sizes())
        rows = b.add("Reshape", [mean, b.constant(np.array(split, np.int64), "shape")], split)
        total = b.add_internal("ReduceSum", [rows], [batch, groups, 1], axes=(2,), keepdims=1, of="")
        share = b.constant(np.asarray(1.0 / each, t.dtype), "factor")
        same = b.add("Mul", [b.add("Mul", [total, share], [batch, groups, 1]),
                             b.constant(np.ones((1, 1, each), t.dtype), "ones")], split)  # fmt: skip
        return b.add("Reshape", [same, b.constant(np.array(kept, np.int64), "shape")], kept)

    centred = b.add("Sub", [x, of_group(x)], t.shape)
    variance = of_group(b.add("Mul", [centred, centred], t.shape))
    _scaled(n, b, centred, variance, kept)
    return True


def _layer_norm(n: PictureNode, b: Builder) -> bool:
    """Over channels as it is; over whole pictures as means, with scales that are the same for all pixels."""
    x, t, rank = n.node.inputs[0], n.output_type(), len(n.sizes())
    axes = list(range(int(n.attr("axis", -1)) % rank, rank))
    if not is_open(tuple(n.sizes()[a] for a in axes)):
        b.raw(n.node, [b.type_of(o) if o else TensorType("float32", ()) for o in n.node.outputs])
        return True
    kept = [1 if d in axes else m for d, m in enumerate(t.shape)]
    if any(n.node.outputs[1:]) or t.dtype != "float32":
        raise n.fail("gives its means as well, or is not of float32, which is not supported for pictures of any size")
    centred = b.add("Sub", [x, average(b, x, axes, n.sizes())], t.shape)
    variance = average(b, b.add("Mul", [centred, centred], t.shape), axes, n.sizes())
    y = b.add("Mul", [centred, _deviation(n, b, variance, kept)], t.shape)
    for op, i in (("Mul", 1), ("Add", 2)):
        if n.has_input(i):
            y = b.add(op, [y, n.node.inputs[i]], t.shape)
    b.add("Identity", [y], t.shape, output=n.node.outputs[0])
    return True


def _softmax(n: PictureNode, b: Builder) -> bool:
    axis = int(n.attr("axis", -1 if n.node.opset >= 13 else 1)) % len(n.sizes())
    if n.sizes()[axis] or (n.node.opset < 13 and is_open(n.sizes()[axis:])):
        raise n.fail("works along the open dimension")
    b.raw(n.node, [n.output_type()])
    return True


def _gather(n: PictureNode, b: Builder) -> bool:
    """Places from the end of an open dimension are counted in a run."""
    axis = int(n.attr("axis", 0)) % len(n.sizes())
    size, places, t = n.sizes()[axis], n.maybe_constant(1), n.output_type()
    if size is None:
        b.raw(n.node, [t])
        return True
    if places is None or places.size != 1 or places.item() >= 0:
        raise n.fail("chooses from the open dimension, and not its last element")
    place = b.count(size + int(places.item()), places.ndim, places.dtype.name)
    b.add("Gather", [n.node.inputs[0], place], t.shape, output=n.node.outputs[0], axis=axis)
    return True


def _slice(n: PictureNode, b: Builder) -> bool:
    """The last elements, so many in all sizes, or all in reversed order, are chosen by places that a run counts."""
    old, new = n.input_type(0).shape, n.output_type().shape
    name = n.node.outputs[0]
    same = {d for d in range(len(old)) if len({w.graph.types[name].shape[d] for w in n.witnesses}) == 1}
    for start, _, axis, step in zip(*slice_of(n), strict=True):
        size, count = n.sizes()[axis], new[axis]
        back = step == -1 and count == old[axis] and (start == -1 or start >= count - 1)
        last = step == 1 and start < 0 and axis in same
        if size is None or not (back or last):
            continue
        if any(a != m for d, (a, m) in enumerate(zip(old, new, strict=True)) if d != axis):
            raise n.fail("cuts two dimensions at once, one of them from the end of the open one")
        base = np.arange(count, dtype=np.int64) + start if last else -1 - np.arange(count, dtype=np.int64)
        table = b.constant(base, "base")
        b.types[table] = replace(b.types[table], sizes=(size,) if back else ())
        places = b.add("Add", [table, b.count(size, 1)], [count])
        b.add("Gather", [n.node.inputs[0], places], new, output=name, axis=axis)
        return True
    b.raw(n.node, [n.output_type()])
    return True


def _arg_extreme(n: PictureNode, b: Builder) -> bool:
    if n.sizes()[int(n.attr("axis", 0)) % len(n.sizes())] is not None:
        raise n.fail("looks for a place along the open dimension")
    b.raw(n.node, [n.output_type()])
    return True


REPLACED: Mapping[str, Callable[[PictureNode, Builder], bool]] = {
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    "Expand": _expand,
    "Pad": _pad,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "LayerNormalization": _layer_norm,
    **dict.fromkeys((*_OF, *_THEN, "ReduceSum", "ReduceMax", "ReduceMin"), _reduce),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg_extreme),
    "Gather": _gather,
    "Slice": _slice,
}
"""By operator, what adds the nodes that replace it, and says whether it did."""


# --- reshapes ---------------------------------------------------------------------------------------------------------


def reshaped(n: PictureNode) -> Sizes:
    """The sizes behind a reshape that keeps open dimensions apart, or splits from them and merges with them what lies
    within: pixels become blocks of pixels."""
    old, new = n.input_type(0).shape, n.output_type().shape
    out: list[Size | None] = []
    left, sizes = [(m, s) for m, s in zip(old, n.sizes(), strict=True) if m != 1 or s is not None], list(new)
    while sizes:
        group: list[tuple[int, Size | None]] = []
        made = [sizes.pop(0)]
        if made[0] == 1 and not (left and left[0][1] is not None and left[0][0] == 1):
            out.append(None)
            continue
        while prod(m for m, _ in group) != prod(made) or not group:
            if left and (not group or prod(m for m, _ in group) < prod(made)):
                group.append(left.pop(0))
            elif sizes:
                made.append(sizes.pop(0))
            else:
                raise n.fail("joins the open dimension with others")
        out += _group(n, group, made)
    return tuple(out)


def _group(n: PictureNode, group: Sequence[tuple[int, Size | None]], made: Sequence[int]) -> list[Size | None]:
    (_, first), *within = group
    if first is not None and first.columns is not None and (within or len(made) > 1):
        raise n.fail("joins all pixels of a picture with other dimensions, or splits them")
    if any(s is not None for _, s in within):
        raise n.fail("joins the open dimension with others")
    if first is None:
        return [None] * len(made)
    part = Fraction(prod(m for m, _ in within), prod(made[1:]))
    size = (first * part.numerator) // part.denominator
    if size is None or size * part.denominator != first * part.numerator:
        raise n.fail("splits the open dimension, which may be no multiple: give its sizes in steps, as in 64..512/16")
    return [size, *[None] * (len(made) - 1)]
