"""Whole models on WebGPU in Chromium: ``python tests/webgpu_models.py MODEL.onnx ... [--gpu]``.

Each model is built with --webgpu, runs in a page on seeded inputs, and is compared with onnxruntime; the error is a
part of the output's range. SwiftShader computes, or with --gpu the adapter that Chromium finds. Exits with 1 where a
model runs in WebAssembly or is off by more than 1e-4.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from gpu_models import TOLERANCE, seeded
from gpu_text import compiled_for, errors
from pages import result_of_page

from dlpack.pipeline import Options, build
from dlpack.stages.prepare import clean_graph
from dlpack.targets.gpu.machine import WEBGPU

PAGE = """<!doctype html><meta charset="utf-8"><script type="module">
import { Predictor } from "./bundle/index.js";
window.result = (async () => {
  const began = performance.now();
  const p = await Predictor.load("./bundle/", { backend: "webgpu" });
  const loaded = performance.now() - began;
  const inputs = {};
  for (const [i, t] of p.inputs.entries()) {
    const bytes = await (await fetch(`${i}.bin`)).arrayBuffer();
    inputs[t.name] = t.dtype === "float32" ? new Float32Array(bytes) : new BigInt64Array(bytes);
  }
  await p.run(inputs);
  const start = performance.now();
  const outputs = await p.run(inputs);
  const run = performance.now() - start;
  const values = p.outputs.map((t) => Array.from(outputs[t.name], Number));
  return { note: p.backendNote, backend: p.backend, loaded, run, outputs: values };
})().catch((e) => ({ backend: "none", note: e.stack }));
</script>
"""


def check(path: Path, folder: Path, flags: tuple[str, ...]) -> bool:
    """Whether a model is right; prints what was found."""
    build(path, folder / "bundle", Options("wasm", verify=False, target_options={"webgpu": True}))
    inputs = seeded(compiled_for(clean_graph(onnx.load(path), {})[1], WEBGPU).inputs)
    for i, value in enumerate(inputs.values()):
        value.tofile(folder / f"{i}.bin")
    (folder / "page.html").write_text(PAGE, encoding="utf-8")
    seen = result_of_page(folder, "page.html", *flags)
    if seen["backend"] != "webgpu":
        print(f"{path.stem:24} {seen['note']}")
        return False
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    want = session.run(None, inputs)
    got = [np.array(g).reshape(w.shape) for g, w in zip(seen["outputs"], want, strict=True)]
    error = max(errors(got, want))
    sizes = json.loads((folder / "bundle" / "manifest.json").read_text())["webgpu"]
    print(
        f"{path.stem:24} error {error:.1e}, {sizes['kernels']} kernels of {sizes['shaders']['bytes']:,} bytes, "
        f"loaded in {seen['loaded'] / 1e3:.1f} s, a run takes {seen['run']:.1f} ms",
        flush=True,
    )
    return error <= TOLERANCE


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--gpu", action="store_true")
    options = parser.parse_args()
    flags = ["--enable-unsafe-webgpu", "--disable-gpu-sandbox"]
    flags += ["--enable-features=Vulkan"] if options.gpu else ["--use-webgpu-adapter=swiftshader"]
    right = []
    for path in options.models:
        with tempfile.TemporaryDirectory(prefix="dlpack-") as folder:
            right.append(check(path, Path(folder), tuple(flags)))
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
