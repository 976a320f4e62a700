"""Preprocessing: how a picture is turned into the input; the manifest's `preprocess` object.

The definition, which web/preprocess.js follows step by step (tests/test_wasm.py holds the two within 1/255):

1. **Channels.** RGB in 0..255; transparent pixels are drawn over white. "GRAY" is 0.299 R + 0.587 G + 0.114 B.
   "Rounded" is floor(x + 0.5) here and below; both are rounded to bytes.
2. **Size.** `resize` null: height and width become the input's. Else the shorter side becomes `resize` and the longer
   one longer * resize / shorter, rounded, and the centre of the result is cropped to the input's size, from
   floor((size - crop) / 2) on.
3. **Resampling.** Bilinear with antialiasing, as in Pillow (and torchvision on Pillow's pictures): output pixel i is at
   c = (i + 0.5) * n_in / n_out; input pixel j weighs max(0, 1 - |j + 0.5 - c| / s) with s = max(1, n_in / n_out), for j
   from max(0, floor(c - s + 0.5)) up to but without min(n_in, floor(c + s + 0.5)); the weights are divided by their
   sum. Along rows first, rounded to bytes, then along columns, rounded to bytes.
4. **Values.** (x * scale - mean[channel]) / std[channel], channels in the order `channels`.
5. **Integers.** In a quantised input (`quantization`), the integer that represents the value, as in ONNX's
   QuantizeLinear: value / scale, ties to even, + zero_point, clamped. In any other integer input, the value itself,
   rounded and clamped.
6. **Order.** `layout` NCHW or NHWC, batch 1, in the input's dtype.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.errors import UsageError
from dlpack.meaning.metadata import key_words, read_key
from dlpack.meaning.quantization import Quantization, quantization_of

Array = np.ndarray[Any, Any]
Inputs = Sequence[Mapping[str, Any]]
"""A model's inputs as listed in a manifest: name, dtype, shape."""

CHANNELS = {"RGB": 3, "BGR": 3, "GRAY": 1}


@dataclass(frozen=True)
class Preprocess:
    """`input` is the name of the model's input, `height` and `width` its size; the module describes the rest."""

    input: str
    height: int
    width: int
    resize: int | None = None
    channels: str = "RGB"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: str = "NCHW"
    dtype: str = "float32"
    quantization: Quantization | None = None

    def to_json(self) -> dict[str, Any]:
        fields = {**asdict(self), "mean": list(self.mean), "std": list(self.std)}
        return {k: v for k, v in fields.items() if v is not None or k != "quantization"}

    def misfit(self) -> str | None:
        """A warning if a quantised input can represent less than half of the range that preprocessing produces."""
        if self.quantization is None:
            return None
        low, high = self.quantization.limits(self.dtype)
        mean, std = np.asarray(self.mean), np.asarray(self.std)
        ends = np.sort([(0 - mean) / std, (255 * self.scale - mean) / std], axis=0)
        held = np.minimum(ends[1], high) - np.maximum(ends[0], low)
        if (held >= (ends[1] - ends[0]) / 2).all():
            return None
        return (
            f"preprocessing produces values from {ends[0].min():.4g} to {ends[1].max():.4g}, but the quantised "
            f"input {self.input!r} represents only {low:.4g} to {high:.4g}: specify the preprocessing of the model "
            "before it was quantised"
        )

    def __call__(self, picture: Array) -> Array:
        """The input for `picture`: uint8 of height x width (x 1, 3 RGB or 4 RGBA)."""
        x = _channels(np.asarray(picture), self.channels)
        x = _middle(x, self.height, self.width, self.resize)
        x = (x * np.float64(self.scale) - np.asarray(self.mean)) / np.asarray(self.std)
        kind = np.dtype(self.dtype)
        if self.quantization is not None:
            x = self.quantization.quantize(x, self.dtype)
        elif kind.kind in "iu":
            limits = np.iinfo(kind)
            x = np.clip(np.floor(x + 0.5), limits.min, limits.max)
        if self.layout == "NCHW":
            x = x.transpose(2, 0, 1)
        return np.ascontiguousarray(x[None].astype(kind))


PRESETS: dict[str, dict[str, Any]] = {
    "imagenet": {
        "resize": "8/7",
        "channels": "RGB",
        "scale": 1 / 255,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    },
    "caffe": {"resize": "8/7", "channels": "BGR", "mean": [104.0, 117.0, 123.0]},
    "tf": {"resize": "8/7", "channels": "RGB", "scale": 1 / 127.5, "mean": [1.0]},
    "none": {},
}
"""By name; "8/7" resizes the shorter side to 8/7 of the input's (256 for 224), rounded down, but at least to the
input's longer side."""


