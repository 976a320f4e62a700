"""Converters of TensorFlow's operators that tf2onnx does not have, or converts wrongly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dlpack.errors import UnsupportedError


def erfc(ctx: Any, node: Any, name: str, _args: Any) -> None:
    """1 - erf(x), as TensorFlow's gelu has it."""
    (x,), (y,) = node.input, node.output
    shapes, dtypes = node.output_shapes, node.output_dtypes
    ctx.remove_node(name)
    erf = ctx.make_node("Erf", [x], name=f"{name}_erf", shapes=shapes, dtypes=dtypes).output[0]
    one = ctx.make_const(f"{name}_one", np.array(1, np.float32))
    ctx.make_node("Sub", [one.output[0], erf], outputs=[y], name=name, shapes=shapes, dtypes=dtypes)


def bucketize(ctx: Any, node: Any, name: str, _args: Any) -> None:
    """How many of the boundaries are not above x."""
    (x,), (y,) = node.input, node.output
    shapes, dtypes = node.output_shapes, node.output_dtypes
    boundaries = np.array(node.get_attr_value("boundaries"), np.float32)
    ctx.remove_node(name)
    last = ctx.make_const(f"{name}_last", np.array([-1], np.int64)).output[0]
    bounds = ctx.make_const(f"{name}_boundaries", boundaries).output[0]
    real = ctx.make_node("Cast", [x], name=f"{name}_real", attr={"to": 1}).output[0]
    column = ctx.make_node("Unsqueeze", [real, last], name=f"{name}_column").output[0]
    reached = ctx.make_node("GreaterOrEqual", [column, bounds], name=f"{name}_reached").output[0]
    counted = ctx.make_node("Cast", [reached], name=f"{name}_counted", attr={"to": 6}).output[0]
    ctx.make_node("ReduceSum", [counted, last], outputs=[y], name=name, attr={"keepdims": 0}, shapes=shapes,
                  dtypes=dtypes)  # fmt: skip


# --- pictures of another size -----------------------------------------------------------------------------------------


def resize(ctx: Any, node: Any, name: str, _args: Any) -> None:
    """Bilinear or nearest, with the size that TensorFlow has: tf2onnx gives factors, whose product may be one less."""
    size = node.input[1]
    corners, half = (bool(node.get_attr_value(k, 0)) for k in ("align_corners", "half_pixel_centers"))
    attributes: dict[str, Any] = {"mode": "linear" if node.type == "ResizeBilinear" else "nearest"}
    middle = "half_pixel" if half else "asymmetric"
    attributes["coordinate_transformation_mode"] = "align_corners" if corners else middle
    if attributes["mode"] == "nearest":
        attributes["nearest_mode"] = "round_prefer_ceil" if corners or half else "floor"

    def made(x: str) -> str:
        begin, end = (ctx.make_const(f"{name}_{k}", np.array([k], np.int64)).output[0] for k in (0, 2))
        shape = ctx.make_node("Shape", [x], name=f"{name}_shape").output[0]
        kept = ctx.make_node("Slice", [shape, begin, end], name=f"{name}_kept").output[0]
        whole = ctx.make_node("Cast", [size], name=f"{name}_size", attr={"to": 7}).output[0]
        sizes = ctx.make_node("Concat", [kept, whole], name=f"{name}_sizes", attr={"axis": 0}).output[0]
        return str(ctx.make_node("Resize", [x, "", "", sizes], name=f"{name}_resized", attr=attributes).output[0])

    _channels_first(ctx, node, name, made)


def resize_area(ctx: Any, node: Any, name: str, _args: Any) -> None:
    """The mean over the area that each pixel of the result covers, along each dimension."""
    if node.get_attr_value("align_corners", 0):
        raise UnsupportedError(f"node '{name}': ResizeArea with align_corners is not supported")
    shape, size = _sizes(ctx, node)
    _by_products(ctx, node, name, [_areas(n, m) for n, m in zip(shape[1:3], size, strict=True)])


