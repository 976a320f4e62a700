"""WebGPU: kernels as WGSL, really run in Chromium by SwiftShader, and what a page does where WebGPU does not work."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import DIGITS
from gpu_text import compiled_for
from nets import attention_net
from onnx import ModelProto, TensorProto, helper, numpy_helper
from pages import result_of_page
from test_gpu import MODELS, graph_of
from test_packed_weights import COLUMNS, ROWS, quantised
from wasm_bundles import manifest_of

from dlpack.pipeline import Options, build
from dlpack.targets.gpu import cost, webgpu
from dlpack.targets.gpu.launch import launch_of
from dlpack.targets.gpu.machine import WEBGPU
from dlpack.targets.gpu.webgpu import WebGpuProgram, webgpu_program

SWIFTSHADER = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--disable-gpu-sandbox")


def words_net() -> ModelProto:
    """BERT in small: 64-bit token numbers and mask, embeddings, attention of two heads, LayerNormalization, Gelu."""
    random = np.random.default_rng(6)
    shapes = {"words": (30, 16), "q": (16, 16), "k": (16, 16), "v": (16, 16), "up": (16, 32), "down": (32, 16)}
    values = {n: random.uniform(-0.5, 0.5, s).astype(np.float32) for n, s in shapes.items()}
    values |= {"scale": np.ones(16, np.float32), "bias": np.full(16, 0.1, np.float32), "one": np.float32(1)}
    values |= {"heads": np.array([1, 6, 2, 8]), "flat": np.array([1, 6, 16]), "axes": np.array([1, 2])}
    values |= {"root": np.float32(8**0.5), "far": np.float32(-1e4), "two": np.float32(2**0.5), "half": np.float32(0.5)}
    node = helper.make_node
    nodes = [node("Gather", ["words", "tokens"], ["x"]), node("Cast", ["mask"], ["m0"], to=TensorProto.FLOAT)]
    nodes += [node("Sub", ["one", "m0"], ["m1"]), node("Mul", ["m1", "far"], ["m2"])]
    nodes += [node("Unsqueeze", ["m2", "axes"], ["m3"])]
    for n, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        nodes += [node("MatMul", ["x", n], [f"{n}0"]), node("Reshape", [f"{n}0", "heads"], [f"{n}1"])]
        nodes += [node("Transpose", [f"{n}1"], [f"{n}2"], perm=perm)]
    nodes += [
        node("MatMul", ["q2", "k2"], ["s0"]),
        node("Div", ["s0", "root"], ["s1"]),
        node("Add", ["s1", "m3"], ["s2"]),
        node("Softmax", ["s2"], ["s3"], axis=-1),
        node("MatMul", ["s3", "v2"], ["a0"]),
        node("Transpose", ["a0"], ["a1"], perm=[0, 2, 1, 3]),
        node("Reshape", ["a1", "flat"], ["a2"]),
        node("Add", ["a2", "x"], ["a3"]),
        node("LayerNormalization", ["a3", "scale", "bias"], ["a4"], axis=-1),
        node("MatMul", ["a4", "up"], ["f0"]),
        node("Div", ["f0", "two"], ["f1"]),
        node("Erf", ["f1"], ["f2"]),
        node("Add", ["f2", "one"], ["f3"]),
        node("Mul", ["f0", "f3"], ["f4"]),
        node("Mul", ["f4", "half"], ["f5"]),
        node("MatMul", ["f5", "down"], ["f6"]),
        node("Add", ["f6", "a4"], ["y"]),
    ]
    whole = [helper.make_tensor_value_info(n, TensorProto.INT64, [1, 6]) for n in ("tokens", "mask")]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6, 16])]
    graph = helper.make_graph(nodes, "words", whole, out, [numpy_helper.from_array(v, n) for n, v in values.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def memory_net() -> ModelProto:
    """An LSTM of 24 states over 5 steps of 16 numbers, which begins where the last run has ended."""
    random = np.random.default_rng(3)
    values = {
        n: random.uniform(-0.3, 0.3, s).astype(np.float32) for n, s in {"w": (1, 96, 16), "r": (1, 96, 24)}.items()
    }
    node = helper.make_node("LSTM", ["x", "w", "r", "", "", "h", "c"], ["y", "h_out", "c_out"], hidden_size=24)

    def of(**shapes: tuple[int, ...]) -> list[Any]:
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]

    inputs = of(x=(5, 1, 16), h=(1, 1, 24), c=(1, 1, 24))
    outputs = of(y=(5, 1, 1, 24), h_out=(1, 1, 24), c_out=(1, 1, 24))
    graph = helper.make_graph(
        [node], "memory", inputs, outputs, [numpy_helper.from_array(v, n) for n, v in values.items()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def pixels_net(size: tuple[int, ...] = (1, 3, 2, 2), to: int = TensorProto.FLOAT) -> ModelProto:
    """Bytes that become numbers of another type, halved."""
    one = numpy_helper.from_array(np.array(2, helper.tensor_dtype_to_np_dtype(to)), "two")
    nodes = [helper.make_node("Cast", ["x"], ["a"], to=to), helper.make_node("Div", ["a", "two"], ["y"])]
    x, y = (helper.make_tensor_value_info(n, t, size) for n, t in (("x", TensorProto.UINT8), ("y", to)))
    graph = helper.make_graph(nodes, "pixels", [x], [y], [one])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def packed_net() -> ModelProto:
    """A chain of products with weights that the file holds in few bits: in 4 in blocks, in 8 by column, and halves."""
    nodes, constants = [], []
    for k, (dtype, scales) in enumerate((("uint4", "block"), ("int8", "column"))):
        node, tensors, _, _ = quantised(dtype, scales)
        renamed = helper.make_node(node.op_type, [f"{n}{k}" for n in node.input], [f"w{k}"])
        renamed.attribute.extend(node.attribute)
        for t in tensors:
            t.name += str(k)
        nodes.append(renamed)
        constants += tensors
    halves = np.random.default_rng(8).normal(0, 0.1, (ROWS, COLUMNS)).astype(np.float16).astype(np.float32)
    constants.append(numpy_helper.from_array(halves, "w2"))
    nodes += [
        helper.make_node("MatMul", ["x", "w0"], ["a"]),
        helper.make_node("Transpose", ["w1"], ["t"]),
        helper.make_node("MatMul", ["a", "t"], ["b"]),
        helper.make_node("MatMul", ["b", "w2"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, ROWS])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, COLUMNS])
    graph = helper.make_graph(nodes, "packed", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def written(model: ModelProto) -> WebGpuProgram:
    return webgpu_program(compiled_for(graph_of(model), WEBGPU))


# --- the text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_every_kernel_is_within_the_limits_of_every_adapter(name: str) -> None:
    """16 KiB of shared memory, 256 threads a group, 65,535 groups in each dimension."""
    program = compiled_for(graph_of(MODELS[name]()), WEBGPU)
    made = webgpu_program(program)
    assert max(n for s in made.plan["shaders"] for n in s["groups"]) <= 65535
    for k in program.kernels:
        launch = launch_of(k.kernel)
        assert launch.block[0] <= 256 and launch.shared + 4 * 256 <= 16 << 10
    starts = [w["bytes"] for w in made.plan["weights"]]
    assert all(n % 256 == 0 for n in starts)
    assert made.shaders.count("@compute") == len(made.plan["shaders"])


def test_a_shader_tells_what_it_computes() -> None:
    text = written(onnx.load(DIGITS)).shaders
    assert "\n// Softmax: float32[1x10] -> float32[1x10]\n// one block, stage by stage; " in text
    assert re.search(r"\n@compute @workgroup_size\(32\)\nfn k09_softmax\(", text)


def test_more_groups_than_a_dimension_has_are_spread_over_two() -> None:
    made = written(pixels_net((1, 3, 2400, 2400)))
    assert made.plan["shaders"][0]["groups"] == [65535, 2, 1]
    assert "let number = i32(group.x + group.y * 65535u);\n    if (number >= 67500) { return; }" in made.shaders


def test_weights_that_no_binding_holds_are_in_several_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here of 40 kB; those of each kernel are in one."""
    monkeypatch.setattr(webgpu, "BINDING", 40_000)
    plan = written(onnx.load(DIGITS)).plan
    assert len(plan["weights"]) > 2 and all(0 < w["bytes"] <= 41_000 for w in plan["weights"])
    used = [step["weights"] for step in plan["sets"][0]["steps"] if "weights" in step]
    assert sorted(used) == used and set(used) == set(range(1, len(plan["weights"])))


