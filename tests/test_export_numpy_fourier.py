"""The NumPy exporter: numpy.fft, and the complex arrays between its transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_export_numpy import check

from dlpack.errors import DlpackError

TURN = np.exp(-2j * np.pi * np.arange(6) / 6)

# Each takes x [3, 6] of float32.
TRANSFORMS: dict[str, Callable[[Any], Any]] = {
    "spectrum": lambda x: (np.abs(np.fft.rfft(x)), np.fft.rfft(x, axis=0).real, np.fft.rfft(x, n=9).imag),
    "power": lambda x: np.abs(np.fft.fft(x * np.hanning(6))) ** 2 / 6,
    "conjugate": lambda x: (np.fft.fft(x) * np.conj(np.fft.fft(x))).real,
    "there and back": lambda x: (np.fft.ifft(np.fft.fft(x)).real, np.fft.irfft(np.fft.rfft(x))),
    "odd": lambda x: np.fft.irfft(np.fft.rfft(x[:, :5]), 5),
    "lengths": lambda x: (np.fft.fft(x, 4).real, np.fft.ifft(x, 8, axis=0).imag, np.fft.irfft(np.fft.rfft(x), 8)),
    "norms": lambda x: [np.fft.fft(x, norm=n).real for n in ("ortho", "forward")]
    + [np.fft.irfft(np.fft.rfft(x), norm=n) for n in ("ortho", "forward")],
    "planes": lambda x: (np.fft.fft2(x).imag, np.fft.ifft2(np.fft.fft2(x)).real, np.fft.irfft2(np.fft.rfft2(x))),
    "all axes": lambda x: (np.abs(np.fft.fftn(x)), np.fft.irfftn(np.fft.rfftn(x), s=(3, 6), axes=(0, 1))),
    "a filter": lambda x: np.fft.irfft(np.fft.rfft(x) * np.array([1, 1, 0.5, 0]), 6),
    "a convolution": lambda x: np.fft.ifft(np.fft.fft(x) * np.fft.fft(np.array([1.0, 2, 0, 0, 0, 0]))).real,
    "shifts": lambda x: (np.fft.fftshift(np.abs(np.fft.fft2(x))), np.fft.ifftshift(np.fft.fft(x), axes=1).imag),
    "angles": lambda x: (np.angle(np.fft.fft(x[:, :5]))[:, 1:], np.angle(np.fft.rfft(x), deg=True)[:, 1:3]),
    "complex constants": lambda x: ((x * TURN).sum(axis=1).imag, np.abs(x + 1j), (x / (2 - 1j)).real, (1j * x)[0].imag),
    "arithmetic": lambda x: [f(np.fft.fft(x), np.fft.fft(x[::-1])).real for f in (np.add, np.subtract, np.multiply)]
    + [(np.fft.fft(x) / (np.fft.fft(x[::-1]) + 20)).imag, (-np.fft.fft(x)[1:] ** 2).real, np.exp(1j * x).real],
    "movement": lambda x: np.abs(np.concatenate([np.fft.fft(x), x[:1]]).T).reshape(4, 6).mean(axis=1),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(name: str) -> None:
    check(TRANSFORMS[name], {"x": np.random.default_rng(3).normal(size=(3, 6)).astype(np.float32)})


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: np.fft.fft(x), "returns a complex array; return its .real and .imag, or np.abs"),
        (lambda x: np.sin(np.fft.fft(x)).real, "np.sin of a complex array"),
        (lambda x: np.fft.rfft(np.fft.fft(x)).real, "np.fft.rfft of a complex array"),
    ],
)
def test_what_is_not_converted_is_told(function: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(DlpackError, match=words):
        check(function, {"x": np.ones((3, 6), np.float32)})
