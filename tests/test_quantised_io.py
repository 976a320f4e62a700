"""Quantised inputs and outputs: scale and zero point in the manifest, and what is made of them in C and Python."""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import ROOT, requires_module, requires_tool
from onnx import TensorProto, helper, numpy_helper
from processes import run
from test_export_tflite import model_file
from test_task import detector, some_outputs

import dlpack
from dlpack import exporters
from dlpack.bundle.loader import read_manifest
from dlpack.errors import UsageError
from dlpack.meaning.detect import detections
from dlpack.meaning.preprocess import from_json
from dlpack.meaning.quantization import Meaning, Quantization, from_metadata
from dlpack.meaning.task import from_json as task_from_json
from dlpack.meaning.task import guess
from dlpack.model.meaning import meanings, meanings_of_model
from dlpack.model.metadata import describe
from dlpack.model.read import read_graph
from dlpack.pipeline import Options, Progress, build
from dlpack.targets.wasm.runtime import Predictor as Pyodide

Array = np.ndarray[Any, Any]
Types = Mapping[str, tuple[str, Sequence[int]]]


def model(nodes: Sequence[tuple[Any, ...]], inputs: Types, outputs: Types, **constants: Array) -> onnx.ModelProto:
    """Of nodes (operator, inputs, outputs[, attributes])."""
    made = [helper.make_node(op, ins.split(), outs.split(), **dict(*more)) for op, ins, outs, *more in nodes]

    def values(types: Types) -> list[onnx.ValueInfoProto]:
        kinds = {n: (helper.np_dtype_to_tensor_dtype(np.dtype(t)), s) for n, (t, s) in types.items()}
        return [helper.make_tensor_value_info(n, *kind) for n, kind in kinds.items()]

    tensors = [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()]
    graph = helper.make_graph(made, "g", values(inputs), values(outputs), tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def built(proto: onnx.ModelProto, folder: Path, name: str = "net", **options: Any) -> Path:
    onnx.save(proto, folder / f"{name}.onnx")
    return build(folder / f"{name}.onnx", folder / "bundle", Options(**options))


KINDS = {"uint8": Quantization(1 / 256, 0), "int8": Quantization(1 / 256, -128)}
"""As TensorFlow Lite quantises every softmax."""

COLOURS = ("red", "green", "blue")


def classifier(dtype: str) -> onnx.ModelProto:
    """The softmax of a picture's mean colour, quantised."""
    kind = KINDS[dtype]
    return model(
        [
            ("GlobalAveragePool", "x", "p"),
            ("Flatten", "p", "f"),
            ("Softmax", "f", "s"),
            ("QuantizeLinear", "s scale zero", "q"),
            ("Reshape", "q shape", "y"),
        ],
        {"x": ("float32", [1, 3, 8, 8])},
        {"y": (dtype, [3])},
        scale=np.float32(kind.scale),
        zero=np.array(kind.zero_point, dtype),
        shape=np.array([3], np.int64),
    )


# --- what the graph tells ---------------------------------------------------------------------------------------------

HALF = {"s": np.float32(0.5), "z": np.uint8(7), "s2": np.float32(0.25), "z2": np.uint8(8)}
U8 = {"y": ("uint8", [2, 3])}
X = {"x": ("float32", [2, 3])}
Q = Quantization(0.5, 7)


@pytest.mark.parametrize(
    "nodes, outputs, want",
    [
        ([("QuantizeLinear", "x s z", "y")], U8, Q),
        ([("QuantizeLinear", "x s", "y")], U8, Quantization(0.5, 0)),
        ([("QuantizeLinear", "x s z", "a"), ("Transpose", "a", "b"), ("Transpose", "b", "y")], U8, Q),
        ([("QuantizeLinear", "x s z", "a"), ("Split", "a", "b y", {"axis": 0})], {"y": ("uint8", [1, 3])}, Q),
        (
            [("QuantizeLinear", "x s z", "a"), ("QuantizeLinear", "x s z", "b"), ("Concat", "a b", "y", {"axis": 0})],
            {"y": ("uint8", [4, 3])},
            Q,
        ),
        (
            [("QuantizeLinear", "x s z", "a"), ("QuantizeLinear", "x s2 z2", "b"), ("Max", "a b", "y")],
            U8,
            None,
        ),
        ([("QuantizeLinear", "x s z", "a"), ("Add", "a a", "y")], U8, None),
        ([("QuantizeLinear", "x s z", "a"), ("DequantizeLinear", "a s z", "y")], {"y": ("float32", [2, 3])}, None),
        ([("Cast", "x", "y", {"to": TensorProto.UINT8})], U8, None),
        ([("QuantizeLinear", "x ss zz", "y", {"axis": 1})], U8, None),
    ],
)
def test_outputs(nodes: list[Any], outputs: Types, want: Quantization | None) -> None:
    proto = model(nodes, X, outputs, **HALF, ss=np.float32([1, 2, 3]), zz=np.uint8([0, 0, 0]))
    assert meanings(read_graph(proto), {})["y"] == Meaning(want)
    assert meanings_of_model(proto, {"y": outputs["y"][0], "x": "float32"})["y"] == Meaning(want)


@pytest.mark.parametrize(
    "nodes, want",
    [
        ([("DequantizeLinear", "x s z", "y")], Q),
        ([("Reshape", "x shape", "a"), ("Slice", "a from to", "b"), ("DequantizeLinear", "b s z", "y")], Q),
        ([("DequantizeLinear", "x s z", "a"), ("DequantizeLinear", "x s2 z2", "b"), ("Add", "a b", "y")], None),
        ([("Cast", "x", "y", {"to": TensorProto.FLOAT})], None),
    ],
)
def test_inputs(nodes: list[Any], want: Quantization | None) -> None:
    constants = {"shape": np.array([6]), "from": np.array([0]), "to": np.array([6])}
    proto = model(
        nodes,
        {"x": ("uint8", [2, 3])},
        {"y": ("float32", ["a", "b"][: 2 - ("Reshape" == nodes[0][0])])},
        **HALF,
        **constants,
    )
    assert meanings(read_graph(proto), {})["x"] == Meaning(want)


def test_an_output_that_holds_an_inputs_elements() -> None:
    nodes = [("DequantizeLinear", "x s z", "r"), ("Transpose", "x", "y")]
    proto = model(nodes, {"x": ("uint8", [2, 3])}, {"r": ("float32", [2, 3]), "y": ("uint8", [3, 2])}, **HALF)
    assert meanings(read_graph(proto), {})["y"] == Meaning(Q)


def test_what_qlinear_operators_say() -> None:
    constants = {"w": np.ones((2, 3, 1, 1), np.int8), "ws": np.float32(0.1), "wz": np.int8(0)}
    proto = model(
        [("QLinearConv", "x s z w ws wz s2 z2", "y")],
        {"x": ("uint8", [1, 3, 4, 4])},
        {"y": ("uint8", [1, 2, 4, 4])},
        **HALF,
        **constants,
    )
    found = meanings(read_graph(proto), {})
    assert found == {"x": Meaning(Q), "y": Meaning(Quantization(0.25, 8))}


@pytest.mark.parametrize(
    "nodes, dtype, want",
    [
        ([("Softmax", "x", "y")], "float32", True),
        ([("Sigmoid", "x", "a"), ("QuantizeLinear", "a s z", "b"), ("Identity", "b", "y")], "uint8", True),
        ([("Softmax", "x", "a"), ("Log", "a", "y")], "float32", False),
        ([("Softmax", "x", "a"), ("Max", "a x", "y")], "float32", False),
        ([("Identity", "x", "y")], "float32", False),
        ([("Softmax", "x", "a"), ("Cast", "a", "y", {"to": TensorProto.UINT8})], "uint8", False),
    ],
)
def test_probabilities(nodes: list[Any], dtype: str, want: bool) -> None:
    found = meanings(read_graph(model(nodes, X, {"y": (dtype, [2, 3])}, **HALF)), {})
    assert found["y"].probabilities is want


def test_the_metadata_goes_first_and_is_checked() -> None:
    graph = read_graph(
        model([("DequantizeLinear", "x s z", "y")], {"x": ("uint8", [3])}, {"y": ("float32", [3])}, **HALF)
    )
    told = json.dumps({"x": {"scale": 0.125, "zero_point": -3}})
    assert meanings(graph, {"dlpack.quantization": told})["x"] == Meaning(Quantization(0.125, -3))
    wrong = ["1", '{"scale": 0, "zero_point": 1}', '{"scale": 1, "zero_point": 0.5}', '{"scale": 1}',
             '{"scale": 1e99, "zero_point": 1}']  # fmt: skip
    for text in ("[]", "{", *(f'{{"x": {q}}}' for q in wrong)):
        with pytest.raises(UsageError, match=r"dlpack\.quantization"):
            from_metadata(text)


# --- classes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", KINDS)
def test_a_quantised_classifier(tmp_path: Path, dtype: str) -> None:
    """Probabilities stay what they are, in Python and in C, of a picture and by hand."""
    bundle = built(classifier(dtype), tmp_path, labels=COLOURS, preprocess='{"scale": 0.00392156862745098}')
    kind = KINDS[dtype]
    manifest = read_manifest(bundle)
    assert manifest["outputs"] == [
        {"name": "y", "dtype": dtype, "shape": [3], "quantization": kind.to_json(), "probabilities": True}
    ]
    assert manifest["task"] == {"kind": "classify"}
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[..., 0], picture[..., 1] = 200, 120
    e = np.exp(np.array([200, 120, 0]) / 255)
    with dlpack.load(bundle) as p:
        found = p.classify(picture, 3)
        stored = np.array(p.run({"x": p.preprocess(picture)})["y"])
        real = p.dequantize("y", stored)
        assert real.dtype == np.float32
        np.testing.assert_array_equal(p.quantize("y", real), stored)
        np.testing.assert_array_equal(p.quantize("y", [-1, 2, np.nan]), np.array([0, 255, 0]) + kind.zero_point)
        assert p.dequantize("x", p.preprocess(picture)).dtype == np.float32
        with pytest.raises(ValueError, match="unknown name 'z'"):
            p.dequantize("z", stored)
    assert [c.label for c in found] == list(COLOURS)
    np.testing.assert_allclose([c.probability for c in found], e / e.sum(), atol=1 / 512 + 1e-6)
    np.testing.assert_array_equal([c.probability for c in found], real)
    assert in_c(bundle) == f"{1 / 256:g} {kind.zero_point} 0 0: 0.3320 0.3320"


def in_c(bundle: Path) -> str:
    """What a C program reads: scale and zero point of output and input, the first classes of zeros."""
    (bundle.parent / "main.c").write_text(
        '#include <stdio.h>\n#include "net.h"\nint main(void) {\n'
        "  net_predictor* p = NULL;\n  net_class c[2];\n"
        "  if (net_create(&p, NULL, 0, NULL, 0) || net_run(p) || net_top_k(p, 0, 2, c)) return 1;\n"
        '  printf("%g %d %g %d: %.4f %.4f", net_output(0)->scale, net_output(0)->zero_point, net_input(0)->scale,\n'
        "         net_input(0)->zero_point, c[0].probability, c[1].probability);\n"
        "  net_destroy(p);\n  return 0;\n}\n"
    )
    strict = "-Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wdouble-promotion -Werror -Wno-psabi".split()
    commands = [
        [requires_tool("g++"), "-O1", "-std=c++17", "-march=native", *strict, "-c", bundle / "net.cc", "-o", "net.o"],
        [requires_tool("gcc"), "-std=c99", "-Wall", "-Werror", f"-I{bundle}", "main.c", "net.o", "-o", "main"],
        ["./main"],
    ]
    for command in commands:
        done = run(command, cwd=bundle.parent)
        assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "scale, zero, stored, softmax",
    [
        (1 / 256, 0, [26, 51, 178, 0], False),  # 255 of 256: within half a step of each
        (1 / 256, 0, [128, 128, 128, 128], True),
        (1 / 16, 0, [4, 4, 4, 5], False),
        (1 / 16, 3, [7, 7, 7, 2], True),  # one is negative
        (0.5, 0, [4, 0, 0, 0], True),  # within two of 1, but no probability is 2
    ],
)
def test_scores_are_told_from_probabilities(
    tmp_path: Path, scale: float, zero: int, stored: list[int], softmax: bool
) -> None:
    """Where the graph does not tell, by their sum within what quantising may have done to it."""
    proto = model(
        [("QuantizeLinear", "x s z", "y")],
        {"x": ("float32", [1, 4])},
        {"y": ("uint8", [1, 4])},
        s=np.float32(scale),
        z=np.uint8(zero),
    )
    bundle = built(proto, tmp_path, labels=("a", "b", "c", "d"))
    real = (np.array(stored) - zero) * scale
    want = np.exp(real) / np.exp(real).sum() if softmax else real
    with dlpack.load(bundle) as p:
        np.testing.assert_array_equal(p.run({"x": real[None].astype(np.float32)})["y"], [stored])
        found = sorted(p.top_k(4), key=lambda c: c.index)
    np.testing.assert_allclose([c.probability for c in found], want, rtol=1e-6, atol=1e-7)


