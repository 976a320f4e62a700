"""The target pyodide: its wheels as files, their API in CPython (wasmtime), in node's Pyodide and in Chromium."""

from __future__ import annotations

import array
import base64
import hashlib
import json
import shutil
import sys
import threading
import zipfile
from email import message_from_bytes
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import DIGITS, ROOT, requires_module, requires_tool, skip_or_fail
from nets import shared_net
from onnx import TensorProto, helper
from packaging.metadata import Metadata
from packaging.utils import parse_wheel_filename
from pages import NODE_ENVIRONMENT, requires_npm, result_of_page
from processes import run

import dlpack
from dlpack.bundle.generating import Generating
from dlpack.bundle.hearing import Hearing
from dlpack.bundle.text_functions import TextFunctions
from dlpack.bundle.writing import Writing
from dlpack.errors import UsageError
from dlpack.meaning.preprocess import from_json
from dlpack.pipeline import Options, build
from dlpack.targets.pyodide.run import has_wasmtime
from dlpack.targets.wasm.run import node_command
from dlpack.targets.wasm.runtime import Predictor

SPEC = str(ROOT / "examples" / "digits" / "preprocess.json")
STANDALONE = "digits-1.0.0-py3-none-any.whl"
SIDE_MODULE = "digits-1.0.0-py3-none-pyemscripten_2026_0_wasm32.whl"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits example for pyodide, unverified. Tests must not write in it."""
    options = Options("pyodide", verify=False, preprocess=SPEC)
    return build(DIGITS, tmp_path_factory.mktemp("pyodide") / "digits", options)


@pytest.fixture(scope="session")
def package(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the standalone wheel, unpacked. Tests must not write in it."""
    requires_wasmtime()
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(bundle / STANDALONE) as wheel:
        wheel.extractall(folder)
    return folder / "digits"


def requires_wasmtime() -> None:
    if not has_wasmtime():
        skip_or_fail("the Python package wasmtime is not installed")


@pytest.fixture
def digits(package: Path) -> Predictor:
    return Predictor(package)


@pytest.fixture(scope="session")
def image() -> np.ndarray:
    return ((np.arange(64) * 5) % 17).astype(np.float32).reshape(1, 1, 8, 8)


@pytest.fixture(scope="session")
def native(tmp_path_factory: pytest.TempPathFactory) -> dlpack.Predictor:
    """The same model for this computer."""
    return dlpack.load(build(DIGITS, tmp_path_factory.mktemp("native") / "digits", Options(preprocess=SPEC)))


@pytest.fixture(scope="session")
def expected(native: dlpack.Predictor, image: np.ndarray) -> np.ndarray:
    """What the native predictor computes."""
    return native.run({"image": image})["probability"].copy()


# --- the files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", [STANDALONE, SIDE_MODULE])
def test_a_wheel_is_as_the_specifications_say(bundle: Path, file: str) -> None:
    name, version, _, tags = parse_wheel_filename(file)
    with zipfile.ZipFile(bundle / file) as wheel:
        content = {i.filename: wheel.read(i) for i in wheel.infolist()}
        assert all(i.date_time == (1980, 1, 1, 0, 0, 0) and i.compress_type == 0 for i in wheel.infolist())
    info = f"{name}-{version}.dist-info"
    record = [line.rsplit(",", 2) for line in content.pop(f"{info}/RECORD").decode().splitlines()]
    assert record.pop() == [f"{info}/RECORD", "", ""]
    assert [r[0] for r in record] == list(content)
    for path, digest, size in record:
        want = base64.urlsafe_b64encode(hashlib.sha256(content[path]).digest()).decode().rstrip("=")
        assert (digest, size) == (f"sha256={want}", str(len(content[path])))
    about = message_from_bytes(content[f"{info}/WHEEL"])
    assert about.get_all("Tag") == [str(t) for t in tags]
    assert about["Root-Is-Purelib"] == ("true" if file == STANDALONE else "false")
    metadata = Metadata.from_email(content[f"{info}/METADATA"])
    assert (metadata.name, metadata.version) == (name, version) and metadata.license_files == ["NOTICE"]
    needed = {r.name for r in metadata.requires_dist or [] if not r.marker or r.marker.evaluate({"extra": ""})}
    assert needed == ({"wasmtime"} if file == STANDALONE else set())
    assert content[f"{info}/licenses/NOTICE"] == (bundle / "NOTICE").read_bytes()
    assert content["digits/digits.weights"] == (bundle / "digits.weights").read_bytes()


