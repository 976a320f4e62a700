"""Fast neural style (Johnson et al. 2016, instance normalisation), a picture in and a picture out, with random weights.

python examples/style.py build/style
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _example import Example, main
from _mxnet import Net


def conv(net: Net, x: int, name: str, filters: int, kernel: int, stride: int = 1) -> int:
    """A convolution over reflected borders, instance-normalised."""
    p = kernel // 2
    x = net.op("Pad", f"{name}_pad", x, mode="reflect", pad_width=(0, 0, 0, 0, p, p, p, p))
    x = net.conv(x, f"{name}_conv", filters, kernel, stride)
    gamma, beta = (net.weight(f"{name}_{k}", np.full(filters, v)) for k, v in (("gamma", 1.0), ("beta", 0.0)))
    return net.op("InstanceNorm", f"{name}_norm", x, gamma, beta, eps=1e-5)


def write(folder: Path, small: bool) -> Example:
    net = Net(seed=3)
    width, side, blocks = (4, 32, 1) if small else (32, 256, 5)
    x = net.data("data", 3)
    for k, (factor, kernel, stride) in enumerate([(1, 9, 1), (2, 3, 2), (4, 3, 2)]):
        x = net.activation(conv(net, x, f"down{k}", width * factor, kernel, stride), f"down{k}_relu")
    for k in range(blocks):
        y = net.activation(conv(net, x, f"block{k}a", 4 * width, 3), f"block{k}_relu")
        x = net.op("elemwise_add", f"block{k}_sum", x, conv(net, y, f"block{k}b", 4 * width, 3))
    for k, factor in enumerate((2, 1)):
        x = net.op("UpSampling", f"up{k}", x, scale=2, sample_type="nearest", num_args=1)
        x = net.activation(conv(net, x, f"up{k}", width * factor, 3), f"up{k}_relu")
    x = net.activation(conv(net, x, "out", 3, 9), "out_tanh", "tanh")
    x = net.op("_plus_scalar", "picture", net.op("_mul_scalar", "contrast", x, scalar=127.5), scalar=127.5)
    return Example(net.save(folder, "style", x), {"data": (1, 3, side, side)}, None, "none")


if __name__ == "__main__":
    main(write, __doc__)