def test_sigmoids_are_probabilities_each_of_its_own(tmp_path: Path) -> None:
    proto = model([("Sigmoid", "x", "y")], {"x": ("float32", [1, 3])}, {"y": ("float32", [1, 3])})
    with dlpack.load(built(proto, tmp_path, labels=COLOURS)) as p:
        p.run({"x": np.array([[3, -3, 0]], np.float32)})
        found = p.top_k(3)
    assert [c.label for c in found] == ["red", "blue", "green"]
    np.testing.assert_allclose([c.probability for c in found], 1 / (1 + np.exp([-3.0, 0, 3])), rtol=1e-6)


@pytest.mark.parametrize("name", ["net_full_int8", "net_full_uint8"])
def test_a_classifier_of_tensorflow_lite(tmp_path: Path, name: str) -> None:
    """Its input and output are quantised; the picture's bytes become its integers, almost one to one."""
    path = model_file(name, tmp_path)
    bundle = build(path, tmp_path / "b", Options(preprocess=f'{{"scale": {1 / 255}}}', name="net"))
    manifest = read_manifest(bundle)
    low = -128 if name == "net_full_int8" else 0
    assert manifest["outputs"][0]["quantization"] == {"scale": 1 / 256, "zero_point": low}
    assert manifest["inputs"][0]["quantization"]["zero_point"] == low and manifest["task"] == {"kind": "classify"}
    picture = np.random.default_rng(2).integers(0, 256, (12, 12, 3), np.uint8)
    with dlpack.load(bundle) as p:
        given = p.preprocess(picture)
        found = sorted(p.classify(picture, 99), key=lambda c: c.index)
        output = next(iter(p.outputs))
        real = p.dequantize(output, p.run({next(iter(p.inputs)): given})[output]).ravel()
    scale = manifest["inputs"][0]["quantization"]["scale"]
    np.testing.assert_array_equal(given[0].astype(int) - low, np.rint(picture / 255 / scale).clip(0, 255))
    np.testing.assert_array_equal([c.probability for c in found], real)
    assert abs(sum(real) - 1) < 0.02