@pytest.mark.parametrize(("to", "why"), [(TensorProto.DOUBLE, "float64"), (TensorProto.UINT8, "uint8")])
def test_what_wgsl_has_no_type_for_stays_on_wasm(tmp_path: Path, to: int, why: str) -> None:
    """The build says so, and the manifest."""
    onnx.save(pixels_net(to=to), tmp_path / "pixels.onnx")
    bundle = build(tmp_path / "pixels.onnx", tmp_path / "out", options())
    told = manifest_of(bundle)["webgpu"]["unsupported"]
    assert told.startswith("the model needs what WebGPU's shaders do not have: ") and why in told
    assert not list(bundle.glob("*.wgsl")) and not list(bundle.glob("*.webgpu.json"))


# --- in Chromium ------------------------------------------------------------------------------------------------------


def options() -> Options:
    return Options("wasm", verify=False, target_options={"webgpu": True})


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bundles with shaders, and one without."""
    folder = tmp_path_factory.mktemp("webgpu")
    models = {"words": words_net(), "memory": memory_net(), "digits": onnx.load(DIGITS), "bytes": pixels_net()}
    models |= {"attention": attention_net(), "packed": packed_net()}
    models |= {name: MODELS[name]() for name in ("heads", "shared")}
    for name, model in models.items():
        onnx.save(model, folder / f"{name}.onnx")
        chosen = options()
        if name == "memory":
            chosen.target_options["single-file-html"] = True
        with pytest.MonkeyPatch.context() as patch:
            if name == "shared":  # a second launch pays for larger models
                patch.setattr(cost, "gap", lambda gpu, blocks: 0.0)
            build(folder / f"{name}.onnx", folder / name, chosen)
    build(DIGITS, folder / "plain", Options("wasm", verify=False))
    return folder


PAGE = """<!doctype html><meta charset="utf-8"><script type="module">
const load = async (name, options) => (await import(`./${name}/index.js`)).Predictor.load(`./${name}/`, options);
const warnings = [];
console.warn = (text) => warnings.push(text);
const fetched = () => performance.getEntriesByType("resource").map((r) => r.name.split("/").pop());
const told = ({ backend, backendNote }) => ({ backend, note: backendNote });
const lists = (outputs) => Object.fromEntries(Object.entries(outputs).map(([k, v]) => [k, Array.from(v, Number)]));
const image = { image: Float32Array.from({ length: 64 }, (_, i) => (i * 7) % 17) };
window.result = (async () => { @script@ })().catch((e) => ({ failed: e.stack }));
</script>
"""


def in_page(folder: Path, script: str, *flags: str) -> Any:
    """What a script in a page beside the bundles gives."""
    (folder / "page.html").write_text(PAGE.replace("@script@", script), encoding="utf-8")
    seen = result_of_page(folder, "page.html", *(flags or SWIFTSHADER))
    assert "failed" not in seen, seen["failed"]
    return seen


def expected(folder: Path, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # else it rounds activations
    session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs), strict=True))


def test_shaders_compute_what_onnxruntime_does(bundles: Path) -> None:
    """Convolutions, 64-bit integers as indices, bytes, attention in several launches and in one, reductions that blocks
    share, weights of few bits; a second run has other inputs."""
    shaders = {name: (bundles / name / f"{name}.wgsl").read_text() for name in ("heads", "shared")}
    assert "// FusedAttention" in shaders["heads"] and "blocks share the reduction" in shaders["shared"]
    rng = np.random.default_rng(0)
    cases = {
        "digits": {"image": rng.integers(0, 17, (1, 1, 8, 8)).astype(np.float32)},
        "words": {"tokens": rng.integers(-30, 30, (1, 6)), "mask": np.array([[1, 1, 1, 1, 0, 0]])},
        "attention": {"tokens": rng.standard_normal((1, 9, 24)).astype(np.float32)},
        "heads": {
            **{n: rng.uniform(-1, 1, (1, 2, k, 16)).astype(np.float32) for n, k in {"q": 40, "k": 50, "v": 50}.items()},
            "m": rng.uniform(-1, 1, (1, 1, 1, 50)).astype(np.float32),
        },
        "shared": {n: rng.uniform(-1, 1, (k, 1024)).astype(np.float32) for n, k in {"x": 9, "z": 1}.items()},
        "bytes": {"x": rng.integers(0, 256, (1, 3, 2, 2)).astype(np.uint8)},
        "packed": {"x": rng.standard_normal((3, ROWS)).astype(np.float32)},
    }
    given = {name: {k: v.ravel().tolist() for k, v in inputs.items()} for name, inputs in cases.items()}
    script = f"""
        const seen = {{}};
        for (const [name, inputs] of Object.entries({json.dumps(given)})) {{
          const p = await load(name, {{ backend: "webgpu" }});
          await p.run(Object.fromEntries(p.inputs.map((t) => [t.name, new Array(inputs[t.name].length).fill(1)])));
          seen[name] = {{ ...told(p), outputs: lists(await p.run(inputs)) }};
          p.dispose();
        }}
        return seen;
    """
    for name, seen in in_page(bundles, script).items():
        assert (seen["backend"], seen["note"]) == ("webgpu", "asked for"), name
        for output, want in expected(bundles, name, cases[name]).items():
            got = np.array(seen["outputs"][output]).reshape(want.shape)
            assert np.abs(got - want).max() <= 1e-5 * max(1, np.abs(want).max()), (name, output)


def test_states_stay_on_the_gpu(bundles: Path) -> None:
    """A recurrent network in three runs, each from the states of the one before; in WebAssembly too."""
    rng = np.random.default_rng(1)
    parts = [rng.standard_normal((5, 1, 16)).astype(np.float32) for _ in range(3)]
    script = f"""
        const seen = [];
        const zero = new Float32Array(24);
        for (const backend of ["webgpu", "wasm"]) {{
          const p = await load("memory", {{ backend }});
          const states = {{ h: "h_out", c: "c_out" }};
          const early = await p.run({{ x: new Float32Array(80) }}, {{ states }}).catch((e) => e.message);
          let outputs, first = {{ h: zero, c: zero }};
          for (const x of {json.dumps([x.ravel().tolist() for x in parts])}) {{
            outputs = await p.run({{ x, ...first }}, {{ states }});
            first = {{}};
          }}
          const wrong = await p.run({{ x: zero }}, {{ states: {{ x: "h_out" }} }}).catch((e) => e.message);
          seen.push({{ ...told(p), outputs: lists(outputs), wrong, early }});
        }}
        return seen;
    """
    states = {"h": np.zeros((1, 1, 24), np.float32), "c": np.zeros((1, 1, 24), np.float32)}
    for x in parts:
        want = expected(bundles, "memory", {"x": x, **states})
        states = {"h": want["h_out"], "c": want["c_out"]}
    for backend, seen in zip(("webgpu", "wasm"), in_page(bundles, script), strict=True):
        assert seen["backend"] == backend and list(seen["outputs"]) == ["y"]
        assert np.allclose(seen["outputs"]["y"], want["y"].ravel(), atol=1e-5)
        assert 'input "x"' in seen["wrong"]
        assert seen["early"] == 'input "h" is missing: no run has left it yet'


def test_the_faster_one_computes(bundles: Path) -> None:
    """SwiftShader is slower than WebAssembly; the page says which ran, and how long both took."""
    script = 'const p = await load("digits"); return { ...told(p), outputs: lists(await p.run(image)) };'
    seen = in_page(bundles, script)
    found = re.fullmatch(r"WebAssembly takes ([\d.]+) ms, WebGPU ([\d.]+)", seen["note"])
    assert found and (seen["backend"] == "webgpu") == (float(found[2]) < float(found[1]))
    assert seen["outputs"]["probability"] and len(seen["outputs"]["probability"]) == 10


def test_a_lost_device_leaves_the_run_to_wasm(bundles: Path) -> None:
    """Lost between runs, and during one; states that were on it are told to be lost."""
    script = """
        const p = await load("digits", { backend: "webgpu" });
        const before = lists(await p.run(image));
        const device = p._gpu._runner.device;
        const during = p.run(image);
        device.destroy();
        const there = lists(await during);
        await new Promise((done) => setTimeout(done, 50));
        const after = lists(await p.run(image));
        const q = await load("memory", { backend: "webgpu" });
        const [x, h] = [new Float32Array(80), new Float32Array(24)];
        const states = { h: "h_out", c: "c_out" };
        await q.run({ x, h, c: h }, { states });
        q._gpu._runner.device.destroy();
        const lost = await q.run({ x }, { states }).catch((e) => e.message);
        await new Promise((done) => setTimeout(done, 50));
        const later = await q.run({ x }, { states }).catch((e) => e.message);
        const anew = lists(await q.run({ x, h, c: h }, { states }));
        const next = lists(await q.run({ x }, { states }));
        return { before, there, after, lost, later, anew, next, now: told(p), warnings };
    """
    seen = in_page(bundles, script)
    for outputs in (seen["there"], seen["after"]):
        assert np.allclose(outputs["probability"], seen["before"]["probability"], atol=1e-6)
    assert seen["now"]["backend"] == "wasm" and seen["now"]["note"].startswith("the WebGPU device is lost: ")
    assert (
        seen["lost"] == "memory: the states are on the WebGPU device, which is lost or cannot compute with these inputs"
    )
    assert seen["later"] == "memory: the states are on the WebGPU device, which is lost"
    x, h = np.zeros((5, 1, 16), np.float32), np.zeros((1, 1, 24), np.float32)
    first = expected(bundles, "memory", {"x": x, "h": h, "c": h})
    second = expected(bundles, "memory", {"x": x, "h": first["h_out"], "c": first["c_out"]})
    for got, want in ((seen["anew"], first), (seen["next"], second)):
        assert np.allclose(got["y"], want["y"].ravel(), atol=1e-5)
    assert seen["warnings"][0].startswith("digits runs in WebAssembly: the WebGPU device is lost: ")


def test_shaders_that_do_not_work_leave_it_to_wasm(bundles: Path) -> None:
    """They do not compile, or compute something else; a damaged plan, too little memory, missing files."""
    shutil.copytree(bundles / "digits", bundles / "torn")
    (bundles / "torn" / "webgpu.js").unlink()
    script = """
        const change = { "digits.wgsl": null, "digits.webgpu.json": null };
        const fetch = async (url, options) => {
          const response = await globalThis.fetch(url, options);
          const f = change[String(url).split("/").pop()];
          return f ? f(await response.text()) : response;
        };
        const attempt = async (file, f) => {
          change[file] = (text) => new Response(f(text));
          const p = await load("digits", { backend: "webgpu", fetch });
          change[file] = null;
          const sum = (await p.run(image)).probability.reduce((a, b) => a + b, 0);
          return { ...told(p), sum };
        };
        const seen = {
          broken: await attempt("digits.wgsl", (text) => text.replace("let block", "let block block")),
          lacking: await attempt("digits.wgsl", (text) => text.replace("fn k09_softmax(", "fn k10_softmax(")),
          wrong: await attempt("digits.wgsl", (text) => text.replaceAll("acc += ", "acc -= ")),
          damaged: await attempt("digits.webgpu.json", (text) => text.slice(1)),
          huge: await attempt("digits.webgpu.json", (text) => text.replace('"arena":', '"arena":1e15,"was":')),
        };
        change["digits.wgsl"] = () => new Response("", { status: 404 });
        seen.missing = told(await load("digits", { backend: "webgpu", fetch }));
        seen.torn = told(await load("torn"));
        return { ...seen, warnings };
    """
    seen = in_page(bundles, script)
    warnings = seen.pop("warnings")
    wanted = {
        "broken": r"a shader does not compile: line \d+: .*expected",
        "lacking": r"the shader k09_softmax does not compile: ",
        "wrong": r"it computes something else, by ",
        "damaged": "",
        "huge": r"the model needs a buffer of 1000000000000000 bytes; this device has up to \d+",
        "missing": r".*digits\.wgsl cannot be loaded: HTTP 404",
        "torn": r"Failed to fetch dynamically imported module: .*webgpu\.js",
    }
    for name, pattern in wanted.items():
        assert seen[name]["backend"] == "wasm"
        assert re.match("WebGPU cannot be used: " + pattern, seen[name]["note"]), (name, seen[name])
        assert seen[name].get("sum", 1) == pytest.approx(1, abs=1e-5)
    assert len(warnings) == len(wanted) - 1  # what is torn has nothing that warns


def test_integers_that_need_64_bits_are_left_to_wasm(bundles: Path) -> None:
    script = """
        const p = await load("words", { backend: "webgpu" });
        const [tokens, mask] = [[1, 2, 3, 4, 5, 6].map(BigInt), [1, 1, 1, 1, 1, 1].map(BigInt)];
        const first = lists(await p.run({ tokens, mask }));
        const wide = mask.map((x, i) => (i ? x : 1n + (1n << 40n)));
        const runs = p._gpu._runner.device.queue.submit;
        let submitted = 0;
        p._gpu._runner.device.queue.submit = function (...args) { submitted++; return runs.apply(this, args); };
        await p.run({ tokens, mask: wide });
        const before = submitted;
        await p.run({ tokens, mask });
        return { first, before, after: submitted };
    """
    seen = in_page(bundles, script)
    assert (seen["before"], seen["after"]) == (0, 1) and np.isfinite(seen["first"]["y"]).all()


def test_nothing_of_webgpu_is_fetched_without_an_adapter(bundles: Path) -> None:
    """Nor where it is not asked for, or the bundle has no shaders; the adapter may be the caller's."""
    script = """
        const none = { requestAdapter: async () => null };
        const failing = { requestAdapter: async () => { throw new Error("no"); } };
        const seen = [];
        const asked = [{ gpu: none }, { gpu: failing }, { gpu: none, backend: "webgpu" }, { backend: "wasm" }];
        for (const options of asked) {
          seen.push(told(await load("digits", options)));
        }
        seen.push(told(await load("plain", { backend: "webgpu" })));
        return { seen, fetched: fetched(), warnings };
    """
    seen = in_page(bundles, script)
    without = {"backend": "wasm", "note": "there is no WebGPU adapter"}
    told = [{"backend": "wasm", "note": note} for note in ("asked for", "there are no shaders")]
    assert seen["seen"] == [without, without, without, *told]
    assert not [f for f in seen["fetched"] if "webgpu" in f or f.endswith(".wgsl")]
    assert "digits.weights" in seen["fetched"] and seen["warnings"] == []


