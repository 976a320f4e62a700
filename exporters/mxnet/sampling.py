"""MXNet's operators that read pictures between their pixels: samplers, spatial transformers, ROIAlign."""

from __future__ import annotations

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted, Shape
from dlpack.exporters.layers import reshape, slice_axis
from dlpack.exporters.mxnet.call import Call, converts


@converts("BilinearSampler")
def bilinear_sampler(c: Call) -> str:
    """x (N, C, H, W) at the places (N, 2, h, w), x before y, in -1..1 from the first to the last pixel's middle."""
    return _sample(c, c.x(0), c.x(1))


def _sample(c: Call, x: str, grid: str) -> str:
    """A `grid` (N, 2, h, w); outside of the picture is zero."""
    places = c.op_("Transpose", grid, perm=[0, 2, 3, 1])
    return c.op_("GridSample", c.floating(x), places, mode="bilinear", padding_mode="zeros", align_corners=1)


@converts("GridGenerator")
def grid_generator(c: Call) -> str:
    kind, x = c.p.text("transform_type"), c.x(0)
    if kind == "affine":
        return _affine_grid(c, x, c.p.ints("target_shape"))
    if kind != "warp":
        raise ModelError(f"its transform_type is {kind[:20]!r}")
    _, _, height, width = c.g.shape(x)  # a flow (N, 2, H, W) in pixels
    ends = np.array([max(width - 1, 1), max(height - 1, 1)], np.float32).reshape(1, 2, 1, 1)
    base = np.stack(np.meshgrid(np.arange(width), np.arange(height)))[None].astype(np.float32)
    moved = c.op_("Mul", c.op_("Add", x, c.g.constant(base)), c.g.constant(2 / ends))
    return c.op_("Sub", moved, c.g.scalar(1.0))


def _affine_grid(c: Call, theta: str, size: Shape) -> str:
    """(N, 2, h, w): the places in -1..1 that the matrices `theta`, (N, 6) as 2 x 3, make of the pixels' own."""
    if len(size) != 2 or min(size) < 1:
        raise ModelError(f"its target_shape is {list(size)}; it needs two positive numbers")
    c.g.claim("the grid", (3, *size))
    (y, x), batch = (np.linspace(-1, 1, n) if n > 1 else np.array([-1.0]) for n in size), c.g.shape(theta)[0]
    grid = np.stack([*np.meshgrid(x, y), np.ones(size)]).reshape(3, -1).astype(np.float32)
    places = c.op_("MatMul", reshape(c.g, theta, (batch, 2, 3)), c.g.constant(grid))
    return reshape(c.g, places, (batch, 2, *size))


@converts("SpatialTransformer")
def spatial_transformer(c: Call) -> str:
    if (c.p.text("transform_type"), c.p.text("sampler_type")) != ("affine", "bilinear"):
        raise ModelError("its transform_type is not 'affine', or its sampler_type not 'bilinear'")
    x = c.x(0)
    size = c.p.ints("target_shape")
    size = c.g.shape(x)[2:] if size in ((), (0, 0)) else size
    return _sample(c, x, _affine_grid(c, c.x(1), size))


@converts("_contrib_ROIAlign", "ROIAlign")
def roi_align(c: Call) -> str:
    """Regions (R, 5), the picture's number before the corners; of a negative number the output is zero."""
    if c.p.bool("position_sensitive"):
        raise NotConverted("position_sensitive=True")
    size, samples = c.p.ints("pooled_size"), c.p.int("sample_ratio", -1)
    if len(size) != 2 or min(size) < 1:
        raise ModelError(f"its pooled_size is {list(size)}; it needs two positive numbers")
    rois = c.x(1)
    rows = c.g.shape(rois)[0]
    number = reshape(c.g, slice_axis(c.g, rois, 1, 0, 1), (rows,))
    picture = c.op_("Max", c.cast(number, np.int64), c.g.scalar_int(0))
    y = c.op_(
        "RoiAlign",
        c.floating(c.x(0)),
        slice_axis(c.g, rois, 1, 1, 5),
        picture,
        mode="avg",
        output_height=size[0],
        output_width=size[1],
        sampling_ratio=max(samples, 0),
        spatial_scale=c.p.float("spatial_scale"),
        coordinate_transformation_mode="half_pixel" if c.p.bool("aligned") else "output_half_pixel",
    )
    used = c.op_("GreaterOrEqual", reshape(c.g, number, (rows, 1, 1, 1)), c.g.scalar(0.0))
    return c.op_("Where", used, y, c.g.scalar(0.0))