@pytest.mark.parametrize("name", ["net_full_int8", "net_full_uint8", "net_full_layer_norm"])
def test_the_exporter_tells_what_the_operators_tell(tmp_path: Path, name: str) -> None:
    proto = exporters.export(model_file(name, tmp_path)).model
    metadata = {p.key: p.value for p in proto.metadata_props}
    graph = read_graph(proto)
    found = meanings(graph, metadata)
    assert found == meanings(graph, {})
    assert {n: m.quantization for n, m in found.items()} == from_metadata(metadata["dlpack.quantization"])


def test_export_and_inspect_know_quantised_outputs(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from dlpack.cli import cli

    nodes = [("Reshape", "x shape", "r"), ("QuantizeLinear", "r s z", "y")]
    proto = model(
        nodes, {"x": ("float32", [1, 3, 8, 8])}, {"y": ("uint8", [1, 32, 6])}, shape=np.array([1, 32, 6]), **HALF
    )
    task = '{"kind": "detect", "format": "rows"}'
    describe(proto, None, "none", task)
    onnx.save(proto, tmp_path / "net.onnx")
    told = CliRunner().invoke(cli, ["inspect", str(tmp_path / "net.onnx"), "--json"])
    assert json.loads(told.output)["outputs"][0]["quantization"] == Q.to_json()
    shown = CliRunner().invoke(cli, ["inspect", str(tmp_path / "net.onnx")])
    assert "zero point" in shown.output and "0.5" in shown.output


# --- pictures ---------------------------------------------------------------------------------------------------------


def mirror(dtype: str, kind: Quantization, shape: Sequence[int]) -> onnx.ModelProto:
    """Gives the picture that went in as real numbers."""
    return model(
        [("Transpose", "x", "t", {"perm": [0, 2, 3, 1]}), ("DequantizeLinear", "t s z", "y")],
        {"x": (dtype, shape)},
        {"y": ("float32", [shape[0], shape[2], shape[3], shape[1]])},
        s=np.float32(kind.scale),
        z=np.array(kind.zero_point, dtype),
    )


@pytest.mark.parametrize(
    "dtype, kind, preprocess",
    [
        ("int8", Quantization(float(np.float32(1 / 255)), -128), '{"scale": 0.00392156862745098}'),
        ("uint8", Quantization(float(np.float32(1 / 127.5)), 127), '{"preset": "tf", "resize": null}'),
        ("int8", Quantization(0.5, 3), '{"mean": [100.25, 120.75, 110], "std": [2, 3, 4], "channels": "BGR"}'),
        ("uint8", Quantization(2.0, 0), "none"),  # half of the bytes are ties
        ("uint8", Quantization(1.0, 0), '{"scale": 0.1, "mean": [0.5]}'),  # some are, where nothing is fused
    ],
)
def test_a_quantised_picture(tmp_path: Path, dtype: str, kind: Quantization, preprocess: str) -> None:
    """In C as in Python: the integers that stand for the preprocessed values."""
    told: list[str] = []
    onnx.save(mirror(dtype, kind, (1, 3, 20, 24)), tmp_path / "net.onnx")
    progress = Progress(warn=told.append)
    bundle = build(tmp_path / "net.onnx", tmp_path / "bundle", Options(preprocess=preprocess), progress)
    assert not told
    manifest = read_manifest(bundle)
    assert manifest["inputs"][0]["quantization"] == manifest["preprocess"]["quantization"] == kind.to_json()
    stored = {k: v for k, v in manifest["preprocess"].items() if k not in ("height", "width", "dtype", "quantization")}
    spec = from_json(stored, manifest["inputs"])
    assert spec.quantization == kind
    draw = np.random.default_rng(3)
    picture = draw.integers(0, 256, (20, 24, 3), np.uint8)
    with dlpack.load(bundle) as p:
        got = p.preprocess(picture)
        np.testing.assert_array_equal(got, spec(picture))
        y = np.array(p.run({"x": got})["y"])
    bytes_ = picture[..., ::-1] if spec.channels == "BGR" else picture
    real = (bytes_ * spec.scale - spec.mean) / spec.std
    low, high = kind.limits(dtype)
    np.testing.assert_allclose(y[0], real.clip(low, high), atol=kind.scale / 2 * 1.001)


def test_preprocessing_that_does_not_fit_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    onnx.save(mirror("uint8", Quantization(1 / 256, 0), (1, 3, 8, 8)), tmp_path / "net.onnx")
    options = Options(preprocess="none", target="source")
    build(tmp_path / "net.onnx", tmp_path / "bundle", options, Progress(warn=told.append))
    assert len(told) == 1 and "makes values from 0 to 255" in told[0] and "holds 0 to 0.9961" in told[0]


def test_bytes_that_nothing_dequantises_stay_bytes(tmp_path: Path) -> None:
    proto = model(
        [("Cast", "x", "y", {"to": TensorProto.FLOAT})],
        {"x": ("uint8", [1, 3, 8, 8])},
        {"y": ("float32", [1, 3, 8, 8])},
    )
    bundle = built(proto, tmp_path, preprocess="none")
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    assert "quantization" not in read_manifest(bundle)["preprocess"]
    with dlpack.load(bundle) as p:
        np.testing.assert_array_equal(p.preprocess(picture)[0], picture.transpose(2, 0, 1))


# --- detectors and pictures that come out -----------------------------------------------------------------------------


def tensor(name: str, values: Array, kind: Quantization | None = None) -> dict[str, Any]:
    more = {"quantization": kind.to_json()} if kind else {}
    return {"name": name, "dtype": values.dtype.name, "shape": list(values.shape), **more}


def test_guesses_see_real_numbers() -> None:
    draw = np.random.default_rng(1)
    image = [{"name": "image", "dtype": "float32", "shape": [1, 3, 48, 64]}]
    corners, kind = np.sort(draw.random((1, 30, 2, 2)), axis=2).reshape(1, 30, 4), Quantization(1 / 256, -128)
    boxes, scores = kind.quantize(corners, "int8"), kind.quantize(draw.random((1, 30, 2)), "int8")
    task = guess(image, [tensor("s", scores, kind), tensor("b", boxes, kind)], True, [scores, boxes])
    assert task is not None and (task["format"], task["boxes"], task["coordinates"]) == ("corners", "b", "relative")
    assert guess(image, [tensor("s", scores), tensor("b", boxes)], True, [scores, boxes]) is None

    grid = draw.random((1, 8, 6, 6))
    grid[:, 5:] /= grid[:, 5:].sum(1, keepdims=True)
    stored = kind.quantize(grid, "int8")
    task = guess(image, [tensor("g", stored, kind)], True, [stored])
    assert task is not None and task["format"] == "grid"

    made = kind.quantize(draw.random((1, 3, 48, 64)), "int8")
    task = guess(image, [tensor("y", made, kind)], True, [made])
    assert task is not None and (task["kind"], task["range"]) == ("style", [0, 1])


def test_a_quantised_detector(tmp_path: Path) -> None:
    """From the bundle to boxes: corners and scores that are stored as uint8 and int8."""
    proto = model(
        [
            ("ReduceMean", "x", "m"),
            ("Mul", "m nothing", "n"),
            ("Add", "n corners", "b"),
            ("Add", "n shares", "s"),
            ("QuantizeLinear", "b bs bz", "boxes"),
            ("QuantizeLinear", "s ss sz", "scores"),
        ],
        {"x": ("float32", [1, 3, 32, 32])},
        {"boxes": ("uint8", [1, 2, 4]), "scores": ("int8", [1, 2, 3])},
        nothing=np.zeros((1, 1, 1), np.float32),
        corners=np.float32([[[0.25, 0.25, 0.5, 0.5], [0.5, 0, 1, 0.75]]]),
        shares=np.float32([[[0.125, 0.125, 0.75], [0, 0.875, 0.125]]]),
        bs=np.float32(1 / 128),
        bz=np.uint8(20),
        ss=np.float32(1 / 256),
        sz=np.int8(-128),
    )
    proto.graph.node[0].attribute.append(helper.make_attribute("keepdims", 1))
    proto.graph.node.insert(1, helper.make_node("Reshape", ["m", "one"], ["m1"]))
    proto.graph.node[2].input[0] = "m1"
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 1]), "one"))
    task = '{"kind": "detect", "format": "corners", "background": 0}'
    bundle = built(proto, tmp_path, preprocess="none", labels=("none", "cat", "dog"), task=task)
    with dlpack.load(bundle) as p:
        outputs = p.run({"x": p.preprocess(np.zeros((64, 64, 3), np.uint8))})
        found = detections(outputs, p.manifest, 64, 64)
        again = detections({n: p.dequantize(n, v) for n, v in outputs.items()}, p.manifest, 64, 64)
    assert [(d.label, d.score, d.x, d.y, d.width, d.height) for d in found] == [
        ("cat", 0.875, 32, 0, 32, 48),
        ("dog", 0.75, 16, 16, 16, 16),
    ]
    assert again == found


