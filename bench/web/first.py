"""`python -m bench.web.first`: from the request for a page, with an empty cache, to the first class on the screen."""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from bench import ceilings
from bench import contest as native
from bench.report import LOADED, as_number, as_ratio, deliver, geometric_mean, marked, table, without_paths
from bench.rounds import WorkerError
from bench.web.browser import Browser
from bench.web.contest import OURS, TITLES, Entry, Setup, build_ours
from bench.web.options import command_line, common_options
from bench.web.site import HERE, serve
from bench.web.sizes import code_size
from bench.zoo import choose_models

ORT = "onnxruntime-web"
ORT_CODE = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
LATENCY_MS = 20
"""Of each request on a network that is emulated."""

_PAGE = """<!doctype html>
<meta charset="utf-8">
<title>@title@</title>
@links@
<output></output>
<script type="module">
import { show, values } from "/bench/first.mjs";
@script@
</script>
"""

_OURS = """const { Predictor } = await import("/model-ours/index.js");
const predictor = await Predictor.load("/model-ours/", { threads: 1, cache: false });
globalThis.marks = { ready: performance.now() };
const outputs = await predictor.run(Object.fromEntries(@inputs@.map((t) => [t.name, values(t)])));
show(outputs[@output@]);
"""

_ORT = """const ort = await import("/npm/onnxruntime-web/dist/ort.wasm.min.mjs");
ort.env.wasm.wasmPaths = "/npm/onnxruntime-web/dist/";
ort.env.wasm.numThreads = 1;
const model = await (await fetch("/model-onnx/@file@")).arrayBuffer();
const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
globalThis.marks = { ready: performance.now() };
const inputs = @inputs@.map((t) => [t.name, new ort.Tensor(t.dtype, values(t), t.shape)]);
show((await session.run(Object.fromEntries(inputs)))[@output@].data);
"""


@dataclass(frozen=True)
class Network:
    """`mbit`: megabits per second of a network that is emulated; None for localhost as it is."""

    mbit: float | None

    @property
    def title(self) -> str:
        return "localhost" if self.mbit is None else f"{self.mbit:g} Mbit/s"

    @property
    def conditions(self) -> dict[str, float] | None:
        if self.mbit is None:
            return None
        rate = self.mbit * 1e6 / 8
        return {"latency": LATENCY_MS, "downloadThroughput": rate, "uploadThroughput": rate}


@dataclass
class Row:
    """One model: milliseconds to the first class by contestant and network, and of which until the runtime is ready;
    the class that each finds; what failed, and why."""

    model: str
    shown: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    ready: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def median(self, name: str, network: str) -> float | None:
        times = self.shown.get((name, network))
        return statistics.median(times) if times and name not in self.failed else None

    def ratio(self, network: str) -> float | None:
        mine, its = self.median(OURS, network), self.median(ORT, network)
        return mine / its if mine is not None and its is not None and len(set(self.classes.values())) == 1 else None


def page(title: str, script: str, links: Sequence[str], words: Mapping[str, str]) -> str:
    """A page that loads a contestant and shows its answer; `links` are preloaded as the rel that comes before each."""
    text = _PAGE.replace("@links@", "\n".join(links)).replace("@script@", script)
    for word, value in {"title": title, **words}.items():
        text = text.replace(f"@{word}@", value)
    return text


def module_link(address: str) -> str:
    return f'<link rel="modulepreload" href="{address}">'


def fetch_link(address: str) -> str:
    return f'<link rel="preload" as="fetch" crossorigin href="{address}">'


def write_pages(model: Path, bundle: Path, folder: Path) -> None:
    """A page per contestant. Each asks at once for all that it needs, as a page whose author cares does."""
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    inputs = [{key: t[key] for key in ("name", "dtype", "shape")} for t in manifest["inputs"]]
    words = {"inputs": json.dumps(inputs), "output": json.dumps(manifest["outputs"][0]["name"]), "file": model.name}
    needed = ["page.json", manifest["wasm"]["relaxed"]["file"], manifest.get("weights", {}).get("file")]
    ours = [module_link("/model-ours/index.js"), *(fetch_link(f"/model-ours/{name}") for name in needed if name)]
    dist = "/npm/onnxruntime-web/dist/"
    theirs = [module_link(dist + name) for name in ORT_CODE[:2]]
    theirs += [fetch_link(dist + ORT_CODE[2]), fetch_link(f"/model-onnx/{model.name}")]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{OURS}.html").write_text(page(OURS, _OURS, ours, words), encoding="utf-8")
    (folder / f"{ORT}.html").write_text(page(ORT, _ORT, theirs, words), encoding="utf-8")


