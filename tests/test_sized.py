"""Values whose size only a run knows: outputs have their true size, and padding gets into no result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

import dlpack
from dlpack.errors import UnsupportedError, UsageError
from dlpack.options import Options

Feeds = Mapping[str, Any]
HEADER = '<ir_version: 8, opset_import: ["" : {opset}]>\n'


def parsed(text: str, opset: int = 17) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEADER.format(opset=opset) + text)


def built(folder: Path, model: onnx.ModelProto, **options: Any) -> Any:
    """The predictor of a model, which is verified when it is built."""
    onnx.save(model, folder / "net.onnx")
    return dlpack.load(dlpack.build(folder / "net.onnx", folder / "bundle", Options(**options)))


def check(folder: Path, text: str, *feeds: Feeds, opset: int = 17, **options: Any) -> Any:
    """Builds the model and compares it with onnxruntime for these inputs: types, shapes, values."""
    model = parsed(text, opset)
    predictor = built(folder, model, **options)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    for feed in feeds:
        got = predictor.run(feed)
        assert list(got) == names
        for name, want in zip(names, session.run(None, dict(feed)), strict=True):
            assert got[name].dtype == want.dtype and got[name].shape == want.shape, (name, got[name].shape, want.shape)
            np.testing.assert_allclose(got[name], want, rtol=1e-5, atol=1e-5, err_msg=name)
    return predictor


def numbers(shape: tuple[int, ...], seed: int, low: float = -1, high: float = 1) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def boxes(count: int, seed: int) -> np.ndarray[Any, Any]:
    """Corners of boxes that overlap often, some turned around."""
    made = numbers((1, count, 4), seed, 0, 10)
    made[..., 2:] = made[..., :2] + numbers((1, count, 2), seed + 1, -1, 5)
    return made


DETECTOR = """
net (float[1,60,4] boxes, float[1,3,60] scores) => (float[n,4] kept, float[n] confidence, int64[n] labels,
  float[m] best)
