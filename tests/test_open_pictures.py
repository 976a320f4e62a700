"""Pictures of any size within bounds: `--shape image=1x3x{17..33}x{18..41}`."""

from __future__ import annotations

import ctypes
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import requires_module
from exact_memory import Native, check, selftest_with_checks
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from processes import run
from shape_bundles import close, expected
from test_shapes_wasm import in_node

import dlpack
from dlpack.errors import UnsupportedError, UsageError
from dlpack.graph.pictures import open_pictures
from dlpack.loops.ir import After, Open
from dlpack.loops.rests import OF_PICTURES, OF_TEXTS, tiles_for
from dlpack.loops.sizes import Size, Tiles
from dlpack.meaning.open_batch import Bounds, opened_batch
from dlpack.meaning.open_sizes import OpenSizes
from dlpack.meaning.shape_sets import find_set, no_set, sets_of
from dlpack.pipeline import Options, build
from dlpack.stages.prepare import clean_graph
from dlpack.targets.wasm.run import node_command

SIZES = ((17, 18), (33, 41), (17, 41), (33, 18), (19, 23), (29, 31), (23, 40), (32, 32), (24, 20), (31, 37))
node = helper.make_node


def net(nodes: Sequence[NodeProto], outputs: Sequence[str], ranks: Sequence[int], **weights: np.ndarray) -> ModelProto:
    """A model of a picture of any size."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "height", "width"])
    results = [
        helper.make_tensor_value_info(o, TensorProto.FLOAT, [None] * rank)
        for o, rank in zip(outputs, ranks, strict=True)
    ]
    constants = [numpy_helper.from_array(v, k) for k, v in weights.items()]
    graph = helper.make_graph(list(nodes), "net", [image], results, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def weights(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(sum(shape))
    return (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)


def classifier() -> ModelProto:
    """What networks for classes have: a stem without pads, pools that round up and that pad, 3x3 and 1x1 convolutions
    joined and added, a depthwise one, two kinds of means; and a map of the size of its features."""
    same: dict[str, Any] = {"pads": [1] * 4}
    return net(
        [
            node("Conv", ["image", "w0"], ["a0"], "stem", strides=[2, 2]),
            node("Relu", ["a0"], ["a"], "stem_relu"),
            node("MaxPool", ["a"], ["b"], "pool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
            node("Conv", ["b", "w1"], ["c0"], "squeeze"),
            node("Relu", ["c0"], ["c"], "squeeze_relu"),
            node("Conv", ["c", "w2"], ["d0"], "three", **same),
            node("Conv", ["c", "w3"], ["d1"], "one"),
            node("Concat", ["d0", "d1"], ["d"], "joined", axis=1),
            node("Conv", ["d", "w4"], ["e0"], "depthwise", group=32, **same),
            node("Add", ["e0", "d"], ["e"], "added"),
            node("MaxPool", ["e"], ["f"], "padded", kernel_shape=[3, 3], strides=[2, 2], **same),
            node("AveragePool", ["e"], ["g"], "windows", kernel_shape=[2, 2]),
            node("GlobalAveragePool", ["f"], ["h"], "global"),
            node("Flatten", ["h"], ["classes"], "flat"),
            node("ReduceMean", ["g"], ["mean"], "mean", axes=[2, 3], keepdims=0),
            node("Conv", ["e", "w5"], ["map"], "map"),
        ],
        ["classes", "mean", "map"], [2, 2, 4],
        w0=weights(16, 3, 3, 3), w1=weights(16, 16, 1, 1), w2=weights(16, 16, 3, 3), w3=weights(16, 16, 1, 1),
        w4=weights(32, 1, 3, 3), w5=weights(2, 32, 1, 1),
    )  # fmt: skip


def features() -> ModelProto:
    """A 3x3 convolution whose result is joined with what it reads, and a product of many channels."""
    return net(
        [
            node("Conv", ["image", "w0"], ["a0"], "first"),
            node("Relu", ["a0"], ["a"], "first_relu"),
            node("Conv", ["a", "w1"], ["b0"], "three", pads=[1] * 4),
            node("Relu", ["b0"], ["b"], "three_relu"),
            node("Concat", ["b", "a"], ["c"], "joined", axis=1),
            node("Conv", ["c", "w2"], ["d"], "wide"),
            node("Conv", ["d", "w3"], ["e0"], "product"),
            node("Relu", ["e0"], ["e"], "product_relu"),
            node("Conv", ["e", "w4"], ["map"], "map", pads=[1] * 4),
            node("GlobalAveragePool", ["e"], ["mean"], "mean"),
        ],
        ["map", "mean"], [4, 4],
        w0=weights(48, 3, 1, 1), w1=weights(192, 48, 3, 3), w2=weights(256, 240, 1, 1), w3=weights(256, 256, 1, 1),
        w4=weights(2, 256, 3, 3),
    )  # fmt: skip


def segmenter() -> ModelProto:
    """What networks for masks have: halved twice, enlarged by both ways, and joined with what was as large before."""
    same: dict[str, Any] = {"pads": [1] * 4}
    pool: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    return net(
        [
            node("Conv", ["image", "w0"], ["a"], "first", **same),
            node("MaxPool", ["a"], ["b0"], "half", **pool),
            node("Conv", ["b0", "w1"], ["b"], "second", **same),
            node("MaxPool", ["b"], ["c"], "quarter", **pool),
            node("ConvTranspose", ["c", "w2"], ["d"], "twice", **pool),
            node("Concat", ["d", "b"], ["e"], "with_second", axis=1),
            node("Resize", ["e", "", "scales"], ["f"], "again", mode="nearest", nearest_mode="floor",
                 coordinate_transformation_mode="asymmetric"),
            node("Concat", ["f", "a"], ["g"], "with_first", axis=1),
            node("Conv", ["g", "w3"], ["h"], "last", **same),
            node("Sigmoid", ["h"], ["mask"], "mask"),
        ],
        ["mask"], [4],
        w0=weights(8, 3, 3, 3), w1=weights(16, 8, 3, 3), w2=weights(16, 8, 2, 2), w3=weights(1, 32, 3, 3),
        scales=np.float32([1, 1, 2, 2]),
    )  # fmt: skip


def painter() -> ModelProto:
    """What networks for styles, masks and larger pictures have besides: mirrored borders, normalisation by instance and
    by group, interpolation to a factor and to the size of another value, blocks of pixels, products of channels,
    reductions."""
    size: dict[str, Any] = {"coordinate_transformation_mode": "align_corners", "mode": "linear"}
    made = net(
        [
            node("Pad", ["image", "mirror"], ["r"], "mirror", mode="reflect"),
            node("Conv", ["r", "w0"], ["a"], "first"),
            node("InstanceNormalization", ["a", "gain", "shift"], ["b"], "instance"),
            node("Conv", ["b", "w1"], ["c"], "half", strides=[2, 2], pads=[1] * 4),
            node("Reshape", ["c", "groups"], ["d0"], "groups"),
            node("InstanceNormalization", ["d0", "ones", "zeros"], ["d1"], "group"),
            node("Shape", ["c"], ["d2"], "shape_of_groups"),
            node("Reshape", ["d1", "d2"], ["d"], "ungrouped"),
            node("Shape", ["image"], ["sides"], "sides", start=2, end=4),
            node("Concat", ["front", "sides"], ["target"], "target", axis=0),
            node("Resize", ["d", "", "", "target"], ["e"], "as_large", **size),
            node("GlobalAveragePool", ["d"], ["f0"], "whole"),
            node("Resize", ["f0", "", "", "target"], ["f"], "everywhere", mode="linear"),
            node("Resize", ["d", "", "twice"], ["g"], "smooth", mode="cubic"),
            node("Conv", ["g", "w2"], ["h0"], "blocks"),
            node("DepthToSpace", ["h0"], ["large"], "pixels", blocksize=2, mode="CRD"),
            node("Add", ["e", "f"], ["i"], "sum"),
            node("Transpose", ["i"], ["i0"], "channels_last", perm=[0, 2, 3, 1]),
            node("LayerNormalization", ["i0", "scale"], ["i1"], "rows"),
            node("MatMul", ["i1", "w3"], ["j"], "product"),
            node("ArgMax", ["i"], ["classes"], "classes", axis=1, keepdims=0),
            node("ReduceL2", ["j"], ["length0"], "length", axes=[1, 2], keepdims=0),
        ],
        ["large", "j", "classes", "length0"], [4, 4, 3, 2],
        w0=weights(8, 3, 3, 3), w1=weights(8, 8, 3, 3), w2=weights(12, 8, 1, 1), w3=weights(8, 5),
        gain=np.float32(np.arange(8) / 4), shift=np.ones(8, np.float32), scale=np.ones(8, np.float32),
        ones=np.ones(2, np.float32), zeros=np.zeros(2, np.float32), groups=np.int64([0, 2, -1]),
        mirror=np.int64([0, 0, 1, 1] * 2), front=np.int64([1, 8]), twice=np.float32([1, 1, 2, 2]),
    )  # fmt: skip
    made.graph.output[2].type.tensor_type.elem_type = TensorProto.INT64
    return made


def options(dims: str, **more: Any) -> Options:
    (closed,), batch = opened_batch([f"image=1x3x{dims}"])
    return Options(shapes={"image": tuple(map(int, closed.partition("=")[2].split("x")))}, batch=batch, **more)


def question(height: int, width: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(height * 100 + width)
    return {"image": rng.standard_normal((1, 3, height, width)).astype(np.float32)}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    onnx.save(classifier(), folder / "classes.onnx")
    onnx.save(segmenter(), folder / "mask.onnx")
    onnx.save(painter(), folder / "paint.onnx")
    return folder


@pytest.fixture(scope="module")
def classes(models: Path) -> Path:
    return build(models / "classes.onnx", models / "classes", options("{17..33}x{18..41}", threads=2, verify=False))


def test_python_takes_a_picture_of_any_size(models: Path, classes: Path) -> None:
    """With what a larger one has left in memory."""
    with dlpack.load(classes) as predictor:
        for size in SIZES:
            close(predictor.run(question(*size)), expected(models / "classes.onnx", question(*size)))
        with pytest.raises(
            ValueError, match=r"image 1x3x34x18; .* to image 1x3x33x41: dimension 2 of image is 17 to 33, not 34"
        ):
            predictor.run(question(34, 18))


def test_what_styles_masks_and_larger_pictures_need(models: Path, tmp_path: Path) -> None:
    """At corners, and at sizes that a half and the tiles do not divide."""
    bundle = build(models / "paint.onnx", tmp_path / "paint", options("{6..40}x{7..33}", verify=False))
    with dlpack.load(bundle) as predictor:
        for size in ((40, 33), (6, 7), (13, 32), (6, 33), (39, 10), (40, 7), (17, 31)):
            close(predictor.run(question(*size)), expected(models / "paint.onnx", question(*size)))


def test_one_set_of_kernels(classes: Path) -> None:
    text = (classes / "classes.cc").read_text()
    assert "const int height = 17 + p.set / 24;" in text and "const int width = 18 + p.set % 24;" in text
    assert "row < n0" in text and "Winograd" in text and "kShapeCount = 408;" in text


def test_small_pictures_are_done_otherwise(tmp_path: Path) -> None:
    """Directly where large ones are Winograd's, by the same weights, and with their rows one behind the other; the
    pixels and the tiles that reach beyond the picture leave what others read as it is. The sizes lie on both sides of
    where another kernel, another band of tiles begins."""
    onnx.save(features(), tmp_path / "features.onnx")
    bundle = build(tmp_path / "features.onnx", tmp_path / "bundle", options("{2..40}x{3..41}", threads=2, verify=False))
    text = (bundle / "features.cc").read_text()
    assert "Winograd" in text and "_few(" in text and "move_rows<true>" in text
    (most,), (side, band) = (
        map(int, re.search(pattern, text).groups())  # type: ignore[union-attr]
        for pattern in (r"if \(\(height\) \* \(width\) <= (\d+)\) {", r"Winograd F\((\d)x.*, bands of (\d+) tiles")
    )
    every = [(high, wide) for high in range(2, 41) for wide in range(3, 42)]
    sizes = [(40, 41), (2, 3), (3, 3), (40, 3), (2, 41), (4, 6), (5, 7), (7, 5), (39, 17)]
    for bound, count in ((most, lambda n: n), (band, lambda n: -(-n // side)), (2 * band, lambda n: -(-n // side))):
        for number in (bound - 1, bound, bound + 1):
            sizes += [size for size in every if count(size[0]) * count(size[1]) == number][::31]
    with dlpack.load(bundle) as predictor:
        for size in sizes:
            close(predictor.run(question(*size)), expected(tmp_path / "features.onnx", question(*size)))
    shapes = [(1, 3, *size) for size in ((2, 3), (5, 7), (7, 41), (13, 5), (40, 41))]
    check(Native(bundle), shapes, lambda *shape: question(*shape[2:]))


def test_c_reshapes_without_memory(models: Path, classes: Path) -> None:
    library = ctypes.CDLL(str(classes / "libclasses.so"))
    handle, size = ctypes.c_void_p(), ctypes.c_size_t
    assert library.classes_create(ctypes.byref(handle), None, size(0), None, size(0)) == 0
    for height, width, status in ((19, 23, 0), (34, 23, 1), (19, 17, 1), (16, 23, 1), (33, 41, 0), (17, 18, 0)):
        shape = (ctypes.c_int64 * 4)(1, 3, height, width)
        before = library.classes_shape(handle)
        assert (library.classes_reshape(handle, 0, shape, 4) != 0) == bool(status)
        assert library.classes_shape(handle) == (before if status else (height - 17) * 24 + width - 18)
    shape = (ctypes.c_int64 * 4)(1, 3, 29, 31)
    assert library.classes_reshape(handle, 0, shape, 4) == 0
    asked, want = question(29, 31), expected(models / "classes.onnx", question(29, 31))
    data, given = asked["image"], np.full(want["map"].size + 64, 7, np.float32)
    assert library.classes_bind_input(handle, 0, data.ctypes.data_as(ctypes.c_void_p), size(data.nbytes)) == 0
    nbytes = size(want["map"].nbytes)
    assert library.classes_bind_output(handle, 2, given.ctypes.data_as(ctypes.c_void_p), nbytes) == 0
    assert all(library.classes_run_step(handle, k) == 0 for k in range(library.classes_step_count()))
    np.testing.assert_allclose(given[:-64].reshape(want["map"].shape), want["map"], atol=1e-5)
    assert (given[-64:] == 7).all()
    library.classes_destroy(handle)


def test_c_takes_pictures_up_to_its_memory(classes: Path) -> None:
    """Of two with the same height the narrower needs less: inputs and outputs are as wide as the picture."""
    library = Native(classes)
    shapes = [
        (1, 3, *size) for size in ((17, 18), (17, 41), (20, 30), (21, 18), (24, 24), (25, 41), (33, 18), (33, 41))
    ]
    sizes = check(library, shapes, lambda _, __, height, width: question(height, width))
    for (_, _, *a), less in zip(shapes, sizes, strict=True):
        assert all(less < more for (_, _, *b), more in zip(shapes, sizes, strict=True) if a[0] <= b[0] and a[1] < b[1])
    assert sizes[-1] == library["memory_size"]() and sizes[0] < sizes[-1] * 5 // 6


def test_nothing_is_read_or_written_outside(models: Path, tmp_path: Path) -> None:
    """The self-test of a network for masks, at corners and between them, and runs in no more memory than they need,
    with the checks of gcc."""
    bundle = build(models / "mask.onnx", tmp_path / "mask", options("{8..24/4}x{12..28/4}"))
    sizes = ((8, 12), (8, 28), (12, 16), (16, 20), (20, 28), (24, 12), (24, 28))
    selftest_with_checks(bundle / "mask.cc", tmp_path, [(1, 3, *size) for size in sizes])


def test_javascript_chooses_by_the_number_of_pixels_or_the_shape(models: Path, tmp_path: Path) -> None:
    """Where two sizes have as many pixels, setShape says which."""
    bundle = build(models / "mask.onnx", tmp_path / "web", options("{8..24/8}x{16..32/8}", target="wasm", verify=False))
    sizes = ((24, 32), (8, 16), (24, 24))
    *found, either = in_node(bundle, tmp_path, [question(*size) for size in (*sizes, (24, 16))])
    for size, outputs in zip(sizes, found, strict=True):
        close(outputs, expected(models / "mask.onnx", question(*size)))
    assert "is 1x3x16x24 or 1x3x24x16: say which with setShape({ image: [...] })" in either
    (tmp_path / "shapes.mjs").write_text(
        f"""import {{ Predictor, openBundle }} from "{bundle}/node.js";
        const p = await Predictor.load(await openBundle("{bundle}"));
        p.setShape({{ image: [1, 3, 24, 16] }});
        const {{ mask }} = p.runSync({{ image: new Float32Array(24 * 16 * 3) }});
        console.log(p.shape, mask.length, p.outputs[0].shape.join("x"));
        try {{ p.setShape({{ image: [1, 3, 24, 17] }}); }} catch (e) {{ console.log(e.message); }}"""
    )
    done = run([*node_command(), tmp_path / "shapes.mjs"], limit_s=60)
    assert done.stdout.splitlines() == [
        "6 384 1x1x24x16",
        'mask takes image 1x3x8x16 to image 1x3x24x32, not {"image":[1,3,24,17]}: '
        "dimension 3 of image is 16 to 32 in steps of 8, not 17",
    ], done.stderr  # fmt: skip


def test_pyodide_takes_pictures_up_to_its_memory(models: Path, tmp_path: Path) -> None:
    """The wheel that CPython runs, too, with memory for all sizes and for some."""
    requires_module("wasmtime")
    from dlpack.targets.wasm.runtime import Predictor

    bundle = build(models / "mask.onnx", tmp_path / "web", options("{8..24/8}x{16..32/8}", target="pyodide"))
    (wheel,) = bundle.glob("*-any.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "wheel")
    with Predictor(tmp_path / "wheel" / "mask", largest={"image": (1, 3, 16, 24)}) as predictor:
        for size in ((16, 24), (8, 16)):
            close(predictor.run(question(*size)), expected(models / "mask.onnx", question(*size)))
        with pytest.raises(ValueError, match="need more memory than those in `largest`"):
            predictor.run(question(24, 32))
        assert predictor.outputs["mask"][1] == (1, 1, 8, 16)
    with Predictor(tmp_path / "wheel" / "mask") as predictor:
        close(predictor.run(question(24, 32)), expected(models / "mask.onnx", question(24, 32)))
    for wrong, why in (
        ({"image": (1, 3, 16, 25)}, "cannot have the shape 1x3x16x25"),
        ({"x": ()}, "unknown input 'x'"),
    ):
        with pytest.raises(ValueError, match=why):
            Predictor(tmp_path / "wheel" / "mask", largest=wrong)


def test_millions_of_sizes_are_a_rule() -> None:
    """The set of a number, the number of a set's shapes, and how a picture becomes the input in it."""
    rule = {"dimension": 0, "plus": 3, "by": 4, "times": 2, "then": 1}
    pixels = {**rule, "columns": {"dimension": 1, "by": 8}}
    spec = {"input": "image", "layout": "NCHW", "height": 1, "width": 1, "resize": None}
    manifest = {
        "inputs": [{"name": "image", "shape": [1, 3, 1, 1]}],
        "outputs": [{"name": "map", "shape": [1, 3, 0]}],
        "preprocess": spec,
        "open": {
            "dimensions": [{"smallest": 1, "largest": 2048, "step": 1}] * 2,
            "inputs": {"image": {"2": {"dimension": 0}, "3": {"dimension": 1}}},
            "outputs": {"map": {"1": rule, "2": pixels}},
            "macs": 1,
        },
    }
    sets = sets_of(manifest)
    assert len(sets) == 2048 * 2048 and find_set(manifest, {"image": (1, 3, 480, 641)}) == 479 * 2048 + 640
    own = sets[479 * 2048 + 640]
    assert own["inputs"][0]["shape"] == [1, 3, 480, 641] and own["outputs"][0]["shape"] == [1, 241, 241 * 80]
    assert own["preprocess"] == {**spec, "height": 480, "width": 641}
    assert find_set(manifest, {"image": (1, 3, 480, 2049)}) is None
    assert find_set(manifest, {"image": (2, 3, 480, 640)}) is None and find_set(manifest, {}) is None
    assert isinstance(sets, OpenSizes) and sets.wrong({"image": (1, 3, 480, 641)}) == sets.wrong({}) == ""


