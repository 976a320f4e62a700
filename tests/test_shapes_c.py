"""Several sets of input shapes in the emitted C++: its own API, the self-test, and MXNet's API."""

from __future__ import annotations

import ctypes
from pathlib import Path

import nets
import numpy as np
import onnx
import pytest
from conftest import requires_tool
from emitted_files import SANITIZE
from onnx import helper
from processes import run

import dlpack
from dlpack.bundle.loader import read_manifest
from dlpack.pipeline import Options, build

STRICT = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror", "-Wno-psabi"]

PROGRAM = r"""
#include <stdio.h>
#include <string.h>
#include "pictures.h"
#define CHECK(x) do { if (!(x)) { printf("line %d: %s\n", __LINE__, #x); return 1; } } while (0)
static float picture[3 * 45 * 60];

int main() {
  const int64_t one[] = {1, 3, 30, 26}, four[] = {4, 3, 30, 26}, large[] = {1, 3, 45, 60}, odd[] = {2, 3, 30, 26};
  pictures::Predictor p;
  CHECK(p && pictures_shape_count() == 3 && p.shape() == 0);
  CHECK(pictures_input_of(p.get(), 0)->bytes == pictures_input(0)->bytes && pictures_input_of(p.get(), 1) == nullptr);
  CHECK(pictures_input_of(nullptr, 0) == nullptr && pictures_output_of(p.get(), 2) == nullptr);
  CHECK(pictures_shape(nullptr) == -1 && pictures_step_count_of(p.get()) == pictures_step_count());

  // What does not fit changes nothing: the input bound is still there.
  CHECK(p.bind_input(0, picture, sizeof(float) * 3 * 30 * 26) == PICTURES_OK);
  CHECK(p.reshape(0, odd) == PICTURES_BAD_ARGUMENT && p.reshape(1, one) == PICTURES_BAD_ARGUMENT);
  CHECK(pictures_reshape(p.get(), 0, one, 3) == PICTURES_BAD_ARGUMENT);
  CHECK(pictures_reshape(p.get(), 0, nullptr, 4) == PICTURES_BAD_ARGUMENT);
  CHECK(pictures_reshape(nullptr, 0, one, 4) == PICTURES_BAD_ARGUMENT);
  CHECK(p.set_shape(3) == PICTURES_BAD_ARGUMENT && p.set_shape(-1) == PICTURES_BAD_ARGUMENT);
  CHECK(p.shape() == 0 && pictures_input_data(p.get(), 0) == picture);
  CHECK(p.reshape(0, one) == PICTURES_OK && pictures_input_data(p.get(), 0) == picture);

  // Another shape: nothing is bound, inputs are zeros, and sizes are the new ones.
  CHECK(p.reshape(0, {4, 3, 30, 26}) == PICTURES_OK && p.shape() == 1);
  CHECK(pictures_input_of(p.get(), 0)->shape[0] == 4 && pictures_input(0)->shape[0] == 1);
  const float* own = static_cast<const float*>(pictures_input_data(p.get(), 0));
  CHECK(own != picture);
  for (int i = 0; i < 4 * 3 * 30 * 26; ++i) CHECK(own[i] == 0);
  CHECK(p.set_input(0, picture, sizeof(float) * 3 * 30 * 26) == PICTURES_BAD_ARGUMENT);
  CHECK(p.run() == PICTURES_OK && pictures_output_of(p.get(), 0)->bytes == 4 * 9 * sizeof(float));
  float scores[36];
  CHECK(pictures_get_output(p.get(), 0, scores, 9 * sizeof(float)) == PICTURES_BAD_ARGUMENT);
  CHECK(pictures_get_output(p.get(), 0, scores, sizeof scores) == PICTURES_OK);
  CHECK(memcmp(scores, scores + 9, 9 * sizeof(float)) == 0);

  // The largest fits; predictors that share weights have shapes of their own; steps are those of the shape.
  pictures::Predictor q = p.share();
  CHECK(q && q.shape() == 0 && q.reshape(0, large) == PICTURES_OK && q.shape() == 2 && p.shape() == 1);
  for (size_t i = 0; i < sizeof picture / sizeof *picture; ++i) picture[i] = static_cast<float>(i % 17) * 0.1f;
  CHECK(q.set_input(0, picture, sizeof picture) == PICTURES_OK && q.run() == PICTURES_OK);
  float before[9];
  memcpy(before, q.output<float>(0), sizeof before);
  for (int i = 0; i < pictures_step_count_of(q.get()); ++i) {
    CHECK(pictures_step_name_of(q.get(), i) != nullptr && pictures_run_step(q.get(), i) == PICTURES_OK);
  }
  CHECK(memcmp(before, q.output<float>(0), sizeof before) == 0);
  CHECK(pictures_run_step(q.get(), pictures_step_count_of(q.get())) == PICTURES_BAD_ARGUMENT);
  CHECK(pictures_step_name_of(q.get(), -1) == nullptr && pictures_step_name_of(nullptr, 0) == nullptr);
  pictures_class best[2];
  CHECK(q.reshape(0, four) == PICTURES_OK && q.run() == PICTURES_OK && q.top_k(0, 2, best) == PICTURES_OK);
  puts("good");
  return 0;
}
"""


