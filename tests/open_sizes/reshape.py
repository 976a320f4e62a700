"""How often a library allocates while its shapes are set: python -m open_sizes.reshape HOOK BUNDLE, the shapes as JSON
on standard input. A process of its own, which loads hook.c's library before the C library."""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path

import numpy as np


def main() -> None:
    hook, bundle = ctypes.CDLL(sys.argv[1]), Path(sys.argv[2])
    manifest = json.loads((bundle / "manifest.json").read_text())
    name, library = manifest["name"], ctypes.CDLL(str(bundle / manifest["library"]))
    shapes = np.array(json.load(sys.stdin), np.int64)
    predictor, size = ctypes.c_void_p(), ctypes.c_size_t
    weights = bundle / manifest["weights"]["file"] if "weights" in manifest else None
    data = weights.read_bytes() if weights and weights.is_file() else b""
    hook.allocations.restype = hook.allocations_of_reshape.restype = ctypes.c_long
    before = hook.allocations()
    status = getattr(library, f"{name}_create")(ctypes.byref(predictor), None, size(0), data or None, size(len(data)))
    if status or hook.allocations() == before:
        raise SystemExit(f"create: status {status}, {hook.allocations() - before} allocations")
    print(
        hook.allocations_of_reshape(
            getattr(library, f"{name}_reshape"), predictor, shapes.ctypes.data_as(ctypes.c_void_p), shapes.shape[1],
            shapes.shape[0],
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
