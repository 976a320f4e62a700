"""The pictures that the style network learns from: the style itself, photos and made-up scenes.

python examples/style/pictures.py style.png

Pictures are float, height x width x 3, RGB in 0..1. Everything random comes from the generator that is given.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

Array = np.ndarray

PALETTE = [
    *[(14, 22, 60), (24, 52, 120), (36, 98, 168), (88, 160, 190)],
    *[(176, 206, 180), (240, 214, 120), (250, 176, 50), (255, 240, 200)],
]
"""From the darkest to the brightest stroke, 0..255."""


def smooth_noise(rng: np.random.Generator, side: int, frequency: float) -> Array:
    """Periodic Gaussian noise whose spectrum falls off as a Gaussian of `frequency` cycles per side; deviation 1."""
    f = np.fft.fftfreq(side, 1 / side)
    envelope = np.exp(-(f[:, None] ** 2 + f**2) / (2 * frequency**2))
    noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((side, side))) * envelope).real
    return noise / noise.std()


def line_integral(noise: Array, vx: Array, vy: Array, length: int) -> Array:
    """Line integral convolution (Cabral and Leedom 1993): noise averaged along a field of unit vectors; deviation 1."""
    side = len(noise)
    total = np.zeros_like(noise)
    for sign in (1, -1):
        y, x = np.mgrid[:side, :side].astype(float)
        for _ in range(length):
            row, column = (np.rint(v).astype(int) % side for v in (y, x))
            total += noise[row, column]
            x += sign * vx[row, column]
            y += sign * vy[row, column]
    return total / total.std()


def style_picture(rng: np.random.Generator, side: int = 512) -> Array:
    """Swirling brush strokes: they follow the contours of a smooth landscape, blue in valleys, yellow on hills."""
    landscape = smooth_noise(rng, side, 5)
    slope_y, slope_x = (np.roll(landscape, -1, axis) - np.roll(landscape, 1, axis) for axis in (0, 1))
    steepness = np.hypot(slope_x, slope_y) + 1e-9
    vx, vy = -slope_y / steepness, slope_x / steepness
    hairs = line_integral(smooth_noise(rng, side, side / 6), vx, vy, 16)
    strokes = line_integral(smooth_noise(rng, side, side / 12), vx, vy, 16)
    height = 0.9 * smooth_noise(rng, side, 6) + 0.75 * strokes
    tone = np.empty(side * side)  # each of the palette's tones covers as much as any other
    tone[np.argsort(height, axis=None)] = np.linspace(0, len(PALETTE) - 1, side * side)
    stops = np.array(PALETTE) / 255
    colour = np.stack([np.interp(tone, np.arange(len(stops)), stops[:, c]) for c in range(3)], -1)
    return np.clip(colour.reshape(side, side, 3) * (1 + 0.12 * np.clip(hairs, -2, 2))[..., None], 0, 1)


def scene(rng: np.random.Generator, side: int) -> Array:
    """Discs, ellipses and boxes before clouds: noise whose amplitude falls with frequency, as in nature."""
    f = np.fft.fftfreq(side, 1 / side)
    radius = np.maximum(np.hypot(f[:, None], f), 1)[..., None]
    noise = np.fft.fft2(rng.standard_normal((side, side, 3)), axes=(0, 1)) / radius ** rng.uniform(1, 2)
    clouds = np.fft.ifft2(noise, axes=(0, 1)).real @ (np.eye(3) + rng.uniform(-0.2, 1, (3, 3)))
    picture = (clouds - clouds.mean()) / clouds.std() * 0.2 + 0.5
    y, x = np.mgrid[:side, :side] / side
    for _ in range(rng.integers(2, 12)):
        (cy, cx), angle, (a, b) = rng.random(2), rng.uniform(0, np.pi), rng.uniform(0.03, 0.4, 2)
        u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        v = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
        inside = np.hypot(u / a, v / b) < 1 if rng.random() < 0.5 else np.maximum(abs(u / a), abs(v / b)) < 1
        shading = rng.random(3) + 0.3 * rng.standard_normal(3) * u[..., None] + 0.3 * (picture - 0.5)
        picture = np.where(inside[..., None], shading, picture)
    return np.clip(picture, 0, 1)


def crop(rng: np.random.Generator, picture: Array, side: int) -> Array:
    """A square of the picture, from anywhere."""
    y, x = (rng.integers(size - side + 1) for size in picture.shape[:2])
    return picture[y : y + side, x : x + side]


def photo_crop(rng: np.random.Generator, photos: list[Array], side: int) -> Array:
    """A square of one of the photos, at times mirrored, turned, with its colours exchanged, inverted or brightened."""
    part = crop(rng, photos[rng.integers(len(photos))], side)
    if rng.random() < 0.5:
        part = part[:, ::-1]
    if rng.random() < 0.5:
        part = part.transpose(1, 0, 2)
    if rng.random() < 0.5:
        part = part[..., rng.permutation(3)]
    if rng.random() < 0.2:
        part = 1 - part
    return np.clip(part, 0, 1) ** np.exp(rng.uniform(-0.5, 0.5))


if __name__ == "__main__":
    from PIL import Image

    picture = style_picture(np.random.default_rng(1))
    Image.fromarray((picture * 255).round().astype(np.uint8)).save(Path(sys.argv[1]))
