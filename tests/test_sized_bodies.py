"""Sizes and counts that only a run knows, within the bodies of loops and branches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_sized import built, check, numbers, parsed

from dlpack.errors import ExceededError, UnsupportedError

BODIES = """
net (float[6] x, int64 m, int64 n) => (float[6] y, float[k] sums, float[k] means, float[k,2] top, float[p] z,
  float[6] last, float[2] totals, float[2,2] best)
<bool yes = {1}, float zero = {0}, int64 one = {1}, int64[1] start = {0}, int64[1] single = {1}, int64[1] all = {-1},
 int64[1] two = {2}, float[2,6] rows = {1, -2, 3, 4, -5, 6, -7, 8, 9, -10, 11, 12}>
{
  positive = Greater (x, zero)
  some = Compress <axis = 0> (x, positive)
  y, z, sums, means, top = Loop (m, yes, x, some) <body = trip (int64 i, bool go, float[6] s, float[q] kept) =>
      (bool on, float[6] t, float[q] twice, float sum, float mean, float[2] largest) {
    on = Identity (go)
    good = Greater (s, zero)
    odd = Equal (i, one)
    part = If (odd) <
      then_branch = a () => (float[r] u) { u = Compress <axis = 0> (s, good) },
      else_branch = b () => (float[6] v) { v = Neg (s) }>
    sum = ReduceSum <keepdims = 0> (part)
    place = Reshape (i, single)
    end = Add (place, single)
    first = Slice (s, start, end)
    mean = ReduceMean <keepdims = 0> (first)
    times = Add (i, n)
    moved, seen = Loop (times, go, s) <body = c (int64 j, bool g, float[6] o) => (bool h, float[6] w, float[6] row) {
      h = Identity (g) row = Mul (o, o) number = Cast <to = 1> (j) w = Sub (o, number) }>
    added = ReduceSum <keepdims = 0> (seen, start)
    largest, at = TopK (added, two)
    t = Sub (moved, sum)
    kept_sum = ReduceSum <keepdims = 0> (kept)
    twice = Add (kept, kept_sum) }>
  last, totals, best = Scan <num_scan_inputs = 1, body = d (float[6] e, float[6] given) =>
      (float[6] f, float total, float[2] both) {
    f = Add (e, given)
    above = Greater (f, zero)
    places = NonZero (above)
    flat = Reshape (places, all)
    taken = Gather (f, flat)
    total = ReduceSum <keepdims = 0> (taken)
    both, where = TopK (f, two) }> (x, rows)
}
"""


def test_bodies_select_count_and_slice_as_many_elements_as_the_data_says(tmp_path: Path) -> None:
    feeds = [{"x": numbers((6,), m), "m": np.array(m), "n": np.array(n)} for m, n in ((3, 2), (1, 0), (0, 1), (2, 1))]
    check(tmp_path, BODIES, *feeds, maxima={"m": 3, "n": 2}, ranges={"m": (0, 3), "n": (0, 2)})


LIMITS = """
net (float x, bool deep) => (float y, float z)
<bool yes = {1}, float zero = {0}, int64 hundred = {100}, float half = {0.5}, float tiny = {0.01}>
{
  y = Loop (hundred, yes, x) <body = outer (int64 i, bool go, float s) => (bool on, float t) {
    halved = Loop (hundred, yes, s) <body = b (int64 j, bool g, float u) => (bool h, float v) {
      v = Mul (u, half) h = Greater (v, tiny) }>
    t = Sub (halved, tiny)
    on = Greater (t, zero) }>
  z = If (deep) <
    then_branch = c () => (float p) {
      p = Loop (hundred, yes, x) <body = d (int64 k, bool e, float q) => (bool f, float r) {
        r = Mul (q, half) f = Greater (r, tiny) }> },
    else_branch = o () => (float w) { w = Neg (x) }>
}
"""


def test_a_maximum_holds_within_bodies_and_a_run_that_exceeds_it_is_an_error(tmp_path: Path) -> None:
    """That of a branch counts where the branch is taken."""
    feeds = [{"x": np.array(x, np.float32), "deep": np.array(d)} for x, d in ((1, True), (0.001, True), (3, False))]
    predictor = check(tmp_path, LIMITS, *feeds, maxima={"halved": 9, "p": 7, "y": 3}, ranges={"x": (0, 1)})
    for x, deep in ((100.0, False), (3.0, True)):
        with pytest.raises(ExceededError, match=r"--max halved=9, .*--max p=7"):
            predictor.run({"x": np.array(x, np.float32), "deep": np.array(deep)})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("t = Concat <axis = 0> (s, s) row = Identity (go)", "its state 's' changes its shape from trip to trip"),
        (
            "t = Neg (s) good = Greater (s, zero) row = Compress <axis = 0> (s, good)",
            "'row' of another size in each trip",
        ),
    ],
)
def test_states_and_slices_keep_their_size(tmp_path: Path, body: str, reason: str) -> None:
    text = f"""net (float[3] x, int64 m) => (y, rows) <bool yes = {{1}}, float zero = {{0}}> {{
      y, rows = Loop (m, yes, x) <body = b (int64 i, bool go, s) => (on, t, row) {{ on = Identity (go) {body} }}>
    }}"""
    with pytest.raises(UnsupportedError, match=reason):
        built(tmp_path, parsed(text, 17), maxima={"m": 3})