@pytest.mark.parametrize(
    ("shapes", "why"),
    [
        ({"a": (1, 6), "b": (6, 2)}, "dimension 1 of a is 1 to 9 in steps of 2, not 6"),
        ({"a": (1, 5), "b": (11, 2)}, "dimension 0 of b is 1 to 9 in steps of 2, not 11"),
        ({"a": (1, 5), "b": (7, 2)}, "dimension 0 of b is 7, and dimension 1 of a 5: they are equal"),
        ({"a": (2, 5), "b": (5, 2)}, "dimension 0 of a is 1, not 2"),
        ({"a": (5,), "b": (5, 2)}, "a has 2 dimensions, not 1"),
    ],
)  # fmt: skip
def test_the_wrong_dimension_is_named(shapes: dict[str, tuple[int, ...]], why: str) -> None:
    manifest = {
        "inputs": [{"name": "a", "shape": [1, 1]}, {"name": "b", "shape": [1, 2]}],
        "outputs": [],
        "macs": 1,
        "open": {
            "dimensions": [{"smallest": 1, "largest": 9, "step": 2}],
            "inputs": {"a": {"1": {"dimension": 0}}, "b": {"0": {"dimension": 0}}},
            "outputs": {},
            "macs": 1,
        },
    }
    assert no_set(manifest, shapes).endswith(f"; the model expects a 1x1, b 1x2 to a 1x9, b 9x2: {why}")


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([node("Conv", ["image", "w"], ["y"], "same", auto_pad="SAME_UPPER", strides=[2, 2])], "'same' depends on"),
        ([node("AveragePool", ["image"], ["y"], "mean", kernel_shape=[3, 3], pads=[1] * 4)], "'mean' divides by"),
        ([node("Resize", ["image", "", "twice"], ["y"], "crop", coordinate_transformation_mode="tf_crop_and_resize")],
         "'crop' resizes by nearest, tf_crop_and_resize"),
        ([node("Reshape", ["image", "flat"], ["y"], "flat")], "'flat' joins the open dimension with others"),
        ([node("Softmax", ["image"], ["y"], "rows", axis=2)], "'rows' works along"),
        ([node("LRN", ["image"], ["y"], "norm", size=3)], "'norm' is no operator"),
        ([node("MaxPool", ["image"], ["a"], "half", kernel_shape=[2, 2], strides=[2, 2]),
          node("Resize", ["a", "", "twice"], ["b"], "whole"), node("Add", ["b", "image"], ["y"], "odd")],
         "'odd' joins values that have equal sizes only for some"),
    ],
)  # fmt: skip
def test_what_cannot_be_open_is_named(nodes: Sequence[NodeProto], why: str) -> None:
    constants = {
        "w": weights(4, 3, 3, 3), "twice": np.float32([1, 1, 2, 2]), "flat": np.int64([1, -1]),
    }  # fmt: skip
    used = {i for n in nodes for i in n.input}
    made = net(nodes, ["y"], [4], **{k: v for k, v in constants.items() if k in used})
    with pytest.raises(UnsupportedError, match=why):
        open_pictures(
            lambda h, w: clean_graph(made, {"image": (1, 3, h, w)})[1], {"image": (2, 3)}, [(8, 32, 2), (8, 32, 2)][:2]
            if "odd" not in why and "same" not in why else [(8, 32, 1), (8, 32, 1)],
        )  # fmt: skip


