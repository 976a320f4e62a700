"""MXNet's C predict API in the emitted file: programs for c_predict_api.h relink, and no bytes break it.

Over 500 lines because the C++ programs that the tests compile stand beside the tests that run them.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import onnx
import processes
import pytest
from conftest import DIGITS as MODEL
from conftest import requires_tool
from onnx import TensorProto, helper

import dlpack
from dlpack.pipeline import Options, build

STRICT = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g1"]

# The declarations of MXNet 1.9's c_predict_api.h, as a program for it sees them.
DECLARATIONS = """\
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <thread>
#include <vector>
extern "C" {
typedef unsigned int mx_uint;
typedef float mx_float;
typedef void *PredictorHandle;
typedef void *NDListHandle;
const char* MXGetLastError();
int MXPredCreate(const char* symbol_json_str, const void* param_bytes, int param_size, int dev_type, int dev_id,
                 mx_uint num_input_nodes, const char** input_keys, const mx_uint* input_shape_indptr,
                 const mx_uint* input_shape_data, PredictorHandle* out);
int MXPredCreatePartialOut(const char* symbol_json_str, const void* param_bytes, int param_size, int dev_type,
                           int dev_id, mx_uint num_input_nodes, const char** input_keys,
                           const mx_uint* input_shape_indptr, const mx_uint* input_shape_data,
                           mx_uint num_output_nodes, const char** output_keys, PredictorHandle* out);
int MXPredReshape(mx_uint num_input_nodes, const char** input_keys, const mx_uint* input_shape_indptr,
                  const mx_uint* input_shape_data, PredictorHandle handle, PredictorHandle* out);
int MXPredGetOutputShape(PredictorHandle handle, mx_uint index, mx_uint** shape_data, mx_uint* shape_ndim);
int MXPredSetInput(PredictorHandle handle, const char* key, const mx_float* data, mx_uint size);
int MXPredForward(PredictorHandle handle);
int MXPredPartialForward(PredictorHandle handle, int step, int* step_left);
int MXPredGetOutput(PredictorHandle handle, mx_uint index, mx_float* data, mx_uint size);
int MXPredFree(PredictorHandle handle);
int MXNDListCreate(const char* nd_file_bytes, int nd_file_size, NDListHandle *out, mx_uint* out_length);
int MXNDListGet(NDListHandle handle, mx_uint index, const char** out_key, const mx_float** out_data,
                const mx_uint** out_shape, mx_uint* out_ndim);
int MXNDListFree(NDListHandle handle);
}

