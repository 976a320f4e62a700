"""`python -m bench.web.decoders`: decoders in Chromium, beside onnxruntime-web and transformers.js."""

from __future__ import annotations

import base64
import json
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np

from bench import ceilings
from bench.decoders.contestants import OURS, OURS_IN_BYTES
from bench.decoders.measure import agreeing, build, difference, summarised, told
from bench.decoders.model import FORMS, Sizes, make_folder
from bench.decoders.page import deliver
from bench.decoders.results import Row, Table
from bench.decoders.worker import PROMPTS, WRITTEN, prompt
from bench.report import LOADED, without_paths
from bench.revision import revision
from bench.rounds import ROOT, WorkerError, clock
from bench.web.browser import Browser, Page
from bench.web.site import HERE, serve

PACKAGES = {"ortweb": "onnxruntime-web", "transformersjs": "@huggingface/transformers"}


def _say(text: str) -> None:
    click.echo(text, err=True)


def make_config(folder: Path, sizes: Sizes) -> None:
    """config.json, which transformers.js reads beside model.onnx."""
    told = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": sizes.width,
        "intermediate_size": sizes.hidden,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv,
        "head_dim": sizes.head,
        "vocab_size": sizes.vocabulary,
        "max_position_embeddings": sizes.context,
        "eos_token_id": sizes.vocabulary - 1,
    }
    (folder / "config.json").write_text(json.dumps(told), encoding="utf-8")


def one_round(page: Page, prompts: dict[int, list[int]]) -> dict[str, dict[str, float]]:
    """Times of all, as `bench.decoders.worker.one_round` gives them."""
    times = {}
    for count, tokens in prompts.items():
        page.call("choose", tokens)
        times[f"read_{count}"] = page.round(1)
    page.call("choose", None)
    page.call("read", prompts[PROMPTS[0]])
    times["write"] = page.round(WRITTEN)
    return times


def race(form: str, threads: int, engines: list[str], rounds: int, browser: Browser, address: str,
         sizes: Sizes) -> list[Row]:  # fmt: skip
    """Times the engines with one form of weights, each in a page and process of its own."""
    prompts = {count: prompt(count, sizes.vocabulary) for count in PROMPTS}
    pages: dict[str, Page] = {}
    failed: dict[str, str] = {}
    samples: dict[str, list[dict[str, dict[str, float]]]] = {name: [] for name in engines}
    for name in engines:
        try:
            pages[name] = browser.open(f"{name}-{form}-{threads}", f"{address}/bench/decoders.html")
            setup = {"engine": name, "model": f"/models/{form}", "threads": threads, "sizes": asdict(sizes)}
            pages[name].call("start", setup)
        except WorkerError as e:
            failed[name] = str(e)
    scores, written = {}, {}
    for number in range(rounds + 2):
        for name in [n for n in pages if n not in failed]:
            try:
                if number <= rounds:
                    measured = one_round(pages[name], prompts)
                    samples[name] += [measured] if number else []
                    continue
                pages[name].call("read", prompts[PROMPTS[0]])
                found = pages[name].call("scores")
                scores[name] = np.frombuffer(base64.b64decode(found), np.float32) if found else None
                written[name] = pages[name].call("write", WRITTEN)
            except WorkerError as e:
                failed[name] = str(e)
    for page in pages.values():
        page.close()
    key, rows, ours = clock(threads), [], scores.get(OURS)
    for name in engines:
        if name in failed:
            rows.append(Row(name, form, threads, failed=failed[name]))
            continue
        there = ours is not None and scores[name] is not None
        times = summarised([{what: t[key] for what, t in s.items()} for s in samples[name]])
        error = difference(scores[name], ours) if there else None
        same = agreeing(written[name], written[OURS]) if there else None
        rows.append(Row(name, form, threads, times, error, same))
    return rows


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--forms", default="int8,int4", help="Forms of the weights: float32, int8, int4.", metavar="LIST")
@click.option("--threads", default="1,2", help="Numbers of threads, one after the other.", metavar="LIST")
@click.option("--rounds", default=5, type=click.IntRange(1), help="Rounds that count, per engine.")
@click.option("--npm", default=ROOT / "build" / "node-bench", show_default="build/node-bench", metavar="DIR",
              type=click.Path(file_okay=False, path_type=Path), help="Where npm has installed the peers.")  # fmt: skip
