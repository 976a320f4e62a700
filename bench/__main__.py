"""`python -m bench`: the command line."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from bench import ceilings, contest, machines
from bench.contest import Row, Setup
from bench.int8 import choose_int8, takes_part
from bench.kinds import NATIVE, USUAL, V3, Kind
from bench.peers import CONTESTANTS, OURS, PEERS
from bench.profile import profile_bundle
from bench.report import LOADED, deliver, markdown, without_paths
from bench.results import Benchmark, Results, keep
from bench.revision import revision
from bench.rounds import ROOT, WorkerError
from bench.summary import write_pages
from bench.zoo import choose_models

INT8_PEERS = ("onnxruntime", "openvino", "litert")
"""Those that read integer networks."""


def _say(text: str) -> None:
    click.echo(text, err=True)


def _choose_peers(_context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise click.BadParameter(f"{unknown[0]} is none of {', '.join(PEERS)}")
    return names


def _command(asked: _Asked, all_: bool) -> str:
    """The command as another would repeat it, without this machine's paths."""
    kind = asked.kind
    words = ["python -m bench"]
    words += ["--models DIR"] if asked.models else []
    words += [f"--only '{asked.only}'"] if asked.only else []
    words += [f"--peers {','.join(asked.peers)}"] if asked.peers != list(PEERS) else []
    words += [f"--rounds {asked.rounds}"]
    words += ["--profile"] if asked.profile else []
    if all_:
        return " ".join([*words, "--all"])
    words += [f"--machine {kind.machine}"] if kind.machine != "native" else []
    words += [f"--threads {kind.threads}"] if kind.threads > 1 else []
    return " ".join([*words, *(["--int8"] if kind.int8 else [])])


def _line(row: Row) -> str:
    times = [f"{n} {t.median_ms:.4g}" for n, t in row.timings.items()]
    marks = [f"{n} is off by {e:.1e}" for n, e in row.errors.items() if not row.agrees(n)]
    best = row.best_peer()
    ratio = row.ratio(best)
    words = [f"{row.model}: {', '.join(times) or 'nothing ran'} ms"]
    words += [f"{ratio:.2f} of {best}"] if ratio else []
    words += marks + [f"{n}: {without_paths(why)}" for n, why in row.failed.items()]
    return "; ".join(words)


@dataclass(frozen=True)
class _Asked:
    """What the command line asks for, of one table."""

    kind: Kind
    models: Path | None
    only: str
    peers: list[str]
    peer_python: str
    rounds: int
    profile: bool
    reuse: bool
    cache: Path


def _table(asked: _Asked, command: str, prepare: bool) -> Benchmark | None:
    """Measures one table, or only makes models and bundles for it."""
    kind, cache = asked.kind, asked.cache
    if kind.int8 and asked.models is None:
        files = choose_int8(asked.only, cache, asked.peer_python)
        asked = replace(asked, peers=[name for name in asked.peers if name in INT8_PEERS])
    else:
        files = choose_models(asked.models, asked.only, cache, asked.peer_python)
    pythons, known, missing = contest.probe([OURS.name, *asked.peers], asked.peer_python)
    for name, why in missing.items():
        _say(f"{CONTESTANTS[name].title}: {without_paths(why)}")
    setup = Setup(cache, pythons, known, asked.rounds, kind, asked.reuse)
    if prepare:
        for file in files:
            _say(f"{kind.key}: {file.stem}")
            contest.prepare(file, replace(setup, pythons=_taking_part(pythons, file, asked)))
        return None
    try:
        limits = ceilings.measure(cache)
    except (OSError, subprocess.CalledProcessError) as e:
        raise click.ClickException(f"the ceilings cannot be measured, ceilings.c does not compile or run: {e}") from e
    load = ceilings.busy_cores()
    if load > LOADED:
        _say(f"warning: other programs keep {load:.1f} cores busy; the figures will not be worth publishing")
    _say(f"{kind.title}; ceilings: {limits.gflops:.0f} GFLOP/s, {limits.memory:.1f} GB/s from memory")
    rows = []
    for file in files:
        try:
            row = contest.run_model(file, replace(setup, pythons=_taking_part(pythons, file, asked)))
        except WorkerError as e:
            _say(f"{file.stem}: left out: {e}")
            continue
        if asked.profile and kind == NATIVE and row.bundle is not None and OURS.name in row.timings:
            row.kernels = profile_bundle(contest.bundle_folder(file, setup), file, limits)
        rows.append(row)
        _say(_line(row))
    load = max(load, ceilings.busy_cores())
    limits = ceilings.better(limits, ceilings.measure(cache))  # a short disturbance hits one of the two at most
    date = time.strftime("%Y-%m-%d")
    return Benchmark(
        kind, rows, ceilings.machine(), limits, known, missing, command, asked.rounds, load, date, revision()
    )