def resize_cubic(ctx: Any, node: Any, name: str, _args: Any) -> None:
    """Four pixels of each dimension; TensorFlow rounds their weights' place to 1/1024."""
    shape, size = _sizes(ctx, node)
    corners, half = (bool(node.get_attr_value(k, 0)) for k in ("align_corners", "half_pixel_centers"))
    _by_products(ctx, node, name, [_cubics(n, m, corners, half) for n, m in zip(shape[1:3], size, strict=True)])


def scale_and_translate(ctx: Any, node: Any, name: str, _args: Any) -> None:
    """Resizing with a kernel over the pixels around a place, along each dimension."""
    shape, size = _sizes(ctx, node)
    scale, shift = (_known(node, k, "scale or translation") for k in (2, 3))
    kernel = node.get_attr_value("kernel_type", b"lanczos3")
    kernel = kernel.decode() if isinstance(kernel, bytes) else str(kernel)
    if kernel not in _KERNELS:
        raise UnsupportedError(f"node '{name}': ScaleAndTranslate with the kernel {kernel} is not supported")
    smooth = bool(node.get_attr_value("antialias", 1))
    weights = [
        _spans(n, m, 1 / float(scale[k]), float(shift[k]), kernel, smooth)
        for k, (n, m) in enumerate(zip(shape[1:3], size, strict=True))
    ]
    _by_products(ctx, node, name, weights)


def _sizes(ctx: Any, node: Any) -> tuple[list[int], list[int]]:
    """The input's shape [batch, height, width, channels], and the result's height and width."""
    shape, result = ctx.get_shape(node.input[0]), ctx.get_shape(node.output[0])
    known = shape is not None and result is not None and len(shape) == len(result) == 4
    size = list(result[1:3]) if known else []
    if not known or min(*shape, *size) < 1:
        raise UnsupportedError(f"node '{node.name}': {node.type} of a picture of an unknown size is not supported")
    return list(shape), size


def _known(node: Any, k: int, what: str) -> Any:
    if not node.inputs[k].is_const():
        raise UnsupportedError(f"node '{node.name}': {node.type} with a computed {what} is not supported")
    return np.asarray(node.inputs[k].get_tensor_value(as_list=False)).reshape(-1)


def _channels_first(ctx: Any, node: Any, name: str, make: Callable[[str], str]) -> None:
    """Replaces the node by what `make` does with channels before height and width, in float32."""
    shapes, dtypes = node.output_shapes, node.output_dtypes
    x, y = node.input[0], node.output[0]
    ctx.remove_node(name)
    x = ctx.make_node("Cast", [x], name=f"{name}_real", attr={"to": 1}).output[0]
    x = ctx.make_node("Transpose", [x], name=f"{name}_first", attr={"perm": [0, 3, 1, 2]}).output[0]
    last = ctx.make_node("Transpose", [make(x)], name=f"{name}_last", attr={"perm": [0, 2, 3, 1]}).output[0]
    ctx.make_node("Cast", [last], outputs=[y], name=name, attr={"to": dtypes[0]}, shapes=shapes, dtypes=dtypes)


def _by_products(ctx: Any, node: Any, name: str, weights: list[Any]) -> None:
    """The result is rows @ picture @ columns; `weights` are those of rows and columns, [size, size of the input]."""
    rows = ctx.make_const(f"{name}_rows", weights[0].astype(np.float32)).output[0]
    columns = ctx.make_const(f"{name}_columns", weights[1].T.astype(np.float32)).output[0]

    def made(x: str) -> str:
        lines = ctx.make_node("MatMul", [x, columns], name=f"{name}_across").output[0]
        return str(ctx.make_node("MatMul", [rows, lines], name=f"{name}_down").output[0])

    _channels_first(ctx, node, name, made)


