"""Writes every example's model, builds it for `native` and `wasm`, verifies both, and prints a line per bundle.

python examples/build_all.py build/examples [NAME...] [--target T] [--small]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from functools import partial
from pathlib import Path

import detector
import inception
import language_model
import lenet
import mlp
import recommender
import resnet152
from _example import Example, Write, run

import dlpack
from dlpack.bundle.loader import read_manifest
from dlpack.errors import DlpackError
from dlpack.pipeline import Options


def style(folder: Path, small: bool) -> Example:
    """The committed model, for pictures of 256x256."""
    path = Path(shutil.copy(Path(__file__).parent / "style" / "style.onnx", folder))
    side = 64 if small else 256
    return Example(path, {"picture": (1, 3, side, side)})


EXAMPLES: dict[str, Write] = {
    "mlp": mlp.write,
    "lenet": lenet.write,
    **{f"inception_{version}": partial(inception.write, version) for version in inception.VERSIONS},
    "resnet152": resnet152.write,
    "language_model": language_model.write,
    "style": style,
    "recommender": recommender.write,
    "detector": detector.write,
}


def options(example: Example, target: str) -> Options:
    """The options of `Example.command`, for a target."""
    labels = None
    if example.labels:
        labels = tuple(example.labels.read_text(encoding="utf-8").split("\n")[:-1])
    return Options(target=target, shapes=dict(example.shapes), labels=labels, preprocess=example.preprocess)


def row(name: str, target: str, bundle: Path, seconds: float) -> str:
    """A line of the table: seconds to build, bytes, and the largest error in parts of the output's range."""
    m = read_manifest(bundle)
    code = m["wasm"]["simd"]["bytes"] if target == "wasm" else (bundle / m["library"]).stat().st_size
    beside = m["weights"]["bytes"] if "weights" in m else 0
    error = max(e["relative"] for e in m["verification"])
    return (f"{name:15} {target:7} {m['macs'] / 1e6:9,.1f} {seconds:8.1f} {m['arena']['bytes']:12,} {code:12,} "
            f"{beside:12,} {error:9.1e}")  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(EXAMPLES)} (default: all)")
    parser.add_argument("--target", action="append", help="repeatable (default: native and wasm)")
    parser.add_argument("--small", action="store_true", help="slim nets and short trainings")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(EXAMPLES)
    if unknown:
        parser.error(f"no example is called {min(unknown)}")
    print(f"{'model':15} {'target':7} {'Mmadds':>9} {'seconds':>8} {'arena':>12} {'library':>12} {'weights':>12} error")
    failed = 0
    for name in arguments.names or EXAMPLES:
        folder = arguments.folder / name
        example = run(EXAMPLES[name], folder, arguments.small)
        for target in arguments.target or ["native", "wasm"]:
            began = time.perf_counter()
            try:
                bundle = dlpack.build(example.path, folder / target, options(example, target))
            except DlpackError as e:
                failed += 1
                print(f"{name:15} {target:7} {e}", flush=True)
                continue
            print(row(name, target, bundle, time.perf_counter() - began), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
