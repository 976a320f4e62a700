"""The target wasm, through node: results, what a module imports, sizes, damaged files."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import zlib
from pathlib import Path

import numpy as np
import processes
import pytest
from click.testing import CliRunner
from conftest import DIGITS, ROOT, requires_module, requires_tool
from pages import requires_npm
from wasm_bundles import OPEN, manifest_of, node, node_json

from dlpack.bundle.loader import read_kernels
from dlpack.bundle.timing import bench_bundle
from dlpack.cli import cli
from dlpack.errors import ToolchainError, UsageError, VerificationError
from dlpack.pipeline import Options, build
from dlpack.targets.wasm.minify import minified
from dlpack.targets.wasm.modules import FILES, SOURCE, script_sources, web_text
from dlpack.targets.wasm.run import node_command, run_in_node, run_in_wasmtime
from dlpack.verify.check import verify_bundle

SINGLE_FILE = {"single-file-html": True}


@pytest.fixture
def copy(digits_wasm: Path, tmp_path: Path) -> Path:
    """A copy of the digits bundle, to be damaged."""
    return Path(shutil.copytree(digits_wasm, tmp_path / "copy"))


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
        ours = run_in_wasmtime(digits_wasm, name, inputs)
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
    with pytest.raises(UsageError, match="compared with onnxruntime"):
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
    """All but the weights: at most 80 kB, and 24 kB compressed (deflate is a little larger than brotli)."""
    conv = build(model_files["conv_net"], tmp_path / "conv", Options("wasm", verify=False))
    for bundle in (digits_wasm, conv):
        manifest = manifest_of(bundle)
        files = "index.js", "page.json", manifest["wasm"]["relaxed"]["file"]
        code = [(bundle / name).read_bytes() for name in files]
        assert len(code[0]) == manifest["script_bytes"] and len(code[2]) == manifest["wasm"]["relaxed"]["bytes"]
        assert sum(map(len, code)) <= 80_000
        assert sum(len(zlib.compress(part, 9)) for part in code) <= 24_000


def test_scripts_lie_beside_as_they_were_written(digits_wasm: Path, tmp_path: Path) -> None:
    """What pages load differs from them in names and white space alone: another minifier makes as much of both."""
    sources = script_sources(manifest_of(digits_wasm))
    assert all((digits_wasm / SOURCE / name).read_text(encoding="utf-8") == text for name, text in sources.items())
    esbuild = requires_npm("esbuild").parent / "bin" / "esbuild"
    for folder, change in (("written", str), ("minified", minified)):
        (tmp_path / folder).mkdir()
        for name, text in sources.items():
            (tmp_path / folder / name).write_text(change(text), encoding="utf-8")
    files = [f"{folder}/{name}" for folder in ("written", "minified") for name in sources]
    done = processes.run([esbuild, "--minify", "--format=esm", "--outdir=out", *files], cwd=tmp_path, limit_s=60)
    assert done.returncode == 0, done.stderr
    lengths = {f: [(tmp_path / "out" / f / name).stat().st_size for name in sources] for f in ("written", "minified")}
    assert lengths["written"] == lengths["minified"]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("const long = (first) => first + 1;\nexport { long };", "const long=(a)=>a+1;export{long};"),
        ("let value = `${one + `${two}`} / x`; // what\n", "let a=`${one+`${two}`} / x`;"),
        ("const found = text.match(/[/*]+/g) / /x/.y;", "const a=text.match(/[/*]+/g)/ /x/.y;"),
        ("const count = left - -right + +more++;", "const a=left- -right+ +more++;"),
        ("const { name, other: local = fetch } = that;\nlocal.other();", "const{name,other:a=fetch}=that;a.other();"),
        ("class Kind {\n  static kind = 1;\n  show(kind) {\n    return kind;\n  }\n}",
         "class b{static kind=1;show(a){return a}}"),
    ],
)  # fmt: skip
def test_a_minified_script_says_the_same(script: str, expected: str) -> None:
    assert minified(script) == expected


def test_weights_lie_beside_and_are_not_enlarged(digits_wasm: Path) -> None:
    manifest = manifest_of(digits_wasm)
    assert (digits_wasm / manifest["weights"]["file"]).stat().st_size == manifest["weights_bytes"]
    with pytest.raises(UsageError, match="remove --weights embed"):
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
    with pytest.raises(VerificationError, match=r"digits\.weights has changed since the build"):
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
        const lost = await Predictor.load("http://example.test/page.json", {
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
    assert got["calls"] == ["/page.json", f"/digits.{got['build']}.wasm", "/digits.weights"]


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


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_single_file_loads_nothing(digits_wasm: Path) -> None:
    page = (digits_wasm / "digits.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page and "'wasm-unsafe-eval'" in page and "unsafe-inline" not in page
    assert not re.search(r"""(src|href)=["'](?!#)""", page)
    assert not re.search(r"https?://", page)
    script = re.search(r'<script type="module">(.*?)</script>', page, re.DOTALL)
    assert script and not re.search(r"^(import|export)\b", script[1], re.MULTILINE)
    assert "eval(" not in script[1] and "new Function" not in script[1]


def test_no_remote_code_anywhere(digits_wasm: Path) -> None:
    for name in FILES:
        text = web_text(name)
        packed = (digits_wasm / name).read_text(encoding="utf-8")
        assert re.sub(r"<link[^>]* (?:rel=.modulepreload|crossorigin).*\n", "", packed) == text
        assert not re.search(r"https?://|eval\(|new Function|innerHTML", text), name
