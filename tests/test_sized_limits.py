"""Maxima that the user states: a run that exceeds one is an error, and verification knows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from test_sized import DETECTOR, boxes, built, check, numbers, parsed

import dlpack
from dlpack.errors import ExceededError, UsageError
from dlpack.options import Options
from dlpack.verify.check import verify_bundle
from dlpack.verify.given import read_given

LIMITED = """
net (float[2,8] x, int64 n) => (int64[2,m] places, float[u] different, float[2,8] doubled, float[2,8] halved,
  float[k] steps)
<float low = {0.5}, bool yes = {1}, float two = {2.0}, int64 most = {1000000}, float zero = {0}, float one = {1}>
{
  good = Greater (x, low)
  places = NonZero (good)
  different = Unique (x)
  doubled = Loop (n, yes, x) <body = b (int64 i, bool go, float[2,8] s) => (bool go_on, float[2,8] t) {
    go_on = Identity (go) t = Mul (s, two) }>
  halved = Loop (most, yes, x) <body = c (int64 i, bool go, float[2,8] s) => (bool go_on, float[2,8] t) {
    t = Div (s, two) top = ReduceMax <keepdims = 0> (t) go_on = Greater (top, one) }>
  limit = ReduceMax <keepdims = 0> (x)
  steps = Range (zero, limit, one)
}
"""


def test_a_run_that_exceeds_a_stated_maximum_is_an_error(tmp_path: Path) -> None:
    """Each of five maxima alone; at the maximum there is none, and what is left out does not count."""
    x, three = np.zeros((2, 8), np.float32), np.array(3)
    x[0, :3] = 1, 2, 2
    maxima = {"places": 3, "different": 3, "n": 3, "halved": 2, "steps": 2}
    options = {"maxima": maxima, "ranges": {"x": (0.0, 1.0)}}
    predictor = check(tmp_path, LIMITED, {"x": x, "n": three}, {"x": -x, "n": np.array(-1)}, **options)
    more = x.copy()
    more[1, 7] = 1
    fourth, high = x.copy(), x.copy()
    fourth[0, 5], high[0, 1:3] = 0.25, 2.5
    wrong = {"places": (more, three), "different": (fourth, three), "n": (x, np.array(4)), "steps": (high, three)}
    both = x.copy()
    both[0, 1:3] = 4.5  # exceeds the trips of `halved` and the numbers of `steps`
    for feed in (*wrong.values(), (both, three)):
        with pytest.raises(ExceededError, match=r"exceeds a maximum .*--max places=3, .*--max n=3"):
            predictor.run({"x": feed[0], "n": feed[1]})
    assert predictor.results()["places"].tolist() == [[0, 0, 0], [0, 1, 2]]
    assert "exceeded" not in predictor.outputs


def test_boxes_beyond_a_stated_maximum_are_an_error(tmp_path: Path) -> None:
    feed = {"boxes": boxes(60, 1), "scores": numbers((1, 3, 60), 2, 0, 1)}
    count = len(check(tmp_path, DETECTOR, feed, maxima={"chosen": 24}).run(feed)["labels"])
    for most in (count, count - 1):
        predictor = built(tmp_path, parsed(DETECTOR), maxima={"chosen": most})
        if most == count:
            assert len(predictor.run(feed)["labels"]) == count
        else:
            with pytest.raises(ExceededError):
                predictor.run(feed)


def test_a_bundle_is_verified_again_with_the_maxima_of_its_build(tmp_path: Path) -> None:
    text = """net (float[N,6] x, int64 n, float k) => (float[m] big, float[N,6] y)
    <float low = {0.5}, bool yes = {1}, int64[1] all = {-1}>
    {
      good = Greater (x, low)
      z = Mul (x, k)
      some = Reshape (good, all)
      big = Compress (z, some)
      y = Loop (n, yes, z) <body = b (int64 i, bool go, float[N,6] s) => (bool on, float[N,6] t) {
        on = Identity (go) t = Add (s, s) }>
    }"""
    model = parsed(text)
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    shapes = {"shapes": {"x": (2, 6)}, "more_shapes": ({"x": (3, 6)},)}
    changes = {"values": {"k": ("3",)}, "internals": ("z",), "maxima": {"big": 2, "n": 4}}
    bundle = dlpack.build(path, tmp_path / "bundle", Options(**shapes, **changes, tolerance=1e-3))
    assert [e.name.partition(" ")[0] for e in verify_bundle(bundle, path)] == ["big", "y", "z"] * 2
    data = tmp_path / "data.npz"
    np.savez(data, x=np.zeros((3, 6), np.float32), n=np.array(4))
    assert all(e.passed for e in verify_bundle(bundle, path, read_given(data), 1e-6))
    np.savez(data, x=np.zeros((3, 6), np.float32), n=np.array(5))
    with pytest.raises(UsageError, match="'n' has 5, and the build --max n=4"):
        verify_bundle(bundle, path, read_given(data))
