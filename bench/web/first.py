"""`python -m bench.web.first`: from the request for a page, with an empty cache, to the first class on the screen."""

from __future__ import annotations

from dataclasses import replace

import click

from bench import contest as native
from bench.peers import LITERT_INT32
from bench.report import without_paths
from bench.rounds import WorkerError
from bench.web import kept
from bench.web.browser import Browser
from bench.web.contest import PEERS, Setup, prepare
from bench.web.contest import Row as Calls
from bench.web.first_contest import Network, Row, run_model
from bench.web.first_report import markdown
from bench.web.options import Asked, common_options, warn_of_load
from bench.zoo import choose_models

PAGE = "docs/benchmarks-page.md"


def _say(text: str) -> None:
    click.echo(text, err=True)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@common_options(PAGE, rounds=7)
@click.option(
    "--mbit", default=20.0, type=click.FloatRange(0), help="Megabits per second of a second network; 0: none."
)
@click.option("--mbit-rounds", default=3, type=click.IntRange(1), help="Rounds there.")
def main(asked: Asked, mbit: float, mbit_rounds: int) -> None:
    """Times our pages beside onnxruntime-web's and LiteRT.js', from the request to the first class, and writes a page
    of Markdown."""
    rows = [] if asked.pages else _measure(asked, mbit, mbit_rounds)
    if not asked.prepare:
        asked.deliver(markdown(kept.read(Row, kept.path_of("first")) if asked.keep or asked.pages else rows), PAGE)


def _measure(asked: Asked, mbit: float, mbit_rounds: int) -> list[Row]:
    program, cache = asked.program(), asked.cache
    files = choose_models(asked.models, asked.only, cache, asked.peer_python)
    pythons, known, without = native.probe(["litert", LITERT_INT32.name], asked.peer_python)
    missing = asked.missing()
    for why in (*missing.values(), *without.values()):
        _say(without_paths(why))
    peers = tuple(name for name in PEERS if name not in missing)
    setup = Setup(cache, asked.modules, program, peers, native.Setup(cache, pythons, known), reuse=asked.reuse)
    if asked.prepare:
        for file in files:
            _say(file.stem)
            prepare(file, setup, Calls(file.stem, 0))
        return []
    networks = [Network(None, asked.rounds), *([Network(mbit, mbit_rounds)] if mbit else [])]
    warn_of_load(_say)
    with Browser(program, asked.modules) as browser:
        version = browser.version
    rest = [*([f"--mbit {mbit:g}"] if mbit != 20 else []), f"--mbit-rounds {mbit_rounds}"]
    setup = replace(setup, stamp=asked.stamp(asked.command("bench.web.first", rest), version))
    rows = []
    for file in files:
        try:
            rows.append(run_model(file, setup, networks, _say))
        except WorkerError as e:
            _say(f"{file.stem}: left out: {without_paths(str(e))}")
            continue
        if asked.keep:
            kept.enter(rows[-1], kept.path_of("first"))
    return rows


if __name__ == "__main__":
    main(prog_name="python -m bench.web.first")