def test_the_same_model_gives_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    options = Options("pyodide", verify=False, preprocess=SPEC)
    again = build(shutil.copy(DIGITS, tmp_path / "digits.onnx"), tmp_path / "again", options)
    manifest = json.loads((again / "manifest.json").read_text(encoding="utf-8"))
    assert [w["file"] for w in manifest["wheels"]] == [STANDALONE, SIDE_MODULE]
    for about in manifest["wheels"]:
        data = (again / about["file"]).read_bytes()
        assert data == (bundle / about["file"]).read_bytes()
        assert (about["bytes"], about["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


def test_a_side_module_is_linked_for_emscripten_and_needs_nothing_of_it(bundle: Path, tmp_path: Path) -> None:
    requires_tool("node")
    script = """const m = new WebAssembly.Module(require("node:fs").readFileSync(process.argv[1]));
        const { imports, exports, customSections } = WebAssembly.Module;
        console.log(JSON.stringify([imports(m).map((i) => `${i.kind} ${i.module}.${i.name}`),
          exports(m).map((e) => e.name), customSections(m, "dylink.0").length]));"""
    with zipfile.ZipFile(bundle / SIDE_MODULE) as wheel:
        for build_name in ("simd", "relaxed"):
            path = wheel.extract(f"digits/digits.{build_name}.side", tmp_path)
            done = run([*node_command(), "-e", script, path], check=True)
            imports, exports, sections = json.loads(done.stdout)
            assert not [i for i in imports if i.startswith("function")] and "memory env.memory" in imports
            assert {"digits_create", "digits_run", "digits_output_data"} <= set(exports) and sections == 1


def test_names_that_python_needs_itself_are_refused(tmp_path: Path) -> None:
    for name in ("json", "numpy", "lambda"):
        with pytest.raises(UsageError, match="give another --name"):
            build(DIGITS, tmp_path / "no", Options("pyodide", name=name, verify=False))
    assert list(tmp_path.iterdir()) == []
    made = build(DIGITS, tmp_path / "yes", Options("pyodide", name="my__digits", verify=False))
    assert {p.name for p in made.glob("*.whl")} == {f.replace("digits", "my_digits") for f in (STANDALONE, SIDE_MODULE)}


# --- the API, in CPython ----------------------------------------------------------------------------------------------


def test_threads_are_refused(tmp_path: Path) -> None:
    onnx.save(shared_net(), tmp_path / "shared.onnx")
    with pytest.raises(UsageError, match="leave it out"):
        build(tmp_path / "shared.onnx", tmp_path / "no", Options("pyodide", threads=2, verify=False))
    assert not (tmp_path / "no").exists()


def test_an_installed_wheel_predicts(bundle: Path, image: np.ndarray, expected: np.ndarray, tmp_path: Path) -> None:
    requires_wasmtime()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(tmp_path)]
    run([*pip, str(bundle / STANDALONE)], check=True)
    script = (
        "import digits, json, sys, numpy; p = digits.Predictor()\n"
        "x = numpy.array(json.loads(sys.argv[1]), numpy.float32)\n"
        "out = p.run({'image': x})['probability']\n"
        "print(json.dumps([digits.__file__, p.labels, out.tolist()]))"
    )
    done = run([sys.executable, "-c", script, json.dumps(image.tolist())], cwd=tmp_path, check=True)  # fmt: skip
    file, labels, output = json.loads(done.stdout)
    assert Path(file).parent == tmp_path / "digits" and labels == list("0123456789")
    np.testing.assert_allclose(output, expected, atol=1e-6)


def test_the_api_is_that_of_dlpack_load(digits: Predictor, native: dlpack.Predictor) -> None:
    parts = (Hearing, Writing, Generating, TextFunctions)  # the page's JavaScript has these
    public = {n for n in dir(native) if not n.startswith("_")} - {n for part in parts for n in vars(part)}
    assert public <= {n for n in dir(digits)}
    assert (digits.name, digits.inputs, digits.outputs, digits.labels) == (
        native.name, native.inputs, native.outputs, native.labels,
    )  # fmt: skip


def test_the_ways_to_give_an_input(digits: Predictor, image: np.ndarray, expected: np.ndarray) -> None:
    class Exporter:
        def __dlpack__(self, **options: Any) -> Any:
            return image.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return image.__dlpack_device__()

    read_only = image.copy()
    read_only.flags.writeable = False
    for given in (image, np.asfortranarray(np.repeat(image, 2, axis=3))[..., ::2], read_only, Exporter(),
                  array.array("f", image.ravel()), image.ravel(), memoryview(image), image.astype("<f4")):  # fmt: skip
        output = digits.run({"image": given})["probability"]
        assert output.dtype == np.float32 and output.shape == (1, 10)
        np.testing.assert_allclose(output, expected, atol=1e-6)
        output[:] = 0  # the caller's own
    digits.bind({"image": image})
    for index in range(len(digits.steps)):
        assert digits.run_step(index)
    assert not digits.run_step(len(digits.steps)) and not digits.run_step(-1)


def test_bad_inputs_are_told(digits: Predictor, image: np.ndarray) -> None:
    for inputs, text in (
        ({}, "'image' is missing"),
        ({"image": image, "more": 1}, "unknown input 'more'; the model has image"),
        ({"image": image[:, :, :7]}, r"float32 of shape \(1, 1, 7, 8\); the model takes float32 of \(1, 1, 8, 8\)"),
        ({"image": image.astype(np.float64)}, "float64 of shape"),
        ({"image": image.astype(">f4")}, "format '>f'"),
        ({"image": image.view(np.int32)}, "int32 of shape"),
    ):
        with pytest.raises(ValueError, match=text):
            digits.run(inputs)
    with pytest.raises(TypeError, match="is a list"):
        digits.run({"image": [0.0] * 64})
    with digits:
        pass
    digits.close()
    with pytest.raises(ValueError, match="closed"):
        digits.compute()


def test_outputs_go_where_one_wants_them(digits: Predictor, image: np.ndarray, expected: np.ndarray) -> None:
    mine = np.zeros((1, 10), np.float32)
    digits.bind_outputs({"probability": mine})
    assert digits.run({"image": image})["probability"] is mine
    np.testing.assert_allclose(mine, expected, atol=1e-6)
    for bad in (np.zeros(10, np.float32), np.zeros((1, 10)), np.zeros((1, 20), np.float32)[:, ::2]):
        with pytest.raises(ValueError, match=r"output|contiguous"):
            digits.bind_outputs({"probability": bad})
    digits.bind_outputs({"probability": None})
    assert digits.run({"image": 0 * image})["probability"] is not mine
    np.testing.assert_allclose(mine, expected, atol=1e-6)


def test_threads_may_share_a_predictor(digits: Predictor) -> None:
    images = np.random.default_rng(1).random((4, 1, 1, 8, 8), np.float32)
    want = [digits.run({"image": x})["probability"] for x in images]
    wrong: list[int] = []

    def work(k: int) -> None:
        for _ in range(50):
            if not np.array_equal(digits.run({"image": images[k]})["probability"], want[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


def test_without_numpy(package: Path, image: np.ndarray, expected: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    predictor = Predictor(package)
    given = array.array("f", image.ravel().tolist())
    output = predictor.run({"image": given})["probability"]
    assert isinstance(output, memoryview) and output.shape == (1, 10) and output.format == "f"
    assert output.tolist()[0] == pytest.approx(expected[0].tolist(), abs=1e-6)
    assert predictor.classify(memoryview(bytes(range(64))).cast("B", (8, 8)))[0].label in predictor.labels


@pytest.mark.parametrize("dtype", ["int64", "float64", "uint8", "bool"])
def test_other_types(dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a bundle for wasm, whose folder a predictor also takes; shape () and an empty one on the way."""
    requires_wasmtime()
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes, inputs, outputs = [], [], []
    for name, shape in (("x", [2, 3]), ("scalar", []), ("empty", [0, 3])):
        inputs.append(helper.make_tensor_value_info(name, kind, shape))
        outputs.append(helper.make_tensor_value_info(f"{name}_out", TensorProto.BOOL, shape))
        zero = f"{name}_zero"
        nodes.append(helper.make_node("Cast", [name], [zero], to=TensorProto.BOOL))
        nodes.append(helper.make_node("Not", [zero], [f"{name}_out"]))
    graph = helper.make_graph(nodes, "net", inputs, outputs)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "kinds.onnx"
    )
    made = build(tmp_path / "kinds.onnx", tmp_path / "kinds", Options("wasm", verify=False))
    x = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    given = {"x": x, "scalar": np.zeros((), dtype), "empty": np.zeros((0, 3), dtype)}
    results = Predictor(made).run(given)
    assert {k: v.shape for k, v in results.items()} == {"x_out": (2, 3), "scalar_out": (), "empty_out": (0, 3)}
    np.testing.assert_array_equal(results["x_out"], x == 0)
    monkeypatch.setitem(sys.modules, "numpy", None)
    views = Predictor(made).run(given)
    assert views["x_out"].tolist() == results["x_out"].tolist()
    assert views["scalar_out"].tolist() is True and len(views["empty_out"]) == 0


def test_damaged_files_are_told(package: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(package, tmp_path / "digits"))
    weights = copy / "digits.weights"
    data = bytearray(weights.read_bytes())
    for damaged in (data[:-1], data + b"\0", bytes([data[0] ^ 1]) + data[1:], b""):
        weights.write_bytes(damaged)
        with pytest.raises(OSError, match=r"digits\.weights is damaged"):
            Predictor(copy)
    weights.unlink()
    with pytest.raises(FileNotFoundError):
        Predictor(copy)


def test_pictures_and_classes_are_those_of_the_native_predictor(digits: Predictor, native: dlpack.Predictor) -> None:
    spec = from_json(digits.manifest["preprocess"], digits.manifest["inputs"])
    generator = np.random.default_rng(3)
    for shape in ((21, 17, 3), (8, 8), (5, 40, 1), (33, 9, 4), (3, 2, 3)):  # ever larger ones and smaller ones
        picture = generator.integers(0, 256, shape, dtype=np.uint8)
        np.testing.assert_array_equal(digits.preprocess(picture), spec(picture))
        ours, theirs = digits.classify(picture, 3), native.classify(picture, 3)
        assert [(c.index, c.label) for c in ours] == [(c.index, c.label) for c in theirs] and len(ours) == 3
        assert [c.probability for c in ours] == pytest.approx([c.probability for c in theirs], abs=1e-6)
    opaque = generator.integers(0, 256, (9, 9, 4), dtype=np.uint8)
    opaque[..., 3] = 255
    np.testing.assert_array_equal(digits.preprocess(opaque), spec(opaque[..., :3]))
    np.testing.assert_array_equal(digits.preprocess(opaque[::2, ::-1, :3]), spec(opaque[::2, ::-1, :3]))
    assert len(digits.top_k(99)) == 10 and sum(c.probability for c in digits.top_k(99)) == pytest.approx(1, abs=1e-5)
    for bad in (np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="a picture is uint8"):
            digits.preprocess(bad)
    with pytest.raises(TypeError, match="is a str"):
        digits.preprocess("photo.jpg")
    for wrong in ({"k": 0}, {"output": "nowhere"}):
        with pytest.raises(ValueError):
            digits.top_k(**wrong)


def test_a_model_without_pictures_says_so(model_files: dict[str, Path], tmp_path: Path) -> None:
    requires_wasmtime()
    predictor = Predictor(build(model_files["attention_net"], tmp_path / "a", Options("wasm", verify=False)))
    with pytest.raises(ValueError, match="--preprocess"):
        predictor.preprocess(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="--labels"):
        predictor.top_k()


# --- in Pyodide -------------------------------------------------------------------------------------------------------

IN_PYODIDE = """
import array, ctypes, json, sys
import digits

predictor = digits.Predictor()
data = array.array("f", [(i * 5) % 17 for i in range(64)])
kept = predictor.run({"image": data})["probability"]
mine = memoryview(bytearray(40)).cast("f", (1, 10))
predictor.bind_outputs({"probability": mine})
same = predictor.run({"image": data})["probability"] is mine
predictor.bind_outputs({"probability": None})
first = predictor.run({"image": data}, copy=False)["probability"]
values = first.tolist()[0]
for i in range(64):
    data[i] = 0.0
predictor.compute()
told = []
for inputs in ({}, {"image": array.array("d", bytes(512))}, {"image": 3}):
    try:
        predictor.run(inputs)
    except (ValueError, TypeError) as e:
        told.append(str(e))
read_only = memoryview(bytes(256)).cast("f", (1, 1, 8, 8))
zeros = predictor.run({"image": read_only})["probability"].tolist()[0]
picture = memoryview(bytes((i * 7) % 256 for i in range(20 * 30 * 3))).cast("B", (20, 30, 3))
classes = [[c.index, c.label, c.probability] for c in predictor.classify(picture)]
held = predictor.run({"image": data})["probability"]
predictor.close()
json.dumps({
    "kind": type(first).__name__, "shape": first.shape, "values": values, "after": first.tolist()[0],
    "kept": kept.tolist()[0], "mine": mine.tolist()[0], "same": same,
    "zeros": zeros, "classes": classes, "held": held.tolist()[0], "told": told, "labels": predictor.labels,
    "where": sys.platform, "numpy": "numpy" in sys.modules,
})
"""


def in_node(wheel: Path | str, script: str, lock: Path | None = None) -> Any:
    """The JSON that a script gives in node's Pyodide after loadPackage(wheel), with a lock file other than its own."""
    requires_npm("pyodide")
    program = """const { loadPyodide } = require("pyodide");
        (async () => {
          const [wheel, script, lockFileURL] = process.argv.slice(1);
          const pyodide = await loadPyodide(lockFileURL ? { lockFileURL } : {});
          await pyodide.loadPackage(wheel, { messageCallback() {} });
          console.log(pyodide.runPython(script));
        })();"""
    command = [*node_command(), "-e", program, str(wheel), script, *([str(lock)] if lock else [])]
    done = run(command, env=NODE_ENVIRONMENT, limit_s=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def check(seen: Any, side_module: bool, native: dlpack.Predictor, expected: np.ndarray) -> None:
    assert seen["kind"] == "memoryview" and seen["shape"] == [1, 10] and seen["where"] == "emscripten"
    assert not seen["numpy"] and seen["labels"] == list("0123456789")
    assert seen["values"] == pytest.approx(expected[0].tolist(), abs=1e-6)
    # A side module reads the caller's array where it is, and writes where the caller looks; a standalone one copied.
    assert seen["after"] == (seen["zeros"] if side_module else seen["values"])
    assert seen["zeros"] == seen["held"] != seen["values"] == seen["kept"] == seen["mine"] and seen["same"]
    picture = ((np.arange(20 * 30 * 3) * 7) % 256).astype(np.uint8).reshape(20, 30, 3)
    for ours, theirs in zip(seen["classes"], native.classify(picture), strict=True):
        assert ours == [theirs.index, theirs.label, pytest.approx(theirs.probability, abs=1e-6)]
    missing, kind, number = seen["told"]
    assert "'image' is missing" in missing and "float64 of shape (64,)" in kind and "is a int" in number


@pytest.mark.parametrize("file", [STANDALONE, SIDE_MODULE])
def test_a_wheel_in_nodes_pyodide(bundle: Path, file: str, native: dlpack.Predictor, expected: np.ndarray) -> None:
    check(in_node(bundle / file, IN_PYODIDE), file == SIDE_MODULE, native, expected)


def test_a_lock_entry_lets_the_wheel_load_by_its_name(bundle: Path, tmp_path: Path) -> None:
    """As README.md says, with the extra `pyodide`."""
    if sys.version_info < (3, 12):
        pytest.skip("no pyodide-lock that reads Pyodide's lock file is for Python 3.11")
    for module in ("pyodide_build", "pkginfo"):
        requires_module(module)
    shutil.copy(bundle / STANDALONE, tmp_path)
    lock = tmp_path / "pyodide-lock.json"
    shutil.copy(requires_npm("pyodide") / lock.name, lock)
    command = [Path(sys.executable).parent / "pyodide", "lockfile", "add-wheels", STANDALONE]
    options = ["--input", lock.name, "--output", lock.name, "--base-path", "."]
    run([*command, *options], cwd=tmp_path, check=True)
    entry = json.loads(lock.read_text(encoding="utf-8"))["packages"]["digits"]
    assert entry["file_name"] == STANDALONE and entry["imports"] == ["digits"] and entry["depends"] == []
    assert entry["sha256"] == hashlib.sha256((bundle / STANDALONE).read_bytes()).hexdigest()
    script = "import digits, json; json.dumps(digits.Predictor().labels)"
    assert in_node("digits", script, lock) == list("0123456789")


PAGE = """<!doctype html>
<script type="module">
import { loadPyodide } from "./pyodide/pyodide.mjs";
window.result = (async () => {
  const script = await (await fetch("script.py")).text();
  return Promise.all(WHEELS.map(async (wheel) => {
    const pyodide = await loadPyodide();
    await pyodide.loadPackage(`./bundle/${wheel}`);
    return JSON.parse(pyodide.runPython(script));
  }));
})();
</script>
"""


def test_the_wheels_in_chromium(bundle: Path, native: dlpack.Predictor, expected: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "pyodide").symlink_to(requires_npm("pyodide"))
    (tmp_path / "bundle").symlink_to(bundle)
    (tmp_path / "script.py").write_text(IN_PYODIDE, encoding="utf-8")
    page = PAGE.replace("WHEELS", json.dumps([STANDALONE, SIDE_MODULE]))
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    standalone, side_module = result_of_page(tmp_path, "page.html")
    check(standalone, False, native, expected)
    check(side_module, True, native, expected)
