"""dlpack: a trained model goes in, one C++ file that runs it comes out."""

from __future__ import annotations

__version__ = "0.1.0"
