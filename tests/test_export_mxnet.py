"""The MXNet exporter: files of every dialect, and each operator against what MXNet 1.9.1 computed."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from conformance import harness
from conformance.batch import run_cases
from conformance.cases import Case
from recorded import recorded_cases

import dlpack
from dlpack import exporters
from dlpack.cli import cli
from dlpack.errors import DlpackError, ModelError, UnsupportedError, UsageError
from dlpack.exporters import ExportOptions
from dlpack.exporters.mxnet.files import read_arrays
from dlpack.exporters.mxnet.tensor import reshape_codes
from dlpack.pipeline import Options

FIXTURE = Path(__file__).with_name("fixtures") / "mxnet_operators.npz"
CODES = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6}


def array_bytes(x: Any, version: int = 2) -> bytes:
    """One array as MXNet's file version `version` holds it."""
    x = np.asarray(x)
    dims = struct.pack(f"<{x.ndim}{'q' if version else 'I'}", *x.shape)
    if version == 0:
        start = struct.pack("<I", x.ndim) + dims
    else:
        storage = struct.pack("<i", 0) if version > 1 else b""
        start = struct.pack("<I", 0xF993FAC7 + version) + storage + struct.pack("<i", x.ndim) + dims
    return start + struct.pack("<iii", 1, 0, CODES[x.dtype.name]) + x.tobytes()


def params_bytes(arrays: dict[str, Any], version: int = 2) -> bytes:
    """A .params file."""
    body = b"".join(array_bytes(x, version) for x in arrays.values())
    names = b"".join(struct.pack("<Q", len(n)) + n.encode() for n in arrays)
    count = struct.pack("<Q", len(arrays))
    return struct.pack("<QQ", 0x112, 0) + count + body + count + names


def write_model(folder: Path, symbol: str, arrays: dict[str, Any], name: str = "net", version: int = 2) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}-symbol.json").write_text(symbol)
    (folder / f"{name}-0000.params").write_bytes(params_bytes(arrays, version))
    return folder / f"{name}-symbol.json"


def run(model: onnx.ModelProto, inputs: dict[str, Any]) -> list[Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return list(session.run(None, {i.name: inputs[i.name] for i in session.get_inputs()}))


def recorded() -> dict[str, dict[str, Any]]:
    return recorded_cases(FIXTURE)


@pytest.mark.parametrize("name", sorted(recorded()))
def test_operator_computes_what_mxnet_computes(name: str, tmp_path: Path) -> None:
    record = recorded()[name]
    inputs = {k[3:]: v for k, v in record.items() if k.startswith("in:")}
    arrays = {k: v for k, v in record.items() if k[:4] in ("arg:", "aux:")}
    path = write_model(tmp_path, str(record["symbol"]), arrays)
    model = exporters.export(path, options=ExportOptions({k: v.shape for k, v in inputs.items()})).model
    onnx.checker.check_model(model, full_check=True)
    outputs = run(model, inputs)
    wanted = [record[f"out:{k}"] for k in range(sum(k.startswith("out:") for k in record))]
    assert len(outputs) == len(wanted)
    for value, got, want in zip(model.graph.output, outputs, wanted, strict=True):
        assert got.shape == want.shape
        if name == "detection_topk":  # behind the kept rows MXNet leaves rows whose class is -1
            assert (got[:, 5:, 0] == -1).all() and (want[:, 5:, 0] == -1).all()
            got, want = got[:, :5], want[:, :5]
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-5, err_msg=value.name)


def test_detections_compile(tmp_path: Path) -> None:
    """Suppression is exported as a Scan; compiled, it gives what onnxruntime gives, which the test above compares."""
    done = []
    for name in ("box_nms", "box_nms_center", "box_nms_force", "detection", "detection_force", "detection_topk"):
        record = recorded()[name]
        inputs = {k[3:]: v for k, v in record.items() if k.startswith("in:")}
        arrays = {k: v for k, v in record.items() if k[:4] in ("arg:", "aux:")}
        path = write_model(tmp_path / name, str(record["symbol"]), arrays)
        model = exporters.export(path, options=ExportOptions({k: v.shape for k, v in inputs.items()})).model
        assert "Scan" in {n.op_type for n in model.graph.node}
        feeds = tuple(inputs[value.name] for value in model.graph.input)
        done.append(Case(name, "", "", model, ((feeds, tuple(run(model, inputs))),), 1e-5, 1e-6))
    results = run_cases(done, harness.MACHINES["avx2"], lambda _: None)
    assert [r for r in results if r.outcome != "passed"] == []


