"""In a wheel, where dlpack is not, this is the module itself (`_write`)."""

from dlpack.meaning.open_sizes import OpenSizes

__all__ = ["OpenSizes"]
