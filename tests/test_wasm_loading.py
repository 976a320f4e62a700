"""What Predictor.load makes of servers: odd headers, files that are not what they should be, aborts, and a cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from wasm_bundles import node_json

# `load(change, options)`: what becomes of the bundle in process.argv[1], fetched from responses that `change` alters.
LOAD = """
    import { readFileSync } from "node:fs";
    const { Predictor } = await import(`file://${process.argv[1]}/index.js`);
    const types = { json: "application/json", wasm: "application/wasm" };
    const fetched = [];
    const serve = (change) => async (url, { signal }) => {
      const file = new URL(url).pathname.slice(1);
      fetched.push(file);
      const body = readFileSync(`${process.argv[1]}/${file}`);
      const answer = { body, headers: { "content-type": types[file.split(".").pop()] ?? "application/octet-stream" } };
      Object.assign(answer, await change(file, answer, signal));
      return new Response(answer.body, answer);
    };
    const load = async (change, options = {}) => {
      try {
        const p = await Predictor.load("http://example.test/", { fetch: serve(change), ...options });
        const { probability } = await p.run({ image: new Float32Array(64).fill(3) });
        p.dispose();
        return probability.length;
      } catch (e) {
        return `${e.name}: ${e.message}`;
      }
    };
    const only = (pattern, change) => (file, answer, signal) => (pattern.test(file) ? change(answer, signal) : {});
    const print = (value) => console.log(JSON.stringify(value));