def ssd(classes: int, top_k: int) -> tuple[str, dict[str, Any]]:
    """A small single-shot detector with two scales, as MXNet's users write it: its symbol and its parameters."""
    rng = np.random.default_rng(8)
    nodes: list[tuple[str, str, dict[str, str], list[int]]] = [("null", "data", {}, [])]
    arrays: dict[str, Any] = {}

    def add(op: str, name: str, inputs: list[int], **attrs: str) -> int:
        nodes.append((op, name, attrs, inputs))
        return len(nodes) - 1

    def conv(name: str, x: int, channels: int, out: int, stride: int = 1) -> int:
        arrays[f"arg:{name}_weight"] = (
            rng.standard_normal((out, channels, 3, 3)).astype(np.float32) / (9 * channels) ** 0.5
        )
        arrays[f"arg:{name}_bias"] = rng.standard_normal(out).astype(np.float32) / 4
        parts = [x, add("null", f"{name}_weight", []), add("null", f"{name}_bias", [])]
        strides = f"({stride}, {stride})"
        return add("Convolution", name, parts, kernel="(3, 3)", pad="(1, 1)", num_filter=str(out), stride=strides)

    def rows(name: str, x: int) -> int:
        return add("Flatten", f"{name}_flat", [add("transpose", f"{name}_last", [x], axes="(0, 2, 3, 1)")])

    x, channels = 0, 3
    priors, scores, offsets = [], [], []
    for k, size in enumerate((0.3, 0.6)):
        x = add("Activation", f"relu{k}", [conv(f"conv{k}", x, channels, 8, 2)], act_type="relu")
        channels = 8
        priors.append(add("_contrib_MultiBoxPrior", f"prior{k}", [x], sizes=f"({size}, {size + 0.1})", ratios="(1, 2)"))
        scores.append(rows(f"score{k}", conv(f"score{k}", x, 8, 3 * classes)))
        offsets.append(rows(f"offset{k}", conv(f"offset{k}", x, 8, 12)))
    joined = [add("Concat", f"all{k}", p, num_args="2", dim="1") for k, p in enumerate((scores, offsets, priors))]
    table = add(
        "transpose", "table", [add("Reshape", "split", [joined[0]], shape=f"(0, -1, {classes})")], axes="(0, 2, 1)"
    )
    prob = add("softmax", "prob", [table], axis="1")
    add(
        "_contrib_MultiBoxDetection",
        "found",
        [prob, *joined[1:]],
        nms_topk=str(top_k),
        nms_threshold="0.45",
        threshold="0.2",
    )
    return symbol(nodes), arrays


def test_detector_builds(tmp_path: Path) -> None:
    text, arrays = ssd(classes=4, top_k=50)
    path = write_model(tmp_path, text, arrays, "ssd")
    shape = (2, 3, 24, 20)
    bundle = dlpack.build(path, tmp_path / "bundle", Options(shapes={"data": shape}))  # which verifies it
    image = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    with dlpack.load(bundle) as predictor:
        (got,) = predictor.run({"data": image}).values()
    model = exporters.export(path, options=ExportOptions({"data": shape})).model
    (want,) = run(model, {"data": image})
    assert got.shape == (2, 12 * 10 * 3 + 6 * 5 * 3, 6)
    kept = want[..., 0] >= 0
    assert 5 < kept.sum() < 2 * 50
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


# --- files ------------------------------------------------------------------------------------------------------------