def test_sizes_are_functions() -> None:
    """Of windows, strides and enlargements; C's division of what is not negative is Python's."""
    s = Size()
    halved = (s + -1) // 2
    assert halved is not None and [halved.at(n) for n in (3, 4, 5)] == [1, 1, 2]
    quarter = (halved + 1) // 2
    assert quarter is not None and quarter.text("h") == "(h + 1) / 4"
    assert (halved * 2).at(5) == 4 and ((halved * 2 + 1) // 2) == halved and (s * 3) // 2 is None
    assert (halved * 2 + 1).text("h") == "(h - 1) / 2 * 2 + 1"
    assert (Size(times=8) + -1).text("h") == "h * 8 - 1"


def test_tiles_cover_a_picture() -> None:
    tiles = Tiles(4, 5040, Size(0, plus=-1, by=2), 9)
    assert tiles.sizes == (Size(0, plus=-1, by=2),)
    assert [tiles.grid({0: n}) for n in (9, 10, 11)] == [(1, 3), (1, 3), (2, 3)]


def test_bounds_have_steps() -> None:
    (closed,), batch = opened_batch(["image=1x3x{64..128/32}x64..96"])
    assert closed == "image=1x3x64x64" and batch is not None and batch.count == 3 * 33
    assert batch.bounds == (Bounds(64, 128, 32), Bounds(64, 96)) and batch.sizes(34) == (96, 65)
    assert {batch.sizes(k) for k in batch.tried()} >= {(64, 64), (64, 96), (128, 64), (128, 96)}
    for wrong in ("image=1x3x64..100/32x64", "image=1..2x3..4x8..9x8..9", "image=1x3x1..65536x1..65536"):
        with pytest.raises(UsageError):
            opened_batch([wrong])


def test_lower_tiles_do_the_last_rows_where_they_are_faster() -> None:
    """Whole tiles, then at most one of each height but the lowest, and never beyond what whole tiles would do."""
    assert tiles_for(2, 2, False, OF_TEXTS) is None
    for rows, vectors, far, lower in ((12, 2, False, OF_TEXTS), (8, 2, True, OF_TEXTS), (14, 1, False, OF_PICTURES)):
        tiles = tiles_for(rows, vectors, far, lower)
        assert tiles is not None and [*tiles.lower] == sorted(tiles.lower, reverse=True)
        assert not [h for h in (rows, *tiles.lower) if h % tiles.unit]
        for n in range(1, 200):
            counts, ranges = (
                tiles.shared(n),
                [After(Open(1, rows, tiles=tiles), k).range(n) for k in range(len(tiles.lower))],
            )
            assert counts[0] >= 0 and set(counts[1:]) <= {0, 1}
            at = counts[0] * rows
            for (begin, end), height, count in zip(ranges, tiles.lower, (*counts[1:], None), strict=True):
                assert begin * tiles.unit == at
                trips = max(0, -(-(end - begin) * tiles.unit // height))
                assert count in (None, trips)
                at += trips * height
            assert n <= at <= -(-n // rows) * rows
