"""Networks that find poses, faces, texts and points in pictures, written here as their papers describe them."""

from __future__ import annotations

from torch import Tensor, cat, nn
from torch.nn import functional as f

from architectures.base import Architecture, noise, picture, seeded


def _conv(c: int, n: int, k: int = 3, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(c, n, k, stride, k // 2, bias=False), nn.BatchNorm2d(n), nn.ReLU()]


def _backbone(name: str = "resnet18") -> nn.Module:
    import timm

    return timm.create_model(name, pretrained=False, features_only=True)


class SimpleBaseline(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = _backbone()
        layers: list[nn.Module] = []
        for c in (512, 256, 256):
            layers += [nn.ConvTranspose2d(c, 256, 4, 2, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU()]
        self.head = nn.Sequential(*layers, nn.Conv2d(256, 17, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x)[-1])


class CenterNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = _backbone()
        layers: list[nn.Module] = []
        for c, n in ((512, 256), (256, 128), (128, 64)):
            layers += [*_conv(c, n), nn.ConvTranspose2d(n, n, 4, 2, 1, bias=False), nn.BatchNorm2d(n), nn.ReLU()]
        self.neck = nn.Sequential(*layers)
        self.heads = nn.ModuleList(nn.Sequential(*_conv(64, 64), nn.Conv2d(64, n, 1)) for n in (80, 2, 2))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.neck(self.backbone(x)[-1])
        return tuple(head(x) for head in self.heads)


class DBNet(nn.Module):
    def __init__(self, c: int = 256) -> None:
        super().__init__()
        self.backbone = _backbone()
        self.sides = nn.ModuleList(nn.Conv2d(n, c, 1, bias=False) for n in (64, 128, 256, 512))
        self.outs = nn.ModuleList(nn.Conv2d(c, c // 4, 3, 1, 1, bias=False) for _ in range(4))
        self.head = nn.Sequential(
            *_conv(c, c // 4), nn.ConvTranspose2d(c // 4, c // 4, 2, 2), nn.BatchNorm2d(c // 4), nn.ReLU(),
            nn.ConvTranspose2d(c // 4, 1, 2, 2), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        sides = [side(y) for side, y in zip(self.sides, self.backbone(x)[1:], strict=True)]
        for k in (2, 1, 0):
            sides[k] = sides[k] + f.interpolate(sides[k + 1], scale_factor=2, mode="nearest")
        outs = [out(y) for out, y in zip(self.outs, sides, strict=True)]
        grown = [outs[0], *(f.interpolate(y, scale_factor=1 << k, mode="nearest") for k, y in enumerate(outs[1:], 1))]
        return self.head(cat(grown[::-1], 1))


class Blaze(nn.Module):
    """BlazeFace's block: what is added to the sum has its channels padded with zeros."""

    def __init__(self, c: int, n: int, stride: int = 1) -> None:
        super().__init__()
        self.stride, self.more = stride, n - c
        self.body = nn.Sequential(nn.Conv2d(c, c, 3 if stride == 1 else 5, stride, 1 if stride == 1 else 2, groups=c),
                                  nn.Conv2d(c, n, 1))  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        x = f.max_pool2d(x, 2) if self.stride == 2 else x
        x = f.pad(x, (0, 0, 0, 0, 0, self.more)) if self.more else x
        return f.relu(x + y)


class BlazeFace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        sizes = [(24, 24, 1), (24, 28, 1), (28, 32, 2), (32, 36, 1), (36, 42, 1), (42, 48, 2), (48, 56, 1),
                 (56, 64, 1), (64, 72, 1), (72, 80, 1), (80, 88, 1)]  # fmt: skip
        self.first = nn.Sequential(nn.Conv2d(3, 24, 5, 2, 2), nn.ReLU(), *(Blaze(*s) for s in sizes))
        self.second = nn.Sequential(Blaze(88, 96, 2), *(Blaze(96, 96) for _ in range(4)))
        self.scores = nn.ModuleList([nn.Conv2d(88, 2, 1), nn.Conv2d(96, 6, 1)])
        self.boxes = nn.ModuleList([nn.Conv2d(88, 32, 1), nn.Conv2d(96, 96, 1)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = self.first(x)
        b = self.second(a)

        def joined(heads: nn.ModuleList, n: int) -> Tensor:
            return cat([h(y).permute(0, 2, 3, 1).reshape(1, -1, n) for h, y in zip(heads, (a, b), strict=True)], 1)

        return joined(self.scores, 1), joined(self.boxes, 16)


class Hourglass(nn.Module):
    def __init__(self, c: int, depth: int) -> None:
        super().__init__()
        self.side, self.low, self.last = _bottleneck(c), _bottleneck(c), _bottleneck(c)
        self.middle = Hourglass(c, depth - 1) if depth > 1 else _bottleneck(c)

    def forward(self, x: Tensor) -> Tensor:
        y = self.last(self.middle(self.low(f.max_pool2d(x, 2))))
        return self.side(x) + f.interpolate(y, scale_factor=2, mode="nearest")


class _Sum(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _bottleneck(c: int) -> nn.Module:
    return _Sum(nn.Sequential(*_conv(c, c // 2, 1), *_conv(c // 2, c // 2), nn.Conv2d(c // 2, c, 1)))


def hourglass(c: int = 128) -> nn.Module:
    return nn.Sequential(*_conv(3, c // 2, 7, 2), *_conv(c // 2, c, 3), nn.MaxPool2d(2), Hourglass(c, 3),
                         nn.Conv2d(c, 16, 1))  # fmt: skip


class OpenPose(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers = [*_conv(3, 32), nn.MaxPool2d(2), *_conv(32, 64), nn.MaxPool2d(2), *_conv(64, 128), *_conv(128, 128),
                  nn.MaxPool2d(2), *_conv(128, 128)]  # fmt: skip
        self.features = nn.Sequential(*layers)
        self.first = nn.Sequential(*_conv(128, 128), *_conv(128, 128), nn.Conv2d(128, 57, 1))
        self.second = nn.Sequential(*_conv(185, 64, 7), *_conv(64, 64, 7), nn.Conv2d(64, 57, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.second(cat([x, self.first(x)], 1))


class SuperPoint(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for c, n in ((1, 64), (64, 64), (64, 128)):
            layers += [*_conv(c, n), *_conv(n, n), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers, *_conv(128, 128))
        self.points = nn.Sequential(*_conv(128, 256), nn.Conv2d(256, 65, 1))
        self.descriptors = nn.Sequential(*_conv(128, 256), nn.Conv2d(256, 256, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.features(x)
        return self.points(x).softmax(1), f.normalize(self.descriptors(x), dim=1)


class Crnn(nn.Module):
    """A reader of text lines: convolutions, then recurrent layers in both directions."""

    def __init__(self) -> None:
        super().__init__()
        layers = [*_conv(1, 64), nn.MaxPool2d(2), *_conv(64, 128), nn.MaxPool2d(2), *_conv(128, 256), *_conv(256, 256),
                  nn.MaxPool2d((2, 1)), *_conv(256, 256), nn.MaxPool2d((4, 1))]  # fmt: skip
        self.features = nn.Sequential(*layers)
        self.lstm, self.out = nn.LSTM(256, 128, 2, bidirectional=True), nn.Linear(256, 37)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(self.features(x).squeeze(2).permute(2, 0, 1))
        return self.out(y).log_softmax(2)


class PointNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for c, n in ((3, 64), (64, 64), (64, 128), (128, 512)):
            parts += [nn.Conv1d(c, n, 1), nn.BatchNorm1d(n), nn.ReLU()]
        self.points = nn.Sequential(*parts)
        self.head = nn.Sequential(nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 40))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.points(x).amax(2))


def _yolo() -> nn.Module:
    from architectures.yolo import Yolo

    return Yolo(width=16, classes=20)


def architectures() -> list[Architecture]:
    """By name: how each is made, at its size."""
    made = {
        "simplebaseline": (SimpleBaseline, {"x": noise(1, 3, 160, 128)}),
        "centernet": (CenterNet, {"x": picture(128)}),
        "dbnet": (DBNet, {"x": picture(160)}),
        "blazeface": (BlazeFace, {"x": picture(128)}),
        "hourglass": (hourglass, {"x": picture(128)}),
        "openpose": (OpenPose, {"x": picture(128)}),
        "superpoint": (SuperPoint, {"x": picture(96, 1)}),
        "crnn": (Crnn, {"x": noise(1, 1, 32, 128)}),
        "pointnet": (PointNet, {"x": noise(1, 3, 1024)}),
        "yolov8": (_yolo, {"x": picture(160)}),
    }
    return [Architecture(name, "detectors", seeded(maker, inputs)) for name, (maker, inputs) in made.items()]
