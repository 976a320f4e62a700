"""Sound with a loaded bundle whose model takes it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np

from dlpack.bundle.generating import Sampler, Sampling
from dlpack.bundle.writing import Writing, collector
from dlpack.errors import UsageError
from dlpack.graph.ir import Array

_ON_SEGMENT = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_void_p, ctypes.c_double, ctypes.c_double, ctypes.POINTER(ctypes.c_char), ctypes.c_size_t
)

_TOKEN_BYTES = 256
"""More than a token has of a text."""


class Segment(NamedTuple):
    """A part of what is said, from `start` to `end` in seconds from the first sample on."""

    start: float
    end: float
    text: str


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
        `manifest["sound"]["samples"]`. A model of speech begins a new text, as `hear` does.
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
            self._after()
            index = list(self.inputs).index(spec["input"])
            self._keep.pop(index, None)
            return self._view("input_data", index, *self.inputs[spec["input"]]).copy()

    def hear(self, features: Any) -> None:
        """Begins a text about these features, float32 of the shape of the model's input, which `generate` writes then.

        Raises UsageError for a model without an encoder of sound, ValueError for another shape or type.
        """
        spec = self._decoder()
        if "features" not in spec:
            raise UsageError(f"{self.name} hears nothing: it is a decoder without an encoder")
        wanted = next(t["shape"] for t in self.manifest["inputs"] if t["name"] == spec["features"])
        given = np.ascontiguousarray(features)
        if given.dtype != np.float32 or list(given.shape) != wanted:
            raise ValueError(f"features must be float32 of shape {wanted}, not {given.dtype} of {list(given.shape)}")
        with self._lock:
            address = ctypes.c_void_p(given.ctypes.data)
            status = self._function("hear")(self._open(), address, ctypes.c_size_t(given.nbytes))
            self._after()
            self._check(status)

    def transcribe(
        self,
        samples: Any,
        rate: int,
        *,
        language: str | None = None,
        translate: bool = False,
        on_text: Callable[[str], Any] | None = None,
        **sampling: Unpack[Sampling],
    ) -> str:
        """What is said in samples, `rate` of them per second, of any length: windows follow one after the other.

        `language` is a code such as "en"; None: the model finds it out in the first window. `translate` writes English.
        `on_text` is called with each piece; if it returns True, that was the last. `sampling` are `temperature`,
        `top_k`, `top_p` and `seed`, as of `Sampler`; by default each token is the likeliest.
        Raises UsageError for a model that does not do this, ValueError for samples as `preprocess_sound` refuses them,
        and for a language or a translation that the model does not know.
        """
        took, pieces, failed = collector(on_text)
        asked = samples, rate, language, translate, Sampler(**sampling)
        self._transcribe("transcribe", asked, failed, took, None, None, ctypes.c_size_t(0), None)
        return "".join(pieces)

    def segments(
        self,
        samples: Any,
        rate: int,
        *,
        language: str | None = None,
        translate: bool = False,
        on_segment: Callable[[Segment], Any] | None = None,
        **sampling: Unpack[Sampling],
    ) -> list[Segment]:
        """What `transcribe` gives, in segments with the times that the model tells.

        A window begins where the last whole segment before it has ended, so no word is cut at its border. `on_segment`
        is called with each; if it returns True, that was the last. Else as `transcribe`.
        Raises UsageError for a model that does not do this, ValueError as `transcribe` does.
        """
        if "times" not in self.manifest.get("speech", {}):
            raise UsageError(
                f"{self.name} tells no times: that takes a model such as Whisper, which has tokens for them"
            )
        found: list[Segment] = []
        failed: list[BaseException] = []

        def took(_: object, start: float, end: float, text: Any, size: int) -> int:
            found.append(Segment(start, end, text[:size].decode()))
            try:
                return int(on_segment is not None and on_segment(found[-1]) is True)
            except BaseException as error:  # noqa: BLE001 - C has no exceptions: the caller raises it again
                failed.append(error)
                return 1

        room = ctypes.create_string_buffer(self.manifest["decoder"]["context"] * _TOKEN_BYTES)
        asked = samples, rate, language, translate, Sampler(**sampling)
        self._transcribe("transcribe_timed", asked, failed, _ON_SEGMENT(took), None, room, ctypes.c_size_t(len(room)))
        return found

    def _transcribe(
        self,
        function: str,
        asked: tuple[Any, int, str | None, bool, Sampler],
        failed: list[BaseException],
        *results: Any,
    ) -> None:
        """Calls a C function for what is `asked` of samples; `results` are its last arguments.

        Raises as `transcribe` does, and the first of `failed`, which is what the user's function has raised.
        """
        samples, rate, language, translate, sampler = asked
        if "speech" not in self.manifest or "tokenizer" not in self.manifest:
            raise UsageError(
                f"{self.name} does not write speech: that takes a model such as Whisper, with its tokenizer.json"
            )
        speech, given = self.manifest["speech"], self._samples(samples, rate)
        known = speech["languages"]
        if language is not None and language not in known:
            told = f"it knows {', '.join(sorted(known))}" if known else "it knows one, which is not named"
            raise ValueError(f"{self.name} does not know the language {language!r}; {told}")
        if translate and "translate" not in speech:
            raise ValueError(f"{self.name} does not translate")
        code = None if language is None else language.encode()
        with self._lock:
            status = self._function(function)(
                self._open(), ctypes.c_void_p(given.ctypes.data), ctypes.c_size_t(len(given)), ctypes.c_int32(rate),
                code, ctypes.c_int32(translate), ctypes.byref(sampler), *results,
            )  # fmt: skip
            self._after()
        if failed:
            raise failed[0]
        self._check(status)

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