# --- in JavaScript and in WebAssembly's Python ------------------------------------------------------------------------


def in_node(script: str, given: Any) -> Any:
    """What an ES module prints as JSON; it has `given`, and `web(file)` imports from web/."""
    head = f"""import {{ readFileSync }} from "node:fs";
        const web = (file) => import(`file://{ROOT}/web/${{file}}`);
        const given = JSON.parse(readFileSync(0, "utf8"));
        """
    command = [requires_tool("node"), "--input-type=module", "-e", head + script]
    done = run(command, input=json.dumps(given))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def in_wasm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The int8 classifier for WebAssembly, which also Pyodide's predictor takes."""
    requires_tool("node")
    folder = tmp_path_factory.mktemp("wasm")
    return built(classifier("int8"), folder, target="wasm", labels=COLOURS, preprocess='{"scale": 0.0039}')


def test_a_quantised_classifier_in_javascript(in_wasm: Path) -> None:
    script = """const { Classifier } = await import(`file://${given}/node.js`);
        const c = await Classifier.load(given);
        const data = Uint8Array.from({ length: 192 }, (_, i) => [200, 120, 0][i % 3]);
        const found = await c.classify({ data, width: 8, height: 8 }, { topK: 3 });
        const { y } = await c.predictor.run({ x: new Float32Array(192) });
        const real = c.predictor.dequantize("y", y);
        const again = c.predictor.quantize("y", [...real, -1, 2, 2.5 / 256, NaN]);
        const [{ quantization, probabilities }] = c.predictor.outputs;
        let error = "";
        try { c.predictor.dequantize("z", y); } catch (e) { error = e.message; }
        console.log(JSON.stringify([found, [...y], [...real], [...again], again.constructor.name, quantization,
          probabilities, error, c.predictor.dequantize("x", real) === real]));"""
    found, y, real, again, kind, quantization, probabilities, error, same = in_node(script, str(in_wasm))
    e = np.exp(np.array([200, 120, 0]) * 0.0039)
    assert [c["label"] for c in found] == list(COLOURS)
    np.testing.assert_allclose([c["probability"] for c in found], e / e.sum(), atol=1 / 512 + 1e-6)
    assert y == [-43] * 3 and real == [85 / 256] * 3 and again == [*y, -128, 127, -126, -128] and kind == "Int8Array"
    assert quantization == KINDS["int8"].to_json() and probabilities is True and same
    assert error == 'unknown name "z"; the model has "x", "y"'


