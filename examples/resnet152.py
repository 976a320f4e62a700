"""ResNet-152 with pre-activation, as in MXNet's examples, with random weights.

python examples/resnet152.py build/resnet152
"""

from __future__ import annotations

from pathlib import Path

from _example import Example, main
from _mxnet import Net

UNITS = (3, 8, 36, 3)


def unit(net: Net, x: int, name: str, filters: int, stride: int) -> int:
    """A bottleneck (He et al. 2016, "Identity mappings"): normalised and activated before each convolution."""
    quarter = filters // 4
    first = net.activation(net.batch_norm(x, f"{name}_bn1"), f"{name}_relu1")
    y = net.conv(first, f"{name}_conv1", quarter, 1, bias=False)
    y = net.activation(net.batch_norm(y, f"{name}_bn2"), f"{name}_relu2")
    y = net.conv(y, f"{name}_conv2", quarter, 3, stride, 1, bias=False)
    y = net.activation(net.batch_norm(y, f"{name}_bn3"), f"{name}_relu3")
    y = net.conv(y, f"{name}_conv3", filters, 1, bias=False, gain=0.2)  # so that 50 sums stay in range
    same = net.channels[x] == filters and stride == 1
    return net.op("elemwise_add", f"{name}_sum", y, x if same else net.conv(first, f"{name}_sc", filters, 1, stride,
                                                                          bias=False))  # fmt: skip


def write(folder: Path, small: bool) -> Example:
    net = Net(seed=2)
    slim, side = (16, 64) if small else (1, 224)
    x = net.batch_norm(net.data("data", 3), "bn_data", fix_gamma=True)
    x = net.conv(x, "conv0", 64 // slim, 7, 2, 3, bias=False)
    x = net.pool(net.activation(net.batch_norm(x, "bn0"), "relu0"), "pool0", 3, 2, 1)
    for stage, count in enumerate((1, 2, 2, 1) if small else UNITS):
        for k in range(count):
            x = unit(net, x, f"stage{stage + 1}_unit{k + 1}", (256 << stage) // slim, 2 if stage and not k else 1)
    x = net.activation(net.batch_norm(x, "bn1"), "relu1")
    x = net.op("Flatten", "flatten", net.global_pool(x, "pool1"))
    out = net.softmax(net.dense(x, "fc1", net.channels[x], 1000))
    return Example(net.save(folder, "resnet152", out), {"data": (1, 3, side, side)}, None, "none")


if __name__ == "__main__":
    main(write, __doc__)
