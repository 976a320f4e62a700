"""Training in NumPy for the examples that train: digits as MNIST has them, Adam, and the layers of digits/train.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from digits.train import Layer, gradients, parameters

Array = np.ndarray


class Tanh:
    def forward(self, x: Array) -> Array:
        self.y = np.tanh(x)
        return self.y

    def backward(self, dy: Array) -> tuple[Array, list[Array]]:
        return dy * (1 - self.y * self.y), []


def mnist_like() -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """scikit-learn's digits, enlarged to 20 x 20 in the middle of 28 x 28 as in MNIST: (N x 1 x 28 x 28 in 0..1,
    labels) to train on, and a fifth of them held out."""
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits

    digits = load_digits()
    large = zoom(digits.images.astype(np.float32) / 16, (1, 2.5, 2.5), order=1)
    images = np.pad(large, ((0, 0), (4, 4), (4, 4)))[:, None]
    order = np.random.default_rng(0).permutation(len(images))
    held, seen = order[: len(order) // 5], order[len(order) // 5 :]
    return (images[seen], digits.target[seen]), (images[held], digits.target[held])


def adam(weights: Sequence[Array], steps: int, rate: float = 1e-3) -> Callable[[Sequence[Array]], None]:
    """Adam (Kingma and Ba 2015), its rate falling to zero over so many steps; the result takes a step in place."""
    mean, square = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    done = 0

    def step(grads: Sequence[Array]) -> None:
        nonlocal done
        now = rate * 0.5 * (1 + np.cos(np.pi * done / steps))
        done += 1
        for w, m, s, g in zip(weights, mean, square, grads, strict=True):
            m += 0.1 * (g - m)
            s += 0.001 * (g * g - s)
            w -= (now / (1 - 0.9**done)) * m / (np.sqrt(s / (1 - 0.999**done)) + 1e-8)

    return step


def fit(layers: list[Layer], images: Array, labels: Array, epochs: int, batch: int = 32, rate: float = 1e-3) -> None:
    """Trains a classifier whose last layer gives logits."""
    step = adam(parameters(layers), epochs * -(-len(images) // batch), rate)
    rng = np.random.default_rng(1)
    for _ in range(epochs):
        order = rng.permutation(len(images))
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            step(gradients(layers, images[chosen], labels[chosen])[1])


def accuracy(layers: list[Layer], images: Array, labels: Array) -> float:
    for layer in layers:
        images = layer.forward(images)
    return float((images.argmax(1) == labels).mean())