def run_model(model: Path, setup: Setup, networks: Sequence[Network], say: Callable[[str], None]) -> Row:
    """Visits the pages of one model in turn; the first visit of each does not count."""
    row = Row(model.stem)
    bundle = build_ours(model, setup)
    folder = setup.cache / "web" / "first" / model.stem
    write_pages(model, bundle.place, folder)
    places = {"model-ours": bundle.place, "model-onnx": model.resolve().parent, "run": folder}
    places |= {"bench": HERE, "npm": setup.modules}
    with serve(places, compressed=True) as address, Browser(setup.chromium, setup.modules) as browser:
        for network in networks:
            for number in range(setup.rounds + 1):
                for name in (OURS, ORT):
                    if name in row.failed:
                        continue
                    try:
                        seen = browser.visit(f"{address}/run/{name}.html", network.conditions)
                    except WorkerError as e:
                        row.failed[name] = without_paths(str(e))
                        continue
                    row.classes[name] = seen["largest"]
                    if number:
                        row.shown.setdefault((name, network.title), []).append(seen["shown"])
                        row.ready.setdefault((name, network.title), []).append(seen["ready"])
            say(f"{row.model}, {network.title}: " + ", ".join(_told(row, name, network) for name in (OURS, ORT)))
    return row


def _told(row: Row, name: str, network: Network) -> str:
    median = row.median(name, network.title)
    if median is None:
        return f"{TITLES[name]} failed: {row.failed[name]}"
    return f"{TITLES[name]} {median:.0f} ms (ready {statistics.median(row.ready[name, network.title]):.0f})"


@dataclass(frozen=True)
class Benchmark:
    """All that a page shows. `code`: bytes raw, by gzip and by brotli of what a contestant's page loads beside the
    model, by model; `load`: cores that others kept busy."""

    rows: Sequence[Row]
    networks: Sequence[Network]
    machine: Sequence[tuple[str, str]]
    browser: str
    version: str
    code: Mapping[str, tuple[int, int, int]]
    command: str
    rounds: int
    load: float


def markdown(b: Benchmark) -> str:
    busy = f"Measured under load: other programs kept {b.load:.1f} of the cores busy." if b.load > LOADED else ""
    limited = [n.title for n in b.networks if n.mbit is not None]
    latency = f"with {LATENCY_MS} ms for a request (emulated by DevTools)"
    throttled = f" and at {' and '.join(limited)} {latency}" if limited else ""
    parts = [
        "# The page's first second",
        f"Generated by `{b.command}`: do not edit, run it again. From the request for a page to the first class on the "
        f"screen, in headless Chromium with an empty cache, from localhost{throttled}. Each contestant has a page that "
        "asks for all its files at once (`modulepreload`, `preload`), makes the same input, runs the model on one "
        "thread in WebAssembly and writes the number of the largest output. The server sends code as gzip. The "
        f"pages are visited in turn, each in a browser context of its own; medians of {b.rounds} visits, in "
        "milliseconds, after one that does not count. Float32, batch 1, random weights (`bench/models.py`). " + busy,
        table(["machine", ""], [*b.machine, ("browser", b.browser), ("peer onnxruntime-web", f"npm {b.version}")], 2),
    ]  # fmt: skip
    parts += [_times(b, network) for network in b.networks]
    parts.append(_code(b))
    failed = [f"- {TITLES[name]} on {row.model}: {why}" for row in b.rows for name, why in row.failed.items()]
    failed += [f"- {row.model}: the classes differ" for row in b.rows if len(set(row.classes.values())) > 1]
    parts += ["## What did not run\n\n" + "\n".join(failed)] if failed else []
    return "\n\n".join(parts) + "\n"


