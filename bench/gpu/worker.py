"""What runs in a process of its own, so that a device that fails, a crash or a peer that hangs costs one row alone:
``python -m bench.gpu.worker KIND PATH...`` prints a JSON object for each path, and ends early where the GPU is lost."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def _cases(path: Path) -> Row:
    from bench.gpu.driver import Gpu
    from bench.gpu.kernels import tested

    with Gpu() as gpu:
        return tested(gpu, path)


def _kernels(path: Path) -> Row:
    from bench.gpu.driver import Gpu
    from bench.gpu.kernels import timed

    with Gpu() as gpu:
        return timed(gpu, path)


def _bundle(path: Path) -> Row:
    from bench.gpu.bundles import measure

    return measure(path)


def _once(path: Path) -> Row:
    from bench.gpu.bundles import one_run

    one_run(path)
    return {}


def _peer(name: str) -> Callable[[Path], Row]:
    def row(path: Path) -> Row:
        from bench.gpu import peers

        found: Row = getattr(peers, name)(path)
        return found

    return row


HARMLESS = (ImportError, ValueError, FileNotFoundError)
"""What has not to do with the GPU. After anything else its context may compute nothing more."""

KINDS: dict[str, Callable[[Path], Row]] = {
    "bundles": _bundle,
    "cases": _cases,
    "kernels": _kernels,
    "once": _once,
    "pytorch": _peer("pytorch"),
    "compiled": _peer("compiled"),
    "onnxruntime": _peer("onnxruntime"),
}


def main() -> int:
    kind, *paths = sys.argv[1:]
    for path in paths:
        error = None
        try:
            row = KINDS[kind](Path(path))
        except Exception as e:  # noqa: BLE001 - whatever it is, it is this row's
            error, row = e, {"problem": f"{type(e).__name__}: {str(e)[:300]}"}
        print(json.dumps(row), flush=True)
        if error is not None and not isinstance(error, HARMLESS):
            return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