<int64[1] each = {8}, float[1] iou = {0.4}, float[1] low = {0.3}, int64 one = {1}, int64 two = {2},
  int64[1] last = {2},
 int64[1] axis = {1}, int64[1] zero = {0}, int64[1] three = {3}, int64[1] flat = {-1}, int64[1] most = {10},
 int64[3] empty_batch = {60, 4, 1}, int64[2] pairs = {1, 3}>
{
  chosen = NonMaxSuppression (boxes, scores, each, iou, low)
  places = Gather <axis = 1> (chosen, two)
  labels = Gather <axis = 1> (chosen, one)
  rows = Squeeze (boxes, zero)
  kept = Gather <axis = 0> (rows, places)
  where = Slice (chosen, axis, three, axis)
  table = Squeeze (scores, zero)
  confidence = GatherND (table, where)
  count = Shape (confidence)
  fewer = Min (count, most)
  best, order = TopK <axis = 0> (confidence, fewer)
}
"""


def test_a_detector_ends_in_non_max_suppression(tmp_path: Path) -> None:
    feeds = [
        {"boxes": boxes(60, s), "scores": numbers((1, 3, 60), s, 0, high)} for s, high in ((1, 1), (2, 0.32), (3, 0.2))
    ]
    predictor = check(tmp_path, DETECTOR, *feeds)
    assert predictor.outputs["kept"] == ("float32", (24, 4))
    assert predictor.outputs["best"] == ("float32", (10,))


@pytest.mark.parametrize("form", ["center_point_box = 1", "center_point_box = 0"])
def test_non_max_suppression_takes_either_form_of_box_and_limits_of_a_run(tmp_path: Path, form: str) -> None:
    text = f"""
    net (float[2,20,4] boxes, float[2,2,20] scores, int64[1] each, float[1] iou) => (int64[n,3] y)
    {{ y = NonMaxSuppression <{form}> (boxes, scores, each, iou) }}
    """
    b = np.concatenate([np.abs(boxes(20, 4)), np.abs(boxes(20, 5))])
    s = np.round(numbers((2, 2, 20), 6, 0, 1), 1)  # many are equal
    feeds = [
        {"boxes": b, "scores": s, "each": np.array([each]), "iou": np.array([iou], np.float32)}
        for each, iou in ((0, 0.5), (3, 0.5), (20, 0.1), (50, 0.9))
    ]
    check(tmp_path, text, *feeds)


def test_boxes_are_filtered_before_they_are_suppressed(tmp_path: Path) -> None:
    """As in torchvision: those of a score, moved apart by class, the best of what is left."""
    text = """
    net (float[50,4] boxes, float[50] scores, int64[50] classes) => (float[n,4] out, float[n] confidence, float[] top)
    <float low = {0.5}, float iou_ = {0.5}, int64[1] flat = {-1}, float one = {1.0}, int64[1] each = {200},
     float[1] iou = {0.5}, int64[1] zero = {0}, int64[1] ten = {10}, int64[1] axis = {1}, int64[2] front = {0, 1},
  int64 two = {2}>
    {
      good = Greater (scores, low)
      found = NonZero (good)
      places = Reshape (found, flat)
      b = Gather <axis = 0> (boxes, places)
      s = Gather <axis = 0> (scores, places)
      c = Gather <axis = 0> (classes, places)
      top = ReduceMax <keepdims = 0> (b)
      far = Add (top, one)
      real = Cast <to = 1> (c)
      shift = Mul (real, far)
      column = Unsqueeze (shift, axis)
      moved = Add (b, column)
      batch = Unsqueeze (moved, zero)
      rows = Unsqueeze (s, front)
      chosen = NonMaxSuppression (batch, rows, each, iou)
      picked = Gather <axis = 1> (chosen, two)
      few = Slice (picked, zero, ten, zero)
      out = Gather <axis = 0> (b, few)
      confidence = Gather <axis = 0> (s, few)
    }
    """
    feeds = [
        {
            "boxes": boxes(50, s)[0],
            "scores": numbers((50,), s, 0, high),
            "classes": np.arange(50) % 3,
        }
        for s, high in ((7, 1.0), (8, 0.52), (9, 0.4))
    ]
    check(tmp_path, text, *feeds)


SELECTIONS = """
net (float[6,5] x, bool[6] rows, int64[12] whole) => (int64[2,n] places, float[n] chosen, float[k,5] some,
  float[m] flat,
  int64[u] different, int64[u] first, int64[12] number, int64[u] times, float[v,5] different_rows)
<float low = {0.2}>
{
  good = Greater (x, low)
  places = NonZero (good)
  turned = Transpose <perm = [1, 0]> (places)
  chosen = GatherND (x, turned)
  some = Compress <axis = 0> (x, rows)
  flat = Compress (x, rows)
  different, first, number, times = Unique (whole)
  sign = Sign (x)
  different_rows = Unique <axis = 0> (sign)
}
"""


def test_what_the_data_selects(tmp_path: Path) -> None:
    feeds = [
        {
            "x": numbers((6, 5), s, -1, high),
            "rows": np.random.default_rng(s).random(6) < part,
            "whole": np.random.default_rng(s).integers(-3, 3, 12),
        }
        for s, high, part in ((1, 1, 0.5), (2, 0.1, 0), (3, 9, 1))
    ]
    check(tmp_path, SELECTIONS, *feeds)


def test_unique_in_the_order_of_the_data_and_along_the_second_axis(tmp_path: Path) -> None:
    text = """
    net (int64[9] x, int64[2,7] table) => (int64[n] y, int64[n] first, int64[9] number, int64[n] times,
  int64[2,m] columns)
    { y, first, number, times = Unique <sorted = 0> (x) columns = Unique <axis = 1> (table) }
    """
    rng = np.random.default_rng(3)
    check(tmp_path, text, *({"x": rng.integers(0, 4, 9), "table": rng.integers(0, 2, (2, 7))} for _ in range(3)))


MIXED = """
net (float[8,6] x, float[4] w, float[6,6] square, float[6,3] narrow) => (float[n,6] rows, float[6] sum,
  float[6] mean, float[6] greatest,
  float least, int64[6] where, float[n,6] part, float[6,n] across, float[6,6] product, float[n,3] projected,
  float[t] ends, float[n6] flat,
  float[n,2,3] split, float[n,6] running, float[n,6] backwards, float[2,n,6] twice, float[v] joined,
  float[6,6] gram, float[r,6] reversed,
  float[b,6] last_two, int64[2] shape, float[8,6] filled)
