"""MXNet's C predict API in the emitted file of a model that is not from MXNet: programs for c_predict_api.h relink."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import DIGITS as MODEL
from conftest import requires_tool
from mxnet_programs import DECLARATIONS, STRICT, build_program, run
from onnx import TensorProto, helper

import dlpack
from dlpack.pipeline import Options, build

DIGITS = """\
static const char* keys[] = {"image"};
static const mx_uint starts[] = {0, 4}, shape[] = {1, 1, 8, 8};

static PredictorHandle create(const Bytes& weights) {
  PredictorHandle p = nullptr;
  OK(MXPredCreate(nullptr, weights.data(), static_cast<int>(weights.size()), 1, 0, 1, keys, starts, shape, &p));
  return p;
}
static std::vector<float> output(PredictorHandle p) {
  mx_uint* dims = nullptr;
  mx_uint rank = 0;
  OK(MXPredGetOutputShape(p, 0, &dims, &rank));
  REQUIRE(rank == 2 && dims[0] == 1 && dims[1] == 10);
  std::vector<float> y(10);
  OK(MXPredGetOutput(p, 0, y.data(), 10));
  return y;
}
static std::vector<float> input(const char* path) {
  const Bytes raw = read(path);
  std::vector<float> x(raw.size() / sizeof(float));
  memcpy(x.data(), raw.data(), raw.size());
  return x;
}

// The whole life of a predictor; writes the output. With a file of weights they are given, and dropped at once.
static int predict(int argc, char** argv) {
  const std::vector<float> x = input(argv[2]);
  PredictorHandle p, again = nullptr;
  {
    const Bytes weights = argc > 4 ? read(argv[4]) : Bytes();
    p = create(weights);
  }
  REQUIRE(*MXGetLastError() == 0);
  OK(MXPredSetInput(p, "image", x.data(), 64));
  OK(MXPredForward(p));
  const std::vector<float> y = output(p);

  // Step by step, on a handle that shares the weights and outlives the first.
  OK(MXPredReshape(1, keys, starts, shape, p, &again));
  REQUIRE(again != p);
  OK(MXPredFree(p));
  REQUIRE(output(again) == std::vector<float>(10));
  OK(MXPredSetInput(again, "image", x.data(), 64));
  int left = 1, steps = 0;
  for (int step = 0; left != 0; ++step, ++steps) {
    const int before = left;
    OK(MXPredPartialForward(again, step, &left));
    REQUIRE(step == 0 || left == before - 1);
  }
  REQUIRE(steps > 1 && output(again) == y);
  OK(MXPredPartialForward(again, steps, &left));
  REQUIRE(left == 0 && output(again) == y);

  FILE* f = fopen(argv[3], "wb");
  REQUIRE(f != nullptr && fwrite(y.data(), sizeof(float), 10, f) == 10 && fclose(f) == 0);
  OK(MXPredFree(again));
  return 0;
}

// Handles in threads of their own, and a text of errors for each.
static int threads() {
  std::vector<std::thread> all;
  PredictorHandle first = create(Bytes());
  for (int k = 0; k < 4; ++k)
    all.emplace_back([first, k] {
      REQUIRE(*MXGetLastError() == 0);
      const std::string key = "thread " + std::to_string(k);
      const float x = 0;
      for (int round = 0; round < 50; ++round) {
        PredictorHandle p = nullptr;
        OK(MXPredReshape(1, keys, starts, shape, first, &p));
        FAILS(MXPredSetInput(p, key.c_str(), &x, 1), key.c_str());
        OK(MXPredForward(p));
        OK(MXPredFree(p));
      }
    });
  for (std::thread& t : all) t.join();
  OK(MXPredFree(first));
  return 0;
}

