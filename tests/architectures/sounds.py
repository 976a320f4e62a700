"""Networks for sound, series and rows, written here as their papers describe them, at widths that are in use."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, cat, nn, tanh
from torch.nn import functional as f

from architectures.base import Architecture, noise, seeded


class ConvTasNet(nn.Module):
    def __init__(self, n: int = 256, b: int = 128, h: int = 256) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Conv1d(1, n, 16, 8), nn.ConvTranspose1d(n, 1, 16, 8)
        self.first, self.mask = nn.Conv1d(n, b, 1), nn.Conv1d(b, n, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(b, h, 1), nn.PReLU(), nn.GroupNorm(1, h),
                nn.Conv1d(h, h, 3, padding=1 << k, dilation=1 << k, groups=h), nn.PReLU(), nn.GroupNorm(1, h),
                nn.Conv1d(h, b, 1),
            )
            for k in range(4)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        mixed = f.relu(self.encoder(x))
        y = self.first(mixed)
        for block in self.blocks:
            y = y + block(y)
        return self.decoder(mixed * self.mask(y).sigmoid())


class Demucs(nn.Module):
    def __init__(self, c: int = 32, levels: int = 3) -> None:
        super().__init__()
        sizes = [1, *(c << k for k in range(levels))]
        pairs = list(pairwise(sizes))
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv1d(a, b, 8, 4, 2), nn.ReLU(), nn.Conv1d(b, 2 * b, 1), nn.GLU(1)) for a, b in pairs
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv1d(b, 2 * b, 3, 1, 1), nn.GLU(1), nn.ConvTranspose1d(b, a, 8, 4, 2))
            for a, b in reversed(pairs)
        )
        self.lstm = nn.LSTM(sizes[-1], sizes[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for step in self.down:
            x = step(x)
            kept.append(x)
        x = self.lstm(x.permute(2, 0, 1))[0].permute(1, 2, 0)
        for k, step in enumerate(self.up):
            x = step(x + kept[-1 - k])
            x = f.relu(x) if k < len(self.up) - 1 else x
        return x


class Resblock(nn.Module):
    def __init__(self, c: int, k: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(c, c, k, padding=d * (k // 2), dilation=d) for d in (1, 3))

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = x + conv(f.leaky_relu(x, 0.1))
        return x


class HifiGan(nn.Module):
    """A spectrogram of 80 bands → a wave of 64 samples per frame."""

    def __init__(self, c: int = 128) -> None:
        super().__init__()
        self.first, self.last = nn.Conv1d(80, c, 7, 1, 3), nn.Conv1d(c // 8, 1, 7, 1, 3)
        self.ups = nn.ModuleList(nn.ConvTranspose1d(c >> k, c >> k + 1, 8, 4, 2) for k in range(3))
        self.blocks = nn.ModuleList(nn.ModuleList(Resblock(c >> k + 1, n) for n in (3, 7)) for k in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for up, blocks in zip(self.ups, self.blocks, strict=True):
            x = up(f.leaky_relu(x, 0.1))
            x = (blocks[0](x) + blocks[1](x)) / 2
        return tanh(self.last(f.leaky_relu(x)))


class WaveNet(nn.Module):
    def __init__(self, c: int = 64, layers: int = 8) -> None:
        super().__init__()
        self.first, self.last = nn.Conv1d(1, c, 1), nn.Conv1d(c, 256, 1)
        self.gates = nn.ModuleList(nn.Conv1d(c, 2 * c, 2, dilation=1 << k) for k in range(layers))
        self.outs = nn.ModuleList(nn.Conv1d(c, 2 * c, 1) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        x, total = self.first(x), None
        for k, (gate, out) in enumerate(zip(self.gates, self.outs, strict=True)):
            a, b = gate(f.pad(x, (1 << k, 0))).chunk(2, 1)
            y, skip = out(tanh(a) * b.sigmoid()).chunk(2, 1)
            x, total = x + y, skip if total is None else total + skip
        assert total is not None
        return self.last(f.relu(total))


def crepe(c: int = 32) -> nn.Module:
    layers: list[nn.Module] = []
    sizes = [1, 8 * c, c, c, c, 2 * c, 4 * c]
    for k, (a, b) in enumerate(pairwise(sizes)):
        window = (512, 4) if k == 0 else (64, 1)
        pad = nn.ConstantPad1d((254, 254) if k == 0 else (31, 32), 0.0)
        layers += [pad, nn.Conv1d(a, b, *window), nn.ReLU(), nn.BatchNorm1d(b), nn.MaxPool1d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * c, 360), nn.Sigmoid())


class Denoiser(nn.Module):
    """A recurrent denoiser's gains over 100 frames."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gru, self.out = nn.Linear(42, 96), nn.GRU(96, 128, 2), nn.Linear(128, 22)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.gru(tanh(self.first(x)))[0]).sigmoid()


