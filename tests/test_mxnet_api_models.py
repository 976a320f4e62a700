"""MXNet's C predict API over a model from MXNet: its programs run unchanged on its files, and on no others."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import processes
import pytest
from mxnet_programs import DECLARATIONS, SANITIZE, build_program, run, write_small_model

import dlpack
from dlpack.errors import ModelError
from dlpack.exporters import ExportOptions, export
from dlpack.pipeline import Options, build
from dlpack.stages import write

SHAPES = {"data": (1, 3, 12, 12)}

# In the shape of MXNet's image-classification-predict.cc (1.5 and 1.9): files in buffers that no 0 follows, handles
# that are not initialised, and no look at what the functions return.
CLASSIFY = r"""
static std::vector<float> scores[16];

static void predict(PredictorHandle p, const std::vector<float>& image, int thread) {
  MXPredSetInput(p, "data", image.data(), static_cast<mx_uint>(image.size()));
  MXPredForward(p);
  mx_uint* shape = nullptr;
  mx_uint rank;
  MXPredGetOutputShape(p, 0, &shape, &rank);
  size_t size = 1;
  for (mx_uint d = 0; d < rank; ++d) size *= shape[d];
  scores[thread].resize(size);
  MXPredGetOutput(p, 0, scores[thread].data(), static_cast<mx_uint>(size));
  MXPredFree(p);
}

int main(int argc, char** argv) {
  const Bytes symbol = read(argv[1]), params = read(argv[2]), picture = read(argv[3]);
  const int threads = argc > 4 ? atoi(argv[4]) : 1;
  const Bytes json(symbol), weights(params);  // copies have no room behind their last byte
  const int size = static_cast<int>(params.size());
  const char* keys[1] = {"data"};
  const mx_uint starts[2] = {0, 4}, shape[4] = {1, 3, 12, 12};
  std::vector<float> image(3 * 12 * 12);
  memcpy(image.data(), picture.data(), picture.size());
  int garbage = 0;
  if (threads == 1) {
    PredictorHandle p = &garbage;
    MXPredCreate(json.data(), weights.data(), size, 1, 0, 1, keys, starts, shape, &p);
    if (p == nullptr) return puts(MXGetLastError()), 3;
    predict(p, image, 0);
  } else {
    std::vector<PredictorHandle> handles(static_cast<size_t>(threads), &garbage);
    MXPredCreateMultiThread(json.data(), weights.data(), size, 1, 0, 1, keys, starts, shape, threads, handles.data());
    for (PredictorHandle p : handles)
      if (p == nullptr) return puts(MXGetLastError()), 3;
    std::vector<std::thread> all;
    for (int k = 0; k < threads; ++k) all.emplace_back(predict, handles[static_cast<size_t>(k)], image, k);
    for (std::thread& t : all) t.join();
  }
  for (int k = 0; k < threads; ++k)
    for (float v : scores[k]) printf("%a ", static_cast<double>(v));
  return 0;
}
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_small_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, files: tuple[Path, Path]) -> Path:
    return build(files[0], tmp_path_factory.mktemp("bundle") / "small", Options(shapes=SHAPES, threads=4))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Path:
    return build_program(tmp_path_factory.mktemp("classify"), DECLARATIONS + CLASSIFY, bundle / "small.cc")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, files: tuple[Path, Path]) -> Path:
    """With all its layers' values."""
    options = Options(shapes=SHAPES, internals=("all",))
    return build(files[0], tmp_path_factory.mktemp("kept") / "small", options)


def picture(folder: Path) -> tuple[Path, np.ndarray]:
    x = np.random.default_rng(3).random((1, 3, 12, 12), np.float32)
    (folder / "picture").write_bytes(x.tobytes())
    return folder / "picture", x


def floats(text: str) -> np.ndarray:
    return np.array([float.fromhex(word) for word in text.split()], np.float32)


def failing(program: Path, *words: Path | str) -> str:
    """What a program prints that gets no predictor."""
    done = processes.run([program, *words])
    assert done.returncode == 3, done.stderr
    return done.stdout


# --- programs as they are ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("compiler", "sanitize"), [("g++", SANITIZE), ("clang++", [])], ids=["g++", "clang++"])
def test_the_example_program_runs_as_it_is(
    tmp_path: Path, files: tuple[Path, Path], bundle: Path, compiler: str, sanitize: list[str]
) -> None:
    """With the files that MXNet saved, in one thread and in two and five, which share the weights."""
    image, x = picture(tmp_path)
    program = build_program(tmp_path, DECLARATIONS + CLASSIFY, bundle / "small.cc", compiler, sanitize)
    with dlpack.load(bundle) as p:
        want = p.run({"data": x})["softmax_output"].ravel()
    for threads in (1, 2, 5):
        got = floats(run(program, *files, image, str(threads))).reshape(threads, 10)
        np.testing.assert_allclose(got, np.tile(want, (threads, 1)), rtol=1e-5)