def _areas(n: int, m: int) -> Any:
    """[m, n]: the share of each pixel of the input in the area of each of the result."""
    step = n / m
    begins, pixels = np.arange(m)[:, None] * step, np.arange(n)[None]
    covered = np.minimum(begins + step, pixels + 1) - np.maximum(begins, pixels)
    return np.clip(covered, 0, None) / step


def _cubics(n: int, m: int, corners: bool, half: bool) -> Any:
    """[m, n]: the weights of a bicubic result. Pixels beyond the edge have none, or, in the older form, the edge's."""
    step = np.float32(n - 1) / np.float32(m - 1) if corners and m > 1 else np.float32(n) / np.float32(m)
    middle = np.float32(0.5 if half else 0.0)
    place = (np.arange(m, dtype=np.float32) + middle) * step - middle
    first = np.floor(place)
    part, a = np.rint((place - first) * 1024) / 1024, -0.5 if half else -0.75
    weights = np.zeros((m, n))
    for k in range(-1, 3):
        d, at = np.abs(part - k), first.astype(int) + k
        weight = np.where(d <= 1, ((a + 2) * d - (a + 3)) * d * d + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a)
        inside = at.clip(0, n - 1)
        np.add.at(weights, (np.arange(m), inside), np.where((at == inside) | (not half), weight, 0.0))
    total = weights.sum(1, keepdims=True)
    return weights / total if half else weights


_KERNELS: dict[str, tuple[float, Callable[[Any], Any]]] = {
    "box": (0.5, lambda d: np.where(d < 0.5, 1.0, np.where(d == 0.5, 0.5, 0.0))),
    "triangle": (1.0, lambda d: np.clip(1 - d, 0, None)),
    "gaussian": (1.5, lambda d: np.where(d < 1.5, np.exp(-d * d / 0.5), 0.0)),
    "keyscubic": (2.0, lambda d: np.where(d >= 2, 0.0, np.where(
        d >= 1, ((-0.5 * d + 2.5) * d - 4) * d + 2, (1.5 * d - 2.5) * d * d + 1))),
    "mitchellcubic": (2.0, lambda d: np.where(d >= 2, 0.0, np.where(
        d >= 1, ((-7 / 18 * d + 2) * d - 10 / 3) * d + 16 / 9, (7 / 6 * d - 2) * d * d + 8 / 9))),
    "lanczos1": (1.0, lambda d: np.where(d < 1, np.sinc(d) * np.sinc(d), 0.0)),
    "lanczos3": (3.0, lambda d: np.where(d < 3, np.sinc(d) * np.sinc(d / 3), 0.0)),
    "lanczos5": (5.0, lambda d: np.where(d < 5, np.sinc(d) * np.sinc(d / 5), 0.0)),
}  # fmt: skip
"""TensorFlow's kernels: the radius, and the weight at a distance."""


def _spans(n: int, m: int, step: float, shift: float, kind: str, smooth: bool) -> Any:
    """[m, n]: the weights of the input's pixels for each of the result, as TensorFlow's ScaleAndTranslate has them."""
    radius, kernel = _KERNELS[kind]
    wide = max(step, 1.0) if smooth else 1.0
    place = (np.arange(m)[:, None] + 0.5) * step - shift * step
    away = np.abs(np.arange(n)[None] + 0.5 - place)
    weights = np.where(away <= radius * wide, kernel(away / wide), 0.0) * ((place >= 0) & (place <= n))
    total = weights.sum(1, keepdims=True)
    return weights / np.where(np.abs(total) < 1e-6, 1.0, total)


HANDLERS: dict[str, Any] = {
    "Erfc": (erfc, []),
    "Bucketize": (bucketize, []),
    "ResizeBilinear": (resize, []),
    "ResizeNearestNeighbor": (resize, []),
    "ResizeBicubic": (resize_cubic, []),
    "ResizeArea": (resize_area, []),
    "ScaleAndTranslate": (scale_and_translate, []),
}