static int errors() {
  const mx_uint other[] = {2, 1, 8, 8}, backwards[] = {4, 0}, three[] = {0, 3}, none[] = {0, 0}, nine[] = {0, 9};
  const mx_uint many[] = {1, 2, 3, 4, 5, 6, 7, 8, 4294967295u};
  const char* unknown[] = {"data"};
  const char* null_key[] = {nullptr};
  const std::string long_name(5000, 'x');
  const char* long_key[] = {long_name.c_str()};
  PredictorHandle mark = &mark, p = mark, q = mark;
  const auto make = [&p, mark](int device, mx_uint n, const char** k, const mx_uint* s, const mx_uint* d) {
    p = mark;
    const int status = MXPredCreate("{", nullptr, 0, device, 0, n, k, s, d, &p);
    REQUIRE(status == 0 || p == nullptr);
    return status;
  };
  FAILS(make(2, 1, keys, starts, shape), "this build is for the CPU: dev_type has to be 1, and is 2");
  FAILS(make(0, 1, keys, starts, shape), "and is 0");
  FAILS(make(1, 1, unknown, starts, shape), "no input \\"data\\"; it has: image");
  FAILS(make(1, 1, long_key, starts, shape), "no input \\"xxxx");
  REQUIRE(strlen(MXGetLastError()) < 300);
  FAILS(make(1, 1, null_key, starts, shape), "input_keys[0] is null");
  FAILS(make(1, 1, nullptr, starts, shape), "input_keys or input_shape_indptr is null");
  FAILS(make(1, 1, keys, nullptr, shape), "input_keys or input_shape_indptr is null");
  FAILS(make(1, 1, keys, starts, nullptr), "input_shape_data is null");
  FAILS(make(1, 1, keys, backwards, shape), "input_shape_indptr decreases at \\"image\\"");
  FAILS(make(1, 1, keys, starts, other), "given for input \\"image\\" is 2x1x8x8, the one compiled is 1x1x8x8;");
  FAILS(make(1, 1, keys, three, shape), "is 1x1x8, the one compiled is 1x1x8x8;");
  FAILS(make(1, 1, keys, none, nullptr), "is that of a scalar, the one compiled is 1x1x8x8;");
  FAILS(make(1, 1, keys, nine, many), "is 1x2x3x4x5x6x7x8..., the one compiled");
  FAILS(MXPredCreate(nullptr, nullptr, 0, 1, 0, 1, keys, starts, shape, nullptr), "out is null");
  const auto partial = [&p, mark](mx_uint n, const char** o) {
    p = mark;
    const int status = MXPredCreatePartialOut("", nullptr, 0, 1, 0, 1, keys, starts, shape, n, o, &p);
    REQUIRE(status == 0 || p == nullptr);
    return status;
  };
  const char* two[] = {"probability", "probability"};
  FAILS(partial(1, unknown), "no output \\"data\\"; it has: probability");
  FAILS(partial(1, null_key), "output_keys[0] is null");
  FAILS(partial(1, nullptr), "output_keys is null");
  FAILS(partial(2, two), "2 outputs are requested, the model has 1: probability");
  PredictorHandle several[] = {mark, mark};
  FAILS(MXPredCreateMultiThread("", nullptr, 0, 2, 0, 1, keys, starts, shape, 2, several), "dev_type has to be 1");
  REQUIRE(several[0] == nullptr && several[1] == nullptr);
  FAILS(MXPredCreateMultiThread("", nullptr, 0, 1, 0, 1, keys, starts, shape, 0, several), "num_threads is 0");
  FAILS(MXPredCreateMultiThread("", nullptr, 0, 1, 0, 1, keys, starts, shape, 2, nullptr), "out is null");
  const int float_type[] = {0}, half_type[] = {2}, no_type[] = {99};
  const auto typed = [&p, mark](const char** names, const int* types) {
    p = mark;
    const int status = MXPredCreateEx("", nullptr, 0, 1, 0, 1, keys, starts, shape, 1, names, types, &p);
    REQUIRE(status == 0 || p == nullptr);
    return status;
  };
  FAILS(typed(keys, half_type), "the type given for input \\"image\\" is 2 (float16), the one compiled is 0 (float32)");
  FAILS(typed(keys, no_type), "is 99 (unknown)");
  FAILS(typed(unknown, float_type), "a type is given for \\"data\\", which is no input of the model; it has: image");
  FAILS(typed(null_key, float_type), "provided_arg_dtype_names[0] is null");
  FAILS(typed(nullptr, float_type), "provided_arg_dtype_names or provided_arg_dtypes is null");
  FAILS(typed(keys, nullptr), "provided_arg_dtype_names or provided_arg_dtypes is null");
  OK(typed(keys, float_type));
  OK(MXPredFree(p));

  OK(make(1, 0, nullptr, nullptr, nullptr));
  FAILS(MXPredReshape(1, keys, starts, other, p, &q),
        "MXPredReshape: the shape given for input \\"image\\" is 2x1x8x8");
  FAILS(MXPredReshape(1, keys, starts, shape, nullptr, &q), "is null");
  FAILS(MXPredReshape(1, keys, starts, shape, p, nullptr), "is null");
  FAILS(MXPredSetMonitorCallback(nullptr, nullptr, nullptr, false), "is null");
  int type = 77;
  FAILS(MXPredGetOutputType(nullptr, 0, &type), "is null");
  FAILS(MXPredGetOutputType(p, 0, nullptr), "is null");
  FAILS(MXPredGetOutputType(p, 1, &type), "no output 1; the predictor has 1");
  REQUIRE(type == 77);
  REQUIRE(q == nullptr);
  float x[65] = {};
  mx_uint* dims = nullptr;
  mx_uint rank = 77;
  int left = 77;
  FAILS(MXPredSetInput(p, "data", x, 64), "no input \\"data\\"; it has: image");
  FAILS(MXPredSetInput(p, "image", x, 63), "has 64 elements (1x1x8x8), and 63 are given");
  FAILS(MXPredSetInput(p, "image", x, 65), "and 65 are given");
  FAILS(MXPredSetInput(p, "image", nullptr, 64), "is null");
  FAILS(MXPredSetInput(p, nullptr, x, 64), "is null");
  FAILS(MXPredSetInput(nullptr, "image", x, 64), "is null");
  FAILS(MXPredForward(nullptr), "is null");
  FAILS(MXPredPartialForward(nullptr, 0, &left), "is null");
  FAILS(MXPredPartialForward(p, 0, nullptr), "is null");
  FAILS(MXPredPartialForward(p, -1, &left), "step is -1");
  FAILS(MXPredGetOutputShape(p, 1, &dims, &rank), "no output 1; the predictor has 1");
  FAILS(MXPredGetOutputShape(p, 0, nullptr, &rank), "is null");
  FAILS(MXPredGetOutputShape(p, 0, &dims, nullptr), "is null");
  FAILS(MXPredGetOutputShape(nullptr, 0, &dims, &rank), "is null");
  FAILS(MXPredGetOutput(p, 1, x, 10), "no output 1; the predictor has 1");
  FAILS(MXPredGetOutput(p, 0, x, 9), "output \\"probability\\" has 10 elements (1x10), and 9 are requested");
  FAILS(MXPredGetOutput(p, 0, x, 11), "and 11 are requested");
  FAILS(MXPredGetOutput(p, 0, nullptr, 10), "is null");
  FAILS(MXPredGetOutput(nullptr, 0, x, 10), "is null");
  REQUIRE(dims == nullptr && rank == 77 && left == 77);
  OK(MXPredFree(p));
  OK(MXPredFree(nullptr));

  return 0;
}

// `beside`: the weights are in a file of their own.
static int weights_errors(const char* path, bool beside) {
  Bytes w = read(path);
  const int size = static_cast<int>(w.size());
  PredictorHandle p = nullptr;
  const auto make = [&p](const void* data, int n) {
    return MXPredCreate(nullptr, data, n, 1, 0, 1, keys, starts, shape, &p);
  };
  OK(make(w.data(), size));
  OK(MXPredFree(p));
  p = &p;
  if (beside) FAILS(make(nullptr, 0), "param_bytes has to be the content of digits.weights (");
  FAILS(make(nullptr, size), "at null");
  FAILS(make(w.data(), -1), "param_bytes is -1 bytes");
  const char* const inside = "has to be empty, since the weights are inside this file";
  const char* const expected = beside ? "built with --weights embed" : inside;
  FAILS(make(w.data(), size - 1), expected);
  w[w.size() / 2] = static_cast<char>(w[w.size() / 2] ^ 1);
  FAILS(make(w.data(), size), expected);
  REQUIRE(p == nullptr);
  return 0;
}

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "predict") return predict(argc, argv);
  if (what == "threads") return threads();
  if (what == "errors") return errors();
  if (what == "weights_errors") return weights_errors(argv[2], argc > 3);
  return 2;
}
"""


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits example with MXNet's API."""
    return build(MODEL, tmp_path_factory.mktemp("embedded") / "digits", Options(mxnet_api=True))