<float zero = {0}, int64[1] first = {0}, int64[1] flat_shape = {-1}, int64[3] split_shape = {-1, 2, 3},
  int64 axis = {0},
 int64[3] two = {2, 1, 1}, int64[1] last = {-1}, int64[1] behind = {-2}, int64[1] huge = {9223372036854775807},
 int64[1] lowest = {-9223372036854775807}, int64 end = {-1}>
{
  column = Gather <axis = 1> (x, axis)
  good = Greater (column, zero)
  found = NonZero (good)
  places = Reshape (found, flat_shape)
  rows = Gather <axis = 0> (x, places)
  sum = ReduceSum <keepdims = 0> (rows, first)
  mean = ReduceMean <axes = [0], keepdims = 0> (rows)
  greatest = ReduceMax <axes = [0], keepdims = 0> (rows)
  least = ReduceMin <keepdims = 0> (rows)
  where = ArgMax <axis = 0, keepdims = 0> (rows)
  part = Softmax <axis = 0> (rows)
  across = Transpose <perm = [1, 0]> (rows)
  product = MatMul (across, rows)
  gram = Einsum <equation = "ni,nj->ij"> (rows, rows)
  projected = Gemm (rows, narrow)
  kept = Gather <axis = 1> (rows, end)
  ends = Concat <axis = 0> (w, kept, w)
  flat = Reshape (across, flat_shape)
  split = Reshape (rows, split_shape)
  running = CumSum (rows, axis)
  backwards = CumSum <reverse = 1> (rows, axis)
  lifted = Unsqueeze (rows, first)
  twice = Tile (lifted, two)
  joined = Concat <axis = 0> (kept, kept)
  reversed = Slice (rows, last, lowest, first, last)
  last_two = Slice (rows, behind, huge, first)
  shape = Shape (rows)
  index = Unsqueeze (places, last)
  doubled = Add (rows, rows)
  filled = ScatterND (x, index, doubled)
}
"""


def test_operators_that_mix_elements_leave_out_the_padding(tmp_path: Path) -> None:
    def feed(seed: int, shift: float) -> Feeds:
        x = numbers((8, 6), seed)
        x[:, 0] += shift
        return {"x": x, "w": numbers((4,), 1), "square": numbers((6, 6), 2), "narrow": numbers((6, 3), 3)}

    check(tmp_path, MIXED, feed(1, 0), feed(2, 0.8), feed(3, 2), feed(4, -0.8))


def test_numbers_of_a_run_say_how_long_things_are(tmp_path: Path) -> None:
    text = """
    net (float[3,9] x, int64[1] k, int64[1] start, int64 n, float limit) => (float[3,a] v, int64[3,a] i,
  float[3,b] part,
      int64[c] count, float[d] steps, float[n,4] filled, float[3,e] rest)
    <int64[1] three = {3}, int64[1] axis = {1}, int64 zero = {0}, int64 one = {1}, float first = {0.5},
  float step = {0.25},
     int64[1] four = {4}, int64[1] front = {0}, int64[1] huge = {9223372036854775807}>
    {
      v, i = TopK <axis = 1> (x, k)
      end = Add (start, three)
      part = Slice (x, start, end, axis)
      rest = Slice (x, start, huge, axis)
      count = Range (zero, n, one)
      steps = Range (first, limit, step)
      size = Unsqueeze (n, front)
      shape = Concat <axis = 0> (size, four)
      filled = ConstantOfShape (shape)
    }
    """
    feeds = [
        {
            "x": numbers((3, 9), k),
            "k": np.array([k]),
            "start": np.array([s]),
            "n": np.array(n),
            "limit": np.array(t, np.float32),
        }
        for k, s, n, t in ((1, 0, 5, 2.1), (9, 4, 0, 0.1), (3, -4, 20, 1), (4, 8, 1, 3.9), (4, 12, 1, 3.9))
    ]
    check(tmp_path, text, *feeds, maxima={"n": 20, "steps": 16}, ranges={"limit": (0.0, 4.0), "k": (1.0, 9.0)})


LOOP = """
net (float[2,3] x, int64 n, float stop) => (float[2,3] y, float[t,2,3] seen)
<bool yes = {1}>
{
  y, seen = Loop (n, yes, x) <body = step (int64 i, bool going, float[2,3] before) => (bool more, float[2,3] after,
  float[2,3] out)
  <float two = {2.0}>
  {
    after = Mul (before, two)
    out = Add (before, two)
    total = ReduceSum <keepdims = 0> (after)
    more = Less (total, stop)
  }>
}
"""


def test_a_loop_of_a_run_time_count_gives_as_many_slices_as_it_makes_trips(tmp_path: Path) -> None:
    x = np.full((2, 3), 1, np.float32)
    feeds = [
        {"x": x, "n": np.array(n), "stop": np.array(stop, np.float32)}
        for n, stop in ((3, 1e9), (0, 1e9), (7, 1e9), (7, 40), (2, 0))
    ]
    check(tmp_path, LOOP, *feeds, maxima={"n": 7}, ranges={"stop": (50.0, 1e6)})


def test_a_loop_that_only_its_condition_ends_has_a_stated_maximum(tmp_path: Path) -> None:
    text = LOOP.replace("float[2,3] x, int64 n, float stop", "float[2,3] x, float stop").replace(
        "Loop (n,", 'Loop ("",'
    )
    x = np.full((2, 3), 1, np.float32)
    feeds = [{"x": x, "stop": np.array(stop, np.float32)} for stop in (0, 40, 1000)]
    check(tmp_path, text, *feeds, maxima={"seen": 10}, ranges={"stop": (50.0, 1000.0)})


def test_what_has_no_bound_is_refused_with_the_option_that_states_one(tmp_path: Path) -> None:
    model = parsed(LOOP)
    with pytest.raises(UnsupportedError, match=r"'n' is not constant; state the most there may be: --max n=100"):
        built(tmp_path, model)
    with pytest.raises(UsageError, match="'x' has a size that is known"):
        built(tmp_path, model, maxima={"n": 7, "x": 3})
    with pytest.raises(UsageError, match="'nothing' is not in the model"):
        built(tmp_path, model, maxima={"n": 7, "nothing": 3})


def test_a_stated_maximum_takes_less_memory(tmp_path: Path) -> None:
    text = "net (float[100] x) => (int64[1,n] y) { y = NonZero (x) }"
    predictor = built(tmp_path, parsed(text), maxima={"y": 5})
    assert predictor.outputs["y"] == ("int64", (1, 5))
    x = np.zeros(100, np.float32)
    x[[7, 50, 99]] = 1
    assert predictor.run({"x": x})["y"].tolist() == [[7, 50, 99]]


def test_what_cannot_leave_out_padding_is_refused_by_name(tmp_path: Path) -> None:
    text = """
    net (float[8,4] x) => (float[a,b] y)
    <int64[1] axis = {0}, float[1] scale = {1}>
    {
      flags = Greater (x, scale)
      found = NonZero (flags)
      real = Cast <to = 1> (found)
      y = LpNormalization <axis = 1> (real)
    }
    """
    with pytest.raises(UnsupportedError, match=r"LpNormalization.*dimension 1 of 'real'.*at most 32"):
        built(tmp_path, parsed(text))
    text = "net (float[8] x, float[8] w) => (float[n] y) { a = Compress (x, p) b = Compress (w, q) y = Add (a, b) }"
    text = text.replace("float[8] w", "float[8] w, bool[8] p, bool[8] q")
    with pytest.raises(UnsupportedError, match="may have different sizes"):
        built(tmp_path, parsed(text))


def test_bound_outputs_and_views_have_the_true_size(tmp_path: Path) -> None:
    predictor = built(tmp_path, parsed("net (float[6] x) => (int64[1,n] y) { y = NonZero (x) }"))
    room = np.full((1, 6), -1, np.int64)
    predictor.bind_outputs({"y": room})
    assert predictor.run({"x": np.array([0, 1, 0, 1, 0, 0], np.float32)})["y"].tolist() == [[1, 3]]
    assert room[0, :2].tolist() == [1, 3]
    predictor.bind_outputs({"y": None})
    assert predictor.run({"x": np.ones(6, np.float32)}, copy=False)["y"].shape == (1, 6)


HEADS = """
net (float[1,2,12,12] picture, float[9,4] regions, float[9] scores, float[3,2,3,3] w, float[3,12] v)
  => (float[n,3] classes, float[9,3] back, float[n] index, float[n,2,2,2] pools, float[n] ones, float[n,2] left,
      float[n,1] right, float[n,3] wide, float[a,b] outer, float[9,3] scattered)