def test_scores_in_javascript_are_told_from_probabilities() -> None:
    cases = [([26, 51, 178, 0], 1 / 256), ([128] * 4, 1 / 256), ([4, 4, 4, 5], 1 / 16), ([4, 0, 0, 0], 0.5)]
    script = """const { best } = await web("classifier.js");
        console.log(JSON.stringify(given.map(([stored, step]) =>
          best(stored.map((q) => q * step), null, 1, { step })[0].probability)));"""
    found = in_node(script, cases)
    assert found == pytest.approx([178 / 256, 0.25, 5 / 16, np.exp(2) / (np.exp(2) + 3)])


def test_pictures_are_quantised_in_javascript_as_in_python() -> None:
    draw = np.random.default_rng(6)
    picture = draw.integers(0, 256, (20, 24, 3), np.uint8)
    cases = [
        ("int8", Quantization(float(np.float32(1 / 255)), -128), {"scale": 1 / 255}),
        ("uint8", Quantization(float(np.float32(1 / 127.5)), 127), {"scale": 1 / 127.5, "mean": [1]}),
        ("int16", Quantization(0.001, 5), {"mean": [100.25, 120.75, 110], "std": [2, 3, 4], "channels": "BGR"}),
        ("uint8", Quantization(2.0, 0), {}),
        ("uint8", Quantization(1.0, 0), {"scale": 0.1, "mean": [0.5]}),
    ]
    specs = [
        from_json(told, [{"name": "x", "dtype": t, "shape": [1, 3, 20, 24], "quantization": q.to_json()}])
        for t, q, told in cases
    ]
    script = """const { preprocess } = await web("preprocess.js");
        const image = { data: Uint8Array.from(given.data), width: 24, height: 20 };
        console.log(JSON.stringify(given.specs.map((spec) => Array.from(preprocess(image, spec)))));"""
    found = in_node(script, {"data": picture.ravel().tolist(), "specs": [s.to_json() for s in specs]})
    for spec, got in zip(specs, found, strict=True):
        np.testing.assert_array_equal(np.array(got).reshape(1, 3, 20, 24), spec(picture))