class Language(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(128, 256, 2), nn.Linear(256, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(x)[0])


class KeywordSpotter(nn.Module):
    """A depthwise-separable network over 49 frames of 10 coefficients."""

    def __init__(self, c: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, c, (10, 4), 2, (5, 1), bias=False), nn.BatchNorm2d(c), nn.ReLU()]
        for _ in range(4):
            layers += [nn.Conv2d(c, c, 3, 1, 1, groups=c, bias=False), nn.BatchNorm2d(c), nn.ReLU()]
            layers += [nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU()]
        self.layers, self.out = nn.Sequential(*layers), nn.Linear(c, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layers(x).mean([2, 3]))


def vggish() -> nn.Module:
    layers: list[nn.Module] = []
    sizes = [1, 32, 64, 128, 128, 256, 256]
    for k, (a, b) in enumerate(pairwise(sizes)):
        layers += [nn.Conv2d(a, b, 3, 1, 1), nn.ReLU(), *([nn.MaxPool2d(2)] if k != 2 and k != 4 else [])]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(6 * 4 * 256, 512), nn.ReLU(), nn.Linear(512, 128))


class Tcn(nn.Module):
    def __init__(self, c: int = 64, levels: int = 5) -> None:
        super().__init__()
        sizes = [16, *[c] * levels]
        self.convs = nn.ModuleList(nn.Conv1d(a, b, 3, dilation=1 << k) for k, (a, b) in enumerate(pairwise(sizes)))
        self.out = nn.Linear(c, 10)

    def forward(self, x: Tensor) -> Tensor:
        for k, conv in enumerate(self.convs):
            y = f.relu(conv(f.pad(x, (2 << k, 0))))
            x = y + x if k else y
        return self.out(x[:, :, -1])


class Rows(nn.Module):
    """FT-Transformer: each of 32 numbers of a row becomes a token."""

    def __init__(self, c: int = 192) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(noise(32, c)), nn.Parameter(noise(32, c))
        self.cls = nn.Parameter(noise(1, 1, c))
        layer = nn.TransformerEncoderLayer(c, 8, 4 * c // 3, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers, self.out = nn.ModuleList([layer]), nn.Linear(c, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = cat([self.cls, x[:, :, None] * self.weight + self.bias], 1)
        for layer in self.layers:
            y = layer(y)
        return self.out(f.relu(y[:, 0]))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


def architectures() -> list[Architecture]:
    """By name: how each is made, at its size."""
    made = {
        "conv-tasnet": (ConvTasNet, {"x": noise(1, 1, 8000)}),
        "demucs": (Demucs, {"x": noise(1, 1, 4096)}),
        "hifigan": (HifiGan, {"x": noise(1, 80, 64)}),
        "wavenet": (WaveNet, {"x": noise(1, 1, 1024)}),
        "crepe": (crepe, {"x": noise(1, 1, 1024)}),
        "recurrent denoiser": (Denoiser, {"x": noise(100, 1, 42)}),
        "lstm language model": (Language, {"x": noise(32, 1, 128)}),
        "keyword spotter": (KeywordSpotter, {"x": noise(1, 1, 49, 10)}),
        "vggish": (vggish, {"x": noise(1, 1, 96, 64)}),
        "tcn": (Tcn, {"x": noise(1, 16, 256)}),
        "ft-transformer": (Rows, {"x": noise(1, 32)}),
        "mlp": (mlp, {"x": noise(1, 256)}),
    }
    return [Architecture(name, "sound and series", seeded(maker, inputs)) for name, (maker, inputs) in made.items()]
