"""Sound: how samples become a log-mel spectrogram, the input of a model of speech; the manifest's `sound` object.

The definition, which runtime_c/sound.h follows (this is that of Whisper, `log_mel_spectrogram` in openai/whisper's
audio.py, and of WhisperFeatureExtractor in transformers):

1. **Samples** of one channel, in -1..1, `rate` of them per second. Zeros follow up to `samples` = `frames` * `hop`.
2. **Frames.** Frame t has the `window` samples around t * `hop`, from `window` / 2 before it on; before the first
   sample and behind the last one lies their mirror, without the sample itself. They are multiplied by Hann's periodic
   window, 0.5 - 0.5 cos(2 pi n / window).
3. **Power.** |X|^2 of the discrete Fourier transform of a frame, `window` / 2 + 1 numbers, at k * rate / window Hz.
4. **Mels.** `mels` triangles over these, which begin, peak and end at `mels` + 2 frequencies that are equally far apart
   on the mel scale, from `low` to `high` Hz. The scale "slaney" is f / (200 / 3) below 1000 Hz and
   15 + 27 ln(f / 1000) / ln 6.4 above, and its triangles have the area 1: they are divided by half their width in Hz.
   The scale "htk" is 2595 log10(1 + f / 700), and its triangles have the height 1.
5. **Values.** "whisper": x = log10(max(mel, `floor`)), no smaller than the largest x of all - 8, then (x + 4) / 4.
   "log": ln(max(mel, `floor`)).
6. **Order.** `layout` "mels x frames" or "frames x mels", batch 1, float32.
"""

from __future__ import annotations

import json
import math
import wave
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.errors import UsageError
from dlpack.meaning.metadata import key_words, read_key

Array = np.ndarray[Any, Any]
Inputs = Sequence[Mapping[str, Any]]
"""A model's inputs as listed in a manifest: name, dtype, shape."""

METADATA_KEY = "dlpack.sound"
PRESETS: dict[str, dict[str, Any]] = {"whisper": {}}
"""By name. What is not said is as Whisper has it."""

MOST_WINDOW = 2048
"""A frame is transformed on the stack."""


@dataclass(frozen=True)
class Sound:
    """`input` is the name of the model's input, [1, `mels`, `frames`] or [1, `frames`, `mels`]; the module describes
    the rest. `low` and `high` are in Hz."""

    input: str
    mels: int
    frames: int
    rate: int = 16000
    window: int = 400
    hop: int = 160
    low: float = 0.0
    high: float = 8000.0
    scale: str = "slaney"
    values: str = "whisper"
    floor: float = 1e-10
    layout: str = "mels x frames"

    @property
    def samples(self) -> int:
        """How many samples the input is made of."""
        return self.frames * self.hop

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "samples": self.samples}

    def filters(self) -> Array:
        """The triangles: float64 [mels, window / 2 + 1]."""
        to, back = (_to_slaney, _from_slaney) if self.scale == "slaney" else (_to_htk, _from_htk)
        corners = back(np.linspace(to(np.array(self.low)), to(np.array(self.high)), self.mels + 2))
        bins = np.arange(self.window // 2 + 1) * (self.rate / self.window)
        low, peak, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
        triangles: Array = np.maximum(0, np.minimum((bins - low) / (peak - low), (high - bins) / (high - peak)))
        return triangles * (2 / (high - low)) if self.scale == "slaney" else triangles

    def __call__(self, samples: Array) -> Array:
        """The input for `samples`, up to as many as it is made of: float32, as compiled code makes it."""
        x = np.zeros(self.samples)
        x[: len(samples)] = samples
        half = self.window // 2
        x = np.concatenate([x[half:0:-1], x, x[-2 : -half - 2 : -1]])
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window) / self.window)
        frames = np.lib.stride_tricks.sliding_window_view(x, self.window)[:: self.hop][: self.frames]
        mel = self.filters() @ (np.abs(np.fft.rfft(frames * window)) ** 2).T
        mel = np.maximum(mel, self.floor)
        if self.values == "whisper":
            mel = np.log10(mel)
            mel = (np.maximum(mel, mel.max() - 8) + 4) / 4
        else:
            mel = np.log(mel)
        return np.ascontiguousarray((mel if self.layout == "mels x frames" else mel.T)[None].astype(np.float32))


def read_wav(path: Path) -> tuple[Array, int]:
    """The samples of a .wav file of whole numbers, float32 in -1..1, the mean of its channels; and its rate.

    Raises UsageError for a file that cannot be read.
    """
    try:
        with wave.open(str(path), "rb") as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            data = np.frombuffer(file.readframes(file.getnframes()), np.uint8).reshape(-1, width)
    except (OSError, EOFError, wave.Error, ValueError) as e:
        raise UsageError(f"{path} is not a .wav file of whole numbers that can be read: {e}") from e
    signed = data ^ np.uint8(128) if width == 1 else data  # those of one byte have an offset
    words = np.zeros((len(data), 4), np.uint8)
    words[:, 4 - width :] = signed
    samples = words.view("<i4").reshape(-1, channels).mean(1) / (1 << 31)
    return samples.astype(np.float32), rate


