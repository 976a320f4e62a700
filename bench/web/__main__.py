"""`python -m bench.web`: the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import click

from bench import ceilings, contest
from bench.peers import LITERT_INT32
from bench.report import LOADED, deliver, without_paths
from bench.rounds import WorkerError
from bench.web.browser import CHECK_MS, Browser
from bench.web.contest import PACKAGES, TITLES, Row, Setup, run_model
from bench.web.options import command_line, common_options
from bench.web.report import Benchmark, markdown
from bench.web.site import HERE, make_site, serve
from bench.zoo import choose_models


def _say(text: str) -> None:
    click.echo(text, err=True)


def package_versions(modules: Path) -> dict[str, str]:
    """The versions of the peers' npm packages, of those that are installed."""
    found = {}
    for name, package in PACKAGES.items():
        file = modules / package / "package.json"
        if file.is_file():
            found[name] = str(json.loads(file.read_text(encoding="utf-8"))["version"])
    return found


def _measure_ceiling(cache: Path, modules: Path, chromium: str) -> tuple[str, float, float]:
    """The browser's name and version, GFLOP/s of one core, and the check of the clock."""
    places = {"bench": HERE, "site": cache / "web" / "site"}
    with serve(places) as address, Browser(chromium, modules) as browser:
        page = browser.open("ceiling", f"{address}/bench/page.html")
        return browser.version, float(page.call("ceiling", "/site/ceiling.wasm")), page.check_clock()


def _line(row: Row) -> str:
    words = []
    for threads, wall in ((1, False), (2, True)):
        times = [f"{TITLES[n]} {t:.4g}" for n in TITLES if (t := row.time((n, threads), wall)) is not None]
        ratio = row.ratio(row.best_peer(threads, wall), threads, wall)
        words.append(", ".join(times or ["nothing ran"]) + (f" ms: {ratio:.2f} of the better" if ratio else " ms"))
    words += [f"{TITLES[n]} ({t}) is off by {e:.1e}" for (n, t), e in row.errors.items() if not row.agrees((n, t))]
    words += [f"{TITLES[n]} ({t}): {without_paths(why)}" for (n, t), why in row.failed.items()]
    return f"{row.model}: {'; '.join(words)}"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@common_options("docs/benchmarks-web.md")
@click.option("--peer-python", default=sys.executable, show_default="this one", metavar="PATH",
              help="The Python of the environment with litert-torch, which converts models for LiteRT.js.")  # fmt: skip
@click.option("--rounds", default=10, type=click.IntRange(1), help="Rounds that count, per contestant and model.")
@click.option("--loads", default=3, type=click.IntRange(1), help="Pages that time the start, per contestant and model.")
@click.option("--profile", is_flag=True, help="Also the time of each of our kernels.")
def main(  # noqa: PLR0913 - an argument per option
    models: Path | None, only: str, peer_python: str, folder: Path, chromium: str, rounds: int, loads: int,
    profile: bool, reuse: bool, cache: Path, output: Path | None,
) -> None:  # fmt: skip
    """Times our bundles for wasm beside onnxruntime-web and LiteRT.js in Chromium, and writes a page of Markdown."""
    cache, modules = cache.resolve(), (folder / "node_modules").resolve()
    cache.mkdir(parents=True, exist_ok=True)
    program = shutil.which(chromium)
    if program is None or shutil.which("node") is None:
        raise click.UsageError(f"{'node' if program else chromium} is not installed")
    if not (modules / "puppeteer-core").is_dir():
        raise click.UsageError(f"puppeteer-core is not in {folder}: npm install --prefix {folder} puppeteer-core "
                               f"{' '.join(PACKAGES.values())}")  # fmt: skip
    files = choose_models(models, only, cache, peer_python)
    versions = package_versions(modules)
    missing = {name: f"not installed: npm install {PACKAGES[name]}" for name in PACKAGES if name not in versions}
    pythons, known, without = contest.probe(["litert", LITERT_INT32.name], peer_python)
    for why in [*(f"{TITLES[n]}: {m}" for n, m in missing.items()), *(f"litert-torch: {m}" for m in without.values())]:
        _say(without_paths(why))
    load = ceilings.busy_cores()
    if load > LOADED:
        _say(f"warning: other programs keep {load:.1f} cores busy; the figures will not be worth publishing")
    try:
        make_site(cache / "web" / "site")
        browser, ceiling, clock = _measure_ceiling(cache, modules, program)
        _say(f"{browser}: {ceiling:.1f} GFLOP/s, {CHECK_MS} ms of work measured as {clock:.1f}")
        native = contest.Setup(cache, pythons, known)
        setup = Setup(cache, modules, program, tuple(versions), native, ceiling, rounds, loads, profile, reuse)
        rows = []
        for file in files:
            try:
                rows.append(run_model(file, setup))
            except WorkerError as e:
                _say(f"{file.stem}: left out: {without_paths(str(e))}")
                continue
            _say(_line(rows[-1]))
        load = max(load, ceilings.busy_cores())
        _, again, clock_again = _measure_ceiling(cache, modules, program)
        ceiling, clock = max(ceiling, again), max(clock, clock_again)  # a disturbance hits one of the two at most
    except subprocess.CalledProcessError as e:
        raise click.ClickException(f"{e.cmd[0]} failed: {e.stderr}") from e
    except WorkerError as e:
        raise click.ClickException(f"Chromium cannot be measured: {e}") from e
    rest = f"--rounds {rounds} --loads {loads}{' --profile' if profile else ''}"
    command = command_line("python -m bench.web", models, only, rest)
    page = markdown(
        Benchmark(rows, ceilings.machine(), browser, ceiling, clock, versions, missing, command, rounds, loads, load)
    )
    deliver(page, output)


if __name__ == "__main__":
    main(prog_name="python -m bench.web")
