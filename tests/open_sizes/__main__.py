"""python -m open_sizes [--keep FOLDER] [KIND ...]: a row per kind; exit code 1 where something is wrong.

Each network is built with open dimensions, and with the largest size fixed. At twenty sizes its outputs are compared
with onnxruntime's; setting these sizes one after the other must not allocate, and its code may take up to 1.3 times as
many bytes as that of the fixed size.
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
from pathlib import Path

import numpy as np
import onnxruntime
from processes import run

import dlpack
from dlpack.meaning.open_batch import opened_batch
from dlpack.pipeline import Options, build
from open_sizes.kinds import KINDS, Kind

CLOSE, LARGER = 1e-4, 1.3
"""The largest error as a part of an output's range, and how much larger the code may be."""


def bundles(kind: Kind, model: Path, folder: Path) -> tuple[Path, Path]:
    """The network built with open dimensions, and with those of the largest size."""
    _, batch = opened_batch([f"{name}={shape}" for name, shape in kind.options.items()])
    assert batch is not None
    first = {name: a.shape for name, a in kind.given(kind.smallest).items()}
    opened = build(model, folder / "open", Options(name="net", shapes=first, batch=batch, ranges=dict(kind.ranges)))
    shapes = {name: a.shape for name, a in kind.given(kind.sizes[0]).items()}
    return opened, build(model, folder / "fixed", Options(name="net", shapes=shapes, ranges=dict(kind.ranges)))


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


def row(name: str, folder: Path) -> tuple[str, bool]:
    """What is to be said of a kind, and whether all is as it should be."""
    kind = KINDS[name]
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "net.onnx"
    kind.export(model)
    opened, fixed = bundles(kind, model, folder)
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


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="script/sizes", description="networks with open dimensions at twenty sizes")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; all without any")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keeps models and bundles there")
    asked = parser.parse_args(arguments)
    if unknown := [k for k in asked.kinds if k not in KINDS]:
        parser.error(f"no such kind: {', '.join(unknown)}")
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    print("| network | bounds | sizes | largest error | allocations | code, open | fixed | ratio |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    right = True
    with tempfile.TemporaryDirectory() as scratch:
        for name in asked.kinds or KINDS:
            text, fine = row(name, (asked.keep or Path(scratch)) / name)
            print(text, flush=True)
            right &= fine
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