def symbol(
    nodes: list[tuple[str, str, dict[str, str], list[int]]], key: str = "attrs", version: int | None = 10901
) -> str:
    """A -symbol.json of (op, name, parameters, inputs); its last node is the output."""
    wide = key == "attrs"
    entries = [
        {"op": op, "name": name, key: attrs, "inputs": [[i, 0, 0] if wide else [i, 0] for i in inputs]}
        for op, name, attrs, inputs in nodes
    ]
    document: dict[str, Any] = {"nodes": entries, "heads": [[len(nodes) - 1, 0, 0] if wide else [len(nodes) - 1, 0]]}
    document["arg_nodes"] = [k for k, n in enumerate(nodes) if n[0] == "null"]
    if version is not None:
        document["attrs"] = {"mxnet_version": ["int", version]}
    return json.dumps(document)


MLP = [
    ("null", "data", {}, []),
    ("null", "fc_weight", {}, []),
    ("null", "fc_bias", {}, []),
    ("FullyConnected", "fc", {"num_hidden": "3"}, [0, 1, 2]),
    ("null", "softmax_label", {}, []),
    ("SoftmaxOutput", "softmax", {}, [3, 4]),
]
WEIGHTS = {"arg:fc_weight": np.arange(12, dtype=np.float32).reshape(3, 4) / 10, "arg:fc_bias": np.float32([1, 2, 3])}
X = np.float32([[1, -1, 2, 0.5]])


def mlp_result() -> Any:
    logits = X @ WEIGHTS["arg:fc_weight"].T + WEIGHTS["arg:fc_bias"]
    p = np.exp(logits - logits.max())
    return p / p.sum()


