"""MXNet's first example: three dense layers on digits, trained here.

python examples/mlp.py build/mlp
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _example import Example, main, write_digit_files
from _mxnet import Net
from _train import accuracy, fit, mnist_like
from digits.train import Dense, Flatten, Relu


def write(folder: Path, small: bool) -> Example:
    (images, labels), held_out = mnist_like()
    rng = np.random.default_rng(0)
    dense = [Dense(rng, 784, 128), Dense(rng, 128, 64), Dense(rng, 64, 10)]
    layers = [Flatten(), dense[0], Relu(), dense[1], Relu(), dense[2]]
    fit(layers, images, labels, 2 if small else 20)
    print(f"# {accuracy(layers, *held_out):.1%} of the {len(held_out[1])} held-out digits")

    net = Net()
    x = net.op("Flatten", "flatten", net.data("data", 1))
    for k, layer in enumerate(dense, 1):
        x = net.dense(x, f"fc{k}", layer.weight.shape[1], len(layer.weight), (layer.weight, layer.bias))
        x = net.activation(x, f"relu{k}") if k < 3 else x
    names, preprocess = write_digit_files(folder)
    return Example(net.save(folder, "mlp", net.softmax(x)), {"data": (1, 1, 28, 28)}, names, preprocess)


if __name__ == "__main__":
    main(write, __doc__)
