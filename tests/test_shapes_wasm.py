"""Several sets of input shapes in JavaScript and in Pyodide's runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import requires_module, skip_or_fail
from processes import run
from shape_bundles import PICTURES, close, expected, pictures, sentences

from dlpack.targets.wasm.run import node_command

SCRIPT = """
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
const [bundle, cases] = process.argv.slice(2);
const { Predictor, openBundle } = await import(pathToFileURL(`${bundle}/node.js`));
const predictor = await Predictor.load(await openBundle(bundle));
const big = (name) => predictor.inputs.find((t) => t.name === name).dtype === "int64";
const results = [];
for (const inputs of JSON.parse(readFileSync(cases))) {
  const array = (name, x) => (big(name) ? BigInt64Array.from(x.map(BigInt)) : Float32Array.from(x));
  const typed = Object.entries(inputs).map(([name, x]) => [name, array(name, x)]);
  try {
    const outputs = await predictor.run(Object.fromEntries(typed));
    const plain = predictor.runSync(inputs);
    for (const t of predictor.outputs) {
      if (outputs[t.name].join() !== plain[t.name].join()) throw new Error("typed and plain arrays differ");
    }
    results.push(predictor.outputs.map((t) => ({ name: t.name, shape: t.shape, data: Array.from(outputs[t.name]) })));
    predictor.steps.forEach((name, i) => name && predictor.runStep(i));
  } catch (e) {
    results.push(e.message);
  }
}
console.log(JSON.stringify(results));
"""


def in_node(bundle: Path, folder: Path, cases: Sequence[Mapping[str, np.ndarray]]) -> list[Any]:
    if not node_command():
        skip_or_fail("node is not installed")
    (folder / "main.mjs").write_text(SCRIPT)
    (folder / "cases.json").write_text(json.dumps([{n: x.reshape(-1).tolist() for n, x in c.items()} for c in cases]))
    command = [*node_command(), folder / "main.mjs", bundle, folder / "cases.json"]
    done = run(command, limit_s=120)
    assert done.returncode == 0, done.stderr
    return [
        r if isinstance(r, str) else {t["name"]: np.array(t["data"], np.float32).reshape(t["shape"]) for t in r}
        for r in json.loads(done.stdout)
    ]


def test_javascript_chooses_and_pads(
    shape_files: dict[str, Path], shape_bundles_wasm: tuple[Path, Path], tmp_path: Path
) -> None:
    for bundle, name, cases in (
        (shape_bundles_wasm[0], "pictures", [pictures(PICTURES[k], k) for k in (1, 0, 2, 1)]),
        (shape_bundles_wasm[1], "text", [sentences(n, n) for n in (3, 4, 16, 7, 8, 1)]),
    ):
        for inputs, got in zip(cases, in_node(bundle, tmp_path, cases), strict=True):
            close(got, expected(shape_files[name], inputs))


def test_javascript_refuses_other_lengths(shape_bundles_wasm: tuple[Path, Path], tmp_path: Path) -> None:
    (told,) = in_node(shape_bundles_wasm[0], tmp_path, [pictures((2, 3, 30, 26))])
    assert "Float32Array of 2340 (1 x 3 x 30 x 26) or 9360 (4 x 3 x 30 x 26) or 8100" in told
    long, uneven, good = in_node(
        shape_bundles_wasm[1], tmp_path, [sentences(17), {**sentences(5), "mask": sentences(6)["mask"]}, sentences(2)]
    )
    assert 'input "tokens" is BigInt64Array of 34' in long and 'input "tokens"' in uneven and isinstance(good, dict)


def test_pyodides_runtime_chooses_and_pads(shape_files: dict[str, Path], shape_bundles_wasm: tuple[Path, Path]) -> None:
    requires_module("wasmtime")
    from dlpack.targets.wasm.runtime import Predictor

    with Predictor(shape_bundles_wasm[0]) as predictor:
        for k in (2, 0, 1):
            inputs = pictures(PICTURES[k], k)
            close(predictor.run(inputs), expected(shape_files["pictures"], inputs))
            assert predictor.run_step(len(predictor.steps) - 1) and not predictor.run_step(len(predictor.steps))
        with pytest.raises(ValueError, match=r"takes float32 of \(1, 3, 30, 26\) or \(4, 3, 30, 26\)"):
            predictor.run(pictures((2, 3, 30, 26)))
    with Predictor(shape_bundles_wasm[1]) as predictor:
        for length in (3, 16, 8, 5):
            inputs = sentences(length, length)
            close(predictor.run(inputs), expected(shape_files["text"], inputs))
        predictor._numpy = None  # as where numpy is not installed
        inputs = sentences(6, 6)
        got = {name: np.array(memoryview(y)) for name, y in predictor.run(inputs).items()}
        close(got, expected(shape_files["text"], inputs))