@pytest.fixture(scope="module")
def side_file_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with its weights in a file of their own."""
    return build(MODEL, tmp_path_factory.mktemp("side") / "digits", Options(mxnet_api=True, weights="file"))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    return build_program(tmp_path_factory.mktemp("mxnet"), DECLARATIONS + DIGITS, digits / "digits.cc")


@pytest.fixture(scope="module")
def side_program(tmp_path_factory: pytest.TempPathFactory, side_file_bundle: Path) -> Path:
    folder = tmp_path_factory.mktemp("mxnet_side")
    return build_program(folder, DECLARATIONS + DIGITS, side_file_bundle / "digits.cc")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs and outputs of several types; outputs named as MXNet names them, and not."""
    info = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Relu", ["x"], ["softmax_output"], "relu"),
        helper.make_node("Neg", ["x"], ["minus"], "neg"),
        helper.make_node("Add", ["ids", "ids"], ["twice"], "add"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [info("x", TensorProto.FLOAT, (2, 3)), info("ids", TensorProto.INT64, (4,))],
        [info("softmax_output", TensorProto.FLOAT, (2, 3)), info("minus", TensorProto.FLOAT, (2, 3)),
         info("twice", TensorProto.INT64, (4,))],
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("mixed")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "mixed.onnx")
    return build(folder / "mixed.onnx", folder / "bundle", Options(mxnet_api=True))


