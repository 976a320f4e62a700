"""Networks that make or change pictures, written here as their papers describe them, at widths that are in use."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, cat, nn, ones, rsqrt
from torch.nn import functional as f

from architectures.base import Architecture, noise, picture, seeded


class Modulated(nn.Module):
    """StyleGAN2's convolution: its weights are scaled by a style and normalised in every run."""

    def __init__(self, c: int, n: int, style: int, k: int = 3, up: bool = False, demodulate: bool = True) -> None:
        super().__init__()
        self.weight, self.style = nn.Parameter(noise(1, n, c, k, k)), nn.Linear(style, c)
        self.up, self.demodulate, self.pad = up, demodulate, k // 2

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        _, n, c, k, _ = self.weight.shape
        weight = self.weight * (1 / (c * k * k) ** 0.5) * self.style(w).reshape(1, 1, c, 1, 1)
        if self.demodulate:
            weight = weight * rsqrt(weight.pow(2).sum([2, 3, 4], keepdim=True) + 1e-8)
        x = f.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False) if self.up else x
        return f.conv2d(x, weight.reshape(n, c, k, k), padding=self.pad)


class StyleGan2(nn.Module):
    """A style of 128 numbers → a picture of 64 x 64 pixels."""

    def __init__(self, c: int = 128, style: int = 128) -> None:
        super().__init__()
        self.mapping = nn.Sequential(*(m for _ in range(4) for m in (nn.Linear(style, style), nn.LeakyReLU(0.2))))
        self.constant = nn.Parameter(noise(1, c, 4, 4))
        self.first = Modulated(c, c, style)
        self.ups = nn.ModuleList(Modulated(c, c, style, up=True) for _ in range(4))
        self.convs = nn.ModuleList(Modulated(c, c, style) for _ in range(4))
        self.colours = nn.ModuleList(Modulated(c, 3, style, 1, demodulate=False) for _ in range(4))

    def forward(self, z: Tensor) -> Tensor:
        w = self.mapping(z)
        x = f.leaky_relu(self.first(self.constant, w), 0.2)
        rgb: Tensor | None = None
        for up, conv, colour in zip(self.ups, self.convs, self.colours, strict=True):
            x = f.leaky_relu(conv(f.leaky_relu(up(x, w), 0.2), w), 0.2)
            y = colour(x, w)
            rgb = y if rgb is None else y + f.interpolate(rgb, scale_factor=2, mode="bilinear", align_corners=False)
        assert rgb is not None
        return rgb


def _deconv(c: int, n: int, stride: int = 2, pad: int = 1) -> list[nn.Module]:
    return [nn.ConvTranspose2d(c, n, 4, stride, pad, bias=False), nn.BatchNorm2d(n), nn.ReLU()]


def dcgan() -> nn.Module:
    layers = [*_deconv(100, 512, 1, 0), *_deconv(512, 256), *_deconv(256, 128), *_deconv(128, 64)]
    return nn.Sequential(*layers, nn.ConvTranspose2d(64, 3, 4, 2, 1), nn.Tanh())