@click.option("--chromium", default="chromium", metavar="PATH", help="The browser.")
@click.option("--reuse", is_flag=True, help="Take the bundles of the last run, without building them again.")
@click.option("--cache", default=ROOT / "build" / "bench", show_default="build/bench", metavar="DIR",
              type=click.Path(file_okay=False, path_type=Path), help="For models and bundles.")  # fmt: skip
@click.option("--keep", "keep_", is_flag=True, help="Enter what is measured into bench/results/decoders, and write "
              "docs/benchmarks-decoders.md; else the page is printed.")  # fmt: skip
def main(
    forms: str, threads: str, rounds: int, npm: Path, chromium: str, reuse: bool, cache: Path, keep_: bool
) -> None:
    """Times a decoder of 134 M parameters in Chromium beside onnxruntime-web and transformers.js."""
    sizes, chosen, modules = Sizes(), forms.split(","), (npm / "node_modules").resolve()
    if unknown := [form for form in chosen if form not in FORMS]:
        raise click.BadParameter(f"{unknown[0]} is none of {', '.join(FORMS)}", param_hint="--forms")
    program = shutil.which(chromium)
    if program is None:
        raise click.UsageError(f"{chromium} is not installed")
    if not (modules / "puppeteer-core").is_dir():
        raise click.UsageError(f"npm install --prefix {npm} puppeteer-core {' '.join(PACKAGES.values())}")
    files = {name: modules / package / "package.json" for name, package in PACKAGES.items()}
    known = {n: str(json.loads(f.read_text(encoding="utf-8"))["version"]) for n, f in files.items() if f.is_file()}
    missing = {name: f"not installed: npm install {PACKAGES[name]}" for name in PACKAGES if name not in known}
    models = cache.resolve() / "decoders"
    try:
        for form in chosen:
            model = make_folder(sizes, form, models / form)
            make_config(models / form, sizes)
            for bundle, *more in [("wasm",), *([("wasm-int8", "--arithmetic", "int8")] if FORMS[form] else [])]:
                if not (reuse and (models / form / bundle / "manifest.json").is_file()):
                    build(model, models / form / bundle, "wasm", sizes, *more)
        load, rows = ceilings.busy_cores(), []
        if load > LOADED:
            _say(f"warning: other programs keep {load:.1f} cores busy; the figures will not be worth publishing")
        with serve({"bench": HERE, "npm": modules, "models": models}) as address, Browser(program, modules) as browser:
            for count in map(int, threads.split(",")):
                for form in chosen:
                    engines = [OURS, *([OURS_IN_BYTES] if FORMS[form] else []), *known]
                    rows += race(form, count, engines, rounds, browser, address, sizes)
                    for row in rows[-len(engines) :]:
                        _say(f"{form}, {count}: {row.engine}: {without_paths(row.failed) or dict(row.times)}")
            version = browser.version
    except WorkerError as e:
        raise click.ClickException(without_paths(str(e))) from e
    words = f"--forms {forms} --threads {threads} --rounds {rounds}"
    load = max(load, ceilings.busy_cores())
    table = Table(
        version, ceilings.machine(), told(sizes), {}, 0, {OURS: "", OURS_IN_BYTES: "", **known}, missing,
        f"python -m bench.web.decoders {words}", rounds, load, time.strftime("%Y-%m-%d"), revision(), rows,
    )  # fmt: skip
    deliver(table, keep_)


if __name__ == "__main__":
    sys.exit(main(prog_name="python -m bench.web.decoders"))