def test_quantised_detectors_in_javascript_as_in_python() -> None:
    """All formats, with what real numbers say: from int16 in steps of 1/1024."""
    draw, kind = np.random.default_rng(20), Quantization(1 / 1024, -7)
    cases = []
    for format_ in ("corners", "anchors", "grid", "rows"):
        task, outputs = some_outputs(format_, draw)
        if format_ == "corners":
            outputs["boxes"] /= 64
            task["coordinates"] = "relative"
        manifest = detector(task, outputs, None)
        real = {n: kind.dequantize(kind.quantize(v, "int16")) for n, v in outputs.items()}
        want = detections(real, manifest, 100, 70)
        stored = {n: kind.quantize(v, "int16") for n, v in outputs.items()}
        manifest["outputs"] = [tensor(n, v, kind) for n, v in stored.items()]
        assert len(want) > 1 and detections(stored, manifest, 100, 70) == want
        cases.append((manifest, stored, want))
    script = """const { Detector } = await web("detector.js");
        const found = [];
        for (const [manifest, outputs] of given) {
          const run = async () => Object.fromEntries(Object.entries(outputs).map(([k, v]) => [k, Int16Array.from(v)]));
          const detector = new Detector({ ...manifest, manifest, run });
          found.push(await detector.detect({ data: new Uint8Array(21000), width: 100, height: 70 }));
        }
        console.log(JSON.stringify(found));"""
    theirs = in_node(script, [(m, {n: v.ravel().tolist() for n, v in s.items()}) for m, s, _ in cases])
    for (_, _, want), found in zip(cases, theirs, strict=True):
        assert [d.index for d in want] == [d["index"] for d in found]
        keys = ("score", "x", "y", "width", "height")
        ours = np.array([[getattr(d, k) for k in keys] for d in want])
        np.testing.assert_allclose([[d[k] for k in keys] for d in found], ours, atol=1e-4)