def test_threads_do_not_race(tmp_path: Path, files: tuple[Path, Path], bundle: Path) -> None:
    """Under ThreadSanitizer."""
    image, _ = picture(tmp_path)
    program = build_program(tmp_path, DECLARATIONS + CLASSIFY, bundle / "small.cc", "g++", ["-fsanitize=thread", "-g1"])
    assert len(run(program, *files, image, "3").split()) == 30


def test_weights_are_inside_whatever_their_size(
    tmp_path: Path, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Since MXNet's file is what a program gives; of any other model they are beside where they are large."""
    monkeypatch.setattr(write, "EMBED_LIMIT", 0)
    assert not (build(files[0], tmp_path / "a", Options("source", shapes=SHAPES)) / "small.weights").exists()
    assert (
        build(files[0], tmp_path / "b", Options("source", shapes=SHAPES, weights="file")) / "small.weights"
    ).exists()


# --- other files ------------------------------------------------------------------------------------------------------


def test_the_symbol_has_to_be_the_models(tmp_path: Path, files: tuple[Path, Path], program: Path) -> None:
    image, _ = picture(tmp_path)
    symbol, params = files
    text = symbol.read_bytes()
    want = run(program, symbol, params, image)
    other = tmp_path / "other.json"
    assert text.endswith(b"}\n")
    for same in (text[:-1], text[:-1] + b"\0", text + b"\x07 what lies behind a buffer"):
        other.write_bytes(same)
        assert run(program, other, params, image) == want
    for data in (text.replace(b"relu", b"tanh"), text[:100] + b"\0", b"{}", b"\0" + text, b" " + text, b"}{"):
        other.write_bytes(data)
        for threads in ("1", "2"):
            told = failing(program, other, params, image, threads)
            assert "symbol_json_str is not the file that this model was built from" in told
            assert f"({len(text) - 1} bytes, SHA-256 " in told and told.startswith("MXPredCreate")
    other.write_bytes(b"")
    assert re.search(r"\), but (null|empty);", failing(program, other, params, image))


def test_the_weights_have_to_be_the_models(tmp_path: Path, files: tuple[Path, Path], program: Path) -> None:
    image, _ = picture(tmp_path)
    symbol, params = files
    data = bytearray(params.read_bytes())
    other = tmp_path / "other.params"
    flipped = data.copy()
    flipped[len(data) // 2] ^= 1
    for wrong in (flipped, data[:-1], data + b"\0", b"", b"x"):
        other.write_bytes(wrong)
        for threads in ("1", "2"):
            told = failing(program, symbol, other, image, threads)
            assert "param_bytes is not the file that this model was built from" in told
            assert f"({len(data)} bytes, SHA-256 " in told and f"but other {len(wrong)} bytes" in told


def test_with_a_weights_file_its_content_is_given(tmp_path: Path, files: tuple[Path, Path], program: Path) -> None:
    """MXNet's own file is refused with a hint. Where the weights are inside, both files are accepted."""
    image, _ = picture(tmp_path)
    symbol, params = files
    beside = build(symbol, tmp_path / "beside", Options(shapes=SHAPES, weights="file", threads=4))
    weights = beside / "small.weights"
    want = run(program, symbol, params, image)
    assert run(program, symbol, weights, image) == want
    other = build_program(tmp_path, DECLARATIONS + CLASSIFY, beside / "small.cc")
    assert run(other, symbol, weights, image) == want
    assert run(other, symbol, weights, image, "2") == want * 2
    told = failing(other, symbol, params, image)
    assert "the weights of this build are in small.weights: give its content, or build the model with" in told
    assert "has to be the content of small.weights (" in failing(other, symbol, symbol, image)


def test_an_exported_model_remembers_its_files(tmp_path: Path, files: tuple[Path, Path]) -> None:
    """Across `dlpack export`, in the ONNX metadata; what is not of that form is refused."""
    model = export(files[0], None, ExportOptions(SHAPES)).model
    onnx.save(model, tmp_path / "small.onnx")
    folder = build(tmp_path / "small.onnx", tmp_path / "small", Options("source"))
    text = (folder / "small.cc").read_text()
    for name, file in zip(("Symbol", "Params"), files, strict=True):
        assert f"kMx{name}Bytes = {file.stat().st_size - (name == 'Symbol')};" in text
    entry = next(entry for entry in model.metadata_props if entry.key == "dlpack.mxnet")
    good = json.loads(entry.value)
    bad: list[Any] = [7, {}, {"params": None, "symbol": None}, {**good, "symbol": "x"},
                      {**good, "params": {"bytes": -1, "sha256": "0" * 64}},
                      {**good, "params": {"bytes": 1, "sha256": "0" * 63}}]  # fmt: skip
    for value in bad:
        entry.value = json.dumps(value)
        onnx.save(model, tmp_path / "small.onnx")
        with pytest.raises(ModelError, match=r"dlpack\.mxnet"):
            build(tmp_path / "small.onnx", tmp_path / "bad", Options("source"))


def test_mxnetjs_files_have_the_same_weights(tmp_path: Path, files: tuple[Path, Path]) -> None:
    """The symbol is known where the file has it as text, as an object only the weights are."""
    symbol, params = (file.read_bytes() for file in files)
    for value, size in ((symbol.decode(), len(symbol.rstrip())), (json.loads(symbol), 0)):
        document = {"symbol": value, "parambase64": base64.b64encode(params).decode()}
        (tmp_path / "net.json").write_text(json.dumps(document))
        folder = build(tmp_path / "net.json", tmp_path / "net", Options("source", shapes=SHAPES))
        text = (folder / "net.cc").read_text()
        assert f"kMxSymbolBytes = {size};" in text and f"kMxParamsBytes = {len(params)};" in text


# --- inner values -----------------------------------------------------------------------------------------------------

INNER = r"""
static const char* keys[] = {"data"};
static const mx_uint starts[] = {0, 4}, shape[] = {1, 3, 12, 12};
static std::string told;

static void watch(const char* name, NDArrayHandle array, void* mark) {
  mx_uint rank = 0;
  const mx_uint* sizes = nullptr;
  const int* ints = nullptr;
  int type = -1, dims = 0;
  void* data = nullptr;
  OK(MXNDArrayGetShape(array, &rank, &sizes));
  OK(MXNDArrayGetShapeEx(array, &dims, &ints));
  OK(MXNDArrayGetDType(array, &type));
  OK(MXNDArrayGetData(array, &data));
  size_t count = 1;
  for (mx_uint d = 0; d < rank; ++d) {
    count *= sizes[d];
    REQUIRE(ints[d] == static_cast<int>(sizes[d]));
  }
  REQUIRE(dims == static_cast<int>(rank) && type == 0 && *static_cast<int*>(mark) == 7);
  std::vector<float> values(count);
  OK(MXNDArraySyncCopyToCPU(array, values.data(), count));
  FAILS(MXNDArraySyncCopyToCPU(array, values.data(), count + 1), "are requested");
  REQUIRE(memcmp(values.data(), data, count * sizeof(float)) == 0);
  double sum = 0;
  for (float v : values) sum += static_cast<double>(v);
  char line[200];
  snprintf(line, sizeof line, "%s %zu %.5f\n", name, count, sum);
  told += line;
  OK(MXNDArrayFree(array));
}

// argv: symbol, params, picture, monitor or partial, names of outputs
int main(int argc, char** argv) {
  const Bytes symbol = read(argv[1]), params = read(argv[2]), picture = read(argv[3]);
  const std::string what = argv[4];
  std::vector<float> image(3 * 12 * 12);
  memcpy(image.data(), picture.data(), picture.size());
  PredictorHandle p = nullptr, q = nullptr;
  const mx_uint count = static_cast<mx_uint>(argc - 5);
  OK(MXPredCreatePartialOut(symbol.data(), params.data(), static_cast<int>(params.size()), 1, 0, 1, keys, starts, shape,
                            count, count != 0 ? const_cast<const char**>(argv + 5) : nullptr, &p));
  OK(MXPredSetInput(p, "data", image.data(), 432));
  int mark = 7, left = 1;
  if (what == "monitor") {
    OK(MXPredSetMonitorCallback(p, watch, &mark, false));
    OK(MXPredForward(p));
    const std::string once = told;
    told.clear();
    for (int step = 0; left != 0; ++step) OK(MXPredPartialForward(p, step, &left));
    REQUIRE(told == once);
    told.clear();
    OK(MXPredSetMonitorCallback(p, watch, &mark, true));
    OK(MXPredForward(p));
    REQUIRE(told.substr(0, 9) == "data 432 " && told.substr(told.find('\n') + 1) == once);
    told.clear();
    OK(MXPredReshape(1, keys, starts, shape, p, &q));
    OK(MXPredForward(q));
    OK(MXPredSetMonitorCallback(p, nullptr, nullptr, false));
    OK(MXPredForward(p));
    REQUIRE(told.empty());
    OK(MXPredFree(q));
    printf("%s", once.c_str());
  } else {
    OK(MXPredForward(p));
    OK(MXPredPartialForward(p, 0, &left));
    printf("%d\n", left + 1);
    for (mx_uint k = 0; k < (count != 0 ? count : 1); ++k) {
      mx_uint* sizes = nullptr;
      mx_uint rank = 0, size = 1;
      OK(MXPredGetOutputShape(p, k, &sizes, &rank));
      for (mx_uint d = 0; d < rank; ++d) size *= sizes[d];
      std::vector<float> values(size);
      OK(MXPredGetOutput(p, k, values.data(), size));
      for (float v : values) printf("%a ", static_cast<double>(v));
      printf("\n");
    }
    FAILS(MXPredGetOutput(p, count != 0 ? count : 1, image.data(), 1), "there is no output");
  }
  OK(MXPredFree(p));
  FAILS(MXNDArrayGetShape(nullptr, nullptr, nullptr), "is null");
  FAILS(MXNDArrayGetShapeEx(nullptr, nullptr, nullptr), "is null");
  FAILS(MXNDArrayGetDType(nullptr, nullptr), "is null");
  FAILS(MXNDArrayGetData(nullptr, nullptr), "is null");
  FAILS(MXNDArraySyncCopyToCPU(nullptr, nullptr, 0), "is null");
  return 0;
}
"""

LAYERS = ["conv0_output", "relu0_output", "global_pool_output", "flatten0_output", "fc1_output", "softmax_output"]


@pytest.fixture(scope="module")
def inner(tmp_path_factory: pytest.TempPathFactory, kept: Path) -> Path:
    return build_program(tmp_path_factory.mktemp("inner"), DECLARATIONS + INNER, kept / "small.cc")


def test_partial_outputs_are_inner_values(tmp_path: Path, files: tuple[Path, Path], kept: Path, inner: Path) -> None:
    """With their numbers, in the order asked for; only the steps that they need are run. Without names, the model's."""
    image, x = picture(tmp_path)
    with dlpack.load(kept) as p:
        want = p.run({"data": x})
    assert list(want) == ["softmax_output", *LAYERS[:-1]]
    steps = []
    for names in (["relu0"], ["global_pool_output", "conv0"], ["fc1"], []):
        first, *lines = run(inner, *files, image, "partial", *names).splitlines()
        steps.append(int(first))
        for line, name in zip(lines, names or ["softmax"], strict=True):
            np.testing.assert_allclose(
                floats(line), want[f"{name.removesuffix('_output')}_output"].ravel(), rtol=1e-5, atol=1e-6
            )
    assert steps == sorted(set(steps))


def test_a_monitor_sees_the_layers_in_order(tmp_path: Path, files: tuple[Path, Path], kept: Path, inner: Path) -> None:
    image, x = picture(tmp_path)
    with dlpack.load(kept) as p:
        want = p.run({"data": x})
    lines = [line.split() for line in run(inner, *files, image, "monitor").splitlines()]
    assert [line[0] for line in lines] == LAYERS
    for name, count, total in lines:
        assert int(count) == want[name].size
        np.testing.assert_allclose(float(total), want[name].sum(dtype=np.float64), rtol=1e-3, atol=1e-4)
    partial = run(inner, *files, image, "monitor", "relu0").splitlines()
    assert [line.split()[0] for line in partial] == LAYERS[:2]  # what is not needed is not computed


def test_a_monitor_in_a_file_for_several_machines(tmp_path: Path, files: tuple[Path, Path]) -> None:
    """Each machine has steps of its own."""
    image, _ = picture(tmp_path)
    options = Options("x86-64", shapes=SHAPES, internals=("relu0", "fc1"), verify=False)
    folder = build(files[0], tmp_path / "small", options)
    program = build_program(tmp_path, DECLARATIONS + INNER, folder / "small.cc")
    lines = run(program, *files, image, "monitor").splitlines()
    assert [line.split()[0] for line in lines] == ["relu0_output", "fc1_output", "softmax_output"]