# --- the emitted file -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
@pytest.mark.parametrize(
    "options", [["-std=c++17"], ["-std=c++20", "-march=native", "-fvisibility=hidden"]], ids=" ".join
)
def test_it_compiles_without_a_warning_and_exports_the_functions(
    tmp_path: Path, digits: Path, mixed: Path, compiler: str, options: list[str]
) -> None:
    """Whatever visibility is the default; of writable symbols there is none but the text of errors."""
    note = ["-Wno-psabi"] if compiler == "g++" else []
    for source in (digits / "digits.cc", mixed / "mixed.cc"):
        macro = f"-D{source.stem.upper()}_MXNET_API"
        out = tmp_path / "x.so"
        command = [requires_tool(compiler), *options, "-O2", *STRICT, *note, macro, source]
        run(*command, "-shared", "-fPIC", "-o", out)
        exported = {line.split()[-1] for line in run(requires_tool("nm"), "-D", "--defined-only", out).splitlines()}
        assert {n for n in exported if n.startswith("MX")} == set(re.findall(r"\b(MX\w+)\(", DECLARATIONS))
        run(*command, "-fno-pic", "-c", "-o", tmp_path / "x.o")
        listed = [line.split()[-2:] for line in run(requires_tool("nm"), tmp_path / "x.o").splitlines()]
        writable = [name for letter, name in listed if letter in "bBdDcCgGsSuv"]
        assert len(writable) == 1 and "mx_error_text" in writable[0]


def test_it_is_for_hosted_programs(tmp_path: Path, digits: Path) -> None:
    defines = ["-DDIGITS_MXNET_API", "-DDIGITS_FREESTANDING"]
    for compiler in ("g++", "clang++"):
        text = run(requires_tool(compiler), "-std=c++17", "-fsyntax-only", *defines, digits / "digits.cc", good=False)
        assert "DIGITS_MXNET_API needs a C library (it allocates)" in text and text.count(" error: ") == 1


def test_one_model_of_a_program_has_it(tmp_path: Path, digits: Path, mixed: Path) -> None:
    """The names are MXNet's and not the model's: two do not link, one beside a model without the macro does."""
    (tmp_path / "main.cc").write_text("int main() { return 0; }\n")
    sources = [tmp_path / "main.cc", digits / "digits.cc", mixed / "mixed.cc"]
    command = [requires_tool("g++"), "-O1", "-Wno-psabi", *sources, "-o", tmp_path / "program", "-DDIGITS_MXNET_API"]
    run(*command)
    assert "MXPredCreate" in run(*command, "-DMIXED_MXNET_API", good=False)


# --- predictors -------------------------------------------------------------------------------------------------------


def reference(bundle: Path, folder: Path) -> tuple[Path, np.ndarray]:
    """An input as a raw file, and what `dlpack.load` gives for it."""
    x = np.random.default_rng(5).random((1, 1, 8, 8), np.float32)
    (folder / "x").write_bytes(x.tobytes())
    with dlpack.load(bundle) as p:
        return folder / "x", p.run({"image": x})["probability"].reshape(-1).copy()


def test_a_program_for_mxnet_predicts(tmp_path: Path, digits: Path, side_file_bundle: Path, program: Path) -> None:
    """Create, set, forward, get, reshape, partial forward, free: what `dlpack.load` gives."""
    x, want = reference(digits, tmp_path)
    run(program, "predict", x, tmp_path / "y")
    got = np.fromfile(tmp_path / "y", np.float32)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
    # Where the weights are inside, the file of weights is accepted, and no other.
    run(program, "predict", x, tmp_path / "y2", side_file_bundle / "digits.weights")
    assert (tmp_path / "y2").read_bytes() == (tmp_path / "y").read_bytes()
    run(program, "weights_errors", side_file_bundle / "digits.weights")


