"""`python -m bench`: the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from bench import ceilings, contest
from bench.contest import Row, Setup
from bench.peers import CONTESTANTS, OURS, PEERS
from bench.profile import profile_bundle
from bench.report import LOADED, Benchmark, deliver, markdown, without_paths
from bench.rounds import ROOT, WorkerError
from bench.zoo import choose_models


def _say(text: str) -> None:
    click.echo(text, err=True)


def _choose_peers(_context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise click.BadParameter(f"{unknown[0]} is none of {', '.join(PEERS)}")
    return names


def _command(only: str, peers: list[str], rounds: int, profile: bool, threads: int, models: bool) -> str:
    """The command as another would repeat it, without this machine's paths."""
    words = ["python -m bench"]
    words += ["--models DIR"] if models else []
    words += [f"--only '{only}'"] if only else []
    words += [f"--peers {','.join(peers)}"] if peers != list(PEERS) else []
    words += [f"--rounds {rounds}"]
    words += ["--profile"] if profile else []
    words += [f"--threads {threads}"] if threads > 1 else []
    return " ".join(words)


def _line(row: Row) -> str:
    times = [f"{n} {t.median_ms:.4g}" for n, t in row.timings.items()]
    marks = [f"{n} is off by {e:.1e}" for n, e in row.errors.items() if not row.agrees(n)]
    best = row.best_peer()
    ratio = row.ratio(best)
    words = [f"{row.model}: {', '.join(times) or 'nothing ran'} ms"]
    words += [f"{ratio:.2f} of {best}"] if ratio else []
    words += marks + [f"{n}: {without_paths(why)}" for n, why in row.failed.items()]
    return "; ".join(words)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--models", type=click.Path(exists=True, file_okay=False, path_type=Path), help="ONNX files to run in "
              "place of the zoo; a model's inputs are read from NAME.npz.")  # fmt: skip
@click.option("--only", default="", help="Regular expression: the models to run.", metavar="REGEX")
@click.option("--peers", default=",".join(PEERS), callback=_choose_peers, metavar="LIST")
@click.option("--peer-python", default=sys.executable, show_default="this one", metavar="PATH",
              help="The Python of the environment in which the peers are installed.")  # fmt: skip
@click.option("--rounds", default=30, type=click.IntRange(1), help="Rounds that count, per contestant and model.")
@click.option("--threads", default=1, type=click.IntRange(1), help="More than one compares wall time.")
@click.option("--profile", is_flag=True, help="Also the time of each of our kernels.")
@click.option("--reuse", is_flag=True, help="Take the bundles of the last run, without building them again.")
@click.option("--cache", default=ROOT / "build" / "bench", show_default="build/bench", metavar="DIR",
              type=click.Path(file_okay=False, path_type=Path), help="For models and conversions.")  # fmt: skip
@click.option("-o", "--output", default=None, type=click.Path(dir_okay=False, path_type=Path),
              help="The page to write, as docs/benchmarks.md; else it is printed.")  # fmt: skip
def main(  # noqa: PLR0913 - an argument per option
    models: Path | None, only: str, peers: list[str], peer_python: str, rounds: int, threads: int, profile: bool,
    reuse: bool, cache: Path, output: Path | None,
) -> None:  # fmt: skip
    """Times our native bundles beside onnxruntime, ncnn, MNN, OpenVINO and LiteRT, and writes a page of Markdown."""
    cache = cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    files = choose_models(models, only, cache, peer_python)
    pythons, known, missing = contest.probe([OURS.name, *peers], peer_python)
    for name, why in missing.items():
        _say(f"{CONTESTANTS[name].title}: {without_paths(why)}")
    try:
        limits = ceilings.measure(cache)
    except (OSError, subprocess.CalledProcessError) as e:
        raise click.ClickException(f"the ceilings cannot be measured, ceilings.c does not compile or run: {e}") from e
    load = ceilings.busy_cores()
    if load > LOADED:
        _say(f"warning: other programs keep {load:.1f} cores busy; the figures will not be worth publishing")
    _say(f"ceilings: {limits.gflops:.0f} GFLOP/s, {limits.memory:.1f} GB/s from memory")
    setup = Setup(cache, pythons, known, rounds, threads, reuse)
    rows = []
    for file in files:
        try:
            row = contest.run_model(file, setup)
        except WorkerError as e:
            _say(f"{file.stem}: left out: {e}")
            continue
        if profile and row.bundle is not None and OURS.name in row.timings:
            row.kernels = profile_bundle(contest.bundle_folder(file, setup), file, limits)
        rows.append(row)
        _say(_line(row))
    load = max(load, ceilings.busy_cores())
    limits = ceilings.better(limits, ceilings.measure(cache))  # a short disturbance hits one of the two at most
    command = _command(only, peers, rounds, profile, threads, models is not None)
    page = markdown(Benchmark(rows, ceilings.machine(), limits, known, missing, command, rounds, threads, load))
    deliver(page, output)


if __name__ == "__main__":
    main(prog_name="python -m bench")
