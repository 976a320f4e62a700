"""The target wasm, through node: results, what a module imports, sizes, damaged files, and pictures as in Python.

Over 500 lines because the JavaScript that the tests run stands beside them.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import nets
import numpy as np
import onnx
import processes
import pytest
from click.testing import CliRunner
from conftest import DIGITS, ROOT, requires_module, requires_tool
from onnx import helper

from dlpack.bundle.loader import read_kernels
from dlpack.bundle.timing import bench_bundle
from dlpack.cli import cli
from dlpack.errors import ToolchainError, UsageError, VerificationError
from dlpack.meaning.preprocess import PRESETS, Preprocess, from_json, open_picture, resolve
from dlpack.pipeline import Options, build
from dlpack.targets.wasm.modules import DEMO, FILES, LATE, MODULES, package_modules, web_text
from dlpack.targets.wasm.run import node_command, run, run_in_node, run_in_wasmtime
from dlpack.targets.wasm.single_file import bundled
from dlpack.verify.check import verify_bundle

INPUT = [{"name": "x", "dtype": "float32", "shape": [1, 3, 24, 32]}]
SINGLE_FILE = {"single-file-html": True}
DIGITS_SPEC = str(ROOT / "examples" / "digits" / "preprocess.json")


@pytest.fixture(scope="session")
def digits_wasm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits example built for wasm, unverified, with the single file. Tests must not write in it."""
    where = tmp_path_factory.mktemp("wasm") / "digits"
    return build(
        DIGITS, where, Options("wasm", verify=False, preprocess=DIGITS_SPEC, target_options={"single-file-html": True})
    )


@pytest.fixture
def copy(digits_wasm: Path, tmp_path: Path) -> Path:
    """A copy of the digits bundle, to be damaged."""
    return Path(shutil.copytree(digits_wasm, tmp_path / "copy"))


def manifest_of(bundle: Path) -> dict[str, Any]:
    return json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))