def test_a_quantised_picture_comes_out_in_javascript() -> None:
    kind = Quantization(1 / 128, -128)
    stored = np.arange(-128, 64, dtype=np.int8).reshape(1, 3, 8, 8)
    image = {"name": "x", "dtype": "float32", "shape": [1, 3, 8, 8]}
    manifest = {
        "name": "net",
        "inputs": [image],
        "outputs": [tensor("y", stored, kind)],
        "preprocess": from_json({}, [image]).to_json(),
        "task": task_from_json({"kind": "style", "range": [0, 2]}, [image], [tensor("y", stored, kind)]),
    }
    script = """const { Stylizer } = await web("stylizer.js");
        const run = async () => ({ y: Int8Array.from(given.stored) });
        const { data } = await new Stylizer({ ...given.manifest, manifest: given.manifest, run })
          .stylize({ data: new Uint8Array(192), width: 8, height: 8 });
        console.log(JSON.stringify([...data]));"""
    got = in_node(script, {"manifest": manifest, "stored": stored.ravel().tolist()})
    want = kind.dequantize(stored)[0].transpose(1, 2, 0) * 255 / 2
    np.testing.assert_allclose(np.array(got).reshape(8, 8, 4)[..., :3], want, atol=0.501)


def test_a_quantised_writer_in_javascript() -> None:
    """One-hot characters and states that begin with 0 are quantised, scores dequantised."""
    task = {"kind": "text", "input": "c", "output": "y", "states": {"h": "h2"}, "seed": ""}
    kind = Quantization(0.5, 3)
    tensors = [tensor(n, np.zeros((1, 2), np.int8), kind) for n in ("c", "h", "y", "h2")]
    assert task_from_json(task, tensors[:2], tensors[2:])["kind"] == "text"
    other = tensor("h2", np.zeros((1, 2), np.int8), Quantization(0.25, 3))
    with pytest.raises(UsageError, match="differ in scale or zero point"):
        task_from_json(task, tensors[:2], [tensors[2], other])
    script = """const { Writer } = await web("writer.js");
        const seen = [];
        const runSync = (x) => {
          seen.push([[...x.c], [...x.h]]);
          return { y: Int8Array.of(3, 5), h2: Int8Array.of(9, 9) }; // real scores 0 and 1
        };
        const [inputs, outputs] = [given.tensors.slice(0, 2), given.tensors.slice(2)];
        const manifest = { task: given.task, labels: ["a", "b"] };
        let text = "";
        const options = { length: 1, temperature: 1, random: () => 0.26 }; // a has the probability 1 / (1 + e) = 0.27
        const writer = new Writer({ name: "n", manifest, inputs, outputs, runSync });
        for await (const c of writer.write("a", options)) text += c;
        console.log(JSON.stringify([text, seen]));"""
    text, seen = in_node(script, {"tensors": tensors, "task": task})
    assert text == "a" and seen[:2] == [[[5, 3], [3, 3]], [[5, 3], [9, 9]]]