typedef std::vector<char> Bytes;
inline Bytes read(const char* path) {
  FILE* f = fopen(path, "rb");
  if (f == nullptr) abort();
  Bytes data;
  char part[65536];
  for (size_t n; (n = fread(part, 1, sizeof part, f)) != 0;) data.insert(data.end(), part, part + n);
  fclose(f);
  return data;
}
#define REQUIRE(what) do { if (!(what)) { \\
  printf("line %d: %s\\n%s\\n", __LINE__, #what, MXGetLastError()); exit(1); } } while (0)
#define OK(call) REQUIRE((call) == 0)
#define FAILS(call, text) do { REQUIRE((call) == -1); REQUIRE(strstr(MXGetLastError(), text) != nullptr); } while (0)
"""

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
  const auto make = [&p](int device, mx_uint n, const char** k, const mx_uint* s, const mx_uint* d) {
    return MXPredCreate("{", nullptr, 0, device, 0, n, k, s, d, &p);
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
  const auto partial = [&p](mx_uint n, const char** o) {
    return MXPredCreatePartialOut("", nullptr, 0, 1, 0, 1, keys, starts, shape, n, o, &p);
  };
  const char* two[] = {"probability", "probability"};
  FAILS(partial(1, unknown), "no output \\"data\\"; it has: probability");
  FAILS(partial(1, null_key), "output_keys[0] is null");
  FAILS(partial(1, nullptr), "output_keys is null");
  FAILS(partial(2, two), "2 outputs are asked for, the model has 1: probability");
  REQUIRE(p == mark);

  OK(make(1, 0, nullptr, nullptr, nullptr));
  FAILS(MXPredReshape(1, keys, starts, other, p, &q),
        "MXPredReshape: the shape given for input \\"image\\" is 2x1x8x8");
  FAILS(MXPredReshape(1, keys, starts, shape, nullptr, &q), "is null");
  FAILS(MXPredReshape(1, keys, starts, shape, p, nullptr), "is null");
  REQUIRE(q == mark);
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
  FAILS(MXPredGetOutput(p, 0, x, 9), "output \\"probability\\" has 10 elements (1x10), and 9 are asked for");
  FAILS(MXPredGetOutput(p, 0, x, 11), "and 11 are asked for");
  FAILS(MXPredGetOutput(p, 0, nullptr, 10), "is null");
  FAILS(MXPredGetOutput(nullptr, 0, x, 10), "is null");
  REQUIRE(dims == nullptr && rank == 77 && left == 77);
  OK(MXPredFree(p));
  OK(MXPredFree(nullptr));

  NDListHandle list = mark;
  FAILS(MXNDListCreate(nullptr, 0, &list, &rank), "is null");
  FAILS(MXNDListCreate("", -1, &list, &rank), "is null, or nd_file_size is negative");
  FAILS(MXNDListCreate("", 0, nullptr, &rank), "is null");
  FAILS(MXNDListCreate("", 0, &list, nullptr), "is null");
  FAILS(MXNDListCreate("", 0, &list, &rank), "does not begin with 0x112");
  FAILS(MXNDListGet(nullptr, 0, nullptr, nullptr, nullptr, nullptr), "is null");
  OK(MXNDListFree(nullptr));
  REQUIRE(list == mark && rank == 77);
  return 0;
}

// Prints name, shape and elements of each array of a file; or the error.
static int dump(const char* path) {
  const Bytes data = read(path);
  NDListHandle list = nullptr;
  mx_uint size = 0;
  if (MXNDListCreate(data.data(), static_cast<int>(data.size()), &list, &size) != 0) return puts(MXGetLastError()), 0;
  const char* key;
  const mx_float* values;
  const mx_uint* dims;
  mx_uint rank;
  for (mx_uint k = 0; k < size; ++k) {
    OK(MXNDListGet(list, k, &key, &values, &dims, &rank));
    printf("%s\\t", key);
    size_t n = 1;
    for (mx_uint d = 0; d < rank; ++d) printf("%u ", dims[d]), n *= dims[d];
    printf("\\t");
    for (size_t i = 0; i < n; ++i) printf("%a ", static_cast<double>(values[i]));
    printf("\\n");
  }
  FAILS(MXNDListGet(list, size, &key, &values, &dims, &rank), "there is no array");
  FAILS(MXNDListGet(list, 0, &key, nullptr, &dims, &rank), "is null");
  OK(MXNDListFree(list));
  return 0;
}

// Parses exactly these bytes, at the end of an allocation, and touches all that comes out.
static bool parse(const char* from, size_t size) {
  char* const data = static_cast<char*>(malloc(size + 1)) + 1;  // misaligned, too
  if (size != 0) memcpy(data, from, size);
  NDListHandle list = nullptr;
  mx_uint count = 0;
  const bool good = MXNDListCreate(data, static_cast<int>(size), &list, &count) == 0;
  REQUIRE(good == (list != nullptr) && (good || strstr(MXGetLastError(), "MXNDListCreate: ") == MXGetLastError()));
  double sum = 0;
  for (mx_uint k = 0; good && k < count; ++k) {
    const char* key;
    const mx_float* values;
    const mx_uint* dims;
    mx_uint rank;
    OK(MXNDListGet(list, k, &key, &values, &dims, &rank));
    size_t n = 1;
    for (mx_uint d = 0; d < rank; ++d) n *= dims[d];
    if (n != 0) sum += static_cast<double>(values[0]) + static_cast<double>(values[n - 1]);
    sum += static_cast<double>(strlen(key));
  }
  volatile double keep = sum;
  (void)keep;
  OK(MXNDListFree(list));
  free(data - 1);
  return good;
}

// Every truncation and thousands of mutations of a file; of a large one, a sample.
static int fuzz(const char* path) {
  Bytes data = read(path);
  REQUIRE(parse(data.data(), data.size()));
  const size_t stride = data.size() < 8192 ? 1 : data.size() / 16;
  for (size_t n = 0; n < data.size(); n += stride) REQUIRE(!parse(data.data(), n));
  unsigned seed = 1;
  const auto random = [&seed] { return (seed = seed * 1664525u + 1013904223u) >> 8; };
  const unsigned char values[] = {0, 1, 2, 0x7f, 0x80, 0xc8, 0xc9, 0xca, 0xff};
  for (size_t i = 0; i < data.size(); i += stride)
    for (unsigned char v : values) {
      const char before = data[i];
      data[i] = static_cast<char>(v);
      parse(data.data(), data.size());
      data[i] = before;
    }
  for (int round = 0; round < (stride == 1 ? 5000 : 10); ++round) {
    Bytes copy = data;
    for (unsigned k = random() % 6 + 1; k != 0; --k) {
      const size_t at = random() % copy.size();
      if (random() % 3 == 0) copy[at] = static_cast<char>(random());
      else for (size_t i = at; i < copy.size() && i < at + 8; ++i) copy[i] = static_cast<char>(random() % 2 ? 0xff : 0);
    }
    parse(copy.data(), random() % 4 == 0 ? random() % copy.size() : copy.size());
  }
  return 0;
}

static int weights_errors(const char* path) {
  Bytes w = read(path);
  const int size = static_cast<int>(w.size());
  PredictorHandle p = nullptr;
  const auto make = [&p](const void* data, int n) {
    return MXPredCreate(nullptr, data, n, 1, 0, 1, keys, starts, shape, &p);
  };
  FAILS(make(nullptr, 0), "param_bytes has to be the content of digits.weights");
  FAILS(make(nullptr, size), "at null");
  FAILS(make(w.data(), size - 1), "built with --weights embed");
  FAILS(make(w.data(), -1), "and is -1 bytes");
  w[w.size() / 2] = static_cast<char>(w[w.size() / 2] ^ 1);
  FAILS(make(w.data(), size), "SHA-256 is not the one");
  REQUIRE(p == nullptr);
  return 0;
}

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "predict") return predict(argc, argv);
  if (what == "threads") return threads();
  if (what == "errors") return errors();
  if (what == "dump") return dump(argv[2]);
  if (what == "fuzz") return fuzz(argv[2]);
  if (what == "weights_errors") return weights_errors(argv[2]);
  return 2;
}
"""


def run(*words: str | Path, good: bool = True) -> str:
    """Runs a command; its stdout, or, if it has to fail, its stderr."""
    done = processes.run(words)
    assert (done.returncode == 0) == good, f"{words}\n{done.stderr}\n{done.stdout}"
    return done.stdout if good else done.stderr


def build_program(folder: Path, code: str, source: Path, *options: str) -> Path:
    """A program for c_predict_api.h, with an emitted file, under AddressSanitizer and UndefinedBehaviorSanitizer."""
    (folder / "main.cc").write_text(code)
    run(
        requires_tool("g++"), "-std=c++17", "-O1", "-march=native", *STRICT, *SANITIZE, "-pthread", *options,
        f"-D{source.stem.upper()}_MXNET_API", folder / "main.cc", source, "-o", folder / "program",
    )  # fmt: skip
    return folder / "program"


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


def test_a_program_for_mxnet_predicts(tmp_path: Path, digits: Path, program: Path) -> None:
    """Create, set, forward, get, reshape, partial forward, free: what `dlpack.load` gives."""
    x, want = reference(digits, tmp_path)
    run(program, "predict", x, tmp_path / "y")
    got = np.fromfile(tmp_path / "y", np.float32)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
    # Bytes of an MXNet file, given to a model with its weights inside, are not looked at.
    run(program, "predict", x, tmp_path / "y2", x)
    assert (tmp_path / "y2").read_bytes() == (tmp_path / "y").read_bytes()


def test_weights_are_given_as_param_bytes(tmp_path: Path, side_file_bundle: Path, side_program: Path) -> None:
    """The program's copy may go at once; wrong bytes are refused."""
    x, want = reference(side_file_bundle, tmp_path)
    weights = side_file_bundle / "digits.weights"
    run(side_program, "predict", x, tmp_path / "y", weights)
    np.testing.assert_allclose(np.fromfile(tmp_path / "y", np.float32), want, rtol=1e-5, atol=1e-7)
    run(side_program, "weights_errors", weights)


def test_every_wrong_call_says_what_is_wrong(program: Path) -> None:
    run(program, "errors")


def test_threads_have_a_text_of_errors_each(program: Path) -> None:
    run(program, "threads")


def test_outputs_are_chosen_and_only_floats_pass(tmp_path: Path, mixed: Path) -> None:
    """With and without MXNet's "_output", in the order asked for, also after a reshape."""
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
  FAILS(MXPredSetInput(p, "ids", x, 4), "input \\"ids\\" is int64, and MXNet's API takes only float32");
  FAILS(MXPredGetOutput(p, 2, y, 4), "output \\"twice\\" is int64, and MXNet's API gives only float32");
  FAILS(MXPredSetInput(p, "y", x, 4), "it has: x, ids");
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


# --- array files ------------------------------------------------------------------------------------------------------

TYPES = [np.float32, np.float64, np.float16, np.uint8, np.int32, np.int8, np.int64, np.bool_, np.int16, np.uint16,
         np.uint32, np.uint64]  # fmt: skip
BFLOAT16 = 12


def list_file(arrays: list[bytes], names: list[str]) -> bytes:
    parts = [struct.pack("<QQQ", 0x112, 0, len(arrays)), *arrays, struct.pack("<Q", len(names))]
    for name in names:
        parts.append(struct.pack("<Q", len(name.encode())) + name.encode())
    return b"".join(parts)


def array(version: int, shape: tuple[int, ...], flag: int, raw: bytes) -> bytes:
    head = [b"", struct.pack("<I", 0xF993FAC8), struct.pack("<Ii", 0xF993FAC9, 0), struct.pack("<Ii", 0xF993FACA, 0)]
    rank = struct.pack("<i", len(shape))
    dims = struct.pack(f"<{len(shape)}{'I' if version == 0 else 'q'}", *shape)
    return head[version] + rank + dims + struct.pack("<iii", 1, 0, flag) + raw


def some_values(kind: type) -> np.ndarray:
    """Extremes of a type: 2 x 3, or for half precision every bit pattern."""
    if kind is np.float16:
        return np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    if np.dtype(kind).kind == "f":
        return np.array([[0, -0.0, 1.1], [-1e-40, 3e38, -np.inf]], kind)
    if kind is np.bool_:
        return np.array([[True, False, True], [False, False, True]])
    limits = np.iinfo(kind)
    return np.array([[0, 1, limits.max], [limits.min, limits.max - 1, 77]], kind)


def dump(program: Path, path: Path) -> list[tuple[str, np.ndarray]]:
    found = []
    for line in run(program, "dump", path).splitlines():
        name, dims, values = line.split("\t")
        floats = np.array([float.fromhex(v) for v in values.split()], np.float32)
        found.append((name, floats.reshape([int(d) for d in dims.split()])))
    return found


@pytest.mark.parametrize("version", range(4))
def test_lists_of_every_version_and_type(tmp_path: Path, program: Path, version: int) -> None:
    """Every type becomes float as a C cast makes it; half precision exactly."""
    values = [some_values(kind) for kind in TYPES]
    arrays = [array(version, v.shape, flag, v.tobytes()) for flag, v in enumerate(values)]
    brain = np.array([1.5, -2, np.inf, 1e-40], np.float32).view(np.uint32) >> 16
    arrays.append(array(version, (4,), BFLOAT16, brain.astype(np.uint16).tobytes()))
    values.append((brain.astype(np.uint32) << 16).view(np.float32))
    names = [f"arg:tensor {k} é" for k in range(len(arrays))]
    (tmp_path / "list").write_bytes(list_file(arrays, names))
    found = dump(program, tmp_path / "list")
    assert [name for name, _ in found] == names
    for (name, got), v in zip(found, values, strict=True):
        want = v.astype(np.float32)
        assert got.shape == want.shape, name
        np.testing.assert_array_equal(got, want, name)
        numbers = ~np.isnan(want)
        np.testing.assert_array_equal(np.signbit(got[numbers]), np.signbit(want[numbers]), name)


def test_scalars_nothing_and_no_names(tmp_path: Path, program: Path) -> None:
    """In version 3 rank 0 is a scalar and -1 nothing; before, 0 is nothing. Names may be left out."""
    one = np.float32(2.5).tobytes()
    nothing = [struct.pack("<I", 0), struct.pack("<Ii", 0xF993FAC8, 0), struct.pack("<Iii", 0xF993FAC9, 0, 0),
               struct.pack("<Iii", 0xF993FACA, 0, -1)]  # fmt: skip
    scalars = [array(3, (), 0, one), array(3, (3, 0, 1 << 31), 0, b""), array(2, (1,), 0, one)]
    (tmp_path / "list").write_bytes(list_file([*scalars], []))
    found = dump(program, tmp_path / "list")
    assert [(n, v.shape) for n, v in found] == [("", ()), ("", (3, 0, 1 << 31)), ("", (1,))]
    assert found[0][1] == 2.5 and found[2][1] == 2.5
    (tmp_path / "list").write_bytes(list_file(nothing + scalars, []))
    run(program, "fuzz", tmp_path / "list")


def test_files_that_mxnet_wrote(models_dir: Path, program: Path) -> None:
    """The oldest version, and a real model's weights: the values that the exporter reads."""
    from dlpack.exporters.mxnet.files import read_arrays

    for path in ("legacy/legacy_ndarray.v0", "squeezenet1.1/squeezenet1.1-0000.params"):
        file = models_dir / "mxnet" / path
        want = read_arrays(file.read_bytes())
        found = dump(program, file)
        assert len(found) == len(want) > 0
        for (name, got), (key, array_) in zip(found, want.items(), strict=True):
            assert name == key or name == ""
            np.testing.assert_array_equal(got, array_.astype(np.float32))
        run(program, "fuzz", file)


@pytest.mark.parametrize("version", range(4))
def test_cut_and_mutated_lists_break_nothing(tmp_path: Path, program: Path, version: int) -> None:
    """Every truncation, every byte with telling values, and thousands of random changes; under the sanitizers."""
    arrays = [array(version, (2, 3), flag, some_values(k).tobytes()) for flag, k in enumerate(TYPES) if flag != 2]
    (tmp_path / "list").write_bytes(list_file(arrays, [f"arg:{k}" for k in range(len(arrays))]))
    run(program, "fuzz", tmp_path / "list")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\3\4" + bytes(60), "does not begin with 0x112"),
        (struct.pack("<QQQ", 0x112, 0, 1 << 40) + bytes(64), "claims 1099511627776 arrays and has 88 bytes"),
        (list_file([array(2, (1 << 31, 1 << 31), 0, b"")], [""]), "array 0 goes beyond the end"),
        (list_file([array(2, (1 << 31, 1 << 31, 1 << 31), 5, b"")], [""]), "array 0 goes beyond the end"),
        (list_file([array(1, (-1,), 0, bytes(8))], [""]), "claims -1 elements in dimension 0"),
        (list_file([array(1, (1 << 40, 0), 0, bytes(8))], [""]), "claims 1099511627776 elements in dimension 0"),
        (list_file([struct.pack("<I", 0x7FFFFFFF) + bytes(64)], [""]), "the shape of array 0 goes beyond the end"),
        (list_file([struct.pack("<I", 0xFFFFFFFF) + bytes(64)], [""]), "the shape of array 0 goes beyond the end"),
        (list_file([struct.pack("<Ii", 0xF993FAC8, -2) + bytes(64)], [""]), "the shape of array 0 goes beyond the end"),
        (list_file([array(2, (1,), 13, bytes(8))], [""]), "array 0 has the unknown element type 13"),
        (list_file([array(2, (1,), -1, bytes(8))], [""]), "array 0 has the unknown element type -1"),
        (list_file([struct.pack("<Ii", 0xF993FAC9, 1) + bytes(64)], [""]), "array 0 is sparse (storage type 1)"),
        (list_file([array(2, (1,), 0, bytes(4))], ["a", "b"]), "has 1 arrays and 2 names"),
        (list_file([array(2, (1,), 0, bytes(4))], ["abc"])[:-1], "name 0 goes beyond the end"),
    ],
)
def test_damaged_lists_say_what_is_wrong(tmp_path: Path, program: Path, data: bytes, message: str) -> None:
    (tmp_path / "list").write_bytes(data)
    assert message in run(program, "dump", tmp_path / "list")
