"""Outputs whose size only a run knows, from C, in WebAssembly, and in the emitted file's self-test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from conftest import requires_module, requires_tool
from processes import run

import dlpack
from dlpack.options import Options

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
net (float[2,5] x) => (int64[2,n] places, float[2,5] y)
<float low = {0.5}>
{ good = Greater (x, low) places = NonZero (good) y = Neg (x) }
"""

PROGRAM = r"""
#include <stdio.h>
#include "net.h"
int main(void) {
  const float x[10] = {0, 1, 0, 0, 1, 0, 0, 0, 1, 0};
  net_predictor* p = nullptr;
  if (net_create(&p, nullptr, 0, nullptr, 0) != NET_OK) return 1;
  if (net_set_input(p, 0, x, sizeof x) != NET_OK || net_run(p) != NET_OK) return 2;
  const int64_t* shape = net_output_shape(p, 0);
  printf("%d %d;", int(shape[0]), int(shape[1]));
  const int64_t* data = static_cast<const int64_t*>(net_output_data(p, 0));
  const int64_t* whole = net_output(0)->shape;
  for (int i = 0; i < shape[0]; ++i)
    for (int j = 0; j < shape[1]; ++j) printf(" %d", int(data[i * whole[1] + j]));
  printf("; %d %d; %d\n", int(net_output_shape(p, 1)[0]), int(net_output_shape(p, 1)[1]),
         net_output_shape(p, 4) == nullptr);
  const float ones[10] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  if (net_set_input(p, 0, ones, sizeof ones) != NET_OK) return 3;
  const net_status status = net_run(p);
  printf("%d: %s\n", status == NET_TOO_MANY, net_error_text(status));
  net_destroy(p);
}
"""

EXCEEDED = "the data exceeds a maximum that this file was built with: --max places=4"
"""What a run says of more than four places."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sized") / "net.onnx"
    onnx.save(onnx.parser.parse_model(MODEL), path)
    return path


def test_c_tells_the_true_shape_of_each_output(model: Path, tmp_path: Path) -> None:
    bundle = dlpack.build(model, tmp_path / "bundle", Options(maxima={"places": 4}))
    assert [t["name"] for t in json.loads((bundle / "manifest.json").read_text())["outputs"]] == [
        "places",
        "y",
        "places.shape",
        "exceeded",
    ]
    (tmp_path / "main.cc").write_text(PROGRAM)
    compiler = requires_tool("g++")
    sources = [str(tmp_path / "main.cc"), str(bundle / "net.cc")]
    flags = ["-std=c++17", "-O1", "-march=native", f"-I{bundle}"]
    run([compiler, *flags, *sources, "-o", str(tmp_path / "main")], check=True)
    assert run([str(tmp_path / "main")], check=True).stdout == f"2 3; 0 0 1 1 4 3; 2 5; 1\n1: {EXCEEDED}\n"
    run([compiler, *flags, "-DNET_SELFTEST", sources[1], "-o", str(tmp_path / "test")], check=True)
    assert "WRONG" not in run([str(tmp_path / "test")], check=True).stdout


def test_webassembly_gives_outputs_of_the_true_size(model: Path, tmp_path: Path) -> None:
    from dlpack.targets.wasm.run import node_command, run_in_node, run_in_wasmtime
    from dlpack.targets.wasm.runtime import ExceededError, Predictor

    options = Options(target="wasm", maxima={"places": 4})
    bundle = dlpack.build(model, tmp_path / "bundle", options)  # which verifies it on inputs with more than four
    manifest = json.loads((bundle / "manifest.json").read_text())
    x = np.zeros((2, 5), np.float32)
    x[1, 2] = x[0, 3] = 1
    want = [[0, 1], [3, 2]]
    if node_command():
        assert run_in_node(bundle, manifest, "simd", {"x": x})[0]["places"].tolist() == want
        assert list(run_in_node(bundle, manifest, "simd", {"x": x})[0]) == ["places", "y"]
        script = """const { Predictor, openBundle } = await import(`${process.argv[1]}/node.js`);
          const predictor = await Predictor.load(await openBundle(process.argv[1]));
          predictor.runSync({ x: new Float32Array(10).fill(1) });"""
        done = run([*node_command(), "--input-type=module", "-e", script, str(bundle)])
        assert EXCEEDED in done.stderr
    requires_module("wasmtime")
    assert run_in_wasmtime(bundle, "simd", {"x": x})["places"].tolist() == want
    with Predictor(bundle, "simd") as predictor, pytest.raises(ExceededError, match=EXCEEDED):
        predictor.run({"x": np.ones((2, 5), np.float32)})
