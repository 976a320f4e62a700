"""Makes architectures ready for a comparison of times: reads a line "FOLDER NAME" each, writes a line of JSON each.

In the folder are then model.onnx and bundle, which `dlpack build` has verified against onnxruntime.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from architectures import pictures
from architectures.base import Architecture
from architectures.sized import catalogue
from architectures.work import onnx_file, root_of, shortened


def prepare(name: str, folder: Path) -> dict[str, Any]:
    """`macs` and `weights` (bytes) of what was built, or `failed`: why it was not."""
    import dlpack
    from dlpack.options import Options

    found = catalogue()[name]
    file, bundle = folder / "model.onnx", folder / "bundle"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _export(found, file)
        dlpack.build(file, bundle, Options(name="model", ranges=dict(found.ranges)))
    except Exception as e:  # noqa: BLE001 - the framework's, of whatever kind, or ours
        return {"failed": shortened(f"{type(e).__name__}: {root_of(e)}")}
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    return {"macs": manifest["macs"], "weights": manifest["weights_bytes"]}


def _export(found: Architecture, file: Path) -> None:
    """By torch.onnx from TorchScript, or from torch.export where that fails."""
    import torch

    pictures.import_torchvision()
    model, inputs = found.make()
    with torch.no_grad():
        try:
            onnx_file(copy.deepcopy(model), inputs, file, 17)
        except Exception:  # noqa: BLE001 - PyTorch does not write it so
            onnx_file(model, inputs, file, None)


def main() -> None:
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no result
    logging.disable(logging.WARNING)
    for line in sys.stdin:
        folder, name = line.rstrip("\n").split(" ", 1)
        with contextlib.redirect_stdout(sys.stderr):
            result = prepare(name, Path(folder))
        print(json.dumps(result), file=out, flush=True)


if __name__ == "__main__":
    main()
