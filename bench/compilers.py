"""The emitted file under two compilers: `python -m bench.compilers [--models DIR] [--cc g++]`.

Each model's NAME.cc is compiled by the bundled Clang and by another compiler with the flags that the file names; the
two libraries run in turn in one process. Times are CPU time of one thread.
"""

from __future__ import annotations

import math
import os
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from bench.rounds import ROOT
from bench.zoo import choose_models

if TYPE_CHECKING:
    from dlpack.bundle.loader import Predictor

SAMPLE_NS = 20_000_000
"""A sample repeats a fast model for about this long."""


@dataclass(frozen=True)
class Row:
    """Milliseconds of CPU time per call, one for each round; seconds of CPU time of the two compilations."""

    model: str
    clang: Sequence[float]
    other: Sequence[float]
    clang_s: float = 0.0
    other_s: float = 0.0

    @property
    def speed(self) -> float:
        """The other compiler's speed as a part of Clang's, by the least times: noise only ever adds."""
        return min(self.clang) / min(self.other)

    @property
    def median_speed(self) -> float:
        """The same by the median over the rounds of each round's ratio."""
        return statistics.median(c / o for c, o in zip(self.clang, self.other, strict=True))


def build_both(model: Path, folder: Path, cc: str | None) -> tuple[list[Path], list[float]]:
    """Two bundles that differ in their library alone, and the seconds of CPU time that the compilers took."""
    from bench.depth import cpu_seconds
    from dlpack.bundle.loader import read_manifest
    from dlpack.pipeline import Options, build
    from dlpack.targets import get_target
    from dlpack.targets.toolchains.compiler import compile_library, source_flags

    first = build(model, folder / model.stem / "clang", Options(verify=False))
    second = folder / model.stem / "other"
    shutil.rmtree(second, ignore_errors=True)
    shutil.copytree(first, second, copy_function=_link)
    manifest = read_manifest(first)
    seconds = []
    flags = source_flags(get_target(manifest["target"]).builds[0].machine().flags).split()
    zig_flags = [f.replace("-march=x86-64-", "-march=x86_64_") for f in flags]  # as zig spells processors
    for bundle, compiler in ((first, None), (second, cc)):
        library = bundle / manifest["library"]
        library.unlink()
        began = cpu_seconds()
        compile_library(bundle / manifest["source"], library, "", flags if compiler else zig_flags, compiler)
        seconds.append(cpu_seconds() - began)
    return [first, second], seconds


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)


def sample(predictor: Predictor, calls: int) -> float:
    """Milliseconds of CPU time per call, after one in ten that are not counted."""
    for _ in range(1 + calls // 10):
        predictor.compute()
    began = time.thread_time_ns()
    for _ in range(calls):
        predictor.compute()
    return (time.thread_time_ns() - began) / calls / 1e6


def race(bundles: Sequence[Path], rounds: int) -> list[list[float]]:
    """Times the bundles in turn on the inputs of their reference; every other round goes the other way round."""
    from dlpack.bundle.loader import load

    predictors = [load(bundle) for bundle in bundles]
    try:
        with np.load(bundles[0] / "reference.npz") as stored:
            inputs = {name: stored[f"in_{k}"] for k, name in enumerate(predictors[0].inputs)}
        for p in predictors:
            p.bind(inputs)
        calls = max(1, round(SAMPLE_NS / 1e6 / max(1e-6, sample(predictors[0], 3))))
        samples: list[list[float]] = [[] for _ in predictors]
        for number in range(rounds):
            order = range(len(predictors))
            for k in order if number % 2 == 0 else reversed(order):
                samples[k].append(sample(predictors[k], calls))
        return samples
    finally:
        for p in predictors:
            p.close()


def run_model(model: Path, folder: Path, cc: str, rounds: int) -> Row:
    bundles, seconds = build_both(model, folder, cc)
    clang, other = race(bundles, rounds)
    return Row(model.stem, clang, other, seconds[0], seconds[1])


def table(rows: Sequence[Row], name: str) -> str:
    """A row per model, and their geometric mean, as Markdown."""
    lines = [
        f"| model | Clang ms | {name} ms | {name}'s speed | of medians | Clang compiles in | {name} compiles in |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for r in rows:
        times = f"{min(r.clang):.4g} | {min(r.other):.4g} | {r.speed:.3f} | {r.median_speed:.3f}"
        lines.append(f"| {r.model} | {times} | {r.clang_s:.1f} s | {r.other_s:.1f} s |")
    means = (math.exp(statistics.fmean(map(math.log, s))) for s in ([r.speed for r in rows],
                                                                      [r.median_speed for r in rows]))  # fmt: skip
    lines.append(f"| geometric mean | | | {' | '.join(f'{m:.3f}' for m in means)} | | |")
    return "\n".join(lines)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--models", type=click.Path(exists=True, file_okay=False, path_type=Path), help="ONNX files to run in "
              "place of the zoo.")  # fmt: skip
@click.option("--only", default="", help="Regular expression: the models to run.", metavar="REGEX")
@click.option("--cc", default="g++", help="The other compiler.", metavar="PATH")
@click.option("--rounds", default=20, type=click.IntRange(1), help="Rounds, per model.")
@click.option("--cache", default=ROOT / "build" / "bench", show_default="build/bench", metavar="DIR",
              type=click.Path(file_okay=False, path_type=Path), help="For models and bundles.")  # fmt: skip
@click.option("--peer-python", default=sys.executable, show_default="this one", metavar="PATH",
              help="The Python that can make the zoo's models.")  # fmt: skip
def main(models: Path | None, only: str, cc: str, rounds: int, cache: Path, peer_python: str) -> None:
    """Times the emitted files under the bundled Clang and under another compiler."""
    from dlpack.errors import DlpackError

    cache = cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    rows = []
    for model in choose_models(models, only, cache, peer_python):
        try:
            rows.append(run_model(model, cache / "compilers", cc, rounds))
        except DlpackError as e:
            raise click.ClickException(f"{model.stem}: {e}") from e
        click.echo(f"{model.stem}: {rows[-1].speed:.3f}", err=True)
    click.echo(table(rows, cc))


if __name__ == "__main__":
    main(prog_name="python -m bench.compilers")