@pytest.mark.parametrize("version", [0, 1, 2, 3])
@pytest.mark.parametrize("key", ["attrs", "attr", "param"])
def test_every_dialect(version: int, key: str, tmp_path: Path) -> None:
    path = write_model(tmp_path, symbol(MLP, key, 10901 if key == "attrs" else None), WEIGHTS, version=version)
    model = exporters.export(path).model  # its first layer tells the input's shape
    assert [i.name for i in model.graph.input] == ["data"]
    assert [o.name for o in model.graph.output] == ["softmax_output"]
    np.testing.assert_allclose(run(model, {"data": X})[0], mlp_result(), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", "uint8", "int64", "int8"])
def test_element_types_of_arrays(dtype: str) -> None:
    x = np.arange(6).astype(dtype).reshape(2, 3)
    assert np.array_equal(read_arrays(params_bytes({"a": x}))["a"], x)


def test_half_precision_weights_compute_in_float32(tmp_path: Path) -> None:
    arrays = {k: v.astype(np.float16) for k, v in WEIGHTS.items()}
    model = exporters.export(write_model(tmp_path, symbol(MLP), arrays)).model
    np.testing.assert_allclose(run(model, {"data": X})[0], mlp_result(), rtol=2e-3)


def test_scalar_of_version_3() -> None:
    assert read_arrays(params_bytes({"a": np.float32(3)}, 3))["a"] == np.float32(3)


def test_mxnetjs_file_with_labels_and_mean(tmp_path: Path) -> None:
    nodes = [
        ("null", "data", {}, []),
        ("Flatten", "flat", {}, [0]),
        *[(o, n, a, [1 if i == 0 else i + 1 for i in s]) for o, n, a, s in MLP[1:]],
    ]
    arrays = {"arg:fc_weight": np.ones((3, 48), np.float32), "arg:fc_bias": WEIGHTS["arg:fc_bias"]}
    mean = np.stack([np.full((4, 4), v, np.float32) for v in (10, 20, 30)])
    document = {
        "symbol": json.loads(symbol(nodes)),
        "synset": ["n01 cat", "n02 dog", "n03 fish"],
        "parambase64": base64.b64encode(params_bytes(arrays)).decode(),
        "meanimgbase64": base64.b64encode(params_bytes({"mean_img": mean})).decode(),
    }
    path = tmp_path / "model.json"
    path.write_text(json.dumps(document))
    result = exporters.export(path)
    metadata = {p.key: p.value for p in result.model.metadata_props}
    assert json.loads(metadata["dlpack.labels"]) == ["n01 cat", "n02 dog", "n03 fish"]
    told = json.loads(metadata["dlpack.preprocess"])
    assert told["mean"] == [10, 20, 30] and told["channels"] == "RGB"
    assert [d.dim_value for d in result.model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 4, 4]
    document["symbol"] = symbol(nodes)  # as text within
    path.write_text(json.dumps(document))
    assert exporters.export(path).labels == ("n01 cat", "n02 dog", "n03 fish")


def test_old_files_leave_parameters_out(tmp_path: Path) -> None:
    nodes = [
        ("null", "data", {}, []),
        ("null", "bn_gamma", {}, []),
        ("null", "bn_beta", {}, []),
        ("BatchNorm", "bn", {}, [0, 1, 2]),
    ]
    arrays = {"arg:bn_gamma": np.float32([9, 9]), "arg:bn_beta": np.float32([1, 2]),
              "aux:bn_moving_mean": np.float32([3, 4]), "aux:bn_moving_var": np.float32([1, 4])}  # fmt: skip
    path = write_model(tmp_path, symbol(nodes, "param", None), arrays)
    x = np.float32([[5, 8]])
    model = exporters.export(path, options=ExportOptions({"data": (1, 2)})).model
    np.testing.assert_allclose(run(model, {"data": x})[0], [[3, 4]], rtol=1e-3)  # fix_gamma: gamma is 1


def test_params_are_found_or_asked_for(tmp_path: Path) -> None:
    path = write_model(tmp_path, symbol(MLP), WEIGHTS)
    other = path.rename(tmp_path / "other-symbol.json")
    assert exporters.export(other).params == tmp_path / "net-0000.params"  # the only candidate
    (tmp_path / "more-0001.params").write_bytes(params_bytes(WEIGHTS))
    with pytest.raises(UsageError, match=r"more-0001.params, net-0000.params.*--params"):
        exporters.export(other)
    assert exporters.export(other, tmp_path / "net-0000.params").params == tmp_path / "net-0000.params"
    with pytest.raises(UsageError, match=r"not a .params file"):
        exporters.export(other, other)
    with pytest.raises(UsageError, match=r"give the NAME-symbol.json"):
        exporters.export(tmp_path / "net-0000.params")
    (tmp_path / "net-0000.params").unlink()
    (tmp_path / "more-0001.params").unlink()
    with pytest.raises(UsageError, match="--params FILE"):
        exporters.export(other)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    """Even where the symbol tells a weight's shape, it does not become an input unless --shape asks for that."""
    nodes = [("null", "fc_weight", {"__shape__": "(3, 4)"}, []) if n[1] == "fc_weight" else n for n in MLP]
    path = write_model(tmp_path, symbol(nodes), {"arg:other_weight": np.ones((2, 2), np.float32)})
    with pytest.raises(UsageError, match=r"no 'fc_weight' and 1 more .*--params"):
        exporters.export(path, options=ExportOptions({"data": (1, 4)}))
    path = write_model(tmp_path, symbol(nodes), {"arg:fc_bias": WEIGHTS["arg:fc_bias"]})
    with pytest.raises(UsageError, match=r"no 'fc_weight', .*--shape fc_weight="):
        exporters.export(path)
    model = exporters.export(path, options=ExportOptions({"data": (1, 4), "fc_weight": (3, 4)})).model
    got = run(model, {"data": X, "fc_weight": WEIGHTS["arg:fc_weight"]})[0]
    np.testing.assert_allclose(got, mlp_result(), rtol=1e-5)


def test_a_weight_that_does_not_fit_is_told_at_its_layer(tmp_path: Path) -> None:
    path = write_model(tmp_path, symbol(MLP), {**WEIGHTS, "arg:fc_weight": np.ones((2, 4), np.float32)})
    with pytest.raises(ModelError, match=r"'fc' .*weight has the shape \[2, 4\].*num_hidden=3"):
        exporters.export(path)
    nodes = [("null", "data", {}, []), ("null", "w", {}, []),
             ("Convolution", "c", {"kernel": "(1, 1)", "num_filter": "5", "no_bias": "True"}, [0, 1])]  # fmt: skip
    path = write_model(tmp_path, symbol(nodes), {"arg:w": np.ones((2, 4, 1, 1), np.float32)})
    with pytest.raises(ModelError, match=r"'c' .*weight has the shape \[2, 4, 1, 1\].*num_filter=5"):
        exporters.export(path, options=ExportOptions({"data": (1, 4, 8, 8)}))


def test_open_input_shapes_are_asked_for_with_an_example(tmp_path: Path) -> None:
    nodes = [
        ("null", "data", {}, []),
        ("null", "w", {}, []),
        ("Convolution", "c", {"kernel": "(3, 3)", "num_filter": "2", "no_bias": "True"}, [0, 1]),
    ]
    path = write_model(tmp_path, symbol(nodes), {"arg:w": np.ones((2, 4, 3, 3), np.float32)})
    with pytest.raises(UsageError, match="--shape data=1x4x224x224"):
        exporters.export(path)
    with pytest.raises(UsageError, match=r"'image'.*its inputs are: data"):
        exporters.export(path, options=ExportOptions({"image": (1, 4, 8, 8)}))
    with pytest.raises(ModelError, match=r"'c' .Convolution"):
        exporters.export(path, options=ExportOptions({"data": (1, 5, 8, 8)}))


def test_an_input_of_which_only_the_shape_matters(tmp_path: Path) -> None:
    """It is asked for, and is no input of the predictor."""
    nodes = [("null", "x", {}, []), ("null", "y", {}, []), ("slice_like", "s", {"axes": "(-1, 2)"}, [0, 1])]
    path = write_model(tmp_path, symbol(nodes), {})
    call = ["build", str(path), "-o", str(tmp_path / "net"), "--shape", "x=1x3x8x8"]
    result = CliRunner().invoke(cli, call)
    assert result.exit_code == 2 and "--shape y=" in result.stderr
    result = CliRunner().invoke(cli, [*call, "--shape", "y=1x1x5x6"])
    assert result.exit_code == 0, result.stderr
    x = np.arange(192, dtype=np.float32).reshape(1, 3, 8, 8)
    np.testing.assert_array_equal(dlpack.load(tmp_path / "net").run({"x": x})["s_output"], x[:, :, :5, :6])


def test_every_unsupported_node_is_listed(tmp_path: Path) -> None:
    nodes = [("null", "data", {}, []), ("Custom", "mine", {"op_type": "x"}, [0]),
             ("Pooling", "p", {"pool_type": "odd", "kernel": "(1,)"}, [0]),
             ("_contrib_Proposal", "proposal", {}, [1]), ("_plus", "sum", {}, [3, 2])]  # fmt: skip
    path = write_model(tmp_path, symbol(nodes), {})
    with pytest.raises(UnsupportedError) as error:
        exporters.export(path, options=ExportOptions({"data": (1, 2, 4)}))
    assert len(error.value.problems) == 3
    for text in (
        "'mine': the operator Custom",
        "'p' (Pooling): pool_type='odd'",
        "'proposal': the operator _contrib_Proposal",
    ):
        assert text in str(error.value)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "cut off"),
        (params_bytes(WEIGHTS)[:-3], "cut off"),
        (params_bytes(WEIGHTS)[:40], "cut off"),
        (struct.pack("<QQQ", 0x112, 0, 2**60), "claims"),
        (struct.pack("<QQQIiiqq", 0x112, 0, 1, 0xF993FAC9, 0, 2, 2**40, 2**40) + bytes(12), "cut off"),
        (struct.pack("<QQQI", 0x112, 0, 1, 999) + bytes(64), "999 dimensions"),
        (struct.pack("<QQQIi", 0x112, 0, 1, 0xF993FAC9, 1) + bytes(64), "sparse"),
    ],
)
def test_damaged_weights(data: bytes, text: str) -> None:
    with pytest.raises(DlpackError, match=text):
        read_arrays(data)