def test_weights_are_given_as_param_bytes(tmp_path: Path, side_file_bundle: Path, side_program: Path) -> None:
    """The program's copy may go at once; wrong bytes are refused."""
    x, want = reference(side_file_bundle, tmp_path)
    weights = side_file_bundle / "digits.weights"
    run(side_program, "predict", x, tmp_path / "y", weights)
    np.testing.assert_allclose(np.fromfile(tmp_path / "y", np.float32), want, rtol=1e-5, atol=1e-7)
    run(side_program, "weights_errors", weights, "beside")


def test_every_wrong_call_says_what_is_wrong(program: Path) -> None:
    run(program, "errors")


def test_threads_have_a_text_of_errors_each(program: Path) -> None:
    run(program, "threads")


def test_outputs_are_chosen_and_have_types(tmp_path: Path, mixed: Path) -> None:
    """With and without MXNet's "_output", in the order asked for, also after a reshape.

    Elements other than floats are those of the tensor's type; of an input, once MXPredCreateEx was told of it.
    """
    code = f"""\
{DECLARATIONS}
int main() {{
  const char* keys[] = {{"ids", "x"}};
  const mx_uint starts[] = {{0, 1, 3}}, shape[] = {{4, 2, 3}};
  const float x[6] = {{1, -2, 3, -4, 5, -6}};
  float y[6] = {{}};
  PredictorHandle p = nullptr, q = nullptr;
  mx_uint *dims = nullptr, *more = nullptr, rank = 0;
  OK(MXPredCreate("", nullptr, 0, 1, 0, 2, keys, starts, shape, &p));
  OK(MXPredGetOutputShape(p, 2, &dims, &rank));
  REQUIRE(rank == 1 && dims[0] == 4);
  OK(MXPredGetOutputShape(p, 1, &more, &rank));
  REQUIRE(rank == 2 && more[0] == 2 && more[1] == 3 && dims[0] == 4);
  int type = -1;
  OK(MXPredGetOutputType(p, 1, &type));
  REQUIRE(type == 0);
  OK(MXPredGetOutputType(p, 2, &type));
  REQUIRE(type == 6);
  FAILS(MXPredSetInput(p, "ids", x, 4), "is int64: create the predictor with MXPredCreateEx and this type (6)");
  FAILS(MXPredSetInput(p, "y", x, 4), "it has: x, ids");
  OK(MXPredFree(p));
  const int types[] = {{6}};
  long long ids[4] = {{1, -2, 1ll << 40, 5}}, twice[5] = {{0, 0, 0, 0, 77}};
  OK(MXPredCreateEx("", nullptr, 0, 1, 0, 2, keys, starts, shape, 1, keys, types, &p));
  FAILS(MXPredSetInput(p, "ids", reinterpret_cast<float*>(ids), 8), "has 4 elements (4), and 8 are given");
  OK(MXPredSetInput(p, "ids", reinterpret_cast<float*>(ids), 4));
  OK(MXPredForward(p));
  OK(MXPredGetOutput(p, 2, reinterpret_cast<float*>(twice), 4));
  for (int i = 0; i < 4; ++i) REQUIRE(twice[i] == 2 * ids[i]);
  REQUIRE(twice[4] == 77);
  OK(MXPredFree(p));
  const char* asked[][2] = {{{{"minus_output", "softmax"}}, {{"minus", "softmax_output"}}}};
  for (auto& names : asked) {{
    OK(MXPredCreatePartialOut("", nullptr, 0, 1, 0, 2, keys, starts, shape, 2, names, &p));
    OK(MXPredReshape(2, keys, starts, shape, p, &q));
    for (PredictorHandle h : {{p, q}}) {{
      OK(MXPredSetInput(h, "x", x, 6));
      OK(MXPredForward(h));
      OK(MXPredGetOutput(h, 0, y, 6));
      for (int i = 0; i < 6; ++i) REQUIRE(y[i] == -x[i]);
      OK(MXPredGetOutput(h, 1, y, 6));
      for (int i = 0; i < 6; ++i) REQUIRE(y[i] == (x[i] > 0 ? x[i] : 0));
      FAILS(MXPredGetOutput(h, 2, y, 6), "no output 2; the predictor has 2");
      OK(MXPredFree(h));
    }}
  }}
  const char* wrong[] = {{"softmax_", "_output", "", "minus_outpu", "softmax_output_output_output"}};
  for (const char*& name : wrong)
    FAILS(MXPredCreatePartialOut("", nullptr, 0, 1, 0, 2, keys, starts, shape, 1, &name, &p),
          "it has: softmax_output, minus, twice");
  return 0;
}}
"""
    run(build_program(tmp_path, code, mixed / "mixed.cc"))
