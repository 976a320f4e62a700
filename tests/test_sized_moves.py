"""Pads, sizes, factors, branches and depths that only a run knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from test_sized import check, numbers

PADS = """
net (float[2,5] x, int64[2] p, float fill) => (float[2,a] constant, float[2,b] edge, float[2,c] reflected,
  float[2,d] wrapped, float[e] behind)
<int64 zero = {0}, int64[1] last = {1}, float low = {0.2}, int64[2] two = {2, 1}>
{
  constant = Pad (x, p, fill, last)
  edge = Pad <mode = "edge"> (x, p, , last)
  reflected = Pad <mode = "reflect"> (x, p, , last)
  wrapped = Pad <mode = "wrap"> (x, p, , last)
  good = Greater (x, low)
  row = Gather <axis = 0> (x, zero)
  keep = Gather <axis = 0> (good, zero)
  some = Compress <axis = 0> (row, keep)
  behind = Pad <mode = "edge"> (some, two)
}
"""


def test_pads_of_a_run(tmp_path: Path) -> None:
    """Also negative ones, and beside a size that only the run knows; reflections may go further than once."""
    x = numbers((2, 5), 1)
    x[0, 2] = 1
    feeds = [
        {"x": x, "p": np.array(p), "fill": np.array(7, np.float32)} for p in ([0, 0], [4, 1], [0, 3], [-1, 2], [-2, -2])
    ]
    check(tmp_path, PADS, *feeds, opset=19, maxima={"p": 4}, ranges={"p": (0, 4), "x": (0.5, 1)})


SIZES = """
net (float[1,2,5,7] x, int64[2] size, float[1] factor) => (float[1,2,a,b] near, float[1,2,a,b] aligned,
  float[1,2,a,b] half, float[1,2,c,d] by_factor, float[1,2,a,b] whole, float[1,2,3,4] crop,
  float[1,2,a,b] cubic, float[1,2,a,b] inside, float[1,2,c,d] cubic_by, float[1,2,c,d] middle, float[1,2,a,b] shifted)
<int64[2] lead = {1, 2}, float[2] one = {1, 1}, int64[1] zero = {0}, int64[1] end = {1}, int64[1] axis = {2},
  int64[4] small = {1, 2, 3, 4}>
{
  sizes = Concat <axis = 0> (lead, size)
  near = Resize <mode = "nearest"> (x, , , sizes)
  whole = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">
    (x, , , sizes)
  aligned = Resize <mode = "linear", coordinate_transformation_mode = "align_corners"> (x, , , sizes)
  half = Resize <mode = "linear", coordinate_transformation_mode = "pytorch_half_pixel"> (x, , , sizes)
  factors = Concat <axis = 0> (one, factor, factor)
  by_factor = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (x, , factors)
  height = Slice (size, zero, end)
  part = Slice (x, zero, height, axis)
  crop = Resize <mode = "linear"> (part, , , small)
  cubic = Resize <mode = "cubic"> (x, , , sizes)
  inside = Resize <mode = "cubic", exclude_outside = 1, cubic_coeff_a = -0.5,
    coordinate_transformation_mode = "align_corners"> (x, , , sizes)
  cubic_by = Resize <mode = "cubic", coordinate_transformation_mode = "asymmetric"> (x, , factors)
  middle = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel_symmetric"> (x, , factors)
  shifted = Resize <coordinate_transformation_mode = "tf_half_pixel_for_nn", nearest_mode = "floor"> (x, , , sizes)
}
"""


def test_sizes_and_factors_of_a_run(tmp_path: Path) -> None:
    feeds = [
        {"x": numbers((1, 2, 5, 7), 1), "size": np.array(size), "factor": np.array([factor], np.float32)}
        for size, factor in (([5, 7], 1.0), ([8, 3], 1.6), ([1, 9], 0.5), ([4, 1], 0.37))
    ]
    maxima = {"size": 9, "by_factor": 12, "cubic_by": 12, "middle": 12}
    check(tmp_path, SIZES, *feeds, opset=19, maxima=maxima, ranges={"size": (1, 9), "factor": (0.3, 1.6)})


def test_branches_of_different_sizes(tmp_path: Path) -> None:
    """What follows is computed on as many elements as the branch that is taken gives."""
    text = """net (float[3,2] x, bool turn, bool twice) => (float[n,2] y, float[n] sums, float[m] few)
    <int64[1] all = {-1}, int64[1] axis = {1}, float low = {0}>
    {
      joined = If (turn) <
        then_branch = a () => (float[k,2] p) {
          p = If (twice) <
            then_branch = c () => (float[l,2] q) { q = Concat <axis = 0> (x, x) },
            else_branch = d () => (float[o,2] r) { r = Exp (x) }>
        },
        else_branch = b () => (float[1,2] s) { s = ReduceMax <axes = [0]> (x) }>
      y = Mul (joined, joined)
      sums = ReduceSum <keepdims = 0> (y, axis)
      few = If (turn) <
        then_branch = e () => (float[h] t) {
          good = Greater (x, low) places = NonZero (good) rows = Transpose (places) t = GatherND (x, rows) },
        else_branch = f () => (float[6] u) { u = Reshape (x, all) }>
    }"""
    x = numbers((3, 2), 3)
    feeds = [{"x": x, "turn": np.array(a), "twice": np.array(b)} for a in (True, False) for b in (True, False)]
    check(tmp_path, text, *feeds)


def test_depths_parts_and_clipped_counts_of_a_run(tmp_path: Path) -> None:
    text = """net (int64[3] i, int64 depth, int64[2] parts, float[10] x, int64 n) => (float[3,k] hot, float[a] first,
      float[b] second, float[10] grown)
    <float[2] values = {0, 1}, int64 low = {0}, int64 high = {6}, bool yes = {1}>
    {
      hot = OneHot (i, depth, values)
      first, second = Split <axis = 0> (x, parts)
      trips = Clip (n, low, high)
      grown = Loop (trips, yes, x) <body = b (int64 j, bool go, float[10] s) => (bool on, float[10] t) {
        on = Identity (go) t = Add (s, s) }>
    }"""
    feeds = [
        {
            "i": np.array(i),
            "depth": np.array(d),
            "parts": np.array([p, 10 - p]),
            "x": numbers((10,), 1),
            "n": np.array(n),
        }
        for i, d, p, n in (([0, -1, 2], 4, 3, 2), ([-2, 1, 5], 3, 10, 9), ([0, 0, 1], 6, 0, -1))
    ]
    check(tmp_path, text, *feeds, maxima={"depth": 6}, ranges={"parts": (5, 5)})
