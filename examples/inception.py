"""The three Inceptions of MXNet's examples with random weights: v1 (GoogLeNet), BN and v3.

python examples/inception.py v3 build/inception_v3
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from _example import Example, main
from _mxnet import Net

Layer = tuple[int, int | tuple[int, int]] | tuple[int, int | tuple[int, int], int]
"""A convolution: filters, kernel, and the stride where it is not 1. One of stride 1 keeps height and width."""


class Towers(Net):
    """Convolutions with ReLU, in towers side by side; with `bn`, normalised. Widths are divided by `slim`."""

    def __init__(self, bn: bool, slim: int) -> None:
        super().__init__(seed=1)
        self.bn, self.slim = bn, slim

    def layer(self, x: int, name: str, filters: int, kernel: int | tuple[int, int], stride: int = 1,
              pad: int | tuple[int, int] = 0) -> int:  # fmt: skip
        x = self.conv(x, f"{name}_conv", max(4, filters // self.slim), kernel, stride, pad, bias=not self.bn)
        x = self.batch_norm(x, f"{name}_bn") if self.bn else x
        return self.activation(x, f"{name}_relu")

    def tower(self, x: int, name: str, *layers: Layer, pad: bool = True) -> int:
        """Convolutions one after the other; `pad` says whether those with a stride are padded too."""
        for k, (filters, kernel, *stride) in enumerate(layers):
            sides = (kernel, kernel) if isinstance(kernel, int) else kernel
            around = (sides[0] // 2, sides[1] // 2) if pad or not stride else 0
            x = self.layer(x, f"{name}{k}", filters, sides, *stride, pad=around)
        return x

    def classes(self, x: int, count: int) -> int:
        x = self.op("Flatten", "flatten", self.global_pool(x, "global_pool"))
        return self.softmax(self.dense(x, "fc1", self.channels[x], count))


def v1(net: Towers) -> int:
    """GoogLeNet (Szegedy et al. 2014), with its two local response normalisations."""
    lrn = partial(net.op, "LRN", alpha=1e-4, beta=0.75, knorm=2, nsize=5)
    x = net.layer(net.data("data", 3), "stem1", 64, 7, 2, 3)
    x = lrn("norm1", net.pool(x, "pool1", 3, 2, convention="full"))
    x = lrn("norm2", net.tower(x, "stem2", (64, 1), (192, 3)))
    x = net.pool(x, "pool2", 3, 2, convention="full")
    for name, one, reduce3, three, reduce5, five, pooled in [
        ("3a", 64, 96, 128, 16, 32, 32), ("3b", 128, 128, 192, 32, 96, 64),
        ("4a", 192, 96, 208, 16, 48, 64), ("4b", 160, 112, 224, 24, 64, 64), ("4c", 128, 128, 256, 24, 64, 64),
        ("4d", 112, 144, 288, 32, 64, 64), ("4e", 256, 160, 320, 32, 128, 128),
        ("5a", 256, 160, 320, 32, 128, 128), ("5b", 384, 192, 384, 48, 128, 128),
    ]:  # fmt: skip
        if name in ("4a", "5a"):
            x = net.pool(x, f"pool_{name}", 3, 2, convention="full")
        x = net.concat(
            f"concat_{name}",
            net.tower(x, f"{name}_1x1_", (one, 1)),
            net.tower(x, f"{name}_3x3_", (reduce3, 1), (three, 3)),
            net.tower(x, f"{name}_5x5_", (reduce5, 1), (five, 5)),
            net.tower(net.pool(x, f"{name}_pool", 3, 1, 1), f"{name}_proj_", (pooled, 1)),
        )
    return net.classes(x, 1000)


def bn(net: Towers) -> int:
    """Inception-BN (Ioffe and Szegedy 2015)."""
    x = net.pool(net.layer(net.data("data", 3), "stem1", 64, 7, 2, 3), "pool1", 3, 2, convention="full")
    x = net.pool(net.tower(x, "stem2", (64, 1), (192, 3)), "pool2", 3, 2, convention="full")
    for name, one, reduce3, three, reduce_double, double, kind, pooled in [
        ("3a", 64, 64, 64, 64, 96, "avg", 32), ("3b", 64, 64, 96, 64, 96, "avg", 64),
        ("3c", 0, 128, 160, 64, 96, "max", 0),
        ("4a", 224, 64, 96, 96, 128, "avg", 128), ("4b", 192, 96, 128, 96, 128, "avg", 128),
        ("4c", 160, 128, 160, 128, 160, "avg", 128), ("4d", 96, 128, 192, 160, 192, "avg", 128),
        ("4e", 0, 128, 192, 192, 256, "max", 0),
        ("5a", 352, 192, 320, 160, 224, "avg", 128), ("5b", 352, 192, 320, 192, 224, "max", 128),
    ]:  # fmt: skip
        towers = [
            net.tower(x, f"{name}_3x3_", (reduce3, 1), (three, 3, 1 if one else 2)),
            net.tower(x, f"{name}_double_", (reduce_double, 1), (double, 3), (double, 3, 1 if one else 2)),
        ]
        if one:  # the others halve height and width, and pass the pooled input on as it is
            pool = net.pool(x, f"{name}_pool", 3, 1, 1, kind)
            towers = [net.tower(x, f"{name}_1x1_", (one, 1)), *towers, net.tower(pool, f"{name}_proj_", (pooled, 1))]
        else:
            towers.append(net.pool(x, f"{name}_pool", 3, 2, 1, kind))
        x = net.concat(f"concat_{name}", *towers)
    return net.classes(x, 1000)


def v3(net: Towers) -> int:
    """Inception v3 (Szegedy et al. 2015), for 299 x 299."""
    x = net.tower(net.data("data", 3), "stem1_", (32, 3, 2), pad=False)
    x = net.layer(net.layer(x, "stem2", 32, 3), "stem3", 64, 3, 1, 1)
    x = net.layer(net.layer(net.pool(x, "pool1", 3, 2), "stem4", 80, 1), "stem5", 192, 3)
    x = net.pool(x, "pool2", 3, 2)

    def pooled(x: int, name: str, filters: int) -> int:
        return net.tower(net.pool(x, f"{name}_pool", 3, 1, 1, "avg"), f"{name}_proj_", (filters, 1))

    for k, filters in enumerate((32, 64, 64)):
        x = net.concat(
            f"mixed{k}",
            net.tower(x, f"a{k}_1x1_", (64, 1)),
            net.tower(x, f"a{k}_5x5_", (48, 1), (64, 5)),
            net.tower(x, f"a{k}_double_", (64, 1), (96, 3), (96, 3)),
            pooled(x, f"a{k}", filters),
        )
    x = net.concat(
        "mixed3",
        net.tower(x, "b_3x3_", (384, 3, 2), pad=False),
        net.tower(x, "b_double_", (64, 1), (96, 3), (96, 3, 2), pad=False),
        net.pool(x, "b_pool", 3, 2),
    )
    for k, n in enumerate((128, 160, 160, 192)):
        x = net.concat(
            f"mixed{4 + k}",
            net.tower(x, f"c{k}_1x1_", (192, 1)),
            net.tower(x, f"c{k}_7x7_", (n, 1), (n, (1, 7)), (192, (7, 1))),
            net.tower(x, f"c{k}_double_", (n, 1), (n, (7, 1)), (n, (1, 7)), (n, (7, 1)), (192, (1, 7))),
            pooled(x, f"c{k}", 192),
        )
    x = net.concat(
        "mixed8",
        net.tower(x, "d_3x3_", (192, 1), (320, 3, 2), pad=False),
        net.tower(x, "d_7x7_", (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2), pad=False),
        net.pool(x, "d_pool", 3, 2),
    )
    for k in range(2):
        three, double = net.tower(x, f"e{k}_3x3_", (384, 1)), net.tower(x, f"e{k}_double_", (448, 1), (384, 3))
        x = net.concat(
            f"mixed{9 + k}",
            net.tower(x, f"e{k}_1x1_", (320, 1)),
            *(net.tower(t, f"e{k}_{name}_{a}x{b}_", (384, (a, b)))
              for name, t in (("3x3", three), ("double", double)) for a, b in ((1, 3), (3, 1))),
            pooled(x, f"e{k}", 192),
        )  # fmt: skip
    return net.classes(x, 1000)


VERSIONS = {"v1": (v1, False, 224), "bn": (bn, True, 224), "v3": (v3, True, 299)}
"""By name: the net, whether it is normalised, and its input's side."""


def write(version: str, folder: Path, small: bool) -> Example:
    build, normalised, side = VERSIONS[version]
    net = Towers(normalised, 16 if small else 1)
    side = 75 if small else side
    symbol = net.save(folder, f"inception_{version}", build(net))
    pictures = "tf" if version == "v3" else '{"resize": 256, "mean": [123.68, 116.779, 103.939]}'
    return Example(symbol, {"data": (1, 3, side, side)}, None, pictures)


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in VERSIONS:
        sys.exit(f"usage: python inception.py {'|'.join(VERSIONS)} FOLDER [--small]")
    main(partial(write, sys.argv.pop(1)), __doc__)