def resolve(text: str, sets: Sequence[Inputs]) -> tuple[Preprocess | None, ...]:
    """The preprocessing that `--preprocess` specifies, for each set of shapes (see `for_sets`).

    `text` is a preset's name, the path of a JSON file, or JSON itself. Missing keys are those of the preset `none`.

    Raises UsageError for an unknown or unsuitable value.
    """
    return for_sets(read_option(text), sets, f"--preprocess {text}")


def read_option(text: str) -> dict[str, Any]:
    """The JSON object that `--preprocess` specifies, including its preset's keys. Raises UsageError."""
    return _with_preset(_read(text), f"--preprocess {text}")


def from_metadata(text: str, sets: Sequence[Inputs]) -> tuple[Preprocess | None, ...]:
    """The preprocessing in the model's metadata key `dlpack.preprocess`: JSON that cannot refer to a file."""
    where = key_words("dlpack.preprocess")
    value = read_key(text, "dlpack.preprocess")
    return for_sets(_with_preset(value, where), sets, where)


def for_sets(
    value: Mapping[str, Any], sets: Sequence[Inputs], where: str = "--preprocess"
) -> tuple[Preprocess | None, ...]:
    """A `Preprocess` from its JSON form for each set of shapes (`sets` holds the inputs of each); None for a set that
    takes no picture because its batch is not 1.

    A `resize` in pixels applies to the first set with a picture and is scaled in the others with the input's shorter
    side, rounded down. Raises UsageError like `from_json`.
    """
    number = next((k for k, inputs in enumerate(sets) if any(map(_is_picture, inputs))), 0)
    first = from_json(value, sets[number], where)
    found: list[Preprocess | None] = []
    for inputs in sets:
        if not any(t["name"] == first.input and _is_picture(t) for t in inputs):
            found.append(None)
            continue
        own = {**value, "input": first.input, "layout": first.layout, "channels": first.channels}
        fitted = from_json({**own, "resize": None}, inputs, where)
        if first.resize is not None and value.get("resize") != "8/7":
            own["resize"] = first.resize * min(fitted.height, fitted.width) // min(first.height, first.width)
        found.append(from_json(own, inputs, where))
    return tuple(found)


