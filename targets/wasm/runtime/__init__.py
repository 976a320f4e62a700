"""A trained model compiled to WebAssembly: `Predictor` runs it."""

from .predictor import Class, ExceededError, Predictor

__all__ = ["Class", "ExceededError", "Predictor"]
