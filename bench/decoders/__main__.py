"""`python -m bench.decoders`: the command line."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import click

from bench import ceilings
from bench.decoders.contestants import CONTESTANTS
from bench.decoders.measure import Setup, bandwidth, prepare, probe, race, told
from bench.decoders.model import FORMS, Sizes
from bench.decoders.page import deliver, write_page
from bench.decoders.results import Row, Table
from bench.report import LOADED, without_paths
from bench.revision import revision
from bench.rounds import ROOT, WorkerError


def _say(text: str) -> None:
    click.echo(text, err=True)


def _line(row: Row) -> str:
    if row.failed:
        return f"{row.form}, {row.threads}: {row.engine}: {without_paths(row.failed)}"
    times = ", ".join(f"{what} {median:.4g} ms" for what, (median, _) in row.times.items())
    return f"{row.form}, {row.threads}: {row.engine}: {times}"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--peer-python",
    default=sys.executable,
    show_default="this one",
    metavar="PATH",
    help="The Python that has onnxruntime, onnxruntime-genai, llama-cpp-python and gguf.",
)
@click.option("--forms", default=",".join(FORMS), help="Forms of the weights.", metavar="LIST")
@click.option("--threads", default="1,2", help="Numbers of threads, one after the other.", metavar="LIST")
@click.option("--rounds", default=10, type=click.IntRange(1), help="Rounds that count, per engine.")
@click.option("--layers", default=Sizes.layers, type=click.IntRange(1), help="Layers of the decoder.")
@click.option("--reuse", is_flag=True, help="Take the bundles of the last run, without building them again.")
@click.option("--prepare", "only_prepare", is_flag=True, help="Only make models and bundles; a run with --reuse takes "
              "them.")  # fmt: skip
@click.option("--cache", default=ROOT / "build" / "bench", show_default="build/bench", metavar="DIR",
              type=click.Path(file_okay=False, path_type=Path), help="For models and bundles: 3 GB.")  # fmt: skip
@click.option("--keep", "keep_", is_flag=True, help="Enter what is measured into bench/results/decoders, and write "
              "docs/benchmarks-decoders.md; else the page is printed.")  # fmt: skip
@click.option("--page", is_flag=True, help="Only write the page of what is kept.")
def main(  # noqa: PLR0913 - an argument per option
    peer_python: str, forms: str, threads: str, rounds: int, layers: int, reuse: bool, only_prepare: bool, cache: Path,
    keep_: bool, page: bool,
) -> None:  # fmt: skip
    """Times a decoder of 134 M parameters beside onnxruntime, onnxruntime-genai and llama.cpp: prompts and tokens."""
    if page:
        _say(f"wrote {write_page().relative_to(ROOT)}")
        return
    chosen, counts = forms.split(","), [int(n) for n in threads.split(",")]
    if unknown := [form for form in chosen if form not in FORMS]:
        raise click.BadParameter(f"{unknown[0]} is none of {', '.join(FORMS)}", param_hint="--forms")
    cache = cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    known, missing = probe(peer_python)
    for name, why in missing.items():
        _say(f"{CONTESTANTS[name].title}: {why}")
    pythons = {name: sys.executable if CONTESTANTS[name].host else peer_python for name in known}
    setup = Setup(cache, Sizes(layers=layers), pythons, rounds, reuse)
    try:
        folders = {form: prepare(form, setup) for form in chosen}
        if only_prepare:
            return
        load = ceilings.busy_cores()
        if load > LOADED:
            _say(f"warning: other programs keep {load:.1f} cores busy; the figures will not be worth publishing")
        limits, rates = bandwidth(cache, counts)
        rows = []
        for count in counts:
            for form in chosen:
                taking = {n: p for n, p in pythons.items() if FORMS[form] or not CONTESTANTS[n].rounds}
                found = race(form, count, folders[form], replace(setup, pythons=taking))
                rows += found
                for row in found:
                    _say(_line(row))
        _, again = bandwidth(cache, counts)  # a short disturbance hits one of the two at most
    except (WorkerError, OSError, subprocess.CalledProcessError) as e:
        raise click.ClickException(without_paths(str(e))) from e
    rates = {count: max(rate, again[count]) for count, rate in rates.items()}
    words = [f"--forms {forms}"] if chosen != list(FORMS) else []
    words += [f"--threads {threads}"] if threads != "1,2" else []
    words += [f"--layers {layers}"] if layers != Sizes.layers else []
    command = " ".join(["python -m bench.decoders", *words, f"--rounds {rounds}"])
    load = max(load, ceilings.busy_cores())
    table = Table(
        "native", ceilings.machine(), told(setup.sizes), rates, limits.gflops, known, missing, command, rounds, load,
        time.strftime("%Y-%m-%d"), revision(), rows,
    )  # fmt: skip
    deliver(table, keep_)


if __name__ == "__main__":
    main(prog_name="python -m bench.decoders")