def test_mxnet_js_gets_real_numbers() -> None:
    script = """const { Predictor: Compiled } = await web("predictor.js");
        const { Predictor, ndarray } = await web("mxnet_compat.js");
        const compiled = Object.assign(Object.create(Compiled.prototype), {
          name: "n", inputs: [given.x], outputs: [given.y], runSync: ({ x }) => ({ y: Int8Array.from(x) }) });
        const p = new Predictor({ compiled });
        p.forward();
        const zeros = [...p.output(0).data];
        p.setinput("x", ndarray([0.5, -1, 100], [3]));
        p.forward();
        console.log(JSON.stringify([zeros, [...p.output(0).data]]));"""
    kind = Quantization(0.25, 3)
    given = {n: tensor(n, np.zeros(3, np.int8), kind) for n in ("x", "y")}
    assert in_node(script, given) == [[0, 0, 0], [0.5, -1, 31]]


@pytest.mark.parametrize("numpy", [True, False])
def test_a_quantised_classifier_in_wasmtime(in_wasm: Path, numpy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    requires_module("wasmtime")
    if not numpy:
        monkeypatch.setitem(sys.modules, "numpy", None)
    p = Pyodide(in_wasm)
    x = array("f", [0.0] * 192)
    y = p.run({"x": x})["y"]
    real = p.dequantize("y", y)
    assert y.tolist() == [-43] * 3 and real.tolist() == [85 / 256] * 3
    assert p.quantize("y", real).tolist() == [-43] * 3
    assert p.quantize("y", [-1, 2, 2.5 / 256, float("nan")]).tolist() == [-128, 127, -126, -128]
    assert p.dequantize("y", real) is real and p.quantize("x", [0.5]).tolist() == [0.5] and p._scores() == "y"
    with pytest.raises(ValueError, match="unknown name 'z'"):
        p.dequantize("z", y)
