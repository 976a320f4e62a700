"""Sound with a loaded bundle whose model takes it."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np

from dlpack.bundle.writing import Writing
from dlpack.errors import UsageError
from dlpack.graph.ir import Array


class Hearing(Writing):
    """The part of a predictor that takes sound. Its methods raise UsageError for other models.

    Samples are one-dimensional: floats in -1..1, or int16 as in a .wav file, of which 32768 counts as 1. They must be
    of the rate that the model takes, `manifest["sound"]["rate"]` per second; nothing resamples them.
    """

    if TYPE_CHECKING:
        inputs: dict[str, tuple[str, tuple[int, ...]]]
        _keep: dict[int, Any]

        def _view(self, function: str, index: int, dtype: str, shape: tuple[int, ...]) -> Array: ...

    def preprocess_sound(self, samples: Any, rate: int) -> Array:
        """The input that the bundle's `sound` makes of samples, `rate` of them per second: a log-mel spectrogram.

        What `dlpack.meaning.sound` defines, done by the compiled code. The input is a new array, for `run` or `bind`;
        the predictor's own input of that name is set to it as well. Silence follows where there are fewer samples than
        `manifest["sound"]["samples"]`.
        Raises ValueError for no samples or more than these, another rate, and for what are no samples.
        """
        spec = self._sound()
        given = self._samples(samples, rate)
        if len(given) > spec["samples"]:
            seconds = spec["samples"] / spec["rate"]
            raise ValueError(
                f"{len(given):,} samples are more than the {spec['samples']:,} ({seconds:g} seconds) that "
                f"{self.name} takes at once"
            )
        with self._lock:
            status = self._function("preprocess_sound")(
                self._open(), ctypes.c_void_p(given.ctypes.data), ctypes.c_size_t(len(given)), ctypes.c_int32(rate)
            )
            self._check(status)
            index = list(self.inputs).index(spec["input"])
            self._keep.pop(index, None)
            return self._view("input_data", index, *self.inputs[spec["input"]]).copy()

    def _sound(self) -> dict[str, Any]:
        if "sound" not in self.manifest:
            raise UsageError(f"{self.name} takes no sound: build it with --sound whisper, or a file that describes it")
        found: dict[str, Any] = self.manifest["sound"]
        return found

    def _samples(self, samples: Any, rate: int) -> Array:
        """The samples as C reads them: float32, at least one. Raises ValueError for what are none."""
        wanted = self._sound()["rate"]
        if rate != wanted:
            raise ValueError(f"{self.name} takes {wanted} samples per second, not {rate}: resample them before")
        given = np.asarray(samples)
        if given.ndim != 1:
            raise ValueError(f"samples must be of one channel, one-dimensional, not of shape {given.shape}")
        if given.dtype == np.int16:
            given = given.astype(np.float32) / 32768
        if given.dtype.kind != "f":
            raise ValueError(f"samples must be floats in -1..1 or int16, not {given.dtype.name}")
        if not given.size:
            raise ValueError("there are no samples")
        if not np.isfinite(given).all():
            raise ValueError("samples must be finite numbers")
        return np.ascontiguousarray(given, np.float32)
