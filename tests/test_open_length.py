"""A dimension of the kernels that is open within bounds: `--shape ids=1x{1..80}:int64`."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from exact_memory import NO_MEMORY, OK, Native, check, selftest_with_checks
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from processes import run
from shape_bundles import close, expected
from test_open_batch import model
from test_shapes_wasm import in_node

import dlpack
from dlpack.errors import UnsupportedError, UsageError
from dlpack.graph.heads import shared_heads
from dlpack.graph.opened import open_graph
from dlpack.loops.ir import Open
from dlpack.meaning.open_batch import opened_batch
from dlpack.meaning.shape_sets import sets_of
from dlpack.options import Progress
from dlpack.pipeline import Options, build
from dlpack.stages.prepare import clean_graph, prepare
from dlpack.targets.wasm.run import node_command

SMALLEST, LARGEST = 2, 80
SIZES = (80, 2, 3, 5, 7, 11, 12, 13, 15, 16, 17, 31, 32, 33, 47, 61, 63, 64, 65, 79)
node = helper.make_node


def encoder() -> ModelProto:
    """An encoder's layer as it is exported: positions cut to the length and counted by a running sum, heads, a mask
    taken by places, a first token taken out, and a mean of the tokens that are not masked."""
    rng = np.random.default_rng(3)

    def weights(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)

    nodes = [
        node("Gather", ["words", "ids"], ["e0"], "embed"),
        node("CumSum", ["mask", "row"], ["places0"], "running"),
        node("Gather", ["later", "places0"], ["e1"], "by_running_sum"),
        node("Add", ["e0", "e1"], ["e"], "both"),
        node("Shape", ["ids"], ["sizes"], "sizes"),
        node("Gather", ["sizes", "one"], ["length"], "length"),
        node("Squeeze", ["length"], ["length0"], "length0"),
        node("Slice", ["places", "zero", "length", "zero"], ["p"], "positions"),
        node("Add", ["e", "p"], ["x"], "embedded"),
        node("Range", ["none", "length0", "step"], ["all"], "all"),
        node("Gather", ["mask", "all"], ["own"], "own_mask", axis=1),
        node("Unsqueeze", ["own", "inner"], ["m"], "heads_mask"),
        node("Cast", ["m"], ["seen"], "seen", to=TensorProto.FLOAT),
        node("Sub", ["unit", "seen"], ["hidden"], "hidden"),
        node("Mul", ["hidden", "low"], ["bias"], "bias"),
        *(node("MatMul", ["x", f"w{k}"], [f"{k}0"], k) for k in "qkv"),
        *(node("Reshape", [f"{k}0", "heads"], [f"{k}1"], f"{k}_heads") for k in "qkv"),
        node("Transpose", ["k1"], ["kt"], "turn_k", perm=[0, 2, 3, 1]),
        *(node("Transpose", [f"{k}1"], [f"{k}t"], f"turn_{k}", perm=[0, 2, 1, 3]) for k in "qv"),
        node("MatMul", ["qt", "kt"], ["products"], "products"),
        node("Add", ["products", "bias"], ["scores"], "scores"),
        node("Softmax", ["scores"], ["attention"], "softmax", axis=-1),
        node("MatMul", ["attention", "vt"], ["mixed"], "mixed"),
        node("Transpose", ["mixed"], ["back"], "back", perm=[0, 2, 1, 3]),
        node("Reshape", ["back", "together"], ["joined"], "joined"),
        node("MatMul", ["joined", "wo"], ["o"], "out"),
        node("Add", ["o", "x"], ["r"], "residual"),
        node("LayerNormalization", ["r", "scale"], ["n"], "norm"),
        node("MatMul", ["n", "wf"], ["states"], "dense"),
        node("Gather", ["states", "first"], ["class"], "class", axis=1),
        node("Unsqueeze", ["mask", "last"], ["column"], "column"),
        node("Cast", ["column"], ["counted"], "counted", to=TensorProto.FLOAT),
        node("Mul", ["states", "counted"], ["kept"], "kept"),
        node("ReduceSum", ["kept", "one"], ["sum"], "sum", keepdims=0),
        node("ReduceSum", ["counted", "one"], ["count"], "count", keepdims=0),
        node("Div", ["sum", "count"], ["mean"], "mean"),
        node("ReduceMean", ["r"], ["average"], "average", axes=[1], keepdims=0),
    ]
    return model(
        nodes,
        {name: ([1, "s"], TensorProto.INT64) for name in ("ids", "mask")},
        ["states", "class", "mean", "average"],
        words=weights(23, 24), places=weights(LARGEST, 24), wq=weights(24, 24), wk=weights(24, 24),
        wv=weights(24, 24), wo=weights(24, 24), wf=weights(24, 40), scale=np.ones(24, np.float32),
        later=weights(LARGEST + 1, 24), row=np.int64(1), none=np.int64(0), step=np.int64(1),
        unit=np.float32(1), low=np.float32(-1e4), zero=np.int64([0]), one=np.int64([1]), first=np.int64(0),
        inner=np.int64([1, 2]), last=np.int64([2]), heads=np.int64([0, -1, 3, 8]), together=np.int64([0, -1, 24]),
    )  # fmt: skip


def options(**more: Any) -> Options:
    _, batch = opened_batch([f"ids=1x{{{SMALLEST}..{LARGEST}}}", f"mask=1x{{{SMALLEST}..{LARGEST}}}"])
    shapes = {"ids": (1, SMALLEST), "mask": (1, SMALLEST)}
    return Options(shapes=shapes, batch=batch, ranges={"ids": (0, 22), "mask": (1, 1)}, **more)


def question(length: int) -> dict[str, np.ndarray]:
    """The last third of the tokens is masked."""
    rng = np.random.default_rng(length)
    return {
        "ids": rng.integers(0, 23, (1, length)),
        "mask": (np.arange(length) < length - length // 3).astype(np.int64)[None],
    }


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("length") / "net.onnx"
    onnx.save(encoder(), path)
    return path


@pytest.fixture(scope="module")
def native(net: Path) -> Path:
    return build(net, net.parent / "native", options(threads=2))


def test_python_takes_any_length(net: Path, native: Path) -> None:
    """With what a longer text has left in memory, with one thread and with two."""
    with dlpack.load(native) as predictor:
        for length in SIZES:
            close(predictor.run(question(length)), expected(net, question(length)))
        with pytest.raises(ValueError, match=r"ids 1x81.* ids 1x2, .* to ids 1x80"):
            predictor.run(question(LARGEST + 1))
        with pytest.raises(ValueError, match=r"ids 1x1"):
            predictor.run(question(1))


@pytest.mark.parametrize("target", ["linux-arm64", "linux-riscv64", "wasm"])
def test_other_machines(net: Path, tmp_path: Path, target: str) -> None:
    """A build verifies the bounds and lengths between, where the machine can be emulated. A sum over tokens ends with
    the last one, also where products take several steps at a time."""
    build(net, tmp_path / "bundle", options(target=target))


def test_one_set_of_kernels(native: Path) -> None:
    """Their text has the length in the loops along it alone; the tables do not grow with the bounds."""
    text = (native / "net.cc").read_text()
    assert "i1_tile < (extent + " in text and "k < extent; ++k" in text
    assert "constexpr int32_t kShapeCount = 79;" in text and "constexpr int32_t kSmallest = 2;" in text
    assert text.count("multiply-adds") == 2 and "// or ids" not in text  # of the smallest and the largest size
    assert "kShapes[]" not in text and text.count("constexpr int64_t kInputShape") == 2


def test_bound_memory_is_as_long_as_the_text(native: Path, net: Path) -> None:
    """Kernels go beyond a run's elements, but not in the caller's memory; a run step by step is the same."""
    library = ctypes.CDLL(str(native / "libnet.so"))
    handle = ctypes.c_void_p()
    size = ctypes.c_size_t
    assert library.net_create(ctypes.byref(handle), None, size(0), None, size(0)) == 0
    shape = (ctypes.c_int64 * 2)(1, 13)
    assert library.net_reshape(handle, 0, shape, 3) != 0
    assert library.net_reshape(handle, 0, shape, 2) == 0 and library.net_shape(handle) == 11
    asked, want = question(13), expected(net, question(13))
    guard = np.full(13 * 40 + 64, 7, np.float32)
    for k, name in enumerate(("ids", "mask")):
        data = asked[name]
        assert library.net_bind_input(handle, k, data.ctypes.data_as(ctypes.c_void_p), size(data.nbytes)) == 0
    assert library.net_bind_output(handle, 0, guard.ctypes.data_as(ctypes.c_void_p), size(13 * 40 * 4)) == 0
    for by_steps in (False, True):
        guard[:] = 7
        if by_steps:
            assert all(library.net_run_step(handle, k) == 0 for k in range(library.net_step_count()))
        else:
            assert library.net_run(handle) == 0
        np.testing.assert_allclose(guard[: 13 * 40].reshape(1, 13, 40), want["states"], atol=1e-5)
        assert (guard[13 * 40 :] == 7).all()
    bad = (ctypes.c_int64 * 2)(1, LARGEST + 1)
    assert library.net_reshape(handle, 0, bad, 2) != 0 and library.net_shape(handle) == 11
    library.net_destroy(handle)


def test_nothing_is_read_or_written_outside(native: Path, tmp_path: Path) -> None:
    """The self-test, which has several lengths, and runs in no more memory than they need, with the checks of gcc."""
    selftest_with_checks(native / "net.cc", tmp_path, [(1, n) for n in (2, 10, 11, 30, 31, 50, 70, 80)])


def test_c_takes_texts_up_to_its_memory(native: Path) -> None:
    library = Native(native)
    shapes = [(1, n) for n in (2, 3, 11, 12, 13, 20, 21, 40, 41, 63, 64, 79, 80)]
    check(library, shapes, lambda _, n: question(n))
    sizes = [library.of_shape("memory_size_for", 1, n) for n in range(2, 81)]
    assert sizes == sorted(sizes) and sizes[-1] == library["memory_size"]() and sizes[0] < sizes[-1] * 3 // 4
    prepared = library["memory_size"]() - library["shared_memory_size"]()
    assert library.of_shape("shared_memory_size_for", 1, 20) == library.of_shape("memory_size_for", 1, 20) - prepared
    assert [library.of_shape("memory_size_for", *shape) for shape in ((1, 1), (1, 81), (2, 20), (20,))] == [0] * 4
    assert library["memory_size_for"](2, None, 0) == library["memory_size_for"](-1, None, 0) == 0


def test_memory_may_be_allocated(native: Path) -> None:
    """With null a predictor allocates as many bytes as are asked for, all for 0, and no more than all for any."""
    library, handle, size = Native(native), ctypes.c_void_p(), ctypes.c_size_t
    some = library.of_shape("memory_size_for", 1, 20)
    for nbytes, most in ((0, 80), (1 << 40, 80), (some, 20)):
        assert library["create"](ctypes.byref(handle), None, size(nbytes), None, size(0)) == OK
        assert library.of_shape("reshape", 1, 80, handle=(handle,)) == (OK if most == 80 else NO_MEMORY)
        shared, less = ctypes.c_void_p(), library.of_shape("shared_memory_size_for", 1, 13)
        assert library["create_shared"](ctypes.byref(shared), None, size(less), handle) == OK
        assert library.of_shape("reshape", 1, 80, handle=(shared,)) == NO_MEMORY
        assert library.of_shape("reshape", 1, 13, handle=(shared,)) == OK
        for one in (shared, handle):
            assert library.of_shape("reshape", 1, 13, handle=(one,)) == OK
        asked = list(question(13).values())
        assert library.outputs(shared, asked) == library.outputs(handle, asked)
        library["destroy"](shared)
        library["destroy"](handle)
    assert library["create"](ctypes.byref(handle), None, size(64), None, size(0)) == NO_MEMORY


def test_python_loads_for_the_largest_shape(native: Path) -> None:
    with dlpack.load(native) as whole, dlpack.load(native, largest={"ids": (1, 20)}) as small:
        assert small._memory.nbytes < whole._memory.nbytes * 3 // 4
        states = np.empty((1, 20, 40), np.float32)
        for length in (20, 2, 13, 20):
            want = whole.run(question(length))
            for name, value in small.run(question(length)).items():
                assert np.array_equal(value, want[name])
        small.bind_outputs({"states": states})
        assert small.run(question(20))["states"] is states
        small.bind_outputs({"states": None})
        assert np.array_equal(small.run(question(20), copy=False)["states"], states)
        with pytest.raises(ValueError, match=r"net: .* memory for shapes up to ids 1x20, and these need more"):
            small.run(question(80))
        assert small.inputs["ids"][1] == (1, 20)
    for wrong, why in (({"id": (1, 20)}, "unknown input 'id'"), ({"ids": (1, 81)}, "cannot have the shape 1x81")):
        with pytest.raises(ValueError, match=why):
            dlpack.load(native, largest=wrong)


def test_only_open_dimensions_have_a_largest(bundles: Callable[[str], Path]) -> None:
    with pytest.raises(UsageError, match="digits has no open dimensions"):
        dlpack.load(bundles("digits"), largest={"image": (1, 64)})


def test_javascript_takes_any_length(net: Path, tmp_path: Path) -> None:
    bundle = build(net, tmp_path / "web", options(target="wasm"))
    assert len(sets_of(dlpack.bundle.loader.read_manifest(bundle))) == LARGEST - SMALLEST + 1
    for length in (80, 13):
        close(in_node(bundle, tmp_path, [question(length)])[0], expected(net, question(length)))
    (tmp_path / "largest.mjs").write_text(LARGEST_IN_NODE.replace("BUNDLE", str(bundle)))
    done = run([*node_command(), tmp_path / "largest.mjs"], limit_s=60)
    assert done.stdout.splitlines() == [
        "true 20,12,2 true",
        "net takes ids 1x2, mask 1x2 to ids 1x20, mask 1x20, not {\"ids\":[1,21]}: "
        "dimension 1 of ids is 2 to 20, not 21",
        'input "ids" is BigInt64Array of 21; the model takes BigInt64Array of 2 (1 x 2) or 20 (1 x 20)',
        "net takes ids 1x2, mask 1x2 to ids 1x80, mask 1x80, not {\"ids\":[1,81]}: "
        "dimension 1 of ids is 2 to 80, not 81",
    ], done.stderr  # fmt: skip


LARGEST_IN_NODE = """\
import { Predictor, openBundle } from "BUNDLE/node.js";
const parts = await openBundle("BUNDLE");
const whole = await Predictor.load(parts);
const small = await Predictor.load(parts, { largest: { ids: [1, 20] } });
const told = (f) => { try { f(); } catch (e) { console.log(e.message); } };
const question = (n) => ({ ids: new BigInt64Array(n).fill(3n), mask: new BigInt64Array(n).fill(1n) });
const same = [20, 12, 2].map((n) => {
  const [a, b] = [whole, small].map((p) => p.runSync(question(n)).states);
  return a.length === n * 40 && a.every((x, k) => x === b[k]) ? n : null;
});
const bytes = [whole, small].map((p) => p._memory.buffer.byteLength);
console.log(bytes[1] < bytes[0], String(same), whole.runSync(question(80)).states.length === 3200);
told(() => small.setShape({ ids: [1, 21] }));
told(() => small.runSync(question(21)));
await Predictor.load(parts, { largest: { ids: [1, 81] } }).catch((e) => console.log(e.message));
"""


def opened(nodes: Sequence[NodeProto], **weights: Any) -> Any:
    """The graph of x [1, n, 6] and k [1, 4] with n open up to 40."""
    made = model(nodes, {"x": [1, "n", 6], "k": [1, 4]}, ["y"], **weights)
    some, most, first = (clean_graph(made, {"x": (1, n, 6), "k": (1, 4)})[1] for n in (39, 40, 1))
    return open_graph(some, most, 39, 40, first)


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), node("Conv", ["t", "w"], ["y"], "conv", pads=[2, 2],
          strides=[2])],
         "'y' is 1x6x2 with 1 and 1x6x21 with 40"),
        ([node("Gather", ["x", "two"], ["y"], "third", axis=1)], "'third' chooses from"),
        ([node("Gather", ["x", "two0"], ["y"], "later", axis=1)], "'later' chooses from"),
        ([node("Gather", ["x", "minus2"], ["y"], "before", axis=1)], "'before' chooses from before the first of 1"),
        ([node("Slice", ["x", "minus20", "end", "one1"], ["y"], "most")],
         "'y' is 1x1x6 with 1 and 1x2x6 with 40"),
        ([node("Hardmax", ["x"], ["y"], "hard", axis=1)], "'hard' works along"),
        ([node("Concat", ["x", "one"], ["y"], "longer", axis=1)], "is 40 with 39 and 41 with 40"),
        ([node("Slice", ["x", "two1", "end", "one1"], ["y"], "rest")], "is 37 with 39 and 38 with 40"),
        ([node("Reshape", ["x", "flat"], ["y"], "flat")], "is 234 with 39 and 240 with 40"),
        ([node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), node("MatMul", ["x", "t"], ["y"], "pairs")],
         r"'y' \(1xnxn\) has the open dimension more than once"),
        ([node("Shape", ["x"], ["s"]), node("Gather", ["s", "one0"], ["n"]), node("Cast", ["n"], ["f"], to=1),
          node("Sqrt", ["f"], ["r"]), node("Div", ["x", "r"], ["y"], "per")],
         "'per' has a constant, 'r', computed from"),
        ([node("Shape", ["x"], ["s"]), node("Mul", ["s", "s"], ["q"]), node("Gather", ["q", "one0"], ["n"]),
          node("Add", ["n", "one0"], ["m"]), node("Cast", ["m"], ["f"], to=1), node("Div", ["x", "f"], ["y"], "per")],
         "'per' has a constant, 'f', computed from"),
    ],
)  # fmt: skip
def test_what_cannot_be_open_is_named(nodes: Sequence[NodeProto], why: str) -> None:
    constants = {
        "w": np.zeros((6, 6, 3), np.float32), "two": np.int64(2), "one": np.zeros((1, 1, 6), np.float32),
        "two1": np.int64([2]), "end": np.int64([2**62]), "one1": np.int64([1]), "flat": np.int64([1, -1]),
        "one0": np.int64(1), "two0": np.int64([0, 1]), "minus2": np.int64(-2), "minus20": np.int64([-2]),
    }  # fmt: skip
    used = {i for n in nodes for i in n.input}
    with pytest.raises(UnsupportedError, match=why):
        opened(nodes, **{k: v for k, v in constants.items() if k in used})


def test_weights_are_rounded_at_every_size(net: Path) -> None:
    """A table of positions is small in small sizes alone: those of all sizes are the first rows of one."""
    prepared = prepare(net, options(weights_type="float16"), Progress())
    assert prepared.batch is not None and prepared.batch.graph is not None
    tables = [c for c in prepared.batch.graph.constants.values() if c.dtype == np.float32 and c.ndim > 1 and c.size > 1]
    assert tables and all(np.array_equal(c, c.astype(np.float16)) for c in tables)
    for number in (0, -1):
        own = prepared.model(range(LARGEST - SMALLEST + 1)[number])().graph.initializer
        floats = [a for a in map(numpy_helper.to_array, own) if a.dtype == np.float32 and a.ndim > 1 and a.size > 1]
        assert floats and all(np.array_equal(a, a.astype(np.float16)) for a in floats)


def test_heads_that_share_keys_stay_apart() -> None:
    """The rows of one head do not lie behind those of another in a run, so they are no rows of one product."""
    graph = opened(
        [
            node("Reshape", ["x", "six"], ["q0"]), node("Transpose", ["q0"], ["q"], perm=[0, 2, 1, 3]),
            node("MatMul", ["x", "w"], ["k0"]), node("Reshape", ["k0", "three"], ["k1"]),
            node("Transpose", ["k1"], ["k2"], perm=[0, 2, 1, 3]), node("Unsqueeze", ["k2", "two"], ["k3"]),
            node("Expand", ["k3", "twice"], ["k4"]), node("Reshape", ["k4", "heads"], ["k5"]),
            node("Transpose", ["k5"], ["kt"], perm=[0, 1, 3, 2]), node("MatMul", ["q", "kt"], ["s"], "scores"),
            node("ReduceMax", ["s"], ["y"], axes=[1, 3], keepdims=0),
        ],
        w=np.ones((6, 3), np.float32), six=np.int64([0, 0, 6, 1]), three=np.int64([0, 0, 3, 1]), two=np.int64([2]),
        twice=np.int64([1, 3, 2, 1, 1]), heads=np.int64([1, 6, -1, 1]),
    )  # fmt: skip
    assert "Expand" not in {n.op for n in shared_heads(replace(graph, open=0)).nodes}
    assert shared_heads(graph) is graph


def test_the_extent_is_no_other_dimension() -> None:
    graph = opened([node("MatMul", ["x", "w"], ["y"])], w=np.zeros((6, 48), np.float32))
    assert graph.open == 60 and graph.types["y"].shape == (1, 60, 48)


def test_trips_of_open_loops(native: Path) -> None:
    """Tiles, vectors, single elements, and merged dimensions; what vectors reduce is filled up."""
    from dlpack.amalgamate.cpp import trips_of

    assert trips_of(Open(1, 1)) == "extent" and trips_of(Open(1, 6)) == "(extent + 5) / 6"
    assert trips_of(Open(24, 16)) == "(extent * 3 + 1) / 2" and trips_of(Open(24, 8)) == "extent * 3"
    assert trips_of(Open(1, 1, less=1)) == "extent - 1"
    assert trips_of(Open(1, 16, filled=True)) == "(extent + 63) / 64 * 4"
    assert Open(24, 8).exact and not Open(1, 6).exact
    assert "fill_behind(" in (native / "net.cc").read_text()
