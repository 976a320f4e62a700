"""The bundle for wasm as an npm package: packed and installed, imported in node, bundled, type-checked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import processes
import pytest
from conftest import requires_tool
from nets import shared_net
from pages import requires_npm, result_of_page

from dlpack.pipeline import Options, build
from dlpack.targets.wasm.run import node_command

PIXELS = "{ data: Uint8Array.from({ length: 60 * 50 * 3 }, (_, i) => (i * i) % 251), width: 60, height: 50 }"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `node_modules/shared`: a classifier for two threads, packed and laid where npm installs it."""
    npm = requires_tool("npm")
    folder = tmp_path_factory.mktemp("npm")
    onnx.save(shared_net(), folder / "shared.onnx")
    options = Options("wasm", "shared", verify=False, threads=2, preprocess="imagenet")
    bundle = build(folder / "shared.onnx", folder / "shared", options)
    pack = [npm, "pack", "--silent", "--pack-destination", folder]
    processes.run(pack, cwd=bundle, check=True, limit_s=120)
    (folder / "node_modules").mkdir()
    shutil.unpack_archive(folder / "shared-1.0.0.tgz", folder)
    (folder / "package").rename(folder / "node_modules" / "shared")
    return folder


def run(project: Path, *command: str | Path) -> str:
    done = processes.run(command, cwd=project, limit_s=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def in_node(project: Path, script: str) -> Any:
    (project / "main.mjs").write_text(script)
    return json.loads(run(project, *node_command(), project / "main.mjs"))


def test_the_package_holds_what_a_program_needs_and_no_page(project: Path) -> None:
    files = {path.name for path in (project / "node_modules" / "shared").iterdir()}
    assert {"index.js", "worker.js", "thread.js", "node.d.ts", "shared.weights", "shared.simd.wasm", "NOTICE"} <= files
    assert not [name for name in files if name.startswith(("demo", "sw.", "report", "reference"))]
    readme = (project / "node_modules" / "shared" / "README.md").read_text(encoding="utf-8")
    assert 'import { Classifier } from "shared";' in readme and "\n| input | `" in readme and "\n| output | `" in readme
    about = json.loads((project / "node_modules" / "shared" / "package.json").read_text(encoding="utf-8"))
    assert set(about["sideEffects"]) <= {f"./{name}" for name in files}


def test_node_exports_all_that_pages_have(project: Path) -> None:
    """A program that is rendered on a server imports the same names there."""
    script = f"""
        import * as node from "shared";
        const web = await import(new URL("index.js", import.meta.resolve("shared/package.json")));
        const classifier = await node.Classifier.load(new URL(".", import.meta.resolve("shared/package.json")));
        const classes = await classifier.classify({PIXELS}, {{ topK: 3 }});
        classifier.dispose();
        const fail = (promise) => promise.then(() => "", (e) => e.message);
        console.log(JSON.stringify({{ missing: Object.keys(web).filter((name) => !(name in node)), classes,
          lost: await fail(node.Predictor.load("nowhere")), worker: await fail(node.Classifier.inWorker(".")) }}));"""
    seen = in_node(project, script)
    assert seen["missing"] == []
    assert len(seen["classes"]) == 3
    assert seen["lost"].startswith("nowhere is no bundle: ENOENT")
    assert seen["worker"] == "there are no web workers here: use Classifier.load"


def test_esbuild_bundles_page_worker_and_thread(project: Path) -> None:
    """As web/README.md says; the page runs, in a worker too."""
    esbuild = requires_npm("esbuild").parent / "bin" / "esbuild"
    (project / "main.js").write_text(
        f"""import {{ Classifier }} from "shared";
        const address = new URL("model/", document.baseURI);
        window.result = (async () => {{
          const models = [await Classifier.load(address), await Classifier.inWorker(address)];
          return Promise.all(models.map((m) => m.classify({PIXELS}, {{ topK: 3 }})));
        }})();"""
    )
    entries = ["main.js", "shared/worker.js", "shared/thread.js"]
    done = run(
        project, esbuild, *entries, "--bundle", "--minify", "--format=esm", "--outdir=page", "--entry-names=[name]"
    )
    assert "warning" not in done
    page = project / "page"
    assert {path.name for path in page.iterdir()} == {"main.js", "worker.js", "thread.js"}
    (page / "index.html").write_text('<!doctype html><title>x</title><script type="module" src="main.js"></script>')
    shutil.copytree(project / "node_modules" / "shared", page / "model")
    here, worker = result_of_page(page, "index.html")
    assert here == worker and len(here) == 3


def test_the_linters_of_packages_find_nothing(project: Path) -> None:
    """publint and Are the types wrong; CommonJS has to import() the package, which is of modules alone."""
    node, packed = requires_tool("node"), project / "shared-1.0.0.tgz"
    publint = requires_npm("publint").parent / "src" / "cli.js"
    told = run(project, node, publint, "run", project / "node_modules" / "shared", "--pack", "false", "--strict")
    assert "All good!" in told, told
    attw = requires_npm("@arethetypeswrong/cli/package.json") / "dist" / "index.js"
    run(project, node, attw, packed, "--profile", "esm-only", "--format", "ascii")


TYPESCRIPT = """
    import { Predictor, Classifier, WorkerClassifier, supportedBuild, type Class, type Manifest } from "shared";
    import { install, Predictor as Old } from "shared/mxnet_compat.js";

    export async function main(canvas: HTMLCanvasElement, frame: VideoFrame, signal: AbortSignal): Promise<Class[]> {
      const predictor = await Predictor.load("./shared/", {
        signal, threads: 2, onProgress: ({ loaded, total }) => console.log(loaded / total),
      });
      const outputs = await predictor.run({ x: new Float32Array(3) });
      const manifest: Manifest = predictor.manifest;
      const worker: WorkerClassifier = await Classifier.inWorker(new URL("https://example.org/"));
      const old = new Old(await install(), { data: [1, 3, 2, 2] });
      old.setinput("data", { data: new Float32Array(12) });
      console.log(supportedBuild() === "relaxed", outputs["y"]?.length, manifest.labels?.[0], old.output(0).shape);
      await worker.classify(frame, { topK: 3, signal });
      return worker.classify(canvas);
    }
    """
WRONG = """
    import { Predictor } from "shared";
    export const predictor: Predictor = Predictor.load("./shared/");
    """
IN_NODE = """
    import { openBundle, Classifier, type Parts } from "shared";
    const parts: Parts = await openBundle(new URL("file:///x/"));
    const classifier = await Classifier.load(parts);
    export const labels: string[] | null = classifier.labels;
    """


@pytest.mark.parametrize(
    ("source", "options", "error"),
    [
        (TYPESCRIPT, ["--module", "esnext", "--moduleResolution", "bundler", "--lib", "es2022,dom"], ""),
        (WRONG, ["--module", "esnext", "--moduleResolution", "bundler", "--lib", "es2022,dom"], "TS2740"),
        (IN_NODE, ["--module", "nodenext", "--moduleResolution", "nodenext", "--lib", "es2022"], ""),
    ],
    ids=["page", "wrong", "node"],
)
def test_types(project: Path, source: str, options: list[str], error: str) -> None:
    tsc = requires_npm("typescript").parent / "bin" / "tsc"
    (project / "main.mts").write_text(source)
    strict = [
        "--strict",
        "--noEmit",
        "--noUncheckedIndexedAccess",
        "--exactOptionalPropertyTypes",
        "--target",
        "es2022",
    ]
    command = [requires_tool("node"), tsc, *strict, "--types", "", *options, "main.mts"]
    done = processes.run(command, cwd=project, limit_s=120)
    assert (error in done.stdout) if error else (done.returncode == 0), done.stdout
