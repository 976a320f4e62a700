"""Many models at once: what a file of models asks for is built by several processes, and only what changed is."""

from dlpack.many.build import Report, build_all

__all__ = ["Report", "build_all"]