def compiled_object(bundle: Path, folder: Path, *flags: str) -> Path:
    """The bundle's file under sanitizers, without a warning."""
    command = [requires_tool("g++"), "-std=c++17", "-O1", "-march=native", *STRICT, *SANITIZE, *flags]
    done = run([*command, "-c", *bundle.glob("*.cc"), "-o", folder / "net.o"])
    assert done.returncode == 0 and not done.stderr, done.stderr
    return folder / "net.o"


def run_with(net: Path, folder: Path, program: str, include: Path) -> str:
    """What a program says that is linked with the bundle's object."""
    (folder / "main.cc").write_text(program)
    command = [requires_tool("g++"), "-std=c++17", *STRICT, *SANITIZE, f"-I{include}", "main.cc", net, "-o", "main"]
    done = run(command, cwd=folder)
    assert done.returncode == 0 and not done.stderr, done.stderr
    done = run([folder / "main"])
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def picture_object(picture_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled_object(picture_bundle, tmp_path_factory.mktemp("object"), "-DPICTURES_MXNET_API")


def test_the_c_api_reshapes(picture_bundle: Path, picture_object: Path, tmp_path: Path) -> None:
    assert run_with(picture_object, tmp_path, PROGRAM, picture_bundle) == "good\n"


@pytest.mark.parametrize("name", ["picture_bundle", "text_bundle"])
def test_the_self_test_runs_all_shapes(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    bundle = request.getfixturevalue(name)
    net = compiled_object(bundle, tmp_path, f"-D{read_manifest(bundle)['name'].upper()}_SELFTEST")
    told = run_with(net, tmp_path, "", bundle)
    assert told.count(": ok") == 6 and "WRONG" not in told


def test_several_inputs_keep_their_shapes_where_they_can(tmp_path: Path) -> None:
    """Two inputs of two sizes each: reshaping one leaves the other, its values included."""
    add = (
        helper.make_node("ReduceSum", ["a"], ["sa"], keepdims=0),
        helper.make_node("ReduceSum", ["b"], ["sb"], keepdims=0),
    )
    model = nets.model([*add, helper.make_node("Add", ["sa", "sb"], ["y"])], {"a": ("m",), "b": ("n",)}, {"y": ()})
    onnx.save(model, tmp_path / "two.onnx")
    sets = [{"a": (a,), "b": (b,)} for a in (2, 3) for b in (5, 7)]
    bundle = build(tmp_path / "two.onnx", tmp_path / "two", Options(shapes=sets[0], more_shapes=tuple(sets[1:])))
    predictor = dlpack.load(bundle)
    assert predictor.run({"a": np.ones(3, np.float32), "b": np.ones(7, np.float32)})["y"] == 10
    call, handle = predictor._function, predictor._handle

    def reshape(index: int, size: int) -> int:
        return int(call("reshape")(handle, index, (ctypes.c_int64 * 1)(size), 1))

    b = np.full(7, 2, np.float32)
    assert call("set_input")(handle, 1, ctypes.c_void_p(b.ctypes.data), ctypes.c_size_t(b.nbytes)) == 0
    assert reshape(0, 2) == 0 and call("shape")(handle) == 1
    predictor._use(1)
    predictor.compute()
    assert predictor._output(0, "float32", ()) == 14  # a is zeros, b as it was
    assert reshape(1, 5) == 0 and call("shape")(handle) == 0
    assert reshape(0, 4) != 0 and call("shape")(handle) == 0


MXNET = r"""
#include <stdio.h>
#include <string.h>
typedef unsigned int mx_uint;
typedef float mx_float;
typedef void* PredictorHandle;
extern "C" {
const char* MXGetLastError();
int MXPredCreate(const char*, const void*, int, int, int, mx_uint, const char**, const mx_uint*, const mx_uint*,
                 PredictorHandle*);
int MXPredReshape(mx_uint, const char**, const mx_uint*, const mx_uint*, PredictorHandle, PredictorHandle*);
int MXPredGetOutputShape(PredictorHandle, mx_uint, mx_uint**, mx_uint*);
int MXPredSetInput(PredictorHandle, const char*, const mx_float*, mx_uint);
int MXPredForward(PredictorHandle);
int MXPredPartialForward(PredictorHandle, int, int*);
int MXPredGetOutput(PredictorHandle, mx_uint, mx_float*, mx_uint);
int MXPredFree(PredictorHandle);
}
#define CHECK(x) do { if (!(x)) { printf("line %d: %s: %s\n", __LINE__, #x, MXGetLastError()); return 1; } } while (0)
static float picture[4 * 3 * 30 * 26];

int main() {
  const char* keys[] = {"image"};
  const mx_uint starts[] = {0, 4}, four[] = {4, 3, 30, 26}, large[] = {1, 3, 45, 60}, odd[] = {1, 3, 31, 26};
  PredictorHandle p = nullptr, q = nullptr, r = nullptr;
  mx_uint* shape = nullptr;
  mx_uint rank = 0;
  CHECK(MXPredCreate(nullptr, nullptr, 0, 1, 0, 1, keys, starts, four, &p) == 0);
  CHECK(MXPredGetOutputShape(p, 1, &shape, &rank) == 0 && rank == 4 && shape[0] == 4 && shape[2] == 15);
  for (int i = 0; i < 4 * 3 * 30 * 26; ++i) picture[i] = static_cast<float>(i % (3 * 30 * 26) % 11);
  CHECK(MXPredSetInput(p, "image", picture, 4 * 3 * 30 * 26) == 0 && MXPredForward(p) == 0);
  float scores[36], one[9];
  CHECK(MXPredGetOutput(p, 0, scores, 36) == 0 && memcmp(scores, scores + 27, 9 * sizeof(float)) == 0);
  CHECK(MXPredReshape(1, keys, starts, large, p, &q) == 0);
  CHECK(MXPredGetOutputShape(q, 1, &shape, &rank) == 0 && shape[0] == 1 && shape[2] == 23 && shape[3] == 30);
  CHECK(MXPredGetOutputShape(p, 1, &shape, &rank) == 0 && shape[0] == 4);
  int left = 1;
  for (int i = 0; left != 0; ++i) CHECK(MXPredPartialForward(q, i, &left) == 0);
  CHECK(MXPredReshape(1, keys, starts, odd, p, &r) == -1 && strstr(MXGetLastError(), "1x3x31x26") && r == nullptr);
  CHECK(MXPredCreate(nullptr, nullptr, 0, 1, 0, 1, keys, starts, odd, &r) == -1);
  CHECK(MXPredCreate(nullptr, nullptr, 0, 1, 0, 0, nullptr, nullptr, nullptr, &r) == 0);
  CHECK(MXPredSetInput(r, "image", picture, 3 * 30 * 26) == 0 && MXPredForward(r) == 0);
  CHECK(MXPredGetOutput(r, 0, one, 9) == 0);
  for (int i = 0; i < 9; ++i) CHECK(one[i] - scores[i] < 1e-3f && scores[i] - one[i] < 1e-3f);
  CHECK(MXPredFree(p) == 0 && MXPredFree(q) == 0 && MXPredFree(r) == 0);
  puts("good");
  return 0;
}
"""


def test_mxnets_api_chooses_the_shapes(picture_bundle: Path, picture_object: Path, tmp_path: Path) -> None:
    assert run_with(picture_object, tmp_path, MXNET, picture_bundle) == "good\n"