class Residual(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _normed(c: int, n: int, k: int = 3, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(c, n, k, stride, k // 2, padding_mode="reflect"), nn.InstanceNorm2d(n, affine=True)]


def cycle_gan(c: int = 32, blocks: int = 4) -> nn.Module:
    layers: list[nn.Module] = [*_normed(3, c, 7), nn.ReLU()]
    layers += [*_normed(c, 2 * c, 3, 2), nn.ReLU(), *_normed(2 * c, 4 * c, 3, 2), nn.ReLU()]
    layers += [
        Residual(nn.Sequential(*_normed(4 * c, 4 * c), nn.ReLU(), *_normed(4 * c, 4 * c))) for _ in range(blocks)
    ]
    for n in (4 * c, 2 * c):
        layers += [nn.ConvTranspose2d(n, n // 2, 3, 2, 1, 1), nn.InstanceNorm2d(n // 2, affine=True), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(c, 3, 7, 1, 3, padding_mode="reflect"), nn.Tanh())


class UNet(nn.Module):
    """Two convolutions per level, pooling down and transposed convolutions up; `deep`: pix2pix' of 4x4 windows."""

    def __init__(self, width: int = 32, levels: int = 3) -> None:
        super().__init__()
        sizes = [width << k for k in range(levels + 1)]
        self.down = nn.ModuleList(_twice(c, n) for c, n in zip([3, *sizes], sizes, strict=False))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(n, n // 2, 2, 2) for n in sizes[:0:-1])
        self.up = nn.ModuleList(_twice(n, n // 2) for n in sizes[:0:-1])
        self.last = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for k, step in enumerate(self.down):
            x = step(f.max_pool2d(x, 2) if k else x)
            kept.append(x)
        for grow, step, before in zip(self.grow, self.up, kept[-2::-1], strict=True):
            x = step(cat([grow(x), before], 1))
        return self.last(x)


def _twice(c: int, n: int) -> nn.Module:
    parts: list[nn.Module] = []
    for a in (c, n):
        parts += [nn.Conv2d(a, n, 3, 1, 1, bias=False), nn.BatchNorm2d(n), nn.ReLU()]
    return nn.Sequential(*parts)


class Pix2Pix(nn.Module):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        c = [3, width, 2 * width, 4 * width, 8 * width, 8 * width]
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise(c))
        pairs = [(c[5], c[4]), (2 * c[4], c[3]), (2 * c[3], c[2]), (2 * c[2], c[1])]
        self.up = nn.ModuleList(nn.Sequential(*_deconv(a, b)) for a, b in pairs)
        self.last = nn.ConvTranspose2d(2 * c[1], 3, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for step in self.down:
            x = f.leaky_relu(step(x), 0.2)
            kept.append(x)
        for step, before in zip(self.up, kept[-2::-1], strict=True):
            x = cat([step(x), before], 1)
        return self.last(x).tanh()


class Dense(nn.Module):
    """ESRGAN's residual dense block."""

    def __init__(self, c: int, grow: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c + k * grow, grow if k < 4 else c, 3, 1, 1) for k in range(5))

    def forward(self, x: Tensor) -> Tensor:
        parts = [x]
        for conv in self.convs[:-1]:
            parts.append(f.leaky_relu(conv(cat(parts, 1)), 0.2))
        return x + 0.2 * self.convs[-1](cat(parts, 1))


class Esrgan(nn.Module):
    def __init__(self, c: int = 32, blocks: int = 3) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, c, 3, 1, 1), nn.Conv2d(c, 3, 3, 1, 1)
        self.body = Residual(nn.Sequential(*(Dense(c, c // 2) for _ in range(blocks)), nn.Conv2d(c, c, 3, 1, 1)))
        self.up = nn.ModuleList(nn.Conv2d(c, c, 3, 1, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.first(x))
        for conv in self.up:
            x = f.leaky_relu(conv(f.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        return self.last(x)


def srvgg(c: int = 32, convs: int = 8) -> nn.Module:
    """Real-ESRGAN's compact network, without its sum."""
    layers: list[nn.Module] = [nn.Conv2d(3, c, 3, 1, 1), nn.PReLU(c)]
    for _ in range(convs):
        layers += [nn.Conv2d(c, c, 3, 1, 1), nn.PReLU(c)]
    return nn.Sequential(*layers, nn.Conv2d(c, 48, 3, 1, 1), nn.PixelShuffle(4))


def fsrcnn(d: int = 56, s: int = 12) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(1, d, 5, 1, 2), nn.PReLU(d), nn.Conv2d(d, s, 1), nn.PReLU(s)]
    for _ in range(4):
        layers += [nn.Conv2d(s, s, 3, 1, 1), nn.PReLU(s)]
    return nn.Sequential(*layers, nn.Conv2d(s, d, 1), nn.PReLU(d), nn.ConvTranspose2d(d, 1, 9, 2, 4, 1))


def espcn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 64, 5, 1, 2), nn.Tanh(), nn.Conv2d(64, 32, 3, 1, 1), nn.Tanh(), nn.Conv2d(32, 9, 3, 1, 1),
        nn.PixelShuffle(3),
    )  # fmt: skip


def dncnn(c: int = 64, depth: int = 8) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(1, c, 3, 1, 1), nn.ReLU()]
    for _ in range(depth):
        layers += [nn.Conv2d(c, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU()]
    return Residual(nn.Sequential(*layers, nn.Conv2d(c, 1, 3, 1, 1)))


class Block(nn.Module):
    """A block of diffusion networks and of their autoencoders: group normalisation, SiLU, convolutions."""

    def __init__(self, c: int, n: int, time: int = 0) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.GroupNorm(8, c), nn.SiLU(), nn.Conv2d(c, n, 3, 1, 1))
        self.b = nn.Sequential(nn.GroupNorm(8, n), nn.SiLU(), nn.Conv2d(n, n, 3, 1, 1))
        self.skip: nn.Module = nn.Conv2d(c, n, 1) if c != n else nn.Identity()
        self.time = nn.Linear(time, n) if time else None

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        y = self.a(x)
        if self.time is not None and t is not None:
            y = y + self.time(t)[:, :, None, None]
        return self.skip(x) + self.b(y)


class Attend(nn.Module):
    def __init__(self, c: int, heads: int) -> None:
        super().__init__()
        self.norm, self.all, self.out = nn.GroupNorm(8, c), nn.Linear(c, 3 * c), nn.Linear(c, c)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        _, c, h, w = x.shape
        y = self.all(self.norm(x).flatten(2).transpose(1, 2))
        q, k, v = y.reshape(1, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        y = f.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(1, h * w, c)
        return x + self.out(y).transpose(1, 2).reshape(1, c, h, w)


class Diffusion(nn.Module):
    def __init__(self, c: int = 32, time: int = 128) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(c, time), nn.SiLU(), nn.Linear(time, time))
        self.first, self.last = nn.Conv2d(4, c, 3, 1, 1), nn.Conv2d(c, 4, 3, 1, 1)
        self.down = nn.ModuleList([Block(c, c, time), Block(c, 2 * c, time), Block(2 * c, 4 * c, time)])
        self.halve = nn.ModuleList([nn.Conv2d(n, n, 3, 2, 1) for n in (c, 2 * c)])
        self.attend, self.middle = Attend(4 * c, 4), Block(4 * c, 4 * c, time)
        self.up = nn.ModuleList([Block(8 * c, 4 * c, time), Block(6 * c, 2 * c, time), Block(3 * c, c, time)])

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        t = self.time(t)
        x, kept = self.first(x), []
        for k, block in enumerate(self.down):
            x = block(self.halve[k - 1](x) if k else x, t)
            kept.append(x)
        x = self.middle(self.attend(x), t)
        for k, (block, before) in enumerate(zip(self.up, reversed(kept), strict=True)):
            x = f.interpolate(x, scale_factor=2, mode="nearest") if k else x
            x = block(cat([x, before], 1), t)
        return self.last(f.silu(x))


class Decoder(nn.Module):
    """The decoder of a latent autoencoder."""

    def __init__(self, c: int = 64) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 2 * c, 3, 1, 1)
        self.middle = nn.Sequential(Block(2 * c, 2 * c), Attend(2 * c, 1), Block(2 * c, 2 * c))
        self.up = nn.ModuleList([Block(2 * c, 2 * c), Block(2 * c, c), Block(c, c)])
        self.last = nn.Sequential(nn.GroupNorm(8, c), nn.SiLU(), nn.Conv2d(c, 3, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.middle(self.first(x))
        for block in self.up:
            x = f.interpolate(block(x), scale_factor=2, mode="nearest")
        return self.last(x)


class Naf(nn.Module):
    """NAFNet's block: layer normalisation over channels, a depthwise convolution, gates without activations."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(1, c), nn.GroupNorm(1, c)])
        self.grow, self.window = nn.Conv2d(c, 2 * c, 1), nn.Conv2d(2 * c, 2 * c, 3, 1, 1, groups=2 * c)
        self.attend, self.shrink = nn.Conv2d(c, c, 1), nn.Conv2d(c, c, 1)
        self.wide, self.narrow = nn.Conv2d(c, 2 * c, 1), nn.Conv2d(c, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.window(self.grow(self.norms[0](x))).chunk(2, 1)
        y = a * b
        x = x + self.shrink(y * self.attend(y.mean([2, 3], keepdim=True)))
        a, b = self.wide(self.norms[1](x)).chunk(2, 1)
        return x + self.narrow(a * b)


def nafnet(c: int = 32) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, c, 3, 1, 1), *(Naf(c) for _ in range(4)), nn.Conv2d(c, 3, 3, 1, 1))


def architectures() -> list[Architecture]:
    """By name: how each is made, at its size."""
    made = {
        "stylegan2": (StyleGan2, {"z": noise(1, 128)}),
        "dcgan": (dcgan, {"z": noise(1, 100, 1, 1)}),
        "cyclegan": (cycle_gan, {"x": picture(96)}),
        "pix2pix": (Pix2Pix, {"x": picture(128)}),
        "unet": (UNet, {"x": picture(128)}),
        "esrgan": (Esrgan, {"x": picture(48)}),
        "real-esrgan compact": (srvgg, {"x": picture(64)}),
        "fsrcnn": (fsrcnn, {"x": picture(96, 1)}),
        "espcn": (espcn, {"x": picture(96, 1)}),
        "dncnn": (dncnn, {"x": picture(64, 1)}),
        "diffusion unet": (Diffusion, {"x": picture(32, 4), "t": ones(1, 32)}),
        "latent decoder": (Decoder, {"x": picture(16, 4)}),
        "nafnet": (nafnet, {"x": picture(96)}),
    }
    return [Architecture(name, "generators", seeded(maker, inputs)) for name, (maker, inputs) in made.items()]
