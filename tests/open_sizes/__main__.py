"""python -m open_sizes [--keep FOLDER] [--times] [KIND ...]: a row per kind; exit code 1 where something is wrong.

Each network is built with open dimensions, and with the largest size fixed. At twenty sizes its outputs are compared
with onnxruntime's; setting these sizes one after the other must not allocate, and its code may take up to 1.3 times as
many bytes as that of the fixed size. With --times a run may take up to 1.15 times as long as that of a bundle for the
same size alone, at each of some sizes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
from processes import run

import dlpack
from dlpack.meaning.open_batch import opened_batch
from dlpack.pipeline import Options, build
from open_sizes.kinds import KINDS, Kind
from open_sizes.times import fixed_bundle, times

CLOSE, LARGER, SLOWER = 1e-4, 1.3, 1.15
"""The largest error as a part of an output's range, how much larger the code may be, and how much longer a run take."""


def open_bundle(kind: Kind, model: Path, folder: Path) -> Path:
    """The network built with open dimensions."""
    _, batch = opened_batch([f"{name}={shape}" for name, shape in kind.options.items()])
    assert batch is not None
    first = {name: a.shape for name, a in kind.given(kind.smallest).items()}
    return build(model, folder / "open", Options(name="net", shapes=first, batch=batch, ranges=dict(kind.ranges)))


def largest_error(kind: Kind, model: Path, bundle: Path) -> float:
    """Of all sizes, as a part of the output's range; the largest size comes first, and leaves its remains."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    worst = 0.0
    with dlpack.load(bundle) as predictor:
        for size in kind.sizes:
            given = dict(kind.given(size))
            (want,) = session.run(None, given)
            got = predictor.run(given)["out"]
            error = np.abs(got - want).max() / np.ptp(want)
            worst = max(worst, float(error) if got.shape == want.shape and np.isfinite(error) else np.inf)
    return worst


def allocations(kind: Kind, bundle: Path, folder: Path) -> int:
    """How often memory is allocated while all sizes are set."""
    hook = folder / "hook.so"
    here = Path(__file__).parent
    if not hook.exists():
        run(["cc", "-O1", "-fno-builtin", "-shared", "-fPIC", "-o", hook, here / "hook.c"], check=True)
    shapes = [next(iter(kind.given(size).values())).shape for size in kind.sizes]
    done = run(
        [sys.executable, "-m", "open_sizes.reshape", str(hook), str(bundle)], input=json.dumps(shapes),
        env={**os.environ, "LD_PRELOAD": str(hook)}, check=True,
    )  # fmt: skip
    return int(done.stdout)


def code_bytes(bundle: Path) -> int:
    """Of the library, without weights."""
    return int(json.loads((bundle / "manifest.json").read_text())["code_bytes"])


def row(name: str, kind: Kind, model: Path, opened: Path, folder: Path) -> tuple[str, bool]:
    """What is to be said of a kind, and whether all is as it should be."""
    fixed = fixed_bundle(kind, model, folder, kind.sizes[0])
    error, made = largest_error(kind, model, opened), allocations(kind, opened, folder)
    own, other = code_bytes(opened), code_bytes(fixed)
    bounds = ", ".join(dict.fromkeys(kind.options.values())).replace(":int64", "")
    right = error <= CLOSE and made == 0 and own <= LARGER * other
    parts = (
        name,
        bounds,
        f"{len(kind.sizes)}",
        f"{error:.1e}",
        f"{made}",
        f"{own:,}",
        f"{other:,}",
        f"{own / other:.2f}",
    )
    return f"| {' | '.join(parts)} |", right


def timed(kind: Kind, model: Path, opened: Path, folder: Path, kernels: bool) -> bool:
    """Prints a row per size, and with `kernels` those of both bundles; whether none takes too long."""
    right = True
    for size in kind.timed:
        t = times(kind, model, opened, folder, size)
        print(f"| {'x'.join(map(str, size))} | {t.opened:,.0f} | {t.fixed:,.0f} | {t.ratio:.2f} |", flush=True)
        for name, found in (("open", t.kernels), ("fixed", t.fixed_kernels)) if kernels else ():
            print(name, *(f"{k.us:10.1f} us {k.calls:3d} x {k.name}: {k.computes}" for k in found[:MOST]), sep="\n    ")
        right &= t.ratio <= SLOWER
    return right


MOST = 24
"""Kernels that are listed."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="script/sizes", description="networks with open dimensions at twenty sizes")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; all without any")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keeps models and bundles there")
    parser.add_argument("--times", action="store_true", help="times them instead, in microseconds")
    parser.add_argument("--kernels", action="store_true", help="lists what each kernel takes, too")
    parser.add_argument("--at", nargs="*", metavar="SIZE", help="at these sizes: 5, or 96x128")
    asked = parser.parse_args(arguments)
    if unknown := [k for k in asked.kinds if k not in KINDS]:
        parser.error(f"no such kind: {', '.join(unknown)}")
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    if not asked.times:
        print("| network | bounds | sizes | largest error | allocations | code, open | fixed | ratio |")
        print("|---|---|---|---|---|---|---|---|", flush=True)
    right = True
    with tempfile.TemporaryDirectory() as scratch:
        for name in asked.kinds or KINDS:
            kind, folder = KINDS[name], (asked.keep or Path(scratch)) / name
            if asked.at:
                kind = replace(kind, timed=[tuple(map(int, size.split("x"))) for size in asked.at])
            folder.mkdir(parents=True, exist_ok=True)
            model = folder / "net.onnx"
            kind.export(model)
            opened = open_bundle(kind, model, folder)
            if asked.times:
                print(f"| {name} | open, µs | fixed, µs | ratio |\n|---|---|---|---|", flush=True)
                right &= timed(kind, model, opened, folder, asked.kernels)
                continue
            text, fine = row(name, kind, model, opened, folder)
            print(text, flush=True)
            right &= fine
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
