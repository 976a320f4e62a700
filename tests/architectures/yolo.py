"""A detector of one stage as those of today are built: CSP blocks, a pyramid, boxes as distributions of distances."""

from __future__ import annotations

from torch import Tensor, cat, nn, softmax, stack, tensor


class Conv(nn.Sequential):
    def __init__(self, c: int, n: int, k: int = 3, stride: int = 1) -> None:
        super().__init__(nn.Conv2d(c, n, k, stride, k // 2, bias=False), nn.BatchNorm2d(n, eps=1e-3), nn.SiLU())


class Bottleneck(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.both = nn.Sequential(Conv(c, c), Conv(c, c))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.both(x)


class C2f(nn.Module):
    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        self.first, self.middle, self.last = Conv(c, n, 1), Bottleneck(n // 2), Conv(n // 2 * 3, n, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.first(x).chunk(2, 1)
        return self.last(cat([a, b, self.middle(b)], 1))


class Pool(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.first, self.last = Conv(c, c // 2, 1), Conv(c * 2, c, 1)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.first(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.last(cat(parts, 1))


class Yolo(nn.Module):
    """Boxes [n, 4 + classes, anchors] in pixels and scores."""

    BINS = 16

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        a, b, c, d = width, 2 * width, 4 * width, 8 * width
        self.stem = nn.Sequential(Conv(3, a, stride=2), Conv(a, b, stride=2), C2f(b, b))
        self.p3 = nn.Sequential(Conv(b, c, stride=2), C2f(c, c))
        self.p4 = nn.Sequential(Conv(c, d, stride=2), C2f(d, d))
        self.p5 = nn.Sequential(Conv(d, d, stride=2), C2f(d, d), Pool(d))
        self.up = nn.Upsample(scale_factor=2)
        self.up4, self.up3 = C2f(2 * d, c), C2f(2 * c, c)
        self.down4, self.down5 = Conv(c, c, stride=2), Conv(c, d, stride=2)
        self.out4, self.out5 = C2f(2 * c, c), C2f(2 * d, d)
        sizes = (c, c, d)
        self.boxes = nn.ModuleList(nn.Sequential(Conv(n, c), nn.Conv2d(c, 4 * self.BINS, 1)) for n in sizes)
        self.classes = nn.ModuleList(nn.Sequential(Conv(n, c), nn.Conv2d(c, classes, 1)) for n in sizes)
        self.register_buffer("bins", tensor([float(i) for i in range(self.BINS)]))

    def forward(self, x: Tensor) -> Tensor:
        p3 = self.p3(self.stem(x))
        p4 = self.p4(p3)
        p5 = self.p5(p4)
        m4 = self.up4(cat([self.up(p5), p4], 1))
        m3 = self.up3(cat([self.up(m4), p3], 1))
        n4 = self.out4(cat([self.down4(m3), m4], 1))
        n5 = self.out5(cat([self.down5(n4), p5], 1))
        return cat([self.decode(i, y, 8 << i) for i, y in enumerate((m3, n4, n5))], 2)

    def decode(self, i: int, x: Tensor, stride: int) -> Tensor:
        h, w = x.shape[2:]
        sides = softmax(self.boxes[i](x).reshape(1, 4, self.BINS, h * w), 2)
        left, top, right, bottom = (sides * self.bins.reshape(1, 1, -1, 1)).sum(2).unbind(1)
        columns = tensor([[j + 0.5 for _ in range(h) for j in range(w)]]).to(x.dtype)
        rows = tensor([[i + 0.5 for i in range(h) for _ in range(w)]]).to(x.dtype)
        boxes = stack([columns - left, rows - top, columns + right, rows + bottom], 1) * stride
        return cat([boxes, self.classes[i](x).flatten(2).sigmoid()], 1)