<float low = {0.5}, int64[1] flat = {-1}, int64[2] sizes = {2, 1}, int64[1] last = {1}, int64[1] three = {3},
 float[1] zero = {0}, int64 none = {0}, int64 one = {1}, int64[2] column = {-1, 1}, int64[1] both = {2},
 int64[2] table = {1, 3}>
{
  good = Greater (scores, low)
  found = NonZero (good)
  places = Reshape (found, flat)
  boxes = Gather <axis = 0> (regions, places)
  shape = Shape (places)
  batch_float = ConstantOfShape (shape)
  batch = Cast <to = 7> (batch_float)
  crops = RoiAlign <output_height = 4, output_width = 4, sampling_ratio = 2> (picture, boxes, batch)
  layer = Conv <pads = [1, 1, 1, 1]> (crops, w)
  active = Relu (layer)
  pooled = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (active)
  pools = Slice (pooled, last, three, last)
  flattened = Flatten (pooled)
  raw = Gemm <transB = 1> (flattened, v)
  classes = Softmax <axis = 1> (raw)
  rows = Reshape (places, column)
  wide_rows = Tile (rows, table)
  room = ConstantOfShape (full)
  full = Identity (full_shape)
  back = ScatterElements <axis = 0> (room, wide_rows, classes)
  scattered = ScatterND <reduction = "add"> (room, rows, classes)
  size = Gather <axis = 0> (shape, none)
  numbers = Range (none, size, one)
  index = Cast <to = 1> (numbers)
  one_value = Cast <to = 1> (one)
  ones = Expand (one_value, shape)
  left, right = Split <axis = 1> (classes, sizes)
  wide = Where (positive, raw, zero)
  positive = Greater (raw, zero)
  turned = Transpose (classes)
  outer = MatMul (classes, turned)
}
"""


def test_a_head_computes_on_as_many_regions_as_were_found(tmp_path: Path) -> None:
    text = HEADS.replace("  full = Identity (full_shape)\n", "").replace(
        "int64 one = {1},", "int64 one = {1}, int64[2] full = {9, 3},"
    )
    positive, wide = "  positive = Greater (raw, zero)\n", "  wide = Where (positive, raw, zero)\n"
    text = text.replace(positive, "").replace(wide, positive + wide)

    def feed(seed: int, high: float) -> Feeds:
        corners = numbers((9, 4), seed, 0, 6)
        corners[:, 2:] = corners[:, :2] + 1 + numbers((9, 2), seed, 0, 5)
        return {
            "picture": numbers((1, 2, 12, 12), seed), "regions": corners, "scores": numbers((9,), seed, 0, high),
            "w": numbers((3, 2, 3, 3), 7), "v": numbers((3, 12), 8),
        }  # fmt: skip

    check(tmp_path, text, feed(1, 1), feed(2, 0.6), feed(3, 0.4), feed(4, 50))