def test_a_browser_without_webgpu(bundles: Path) -> None:
    script = 'const p = await load("digits"); return { ...told(p), fetched: fetched() };'
    seen = in_page(bundles, script, "--disable-features=WebGPU")
    assert (seen["backend"], seen["note"]) == ("wasm", "there is no WebGPU adapter")
    assert not [f for f in seen["fetched"] if "webgpu" in f or f.endswith(".wgsl")]


def test_the_page_and_the_single_file_say_what_computes(bundles: Path) -> None:
    """By ?backend=webgpu on WebGPU, though SwiftShader is slower."""
    script = """
        const seen = [];
        for (const page of ["memory/", "memory/memory.html", "plain/"]) {
          const frame = Object.assign(document.createElement("iframe"), { src: page + "?backend=webgpu" });
          document.body.append(frame);
          const part = (id) => frame.contentDocument?.getElementById(id);
          const text = async (id) => {
            while (!part(id)?.textContent) await new Promise((done) => setTimeout(done, 20));
            return part(id).textContent;
          };
          const bytes = await text("bytes");
          if (page !== "plain/") part("try").click();
          seen.push([bytes, page === "plain/" ? "" : await text("timing")]);
        }
        return seen;
    """
    *pages, plain = in_page(bundles, script)
    for told, timing in pages:
        assert " of weights. WebGPU (asked for); " in told
        assert re.fullmatch(r"[\d.]+ ms for the network on WebGPU", timing)
    assert " of weights. WebAssembly " in plain[0] and "(" not in plain[0]
