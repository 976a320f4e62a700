"""Programs for MXNet's c_predict_api.h: what they begin with, and how they are compiled with an emitted file."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import processes
from conftest import requires_tool
from emitted_files import SANITIZE

STRICT = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]

# The declarations of MXNet 1.9's c_predict_api.h, as a program for it sees them, and those that a monitor uses.
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
typedef void *NDArrayHandle;
typedef void (*PredMonitorCallback)(const char*, NDArrayHandle, void*);
const char* MXGetLastError();
int MXPredCreate(const char* symbol_json_str, const void* param_bytes, int param_size, int dev_type, int dev_id,
                 mx_uint num_input_nodes, const char** input_keys, const mx_uint* input_shape_indptr,
                 const mx_uint* input_shape_data, PredictorHandle* out);
int MXPredCreatePartialOut(const char* symbol_json_str, const void* param_bytes, int param_size, int dev_type,
                           int dev_id, mx_uint num_input_nodes, const char** input_keys,
                           const mx_uint* input_shape_indptr, const mx_uint* input_shape_data,
                           mx_uint num_output_nodes, const char** output_keys, PredictorHandle* out);
int MXPredCreateEx(const char* symbol_json_str, const void* param_bytes, int param_size, int dev_type, int dev_id,
                   const mx_uint num_input_nodes, const char** input_keys, const mx_uint* input_shape_indptr,
                   const mx_uint* input_shape_data, const mx_uint num_provided_arg_dtypes,
                   const char** provided_arg_dtype_names, const int* provided_arg_dtypes, PredictorHandle* out);
int MXPredCreateMultiThread(const char* symbol_json_str, const void* param_bytes, int param_size, int dev_type,
                            int dev_id, mx_uint num_input_nodes, const char** input_keys,
                            const mx_uint* input_shape_indptr, const mx_uint* input_shape_data, int num_threads,
                            PredictorHandle* out);
int MXPredReshape(mx_uint num_input_nodes, const char** input_keys, const mx_uint* input_shape_indptr,
                  const mx_uint* input_shape_data, PredictorHandle handle, PredictorHandle* out);
int MXPredGetOutputShape(PredictorHandle handle, mx_uint index, mx_uint** shape_data, mx_uint* shape_ndim);
int MXPredGetOutputType(PredictorHandle handle, mx_uint out_index, int* out_dtype);
int MXPredSetInput(PredictorHandle handle, const char* key, const mx_float* data, mx_uint size);
int MXPredForward(PredictorHandle handle);
int MXPredPartialForward(PredictorHandle handle, int step, int* step_left);
int MXPredGetOutput(PredictorHandle handle, mx_uint index, mx_float* data, mx_uint size);
int MXPredSetMonitorCallback(PredictorHandle handle, PredMonitorCallback callback, void* callback_handle,
                             bool monitor_all);
int MXPredFree(PredictorHandle handle);
int MXNDListCreate(const char* nd_file_bytes, int nd_file_size, NDListHandle *out, mx_uint* out_length);
int MXNDListGet(NDListHandle handle, mx_uint index, const char** out_key, const mx_float** out_data,
                const mx_uint** out_shape, mx_uint* out_ndim);
int MXNDListFree(NDListHandle handle);
int MXNDArrayGetShape(NDArrayHandle handle, mx_uint* out_dim, const mx_uint** out_pdata);
int MXNDArrayGetShapeEx(NDArrayHandle handle, int* out_dim, const int** out_pdata);
int MXNDArrayGetDType(NDArrayHandle handle, int* out_dtype);
int MXNDArrayGetData(NDArrayHandle handle, void** out_pdata);
int MXNDArraySyncCopyToCPU(NDArrayHandle handle, void* data, size_t size);
int MXNDArrayFree(NDArrayHandle handle);
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


def run(*words: str | Path, good: bool = True) -> str:
    """Runs a command; its stdout, or, if it has to fail, its stderr."""
    done = processes.run(words)
    assert (done.returncode == 0) == good, f"{words}\n{done.stderr}\n{done.stdout}"
    return done.stdout if good else done.stderr


def build_program(folder: Path, code: str, source: Path, compiler: str = "g++", sanitize: list[str] = SANITIZE) -> Path:
    """A program for c_predict_api.h, with an emitted file, under AddressSanitizer and UndefinedBehaviorSanitizer."""
    (folder / "main.cc").write_text(code)
    run(
        requires_tool(compiler), "-std=c++17", "-O1", "-march=native", *STRICT, *sanitize, "-pthread",
        f"-D{source.stem.upper()}_MXNET_API", folder / "main.cc", source, "-o", folder / "program",
    )  # fmt: skip
    return folder / "program"


NODES = [
    ("Convolution", "conv0", ["data", "conv0_weight", "conv0_bias"], {"kernel": "(3, 3)", "num_filter": "8"}),
    ("Activation", "relu0", ["conv0"], {"act_type": "relu", "__note__": '} in "quotes}" \\'}),
    ("Pooling", "global_pool", ["relu0"], {"kernel": "(1, 1)", "global_pool": "True", "pool_type": "avg"}),
    ("Flatten", "flatten0", ["global_pool"], {}),
    ("FullyConnected", "fc1", ["flatten0", "fc1_weight", "fc1_bias"], {"num_hidden": "10"}),
    ("SoftmaxOutput", "softmax", ["fc1", "softmax_label"], {}),
]
SHAPES = {"conv0_weight": (8, 3, 3, 3), "conv0_bias": (8,), "fc1_weight": (10, 8), "fc1_bias": (10,)}


def write_small_model(folder: Path, seed: int = 0) -> tuple[Path, Path]:
    """A classifier of pictures 1 x 3 x 12 x 12 as MXNet 1.9 saves it: its symbol and its weights."""
    names: dict[str, int] = {}
    nodes: list[dict[str, object]] = []
    for op, name, inputs, attrs in NODES:
        for variable in inputs:
            if variable not in names:
                names[variable] = len(nodes)
                nodes.append({"op": "null", "name": variable, "inputs": []})
        names[name] = len(nodes)
        nodes.append({"op": op, "name": name, "attrs": attrs, "inputs": [[names[v], 0, 0] for v in inputs]})
    arguments = [k for k, node in enumerate(nodes) if node["op"] == "null"]
    document = {"nodes": nodes, "arg_nodes": arguments, "heads": [[len(nodes) - 1, 0, 0]],
                "attrs": {"mxnet_version": ["int", 10901]}}  # fmt: skip
    rng = np.random.default_rng(seed)
    params = [struct.pack("<QQQ", 0x112, 0, len(SHAPES))]
    for shape in SHAPES.values():
        params.append(struct.pack("<IiI", 0xF993FAC9, 0, len(shape)) + struct.pack(f"<{len(shape)}q", *shape))
        params.append(struct.pack("<iii", 1, 0, 0) + rng.standard_normal(shape, np.float32).tobytes())
    params.append(struct.pack("<Q", len(SHAPES)))
    params += [struct.pack("<Q", len(f"arg:{name}")) + f"arg:{name}".encode() for name in SHAPES]
    (folder / "small-symbol.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (folder / "small-0000.params").write_bytes(b"".join(params))
    return folder / "small-symbol.json", folder / "small-0000.params"