def _to_slaney(hz: Array) -> Array:
    high = 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / math.log(6.4)
    return np.where(hz < 1000, hz * 3 / 200, high)


def _from_slaney(mel: Array) -> Array:
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * math.log(6.4) / 27))


def _to_htk(hz: Array) -> Array:
    found: Array = 2595 * np.log10(1 + hz / 700)
    return found


def _from_htk(mel: Array) -> Array:
    found: Array = 700 * (10 ** (mel / 2595) - 1)
    return found


def read_sound(text: str, sets: Sequence[Inputs], where: str = "--sound") -> Sound:
    """What `--sound` says, a preset's name, JSON or the path of a JSON file, fitted to the model's inputs, of each set.

    Raises UsageError for an unknown or unsuitable value.
    """
    where = f"{where} {text}" if where == "--sound" else where
    if text in PRESETS:
        value: Any = PRESETS[text]
    else:
        value = _parsed(text, where)
    found = {from_json(value, inputs, where) for inputs in sets}
    if len(found) > 1:
        raise UsageError(f"{where}: the input with the sound has one shape: remove the further --shape of it")
    return found.pop()


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8"))
    except OSError as e:
        raise UsageError(f"{where}: neither a preset ({', '.join(PRESETS)}) nor a readable file: {e}") from e
    except (ValueError, RecursionError) as e:
        raise UsageError(f"{where}: not JSON: {e}") from e


def from_metadata(text: str, sets: Sequence[Inputs]) -> Sound:
    """The same in the model's metadata key `dlpack.sound`: JSON that cannot refer to a file."""
    where = key_words(METADATA_KEY)
    read_key(text, METADATA_KEY)
    return read_sound(text, sets, where)


def from_json(value: Any, inputs: Inputs, where: str = "--sound") -> Sound:
    """A `Sound` from its JSON form, fitted to the model's inputs and checked; `where` it stands, for errors."""
    if not isinstance(value, dict):
        raise UsageError(f"{where}: not a JSON object")
    known = {*Sound.__dataclass_fields__} - {"frames"}
    if unknown := set(value) - known:
        raise UsageError(f"{where}: unknown key {sorted(unknown)[0]!r}; there are {', '.join(sorted(known))}")
    tensors = [t for t in inputs if len(t["shape"]) == 3 and t["shape"][0] == 1 and t["dtype"] == "float32"]
    chosen = next((t for t in tensors if value.get("input") in (None, t["name"])), None)
    if chosen is None:
        named = value.get("input") or "of float32 and shape 1 x mels x frames"
        raise UsageError(f"{where}: the model has no input {named} that can take a spectrogram")
    _, first, second = chosen["shape"]
    wanted = value.get("mels", min(first, second))
    layout = value.get("layout") or ("frames x mels" if wanted == second != first else "mels x frames")
    if layout not in ("mels x frames", "frames x mels"):
        raise UsageError(f"{where}: layout {layout!r} is neither 'mels x frames' nor 'frames x mels'")
    mels, frames = (first, second) if layout == "mels x frames" else (second, first)
    if value.get("mels", mels) != mels:
        shape = f"1 x {first} x {second}"
        raise UsageError(f"{where}: the input {chosen['name']!r} of shape {shape} does not have {wanted} mels")
    sound = Sound(**{**value, "input": chosen["name"], "mels": mels, "frames": frames, "layout": layout})
    if problem := _problem(sound):
        raise UsageError(f"{where}: {problem}")
    return sound


def _problem(s: Sound) -> str:
    """What is wrong with the numbers; "" where nothing is."""
    for key in ("rate", "window", "hop"):
        if type(number := getattr(s, key)) is not int or not 1 <= number <= 1 << 20:
            return f"{key} {number!r} is not a whole number from 1 on"
    for key in ("low", "high", "floor"):
        number = getattr(s, key)
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            return f"{key} {number!r} is not a finite number"
    if s.window % 4 or s.window > MOST_WINDOW:
        return f"window {s.window} is not a multiple of 4 up to {MOST_WINDOW}"
    if s.samples <= s.window // 2 or s.samples >= 1 << 31:
        return f"the input's {s.frames} frames, {s.hop} samples apart, do not fit windows of {s.window}"
    if not 0 <= s.low < s.high <= s.rate / 2:
        return f"low {s.low:g} and high {s.high:g} do not lie between 0 and half the rate, {s.rate / 2:g} Hz"
    if s.scale not in ("slaney", "htk"):
        return f"scale {s.scale!r} is neither 'slaney' nor 'htk'"
    if s.values not in ("whisper", "log"):
        return f"values {s.values!r} is neither 'whisper' nor 'log'"
    if not s.floor > 0:
        return f"floor {s.floor:g} is not above 0"
    return ""
