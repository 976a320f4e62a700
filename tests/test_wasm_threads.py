"""The target wasm on several threads, through node: what is built, workers, and where there is one thread."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import DIGITS, requires_module, requires_tool
from nets import shared_net
from wasm_bundles import OPEN, manifest_of, node, node_json

from dlpack.bundle.timing import bench_bundle
from dlpack.pipeline import Options, build
from dlpack.targets.wasm.run import node_command, run


@pytest.fixture(scope="module")
def threaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """shared_net built for three threads, verified. Tests must not write in it."""
    requires_tool("node")
    folder = tmp_path_factory.mktemp("threads")
    onnx.save(shared_net(), folder / "shared.onnx")
    return build(
        folder / "shared.onnx",
        folder / "shared",
        Options("wasm", "shared", threads=3, target_options={"single-file-html": True}),
    )


BUILDS = ["simd", "relaxed", "simd_threads", "relaxed_threads"]
IMAGE = "const image = (k) => new Float32Array(3 * 40 * 44).map((_, i) => ((i * 31 + k * 17) % 101) / 50 - 1);\n"


def test_a_bundle_for_threads_has_all_builds(threaded: Path) -> None:
    manifest = manifest_of(threaded)
    assert manifest["threads"] == manifest["wasm_threads"]["count"] == 3
    assert [e["name"] for e in manifest["verification"]] == [f"p ({b})" for b in BUILDS]
    assert all(e["passed"] for e in manifest["verification"])
    assert "thread.js" in manifest["scripts"] and all((threaded / x).is_file() for x in manifest["scripts"])
    page = (threaded / "shared.html").read_text(encoding="utf-8")
    assert 'id="bundle-relaxed"' in page and "bundle-relaxed_threads" not in page and '"wasm_threads"' not in page
    result = bench_bundle(threaded, rounds=3)
    assert [row["name"] for row in result["runs"]] == BUILDS
    assert all(row["cpu_ms"] > 0 and row["median_ms"] > 0 for row in result["runs"])


def test_builds_for_threads_import_memory_alone(threaded: Path) -> None:
    for name, info in manifest_of(threaded)["wasm"].items():
        script = """import { readFileSync } from "node:fs";
            const m = await WebAssembly.compile(readFileSync(process.argv[1]));
            const { imports, exports } = WebAssembly.Module;
            console.log(JSON.stringify([imports(m), exports(m).map((e) => e.name)]));"""
        imports, exports = node_json(script, threaded / info["file"])
        memory = [{"module": "env", "name": "memory", "kind": "memory"}]
        assert imports == (memory if name.endswith("_threads") else [])
        assert ("shared_work" in exports) == name.endswith("_threads")


def test_any_number_of_threads_computes_the_same(threaded: Path) -> None:
    """Bit for bit, in each build; one thread takes the build for one. Node ends though nothing is disposed of."""
    script = (
        OPEN
        + IMAGE
        + """
        const seen = [];
        for (const build of ["simd", "relaxed"]) {
          let want;
          for (const threads of [1, 2, 3, 9]) {
            const p = await Predictor.load(process.argv[1], { build, threads });
            const hex = (k) => Buffer.from(p.runSync({ image: image(k) }).p.buffer).toString("hex");
            const got = Array.from({ length: 30 }, (_, k) => hex(k));
            want ??= got;
            const several = p._memory.buffer instanceof SharedArrayBuffer;
            seen.push([p.build, p.threads, several, JSON.stringify(got) === JSON.stringify(want), new Set(got).size]);
          }
        }
        console.log(JSON.stringify(seen));"""
    )
    counts = [(1, False), (2, True), (3, True), (3, True)]
    assert node_json(script, threaded) == [
        [f"{build}_threads" if several else build, count, several, True, 30]
        for build in ("simd", "relaxed")
        for count, several in counts
    ]


RECORD = """import { Worker as Own } from "node:worker_threads";
    const exits = [];
    globalThis.Worker = class extends Own {
      constructor(...args) {
        super(...args);
        exits.push(new Promise((done) => this.once("exit", () => done("ended"))));
      }
    };
    const late = (time) => new Promise((done) => setTimeout(done, time, "still there"));
    const ended = () => Promise.all(exits.map((exit) => Promise.race([exit, late(20000)])));
    """


def test_workers_end_with_their_predictor(threaded: Path, tmp_path: Path) -> None:
    """At dispose; and where loading fails, though they are ready by then or not."""
    copy = Path(shutil.copytree(threaded, tmp_path / "copy"))
    data = bytearray((copy / "shared.weights").read_bytes())
    data[-1] ^= 1
    (copy / "shared.weights").write_bytes(data)
    script = (
        RECORD
        + OPEN
        + IMAGE
        + """
        const p = await Predictor.load(process.argv[1], { threads: 3 });
        p.runSync({ image: image(0) });
        p.dispose();
        const error = await Predictor.load(process.argv[2], { threads: 2 }).catch((e) => e.message);
        console.log(JSON.stringify([await ended(), error]));
        process.exit();"""
    )
    exits, error = node_json(script, threaded, copy)
    assert exits == ["ended"] * 3 and "is damaged" in error


def test_without_workers_there_is_one_thread(threaded: Path) -> None:
    """They cannot be made, or fail when they begin: told in one line, and the outputs are the same."""
    script = (
        OPEN
        + IMAGE
        + """
        import { Worker as Own } from "node:worker_threads";
        const one = await Predictor.load(process.argv[1], { threads: 1 });
        const { p: want } = one.runSync({ image: image(5) });
        const kinds = [
          class { constructor() { throw new Error("workers are forbidden"); } },
          class extends Own { constructor() { super("throw new Error('no start')", { eval: true }); } },
          class extends Own { postMessage(message) { super.postMessage({ ...message, memory: null }); } },
        ];
        const seen = [];
        for (const kind of kinds) {
          globalThis.Worker = kind;
          const p = await Predictor.load(process.argv[1], { threads: 2 });
          seen.push([p.threads, p.runSync({ image: image(5) }).p.every((v, i) => v === want[i])]);
        }
        console.log(JSON.stringify(seen));"""
    )
    done = node(script, threaded)
    assert json.loads(done.stdout) == [[1, True]] * 3
    told = [line for line in done.stderr.splitlines() if "runs on one thread" in line]
    assert len(told) == 3 and all(t.startswith("shared runs on one thread: a worker cannot be started (") for t in told)
    assert "workers are forbidden" in told[0] and "no start" in told[1] and "memory" in told[2]


def test_parts_without_builds_for_threads(threaded: Path) -> None:
    script = (
        OPEN
        + IMAGE
        + """
        const { manifest, wasm: { simd, relaxed }, weights } = await openBundle(process.argv[1]);
        const p = await Predictor.load({ manifest, wasm: { simd, relaxed }, weights }, { threads: 3 });
        console.log(JSON.stringify([p.threads, p.build, p.runSync({ image: image(1) }).p.length]));"""
    )
    threads, name, length = node_json(script, threaded)
    assert (threads, length) == (1, 10) and name in ("simd", "relaxed")


def test_threads_on_a_small_device(threaded: Path) -> None:
    """One that reserves at most 512 MB for a memory, and one that reserves less than any build for threads asks for."""
    script = (
        OPEN
        + IMAGE
        + """
        const Own = WebAssembly.Memory;
        const asked = [];
        let most = 8192;
        WebAssembly.Memory = function (limits) {
          asked.push(limits.maximum);
          if (limits.maximum > most) throw new RangeError("could not allocate memory");
          return new Own(limits);
        };
        const p = await Predictor.load(process.argv[1], { threads: 2 });
        const length = p.runSync({ image: image(1) }).p.length;
        most = 100;
        const error = await Predictor.load(process.argv[1], { threads: 2 }).catch((e) => e.message);
        const one = await Predictor.load(process.argv[1], { threads: 1 });
        most = 4096;
        const parts = await openBundle(process.argv[1]);
        parts.manifest.wasm_threads.stack = 2 ** 29;
        const large = await Predictor.load(parts, { threads: 2 }).catch((e) => e.message);
        console.log(JSON.stringify([asked.slice(0, 7), p.threads, length, error, one.threads, large]));"""
    )
    asked, threads, length, error, one, large = node_json(script, threaded)
    assert asked == [32768, 16384, 8192, 32768, 16384, 8192, 4096] and (threads, length, one) == (2, 10, 1)
    assert error == "shared cannot reserve 268 MB for its threads: load it with threads: 1"
    assert re.fullmatch(r"shared needs 107\d MB of memory, .* give to threads: load it with threads: 1", large)


def test_a_model_too_small_to_share_has_no_builds_for_threads(tmp_path: Path) -> None:
    manifest = manifest_of(build(DIGITS, tmp_path / "digits", Options("wasm", verify=False, threads=4)))
    assert manifest["threads"] == 1 and list(manifest["wasm"]) == ["simd", "relaxed"]
    assert "wasm_threads" not in manifest and "thread.js" not in manifest["scripts"]


def test_wasmtime_runs_the_builds_for_one_thread(threaded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requires_module("wasmtime")
    monkeypatch.setattr("shutil.which", lambda name: None)
    node_command.cache_clear()
    with np.load(threaded / "reference.npz") as stored:
        outputs = run(threaded, {"image": stored["in_0"]})
        node_command.cache_clear()
        assert list(outputs) == ["simd", "relaxed"]
        np.testing.assert_allclose(outputs["simd"]["p"], stored["out_0"], atol=1e-6)
