"""dlpack: a trained model goes in, one C++ file that runs it comes out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlpack.bundle.loader import Predictor, load
    from dlpack.pipeline import build

__version__ = "0.1.0"
__all__ = ["Predictor", "__version__", "build", "load"]


def __getattr__(name: str) -> Any:
    if name in ("Predictor", "load"):
        from dlpack.bundle import loader

        return getattr(loader, name)
    if name == "build":
        from dlpack import pipeline

        return pipeline.build
    raise AttributeError(f"module 'dlpack' has no attribute {name!r}")


os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime, which verifies, would report its use