def _taking_part(pythons: dict[str, str], file: Path, asked: _Asked) -> dict[str, str]:
    if not asked.kind.int8 or asked.models is not None:
        return pythons
    return {name: python for name, python in pythons.items() if takes_part(name, file)}


def _kinds(all_: bool, machine: str, threads: int, int8: bool) -> Sequence[Kind]:
    if not all_:
        return [Kind(machine, threads, int8)]
    if machine != "native" or threads != 1 or int8:
        raise click.UsageError("--all makes the four tables: remove --machine, --threads and --int8")
    return USUAL


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--models", type=click.Path(exists=True, file_okay=False, path_type=Path), help="ONNX files to run in "
              "place of the zoo; a model's inputs are read from NAME.npz.")  # fmt: skip
@click.option("--only", default="", help="Regular expression: the models to run.", metavar="REGEX")
@click.option("--peers", default=",".join(PEERS), callback=_choose_peers, metavar="LIST")
@click.option("--peer-python", default=sys.executable, show_default="this one", metavar="PATH",
              help="The Python of the environment in which the peers are installed.")  # fmt: skip
@click.option("--rounds", default=30, type=click.IntRange(1), help="Rounds that count, per contestant and model.")
@click.option("--machine", default="native", type=click.Choice(["native", V3]),
              help="What the bundles are built for, and what the peers keep to.")  # fmt: skip
@click.option("--threads", default=1, type=click.IntRange(1), help="More than one compares wall time.")
@click.option("--int8", is_flag=True, help="Integer networks, by onnxruntime's quantiser and by LiteRT's.")
@click.option("--all", "all_", is_flag=True, help="Four tables: native, x86-64-v3, two threads, int8.")
@click.option("--profile", is_flag=True, help="Also the time of each of our kernels, natively with one thread.")
@click.option("--reuse", is_flag=True, help="Take the bundles of the last run, without building them again.")
@click.option(
    "--prepare", is_flag=True, help="Only make models, conversions and bundles; a run with --reuse takes them."
)
@click.option("--cache", default=ROOT / "build" / "bench", show_default="build/bench", metavar="DIR",
              type=click.Path(file_okay=False, path_type=Path), help="For models and conversions.")  # fmt: skip
@click.option("--keep", "keep_", is_flag=True, help="Enter the tables into bench/results, and write the machine's page "
              "in docs/benchmarks and docs/benchmarks.md.")  # fmt: skip
@click.option("--pages", is_flag=True, help="Only write the pages of what is kept.")
@click.option("-o", "--output", default=None, type=click.Path(dir_okay=False, path_type=Path),
              help="The page to write of this run's tables; else it is printed, unless it is kept.")  # fmt: skip
def main(all_: bool, machine: str, threads: int, int8: bool, prepare: bool, keep_: bool, pages: bool,
         output: Path | None, **asked: Any) -> None:  # fmt: skip
    """Times our native bundles beside onnxruntime, ncnn, MNN, OpenVINO and LiteRT, and writes a page of Markdown."""
    if pages:
        for path in write_pages():
            _say(f"wrote {path.relative_to(ROOT)}")
        return
    asked["cache"] = asked["cache"].resolve()
    asked["cache"].mkdir(parents=True, exist_ok=True)
    title = machines.title_of(ceilings.facts())
    tables = {}
    for kind in _kinds(all_, machine, threads, int8):
        one = _Asked(kind, **asked)
        measured = _table(one, _command(one, all_), prepare)
        if measured is not None:
            tables[kind.key] = measured
            if keep_:
                keep(measured, title, machines.stem_of(title))
    if keep_ and tables:
        for path in write_pages():
            _say(f"wrote {path.relative_to(ROOT)}")
    elif tables:
        deliver(markdown(Results(title, tables)), output)


if __name__ == "__main__":
    main(prog_name="python -m bench")