def node(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs an ES module in node, with the arguments from process.argv[1] on."""
    requires_tool("node")
    command = [*node_command(), "--input-type=module", "-e", script, *map(str, arguments)]
    return processes.run(command, limit_s=120)


def node_json(script: str, *arguments: str | Path) -> Any:
    done = node(script, *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


OPEN = "const { Predictor, Classifier, openBundle } = await import(`file://${process.argv[1]}/node.js`);\n"

# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits", "conv_net", "attention_net"])
def test_both_builds_agree_with_onnxruntime(name: str, model_files: dict[str, Path], tmp_path: Path) -> None:
    requires_tool("node")
    bundle = build(model_files[name], tmp_path / name, Options("wasm"))
    entries = manifest_of(bundle)["verification"]
    outputs = manifest_of(bundle)["outputs"]
    assert [e["name"] for e in entries] == [f"{t['name']} ({b})" for b in ("simd", "relaxed") for t in outputs]
    assert all(e["passed"] for e in entries)


def test_wasmtime_agrees_with_node(digits_wasm: Path) -> None:
    requires_tool("node")
    requires_module("wasmtime")
    manifest = manifest_of(digits_wasm)
    with np.load(digits_wasm / "reference.npz") as stored:
        inputs = {"image": stored["in_0"]}
    for name in manifest["wasm"]:
        ours, _ = run_in_wasmtime(digits_wasm, manifest, name, inputs)
        theirs, _ = run_in_node(digits_wasm, manifest, name, inputs)
        np.testing.assert_allclose(ours["probability"], theirs["probability"], atol=1e-6)


def test_a_thousand_runs_take_no_memory(digits_wasm: Path) -> None:
    script = (
        OPEN
        + """
        const p = await Predictor.load(process.argv[1]);
        const before = p._memory.buffer.byteLength;
        const image = new Float32Array(64).map((_, i) => i % 17);
        const first = await p.run({ image });
        for (let i = 0; i < 1000; i++) p.runSync({ image });
        const last = p.runSync({ image });
        const same = first.probability.every((v, i) => v === last.probability[i]);
        const after = p._memory.buffer.byteLength;
        p.dispose();
        const disposed = await p.run({ image }).catch((e) => e.message);
        console.log(JSON.stringify({ before, after, same, disposed, gone: p._memory === null }));"""
    )
    got = node_json(script, digits_wasm)
    assert got["before"] == got["after"] and got["same"] and got["gone"]
    assert "disposed of" in got["disposed"]


def test_a_bundle_is_timed_in_node(digits_wasm: Path) -> None:
    requires_tool("node")
    result = bench_bundle(digits_wasm, rounds=3)
    assert [row["name"] for row in result["runs"]] == ["simd", "relaxed"]
    names = {k["name"] for k in read_kernels(digits_wasm)} | {"fill_halo"}
    for one in ("simd", "relaxed"):
        rows = [k for k in result["kernels"] if k["build"] == one]
        assert {k["name"] for k in rows} <= names
        assert sum(k["share"] for k in rows) == pytest.approx(1)
        assert [k["us"] for k in rows] == sorted((k["us"] for k in rows), reverse=True)
    done = CliRunner().invoke(cli, ["bench", str(digits_wasm), "--rounds", "3"])
    assert re.findall(r"^kernel \((\w+)\)", done.output, re.MULTILINE) == ["simd", "relaxed"]
    with pytest.raises(UsageError, match="beside onnxruntime"):
        bench_bundle(digits_wasm, DIGITS, rounds=3)


# --- what a module is -------------------------------------------------------------------------------------------------


def test_a_module_imports_nothing_and_exports_the_api(digits_wasm: Path) -> None:
    header = (digits_wasm / "digits.h").read_text(encoding="utf-8")
    api = set(re.findall(r"\b(digits_\w+)\(", header)) - {"digits_"}
    for info in manifest_of(digits_wasm)["wasm"].values():
        script = """import { readFileSync } from "node:fs";
            const m = await WebAssembly.compile(readFileSync(process.argv[1]));
            const { imports, exports } = WebAssembly.Module;
            console.log(JSON.stringify([imports(m), exports(m).map((e) => e.name)]));"""
        imports, exports = node_json(script, digits_wasm / info["file"])
        assert imports == []
        assert {"memory", "__heap_base"} <= set(exports)
        assert set(exports) - {"memory", "__heap_base", "__stack_pointer"} <= api


def test_the_relaxed_build_fuses(digits_wasm: Path) -> None:
    assert "madd(" in (digits_wasm / "digits.cc").read_text(encoding="utf-8")
    simd, relaxed = ((digits_wasm / f"digits.{b}.wasm").read_bytes() for b in ("simd", "relaxed"))
    madd = bytes([0xFD, 0x85, 0x02])
    assert relaxed.count(madd) > 10 and simd.count(madd) == 0


def test_code_is_small(digits_wasm: Path, model_files: dict[str, Path], tmp_path: Path) -> None:
    """All but the weights: at most 100 kB, and 30 kB compressed (deflate is a little larger than brotli)."""
    conv = build(model_files["conv_net"], tmp_path / "conv", Options("wasm", verify=False))
    for bundle in (digits_wasm, conv):
        manifest = manifest_of(bundle)
        code = [(bundle / manifest["wasm"]["relaxed"]["file"]).read_bytes(), *(web_text(f).encode() for f in MODULES)]
        assert sum(map(len, code)) == manifest["wasm"]["relaxed"]["bytes"] + manifest["script_bytes"] <= 100_000
        assert sum(len(zlib.compress(part, 9)) for part in code) <= 30_000


def test_weights_lie_beside_and_are_not_enlarged(digits_wasm: Path) -> None:
    manifest = manifest_of(digits_wasm)
    assert (digits_wasm / manifest["weights"]["file"]).stat().st_size == manifest["weights_bytes"]
    with pytest.raises(UsageError, match="leave --weights embed out"):
        build(DIGITS, digits_wasm.parent / "no", Options("wasm", weights="embed"))


def test_a_compiler_of_ones_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="leave --cc out"):
        build(DIGITS, tmp_path / "no", Options("wasm", cc="clang"))
    with pytest.raises(UsageError, match="--single-file-html"):
        build(DIGITS, tmp_path / "no", Options("source", target_options=SINGLE_FILE))
    assert list(tmp_path.iterdir()) == []


def test_the_package_resolves_by_its_name(digits_wasm: Path, tmp_path: Path) -> None:
    """In node, as npm would install it."""
    requires_tool("node")
    (tmp_path / "node_modules").mkdir()
    shutil.copytree(digits_wasm, tmp_path / "node_modules" / "digits")
    (tmp_path / "main.mjs").write_text(
        'import { Predictor } from "digits";\n'
        'const p = await Predictor.load(new URL(".", import.meta.resolve("digits/package.json")));\n'
        "console.log(p.outputs[0].name);"
    )
    done = processes.run([*node_command(), tmp_path / "main.mjs"])
    assert done.stdout == "probability\n", done.stderr
    exports = json.loads((digits_wasm / "package.json").read_text(encoding="utf-8"))["exports"]
    named = set(re.findall(r'(?<=: )"(\./[^"*]+)"', json.dumps(exports)))
    assert "./node.js" in named and all((digits_wasm / x).is_file() for x in named)


# --- threads ----------------------------------------------------------------------------------------------------------


def shared_net() -> onnx.ModelProto:
    """A classifier of pictures of 40 x 44 whose two convolutions are large enough to be shared."""
    node = helper.make_node
    pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    return nets.model(
        [
            node("Conv", ["image", "w0"], ["a"], **pads),
            node("Relu", ["a"], ["b"]),
            node("Conv", ["b", "w1"], ["c"], **pads),
            node("GlobalAveragePool", ["c"], ["d"]),
            node("Flatten", ["d"], ["e"]),
            node("Softmax", ["e"], ["p"], axis=-1),
        ],
        {"image": (1, 3, 40, 44)},
        {"p": (1, 10)},
        nets._random(7, w0=(32, 3, 3, 3), w1=(10, 32, 3, 3)),
    )


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


# --- what goes wrong --------------------------------------------------------------------------------------------------


def load_error(bundle: Path) -> str:
    script = OPEN + "console.log(await Predictor.load(process.argv[1]).then(() => 'loaded', (e) => e.message));"
    done = node(script, bundle)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_damaged_weights_are_refused(copy: Path) -> None:
    path = copy / "digits.weights"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert re.search(r"digits\.weights is damaged: its SHA-256", load_error(copy))
    with pytest.raises(VerificationError, match=r"digits\.weights is not the file that was built"):
        verify_bundle(copy)
    manifest = manifest_of(copy)
    del manifest["files"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ToolchainError, match="damaged"):
        verify_bundle(copy)
    path.write_bytes(data[:-1])
    assert re.search(r"damaged: it has \d+ bytes of \d+", load_error(copy))


def test_every_chunk_of_the_weights_is_checked(copy: Path) -> None:
    """With chunks of 1000 bytes: all right, and one bit wrong in the first, a middle or the last one."""
    manifest, path = manifest_of(copy), copy / "digits.weights"
    data = path.read_bytes()
    digests = [hashlib.sha256(data[at : at + 1000]).hexdigest() for at in range(0, len(data), 1000)]
    manifest["weights"] |= {"chunk_bytes": 1000, "chunk_sha256": digests}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert load_error(copy) == "loaded"
    for at in (0, len(data) // 2, len(data) - 1):
        damaged = bytearray(data)
        damaged[at] ^= 0x80
        path.write_bytes(damaged)
        assert "is damaged" in load_error(copy)
    path.write_bytes(data)
    del manifest["weights"]["chunk_sha256"], manifest["weights"]["chunk_bytes"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert load_error(copy) == "loaded"


def test_bad_inputs_are_told(digits_wasm: Path) -> None:
    script = (
        OPEN
        + """
        const p = await Predictor.load(process.argv[1]);
        const of = (x) => p.run(x).then(() => "", (e) => `${e.name}: ${e.message}`);
        console.log(JSON.stringify([await of({}), await of({ image: new Float32Array(63) }),
          await of({ image: new Float64Array(64) }), await of({ image: new Float32Array(64), more: 1 }),
          await of({ image: new Array(64).fill(0) }), await of({ image: 7 }), await of(undefined)]));"""
    )
    missing, short, kind, unknown, plain, number, nothing = node_json(script, digits_wasm)
    assert missing == 'TypeError: input "image" is missing; the model has "image"'
    assert "Float32Array of 63; the model takes Float32Array of 64 (1 x 1 x 8 x 8)" in short
    assert "Float64Array of 64" in kind
    assert 'unknown input "more"' in unknown
    assert plain == ""
    assert number == 'TypeError: input "image" is Number; the model takes Float32Array of 64 (1 x 1 x 8 x 8)'
    assert nothing == 'TypeError: inputs are {name: values}; the model has "image"'


def test_loading_over_http(digits_wasm: Path) -> None:
    """Streaming with progress; an abort; a missing file: each with a fetch of the test's own."""
    script = (
        OPEN
        + """
        import { readFileSync } from "node:fs";
        const calls = [];
        const chunks = (bytes, n) => new ReadableStream({ start(c) {
          for (let i = 0; i < bytes.length; i += n) c.enqueue(bytes.subarray(i, i + n));
          c.close(); } });
        const fetch = async (url, { signal }) => {
          signal?.throwIfAborted();
          calls.push(new URL(url).pathname);
          const bytes = new Uint8Array(readFileSync(process.argv[1] + new URL(url).pathname));
          return new Response(chunks(bytes, 10000));
        };
        const seen = [];
        const p = await Predictor.load("http://example.test/", { fetch, onProgress: (x) => seen.push(x) });
        const control = new AbortController();
        const onProgress = () => control.abort(new Error("enough"));
        const aborted = await Predictor.load("http://example.test/", { fetch, signal: control.signal, onProgress })
          .catch((e) => e.message);
        const lost = await Predictor.load("http://example.test/manifest.json", {
          fetch: (url, o) =>
            /weights/.test(url) ? new Response("", { status: 404, statusText: "Not Found" }) : fetch(url, o) })
          .catch((e) => e.message);
        console.log(JSON.stringify({ seen, aborted, lost, calls: calls.slice(0, 3), build: p.build }));"""
    )
    got = node_json(script, digits_wasm)
    total = manifest_of(digits_wasm)["weights"]["bytes"]
    assert got["seen"][-1] == {"loaded": total, "total": total} and len(got["seen"]) == -(-total // 10000)
    assert got["aborted"] == "enough"
    assert got["lost"] == "http://example.test/digits.weights cannot be loaded: HTTP 404 Not Found"
    assert got["calls"] == ["/manifest.json", f"/digits.{got['build']}.wasm", "/digits.weights"]


def test_sha256_in_script(tmp_path: Path) -> None:
    """The one for insecure origins, against node's."""
    script = """import { createHash } from "node:crypto";
        const { sha256 } = await import(`file://${process.argv[1]}`);
        const { sha256InScript } = await import(`file://${process.argv[2]}`);
        const hex = (b) => Buffer.from(b).toString("hex");
        let good = true;
        for (const n of [0, 1, 3, 55, 56, 63, 64, 65, 119, 120, 128, 100003]) {
          const bytes = new Uint8Array(n).map((_, i) => (i * 7919 + n) >>> 3);
          const want = createHash("sha256").update(bytes).digest("hex");
          good &&= want === hex(sha256InScript(bytes)) && want === (await sha256(bytes));
        }
        console.log(JSON.stringify(good));"""
    assert node_json(script, ROOT / "web" / "sha256.js", ROOT / "web" / "sha256_script.js") is True


# --- pictures ---------------------------------------------------------------------------------------------------------

PREPROCESS = """import { readFileSync } from "node:fs";
    const { preprocess } = await import(`file://${process.argv[1]}`);
    const jobs = JSON.parse(readFileSync(process.argv[2], "utf8"));
    console.log(JSON.stringify(jobs.map(({ image, spec }) => {
      const data = Uint8ClampedArray.from(Buffer.from(image.data, "base64"));
      return Array.from(preprocess({ ...image, data }, spec));
    })));"""


def in_script(jobs: list[tuple[np.ndarray, Preprocess]], tmp_path: Path) -> list[np.ndarray]:
    """What web/preprocess.js makes of pictures."""
    import base64

    file = tmp_path / "jobs.json"
    file.write_text(
        json.dumps(
            [
                {
                    "image": {
                        "data": base64.b64encode(np.ascontiguousarray(p).tobytes()).decode(),
                        "height": p.shape[0],
                        "width": p.shape[1],
                    },
                    "spec": s.to_json(),
                }
                for p, s in jobs
            ]
        )
    )
    return [np.array(x) for x in node_json(PREPROCESS, ROOT / "web" / "preprocess.js", file)]


def test_pictures_are_prepared_as_in_python(tmp_path: Path) -> None:
    """All presets, channels, layouts and types; larger, smaller, odd and tiny pictures: within one level of 255."""
    draw = np.random.default_rng(5)
    shapes = [(24, 32), (48, 64), (97, 131), (300, 41), (7, 5), (1, 1), (25, 200)]
    inputs = {
        "nchw": {"name": "x", "dtype": "float32", "shape": [1, 3, 24, 32]},
        "nhwc": {"name": "x", "dtype": "float32", "shape": [1, 20, 20, 3]},
        "gray": {"name": "x", "dtype": "float32", "shape": [1, 1, 28, 28]},
        "bytes": {"name": "x", "dtype": "uint8", "shape": [1, 3, 24, 32]},
    }
    specs = [from_json(PRESETS["none"], [t]) for t in inputs.values()]
    specs += [from_json({**PRESETS[n], "resize": 36}, [inputs["nchw"]]) for n in ("imagenet", "caffe", "tf")]
    specs += [from_json({"channels": "BGR", "resize": 20, "mean": [1, 2, 3], "std": [4, 5, 6]}, [inputs["nhwc"]])]
    jobs = []
    for k, spec in enumerate(specs):
        for i, (h, w) in enumerate(shapes):
            channels = (3, 4, 1)[(i + k) % 3]
            jobs.append((draw.integers(0, 256, (h, w, channels), np.uint8), spec))
    for (picture, spec), got in zip(jobs, in_script(jobs, tmp_path), strict=True):
        want = spec(picture)
        level = spec.scale / np.min(np.abs(spec.std)) if spec.dtype == "float32" else 1.0
        assert got.size == want.size
        np.testing.assert_allclose(got.reshape(want.shape), want, rtol=0, atol=1.001 * level)


def test_a_picture_of_another_origin_is_told() -> None:
    """Browsers draw it, but do not give its pixels."""
    script = """
        globalThis.OffscreenCanvas = class {
          getContext() {
            return { drawImage() {}, getImageData() { throw new DOMException("tainted", "SecurityError"); } };
          }
        };
        const { pixelsOf } = await import(`file://${process.argv[1]}`);
        try { pixelsOf({ width: 2, height: 2 }); } catch (e) { console.log(JSON.stringify(e.message)); }"""
    assert node_json(script, ROOT / "web" / "preprocess.js").startswith(
        "the picture is of another origin: load it with "
    )


def test_resizing_is_pils(tmp_path: Path) -> None:
    """Python's side against Pillow and torchvision's arithmetic of sizes."""
    Image = requires_module("PIL.Image")
    draw = np.random.default_rng(6)
    spec = from_json({"resize": 40}, INPUT)
    for h, w in [(80, 100), (131, 97), (40, 40), (33, 57), (41, 300)]:
        picture = draw.integers(0, 256, (h, w, 3), np.uint8)
        short = min(h, w)
        new_w, new_h = int(w * 40 / short + 0.5), int(h * 40 / short + 0.5)
        resized = np.asarray(Image.fromarray(picture).resize((new_w, new_h), Image.Resampling.BILINEAR))
        top, left = (new_h - 24) // 2, (new_w - 32) // 2
        want = resized[top : top + 24, left : left + 32].transpose(2, 0, 1)[None]
        assert np.abs(spec(picture) - want).max() <= 1


def test_a_preprocess_option_is_checked(tmp_path: Path) -> None:
    (spec,) = resolve("imagenet", [[{"name": "data", "dtype": "float32", "shape": [1, 3, 224, 224]}]])
    assert spec and (spec.input, spec.resize, spec.layout, spec.channels) == ("data", 256, "NCHW", "RGB")
    file = tmp_path / "p.json"
    file.write_text('{"preset": "tf", "resize": null}')
    (spec,) = resolve(str(file), [INPUT])
    assert spec and spec.resize is None and spec.scale == 1 / 127.5
    for text, message in [
        ("imagnet", "no preset"),
        ("[1]", "no preset"),
        ("{", "not JSON"),
        ('{"channels": "GRAY"}', "do not fit"),
        ('{"channels": "HSV"}', "do not fit"),
        ('{"resize": 20}', "at least 32"),
        ('{"std": [0]}', "not 0"),
        ('{"mean": [1, 2]}', "1 or 3"),
        ('{"mean": 1}', "lists of numbers"),
        ('{"colour": "RGB"}', "unknown key 'colour'"),
        ('{"preset": "torch"}', "unknown preset"),
        ('{"input": "y"}', "no input y"),
        ('{"layout": "CHW"}', "neither"),
    ]:
        with pytest.raises(UsageError, match=re.escape(message)):
            resolve(text, [INPUT])


def test_the_classifier_classifies(digits_wasm: Path) -> None:
    """Ten held-out digits, as pictures."""
    rows = np.loadtxt(ROOT / "examples" / "digits" / "held_out.csv", delimiter=",", dtype=np.float32)
    script = (
        OPEN
        + """
        const classifier = await Classifier.load(process.argv[1]);
        const out = [];
        for (const pixels of JSON.parse(process.argv[2])) {
          const data = Uint8ClampedArray.from(pixels, (v) => Math.round((v * 255) / 16));
          out.push(await classifier.classify({ data, width: 8, height: 8 }, { topK: 2 }));
        }
        console.log(JSON.stringify(out));"""
    )
    answers = node_json(script, digits_wasm, json.dumps(rows[:, 1:].tolist()))
    right = sum(a[0]["label"] == str(int(row[0])) for a, row in zip(answers, rows, strict=True))
    assert right >= 9
    assert all(len(a) == 2 and a[0]["probability"] >= a[1]["probability"] for a in answers)


def test_a_real_photograph_is_recognised(models_dir: Path, tmp_path: Path) -> None:
    requires_module("PIL")
    requires_tool("node")
    model = models_dir / "onnx" / "squeezenet1.1" / "squeezenet1.1.onnx"
    labels = tuple((models_dir / "labels" / "synset.txt").read_text(encoding="utf-8").split("\n")[:1000])
    bundle = build(model, tmp_path / "s", Options("wasm", labels=labels, preprocess="imagenet"))
    manifest = manifest_of(bundle)
    spec = from_json(manifest["preprocess"], manifest["inputs"])
    for picture, label, probability in [("chelsea.png", "Egyptian cat", 0.50), ("coyote.jpg", "coyote", 0.62)]:
        inputs = {spec.input: spec(open_picture(models_dir / "images" / picture))}
        outputs, _ = run_in_node(bundle, manifest, "simd", inputs)
        scores = next(iter(outputs.values())).ravel()
        assert label in labels[int(scores.argmax())]
        assert scores.max() == pytest.approx(probability, abs=0.01)
    assert manifest["wasm"]["simd"]["bytes"] + manifest["script_bytes"] <= 100_000


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_single_file_loads_nothing(digits_wasm: Path) -> None:
    page = (digits_wasm / "digits.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page and "'wasm-unsafe-eval'" in page and "unsafe-inline" not in page
    assert not re.search(r"""(src|href)=["'](?!#)""", page)
    assert not re.search(r"https?://", page)
    script = re.search(r'<script type="module">(.*?)</script>', page, re.DOTALL)
    modules = package_modules(manifest_of(digits_wasm))
    assert script and script[1] == bundled({**modules, **{name: web_text(name) for name in (LATE, *DEMO)}})
    assert "eval(" not in script[1] and "new Function" not in script[1]


def test_no_remote_code_anywhere(digits_wasm: Path) -> None:
    for name in FILES:
        text = web_text(name)
        assert (digits_wasm / name).read_text(encoding="utf-8") == text
        assert not re.search(r"https?://|eval\(|new Function|innerHTML", text), name