def test_unknown_files(tmp_path: Path) -> None:
    for name, content, text in (
        ("a.json", b'{"x": 1}', "JSON file"),
        ("a.txt", b"hello", "text file"),
        ("a.bin", b"\0\1\2", "not recognised"),
        ("e", b"", "empty"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UsageError, match=f"{text}.*accepted are.*MXNet"):
            exporters.export(path)
    with pytest.raises(UsageError, match="no such file"):
        exporters.export(tmp_path / "none")
    with pytest.raises(UsageError, match="folder"):
        exporters.export(tmp_path)
    deep = tmp_path / "deep-symbol.json"
    deep.write_text('{"nodes": [' + "[" * 5000 + "]" * 5000 + "]}")
    with pytest.raises(DlpackError):
        exporters.export(deep)


def test_reshape_codes_that_do_not_fit() -> None:
    for codes in ((7,), (-1, -1), (0, 0, 0, 0), (-3, -3), (-4, 2), (-5,), (-4, 5, -1, -2)):
        with pytest.raises(ModelError):
            reshape_codes((2, 3, 4), codes)


# --- real models ------------------------------------------------------------------------------------------------------


def test_squeezenet_equals_the_onnx_one(models_dir: Path) -> None:
    import onnxruntime

    path = models_dir / "mxnet" / "squeezenet1.1" / "squeezenet1.1-symbol.json"
    model = exporters.export(path, options=ExportOptions({"data": (1, 3, 224, 224)})).model
    onnx.checker.check_model(model, full_check=True)
    reference = onnxruntime.InferenceSession(models_dir / "onnx" / "squeezenet1.1" / "squeezenet1.1.onnx")
    for k in range(3):
        x = np.load(models_dir / "onnx" / "squeezenet1.1" / "reference" / str(k) / "input_0.npy")
        for scale in (1.0, 0.01):  # the reference inputs saturate the softmax
            want = reference.run(None, {reference.get_inputs()[0].name: x * np.float32(scale)})[0]
            got = run(model, {"data": x * np.float32(scale)})[0]
            assert np.abs(got - want.reshape(got.shape)).max() < 1e-4


def test_legacy_files(models_dir: Path, tmp_path: Path) -> None:
    arrays = read_arrays((models_dir / "mxnet" / "legacy" / "legacy_ndarray.v0").read_bytes())
    assert len(arrays) == 6 and all(np.array_equal(a, np.arange(128)) for a in arrays.values())
    rng = np.random.default_rng(0)
    shapes = {"fc1_weight": (128, 9), "fc1_bias": (128,), "fc2_weight": (64, 128), "fc2_bias": (64,),
              "fc3_weight": (10, 64),
              "fc3_bias": (10,), "batchnorm0_gamma": (10,), "batchnorm0_beta": (10,)}  # fmt: skip
    w = {k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()}
    aux = {"batchnorm0_moving_mean": np.float32(np.arange(10)), "batchnorm0_moving_var": np.float32(np.arange(10) + 1)}
    (tmp_path / "net.params").write_bytes(
        params_bytes({f"arg:{k}": v for k, v in w.items()} | {f"aux:{k}": v for k, v in aux.items()}, 0)
    )
    model = exporters.export(models_dir / "mxnet" / "legacy" / "save_000800.json", tmp_path / "net.params").model
    x = rng.standard_normal((1, 9)).astype(np.float32)
    y = np.maximum(x @ w["fc1_weight"].T + w["fc1_bias"], 0)
    y = np.maximum(y @ w["fc2_weight"].T + w["fc2_bias"], 0) @ w["fc3_weight"].T + w["fc3_bias"]
    y = (y - aux["batchnorm0_moving_mean"]) / np.sqrt(aux["batchnorm0_moving_var"] + 0.001) + w["batchnorm0_beta"]
    p = np.exp(y - y.max())
    np.testing.assert_allclose(run(model, {"data": x})[0], p / p.sum(), rtol=1e-3, atol=1e-6)
