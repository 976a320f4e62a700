"""LeNet as MXNet's example has it, with tanh, on digits; trained here.

python examples/lenet.py build/lenet
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _example import Example, main, write_digit_files
from _mxnet import Net
from _train import Tanh, accuracy, fit, mnist_like
from digits.train import Conv, Dense, Flatten, MaxPool


def write(folder: Path, small: bool) -> Example:
    (images, labels), held_out = mnist_like()
    rng = np.random.default_rng(0)
    filters, hidden = ((4, 8), 32) if small else ((20, 50), 500)
    convs = [Conv(rng, 1, filters[0], 5, padding=0), Conv(rng, filters[0], filters[1], 5, padding=0)]
    dense = [Dense(rng, filters[1] * 16, hidden), Dense(rng, hidden, 10)]
    layers = [convs[0], Tanh(), MaxPool(), convs[1], Tanh(), MaxPool(), Flatten(), dense[0], Tanh(), dense[1]]
    count = 320 if small else len(images)
    fit(layers, images[:count], labels[:count], 2 if small else 3)
    print(f"# {accuracy(layers, *held_out):.1%} of the {len(held_out[1])} held-out digits")

    net = Net()
    x = net.data("data", 1)
    for k, conv in enumerate(convs, 1):
        x = net.conv(x, f"conv{k}", len(conv.weight), 5, weights=(conv.weight, conv.bias))
        x = net.pool(net.activation(x, f"tanh{k}", "tanh"), f"pool{k}", 2, 2)
    x = net.op("Flatten", "flatten", x)
    x = net.dense(x, "fc1", filters[1] * 16, hidden, (dense[0].weight, dense[0].bias))
    x = net.dense(net.activation(x, "tanh3", "tanh"), "fc2", hidden, 10, (dense[1].weight, dense[1].bias))
    names, preprocess = write_digit_files(folder)
    return Example(net.save(folder, "lenet", net.softmax(x)), {"data": (1, 1, 28, 28)}, names, preprocess)


if __name__ == "__main__":
    main(write, __doc__)
