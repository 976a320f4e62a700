"""`python -m bench.web`: the command line."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import click

from bench import contest
from bench.int8 import choose_int8
from bench.peers import LITERT_INT32
from bench.report import without_paths
from bench.rounds import WorkerError
from bench.web import kept
from bench.web.browser import CHECK_MS, Browser
from bench.web.contest import PEERS, TITLES, Row, Setup, prepare, run_model
from bench.web.options import Asked, common_options, warn_of_load
from bench.web.report import markdown
from bench.web.site import HERE, make_site, serve
from bench.zoo import choose_models

PAGE = "docs/benchmarks-web.md"


def _say(text: str) -> None:
    click.echo(text, err=True)


def _measure_ceiling(cache: Path, modules: Path, chromium: str) -> tuple[str, float, float]:
    """The browser's name and version, GFLOP/s of one core, and the check of the clock: the best of two."""
    places = {"bench": HERE, "site": cache / "web" / "site"}
    best, clock = 0.0, 0.0
    for _ in range(2):
        with serve(places) as address, Browser(chromium, modules) as browser:
            page = browser.open("ceiling", f"{address}/bench/page.html")
            best = max(best, float(page.call("ceiling", "/site/ceiling.wasm")))
            clock = max(clock, page.check_clock())
            name = browser.version
    return name, best, clock


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
@common_options(PAGE, rounds=10)
@click.option("--int8", is_flag=True, help="Integer networks, by onnxruntime's quantiser and by LiteRT's.")
@click.option("--loads", default=3, type=click.IntRange(1), help="Pages that time the start, per contestant and model.")
@click.option("--profile", is_flag=True, help="Also the time of each of our kernels.")
def main(asked: Asked, int8: bool, loads: int, profile: bool) -> None:
    """Times our bundles for wasm beside onnxruntime-web and LiteRT.js in Chromium, and writes a page of Markdown."""
    rows: dict[str, list[Row]] = {"float32": [], "int8": []}
    if not asked.pages:
        rows["int8" if int8 else "float32"] = _measure(asked, int8, loads, profile)
    if asked.prepare:
        return
    if asked.keep or asked.pages:
        rows = {kind: kept.read(Row, kept.path_of(kind)) for kind in rows}
    asked.deliver(markdown(rows["float32"], rows["int8"]), PAGE)


def _measure(asked: Asked, int8: bool, loads: int, profile: bool) -> list[Row]:
    cache, program = asked.cache, asked.program()
    cache.mkdir(parents=True, exist_ok=True)
    if int8 and asked.models is None:
        files = choose_int8(asked.only, cache, asked.peer_python, floats=True)
    else:
        files = choose_models(asked.models, asked.only, cache, asked.peer_python)
    pythons, known, without = contest.probe(["litert", LITERT_INT32.name], asked.peer_python)
    missing = asked.missing()
    for why in [*(f"{TITLES[n]}: {m}" for n, m in missing.items()), *(f"litert-torch: {m}" for m in without.values())]:
        _say(without_paths(why))
    peers = tuple(name for name in PEERS if name not in missing)
    native = contest.Setup(cache, pythons, known)
    setup = Setup(cache, asked.modules, program, peers, native, None, asked.rounds, loads, profile, asked.reuse, int8)
    if asked.prepare:
        for file in files:
            _say(file.stem)
            prepare(file, setup, Row(file.stem, 0))
        return []
    warn_of_load(_say)
    try:
        make_site(cache / "web" / "site")
        browser, ceiling, clock = _measure_ceiling(cache, asked.modules, program)
        _say(f"{browser}: {ceiling:.1f} GFLOP/s, {CHECK_MS} ms of work measured as {clock:.1f}")
        rest = [f"--loads {loads}", *(["--profile"] if profile else []), *(["--int8"] if int8 else [])]
        stamp = asked.stamp(asked.command("bench.web", rest), browser, ceiling=ceiling, clock=clock)
        rows = []
        for file in files:
            try:
                rows.append(run_model(file, replace(setup, stamp=stamp)))
            except WorkerError as e:
                _say(f"{file.stem}: left out: {without_paths(str(e))}")
                continue
            _say(_line(rows[-1]))
            if asked.keep:
                kept.enter(rows[-1], kept.path_of("int8" if int8 else "float32"))
    except subprocess.CalledProcessError as e:
        raise click.ClickException(f"{e.cmd[0]} failed: {e.stderr}") from e
    except WorkerError as e:
        raise click.ClickException(f"Chromium cannot be measured: {e}") from e
    return rows


if __name__ == "__main__":
    main(prog_name="python -m bench.web")