def by_shorter_side(pictures: Sequence[Preprocess]) -> bool:
    """Whether pictures are resized to 8/7 of each set's shorter side, and not in proportion to the first set's."""
    sides = [(min(p.height, p.width), max(p.height, p.width), p.resize) for p in pictures]
    return all(resize == max(short * 8 // 7, longer) for short, longer, resize in sides)


def _is_picture(tensor: Mapping[str, Any]) -> bool:
    return len(tensor["shape"]) == 4 and tensor["shape"][0] == 1


def _read(text: str) -> Any:
    if text in PRESETS:
        return PRESETS[text]
    try:
        return json.loads(text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8"))
    except OSError as e:
        raise UsageError(
            f"--preprocess {text}: neither a preset ({', '.join(PRESETS)}) nor a readable file: {e}"
        ) from e
    except (ValueError, RecursionError) as e:
        raise UsageError(f"--preprocess {text}: not JSON: {e}") from e


def _with_preset(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: not a JSON object")
    preset = value.get("preset", "none")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise UsageError(f"{where}: unknown preset {preset!r}; the presets are {', '.join(PRESETS)}")
    return {**PRESETS[preset], **{k: v for k, v in value.items() if k != "preset"}}


def from_json(value: Mapping[str, Any], inputs: Inputs, where: str = "--preprocess") -> Preprocess:
    """A `Preprocess` from its JSON form, fitted to the model's inputs and checked; `where` it stands, for errors."""
    v = dict(value)
    unknown = set(v) - {*Preprocess.__dataclass_fields__}
    if unknown:
        raise UsageError(f"{where}: unknown key {sorted(unknown)[0]!r}")
    pictures = [t for t in inputs if _is_picture(t)]
    chosen = next((t for t in pictures if v.get("input") in (None, t["name"])), None)
    if chosen is None:
        raise UsageError(
            f"{where}: the model has no input {v.get('input') or 'of shape 1 x C x H x W'} that can take a picture"
        )
    shape = list(chosen["shape"])
    layout = v.get("layout") or ("NHWC" if shape[3] in (1, 3) and shape[1] not in (1, 3) else "NCHW")
    if layout not in ("NCHW", "NHWC"):
        raise UsageError(f"{where}: layout {layout!r} must be NCHW or NHWC")
    count, height, width = (shape[i] for i in ((1, 2, 3) if layout == "NCHW" else (3, 1, 2)))
    channels = v.get("channels") or ("GRAY" if count == 1 else "RGB")
    if not isinstance(channels, str) or CHANNELS.get(channels) != count:
        raise UsageError(f"{where}: channels {channels!r} do not match input {chosen['name']!r}, which has {count}")
    resize = v.get("resize")
    short = min(height, width)
    if resize == "8/7":
        resize = max(short * 8 // 7, height, width)
    if resize is not None and (type(resize) is not int or not max(height, width) <= resize <= 1 << 16):
        size = f"{max(height, width)}, the longer side of {chosen['name']!r} ({height} x {width})"
        raise UsageError(f"{where}: resize {resize!r} must be null or at least {size}")
    try:
        numbers = {k: tuple(float(x) for x in v.get(k, d)) for k, d in (("mean", [0.0]), ("std", [1.0]))}
        scale = float(v.get("scale", 1.0))
    except (TypeError, ValueError) as e:
        raise UsageError(f"{where}: mean and std must be lists of numbers, scale a number: {e}") from e
    for k, n in numbers.items():
        if len(n) not in (1, count) or not np.isfinite(n).all() or (k == "std" and 0.0 in n):
            raise UsageError(f"{where}: {k} must be 1 or {count} finite numbers" + (", not 0" if k == "std" else ""))
    if not np.isfinite(scale):
        raise UsageError(f"{where}: scale {scale} is not finite")
    dtype = chosen["dtype"]
    if dtype in ("bool", "bfloat16"):
        raise UsageError(f"{where}: input {chosen['name']!r} has type {dtype}, which pictures are not turned into")
    mean, std, quantization = numbers["mean"], numbers["std"], quantization_of(chosen)
    return Preprocess(chosen["name"], height, width, resize, channels, scale, mean, std, layout, dtype, quantization)


def _channels(picture: Array, channels: str) -> Array:
    x = picture.astype(np.float64)
    if x.ndim == 2:
        x = x[:, :, None]
    if x.ndim != 3 or x.shape[2] not in (1, 3, 4):
        raise ValueError(f"a picture must have the shape height x width (x 1, 3 or 4 channels), not {picture.shape}")
    if x.shape[2] == 4:
        alpha = x[:, :, 3:] / 255.0
        x = _rounded(x[:, :, :3] * alpha + 255.0 * (1.0 - alpha))
    if x.shape[2] == 1:
        return x if channels == "GRAY" else np.repeat(x, 3, axis=2)
    if channels == "GRAY":
        return _rounded(x[:, :, :1] * 0.299 + x[:, :, 1:2] * 0.587 + x[:, :, 2:] * 0.114)
    return x if channels == "RGB" else x[:, :, ::-1]


def _middle(x: Array, height: int, width: int, resize: int | None) -> Array:
    """Resizes, and crops the centre."""
    h, w = x.shape[:2]
    if resize is None:
        new_h, new_w = height, width
    else:
        short = min(h, w)
        new_h, new_w = ((2 * n * resize + short) // (2 * short) for n in (h, w))
    top, left = (new_h - height) // 2, (new_w - width) // 2
    x = _rounded(np.einsum("ij,hjc->hic", _weights(w, new_w)[left : left + width], x, optimize=True))
    return _rounded(np.einsum("ij,jwc->iwc", _weights(h, new_h)[top : top + height], x, optimize=True))


def _rounded(x: Array) -> Array:
    result: Array = np.floor(x + 0.5)
    return result


def _weights(n_in: int, n_out: int) -> Array:
    """The matrix n_out x n_in of the resampling along one side."""
    ratio = n_in / n_out
    s = max(1.0, ratio)
    c = (np.arange(n_out)[:, None] + 0.5) * ratio
    j = np.arange(n_in)[None, :]
    low, high = np.maximum(0, np.floor(c - s + 0.5)), np.minimum(n_in, np.floor(c + s + 0.5))
    weights = np.where((j >= low) & (j < high), np.maximum(0.0, 1.0 - np.abs(j + 0.5 - c) / s), 0.0)
    total: Array = weights / weights.sum(1, keepdims=True)
    return total


def to_rgb(picture: Array) -> Array:
    """A picture (height x width, x 1, 3 or 4, uint8) as RGB. Its rows may have gaps between them; the
    pixels of a row do not.

    Raises ValueError for an array that is not a picture or has no pixels.
    """
    if picture.dtype != np.uint8 or not picture.size:
        raise ValueError(
            f"a picture must be uint8 with at least one pixel, not {picture.dtype} of shape {picture.shape}"
        )
    if picture.ndim == 3 and picture.shape[2] == 3:
        apart = abs(picture.strides[0]) >= 3 * picture.shape[1] and picture.strides[1:] == (3, 1)
        return picture if apart else np.ascontiguousarray(picture)
    return np.ascontiguousarray(_channels(picture, "RGB").astype(np.uint8))


def open_picture(path: str | Path) -> Array:
    """A picture file as uint8 RGB or RGBA, turned upright; needs Pillow."""
    from PIL import Image, ImageOps

    with Image.open(path) as picture:
        upright = ImageOps.exif_transpose(picture)
        return np.asarray(upright.convert("RGBA" if upright.has_transparency_data else "RGB"))