"""


def of_load(bundle: Path, script: str) -> Any:
    return node_json(LOAD + script, bundle)


@pytest.mark.parametrize("header", ["application/wasm", "application/wasm; charset=utf-8", "text/plain", ""])
def test_any_content_type_of_the_code_will_do(digits_wasm: Path, header: str) -> None:
    """A server may name another than WebAssembly.compileStreaming takes."""
    script = f"print(await load(only(/wasm/, () => ({{ headers: {{ 'content-type': '{header}' }} }}))));"
    assert of_load(digits_wasm, script) == 10


def test_files_that_are_something_else_are_named(digits_wasm: Path) -> None:
    """A server that answers every address with its start page, code cut short, a connection that breaks."""
    script = """
        const page = () => ({ body: "<!doctype html><title>Hello</title>", headers: { "content-type": "text/html" } });
        const half = ({ body }) => ({ body: body.subarray(0, body.length / 2) });
        const broken = ({ body }) => ({ body: new ReadableStream({ pull(c) {
          if (this.begun) return c.error(new TypeError("the line is dead"));
          this.begun = true;
          c.enqueue(body.subarray(0, 1000)); } }) });
        const cases = [[/json/, page], [/json/, () => ({ body: "null" })], [/wasm/, page], [/wasm/, half],
          [/weights/, page], [/weights/, broken]];
        const seen = [];
        for (const [pattern, change] of cases) seen.push(await load(only(pattern, change)));
        print(seen);"""
    manifest, null, page, half, weights, broken = of_load(digits_wasm, script)
    assert manifest == null == "Error: http://example.test/page.json is not the manifest of a bundle for wasm"
    for text in (page, half):
        assert ".wasm cannot be compiled: " in text
    assert "digits.weights is damaged: it has 35 bytes of" in weights
    assert broken == "Error: digits.weights cannot be loaded to its end: the line is dead; load it again"


@pytest.mark.parametrize("phase", ["page", "wasm", "weights"])
def test_an_abort_gives_its_reason_in_every_phase(digits_wasm: Path, phase: str) -> None:
    """Where the file itself is still on its way, and where it has begun to come."""
    script = f"""
        const [control, second] = [new AbortController(), new AbortController()];
        const never = (answer, signal) => new Promise((_, fail) => {{
          signal.onabort = () => fail(new DOMException("aborted", "AbortError")); // as fetch in some browsers
          control.abort(new Error("not now")); }});
        const stuck = (answer, signal) => ({{ body: new ReadableStream({{ start(c) {{
          signal.onabort = () => c.error(new DOMException("aborted", "AbortError"));
          c.enqueue(answer.body.subarray(0, 100));
          setTimeout(() => second.abort(new Error("nor then")), 20); }} }}) }});
        print([await load(only(/{phase}/, never), {{ signal: control.signal }}),
          await load(only(/{phase}/, stuck), {{ signal: second.signal }})]);"""
    assert of_load(digits_wasm, script) == ["Error: not now", "Error: nor then"]


def test_the_cache_heals_itself(digits_wasm: Path) -> None:
    """Weights in it that are damaged or cut short are told once, and fetched again by the next load."""
    script = """
        const kept = new Map();
        const cache = { match: async (key) => kept.get(key)?.clone(), put: async (key, r) => void kept.set(key, r),
          delete: async (key) => kept.delete(key.url ?? key),
          keys: async () => [...kept.keys()].map((url) => ({ url })) };
        globalThis.caches = { open: async () => cache };
        const turns = [];
        const turn = async () => {
          fetched.length = 0;
          turns.push([await load(() => ({})), fetched.filter((file) => /weights/.test(file)).length]);
          const want = turns.at(-1)[0] === 10 ? 1 : 0; // it is kept beside, or thrown away
          while (kept.size !== want) await new Promise((done) => setTimeout(done, 5));
        };
        await turn();
        await turn();
        const [key] = kept.keys();
        const { length } = readFileSync(`${process.argv[1]}/digits.weights`);
        for (const size of [length, 5]) {
          kept.set(key, new Response(new Uint8Array(size)));
          await turn();
          await turn();
        }
        print(turns);"""
    first, second, damaged, healed, short, again = of_load(digits_wasm, script)
    assert (first, second) == ([10, 1], [10, 0])
    assert "digits.weights is damaged: its SHA-256" in damaged[0] and damaged[1] == 0
    assert "digits.weights is damaged: it has 5 bytes" in short[0] and short[1] == 0
    assert healed == again == [10, 1]


def test_addresses(digits_wasm: Path) -> None:
    """Of the folder or the manifest, with a query or without; code and weights lie beside the manifest."""
    script = """
        const all = [];
        for (const rest of ["", "/", "/?v=3", "/manifest.json?v=3#x"]) {
          const urls = [];
          const fetch = (url, o) => (urls.push(String(url)), serve(() => ({}))(url, o));
          (await Predictor.load(`http://a.test${rest}`, { fetch })).dispose();
          all.push(urls);
        }
        print(all);"""
    for urls in of_load(digits_wasm, script):
        assert urls[0].split("?")[0] == f"http://a.test/{'manifest' if 'manifest' in urls[0] else 'page'}.json"
        assert [u.split("/")[-1].split(".")[-1] for u in urls[1:]] == ["wasm", "weights"]
        assert all("?" not in u for u in urls[1:])


def test_parts_that_are_not_there(digits_wasm: Path) -> None:
    script = """
        const manifest = JSON.parse(readFileSync(`${process.argv[1]}/manifest.json`, "utf8"));
        const simd = readFileSync(`${process.argv[1]}/digits.simd.wasm`);
        const weights = readFileSync(`${process.argv[1]}/digits.weights`);
        const told = (e) => `${e.name}: ${e.message}`;
        const of = (parts, options) => Predictor.load(parts, options).then((p) => p.build, told);
        print([await of(null), await of({ manifest }), await of({ manifest, wasm: { simd } }),
          await of({ manifest, wasm: { simd }, weights }, { build: "relaxed" }),
          await of({ manifest, wasm: { simd }, weights }, { build: "fastest" })]);"""
    none, no_code, no_weights, *builds = of_load(digits_wasm, script)
    assert none == no_code == "TypeError: load expects a bundle's address or its parts, {manifest, wasm, weights}"
    assert no_weights == "TypeError: digits.weights is not among the parts"
    assert builds == ["simd", "simd"]  # what runs, not what was asked for


def test_after_dispose_everything_says_so(digits_wasm: Path) -> None:
    script = """
        const p = await Predictor.load("http://example.test/", { fetch: serve(() => ({})) });
        p.dispose();
        p.dispose();
        const image = new Float32Array(64);
        const uses = [() => p.runSync({ image }), () => p.setInputs({ image }), () => p.outputValues(), () => p.steps,
          () => p.runStep(0), () => p.setShape(0)];
        const text = (use) => { try { return use(); } catch (e) { return e.message; } };
        print([...uses.map(text), await p.run({ image }).catch((e) => e.message)]);"""
    assert set(of_load(digits_wasm, script)) == {"digits is disposed of; load it again"}