def _times(b: Benchmark, network: Network) -> str:
    rows = []
    for row in b.rows:
        times = {name: t for name in (OURS, ORT) if (t := row.median(name, network.title)) is not None}
        ready = {name: statistics.median(row.ready[name, network.title]) for name in times}
        cells = [*marked((OURS, ORT), times, times.__contains__), *(as_number(ready.get(name)) for name in (OURS, ORT))]
        rows.append([row.model, *cells, as_ratio(row.ratio(network.title))])
    mean = geometric_mean(row.ratio(network.title) for row in b.rows)
    rows.append(["**geometric mean**", "", "", "", "", as_ratio(mean)])
    head = ["model", TITLES[OURS], TITLES[ORT], f"ready: {TITLES[OURS]}", f"ready: {TITLES[ORT]}", "ours of the peer's"]
    return f"## {network.title[0].upper()}{network.title[1:]}\n\n{table(head, rows)}"


def _code(b: Benchmark) -> str:
    rows = [[name, *(f"{n / 1e3:.1f}" for n in sizes)] for name, sizes in b.code.items()]
    text = "What a page loads beside the model: JavaScript, WebAssembly, and for ours what it reads of the manifest."
    return f"## Code\n\n{text}\n\n{table(['code', 'raw kB', 'gzip kB', 'brotli kB'], rows)}"


def _code_sizes(rows: Sequence[Row], setup: Setup, entries: Mapping[str, Entry]) -> dict[str, tuple[int, int, int]]:
    """What the pages load: ours by model, and onnxruntime-web's for any."""
    known = setup.cache / "web" / "sizes.json"
    found = {}
    for row in rows:
        bundle = entries[row.model].place
        manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
        files = [bundle / name for name in ("index.js", "page.json", manifest["wasm"]["relaxed"]["file"])]
        found[f"ours, {row.model}"] = code_size(files, known)
    dist = setup.modules / ORT / "dist"
    found[f"{ORT}, any model"] = code_size([dist / name for name in ORT_CODE], known)
    return {name: (size.raw, size.gzip, size.brotli) for name, size in found.items()}


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@common_options("docs/benchmarks-page.md")
@click.option("--python", default=sys.executable, show_default="this one", metavar="PATH",
              help="The Python with PyTorch, which makes the zoo.")  # fmt: skip
@click.option("--rounds", default=7, type=click.IntRange(1), help="Visits that count, per contestant and network.")
@click.option(
    "--mbit", default=20.0, type=click.FloatRange(0), help="Megabits per second of a second network; 0: none."
)
def main(  # noqa: PLR0913 - an argument per option
    models: Path | None, only: str, python: str, folder: Path, chromium: str, rounds: int, mbit: float, reuse: bool,
    cache: Path, output: Path | None,
) -> None:  # fmt: skip
    """Times our pages beside onnxruntime-web's, from the request to the first class, and writes a page of Markdown."""
    cache, modules, program = cache.resolve(), (folder / "node_modules").resolve(), shutil.which(chromium)
    if program is None or shutil.which("node") is None:
        raise click.UsageError(f"{'node' if program else chromium} is not installed")
    missing = [name for name in ("puppeteer-core", ORT) if not (modules / name / "package.json").is_file()]
    if missing:
        raise click.UsageError(f"not in {folder}: npm install --prefix {folder} {' '.join(missing)}")
    files = choose_models(models, only, cache, python)
    version = json.loads((modules / ORT / "package.json").read_text(encoding="utf-8"))["version"]
    setup = Setup(cache, modules, program, (ORT,), native.Setup(cache, {}, {}), 0.0, rounds, reuse=reuse)
    networks = [Network(None), *([Network(mbit)] if mbit else [])]
    load = ceilings.busy_cores()
    rows: list[Row] = []
    entries: dict[str, Entry] = {}
    for file in files:
        try:
            rows.append(run_model(file, setup, networks, lambda text: click.echo(text, err=True)))
            entries[file.stem] = build_ours(file, Setup(**{**vars(setup), "reuse": True}))
        except WorkerError as e:
            click.echo(f"{file.stem}: left out: {without_paths(str(e))}", err=True)
    with Browser(program, modules) as browser:
        name = browser.version
    load = max(load, ceilings.busy_cores())
    rest = f"--rounds {rounds}{f' --mbit {mbit:g}' if mbit != 20 else ''}"
    command = command_line("python -m bench.web.first", models, only, rest)
    code = _code_sizes(rows, setup, entries)
    deliver(markdown(Benchmark(rows, networks, ceilings.machine(), name, version, code, command, rounds, load)), output)


if __name__ == "__main__":
    main(prog_name="python -m bench.web.first")
