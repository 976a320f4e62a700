"""A neural network compiled to WebAssembly: `Predictor` runs it."""

from .predictor import Class, Predictor

__all__ = ["Class", "Predictor"]
