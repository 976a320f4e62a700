"""The kinds of network that script/sizes builds, with random weights, as PyTorch and transformers export them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bench.nets import resnet18, squeezenet11

Arrays = Mapping[str, np.ndarray]

LENGTHS = (256, 1, 2, 3, 5, 7, 11, 12, 13, 16, 17, 31, 32, 61, 64, 65, 127, 128, 193, 251)
"""The bounds, primes, and what lies around tiles and vectors."""

TIMED_LENGTHS = (1, 2, 3, 5, 7, 9, 13, 17, 23, 31, 32, 61, 64, 128, 256)
"""Those that are timed."""


@dataclass(frozen=True)
class Kind:
    """`options` are those of `dlpack build`; `given` makes the inputs of a size; `timed` are sizes to time."""

    make: Callable[[], nn.Module]
    axes: Mapping[str, Mapping[int, str]]
    options: Mapping[str, str]
    sizes: Sequence[tuple[int, ...]]
    given: Callable[[tuple[int, ...]], Arrays]
    timed: Sequence[tuple[int, ...]]
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def smallest(self) -> tuple[int, ...]:
        return min(self.sizes)

    def export(self, path: Path) -> None:
        """Writes the model, of which the inputs' open dimensions have names."""
        torch.manual_seed(1)
        net, example = self.make().eval(), self.given(self.sizes[-1])
        with torch.no_grad():
            torch.onnx.export(
                net, tuple(map(torch.from_numpy, example.values())), path, input_names=list(example),
                output_names=["out"], dynamic_axes={k: dict(v) for k, v in self.axes.items()}, opset_version=17,
                dynamo=False,
            )  # fmt: skip


# --- texts ------------------------------------------------------------------------------------------------------------


class Encoder(nn.Module):
    """BERT's states, or, as sentence embeddings are made, their mean over what is not masked, of length one."""

    def __init__(self, layers: int, pooled: bool) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        config = BertConfig(
            vocab_size=1000, hidden_size=384, num_hidden_layers=layers, num_attention_heads=12, intermediate_size=1536
        )
        self.bert, self.pooled = BertModel(config), pooled

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        if not self.pooled:
            return states
        counted = mask.unsqueeze(-1).float()
        mean = (states * counted).sum(1) / counted.sum(1).clamp(min=1e-9)
        return nn.functional.normalize(mean, dim=1)


class Decoder(nn.Module):
    """A Llama without its past: the scores behind each token."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            vocab_size=1000, hidden_size=256, num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=4,
            intermediate_size=688, max_position_embeddings=512, use_cache=False,
        )  # fmt: skip
        self.net = LlamaForCausalLM(config)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        scores: Tensor = self.net(input_ids=ids, attention_mask=mask).logits
        return scores


def _text(size: tuple[int, ...]) -> Arrays:
    """Tokens, of which the last quarter is masked."""
    (n,) = size
    ids = np.random.default_rng(n).integers(0, 1000, (1, n))
    return {"ids": ids, "mask": (np.arange(n) < n - n // 4).astype(np.int64)[None]}


def _of_text(make: Callable[[], nn.Module]) -> Kind:
    bounds = f"1x1..{max(LENGTHS)}:int64"
    return Kind(
        make, {"ids": {1: "n"}, "mask": {1: "n"}}, {"ids": bounds, "mask": bounds}, [(n,) for n in LENGTHS], _text,
        [(n,) for n in TIMED_LENGTHS], {"ids": (0, 999), "mask": (1, 1)},
    )  # fmt: skip


class Steps(nn.Module):
    """Two layers of a GRU in both directions, and a product of each step's states."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(40, 96, num_layers=2, bidirectional=True, batch_first=True)
        self.classes = nn.Linear(192, 30)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.log_softmax(self.classes(self.gru(x)[0]), -1)


# --- pictures ---------------------------------------------------------------------------------------------------------


class Unet(nn.Module):
    """Four levels, enlarged by transposed convolutions, joined with what was there before."""

    def __init__(self) -> None:
        super().__init__()
        widths = (12, 24, 48, 96)
        self.down = nn.ModuleList(self._twice(a, b) for a, b in itertools.pairwise((3, *widths)))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * n, n, 2, 2) for n in widths[-2::-1])
        self.join = nn.ModuleList(self._twice(2 * n, n) for n in widths[-2::-1])
        self.out = nn.Conv2d(widths[0], 2, 1)

    @staticmethod
    def _twice(a: int, b: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.Conv2d(b, b, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        kept: list[Tensor] = []
        for k, level in enumerate(self.down):
            x = level(nn.functional.max_pool2d(x, 2) if k else x)
            kept.append(x)
        for up, join in zip(self.up, self.join, strict=True):
            kept.pop()
            x = join(torch.cat([up(x), kept[-1]], 1))
        return self.out(x)


def _picture(size: tuple[int, ...]) -> Arrays:
    return {"image": np.random.default_rng(sum(size)).random((1, 3, *size), np.float32)}


def _sides(low: int, high: int, between: Sequence[int]) -> list[tuple[int, ...]]:
    """Twenty sizes: the corners, and the sizes between with each other."""
    pairs = [(high, high), (low, low), (low, high), (high, low)]
    count = len(between)
    pairs += [(between[k % count], between[(3 * k + k // count + 1) % count]) for k in range(16)]
    return list(dict.fromkeys(pairs))


def _timed(*sizes: int | tuple[int, ...]) -> list[tuple[int, ...]]:
    """Sizes, of which a number stands for a square."""
    return [(size, size) if isinstance(size, int) else size for size in sizes]


_STEP = 8
KINDS: dict[str, Kind] = {
    "BERT": _of_text(lambda: Encoder(4, pooled=False)),
    "MiniLM": _of_text(lambda: Encoder(6, pooled=True)),
    "SqueezeNet": Kind(
        squeezenet11, {"image": {2: "h", 3: "w"}}, {"image": "1x3x64..320x64..320"},
        _sides(64, 320, (65, 67, 79, 97, 101, 127, 128, 163, 193, 211, 224, 251, 255, 257, 283, 307, 313)), _picture,
        _timed(64, 96, (96, 128), 128, 160, (192, 224), 224, 251, 320),
    ),
    "ResNet-18": Kind(
        resnet18, {"image": {2: "h", 3: "w"}}, {"image": "1x3x64..256/32x64..256/32"},
        _sides(64, 256, (96, 128, 160, 192, 224)), _picture, _timed(64, 96, 128, 160, (160, 224), 192, 224, 256),
    ),
    "U-Net": Kind(
        Unet, {"image": {2: "h", 3: "w"}}, {"image": "1x3x32..256/8x32..256/8"},
        _sides(32, 256, tuple(_STEP * n for n in (5, 7, 8, 9, 11, 13, 16, 17, 19, 23, 28, 29, 31))), _picture,
        _timed(32, 40, 56, 64, (72, 88), 96, 128, (136, 184), 232, 256),
    ),
    "GRU": Kind(
        Steps, {"x": {1: "n"}}, {"x": f"1x1..{max(LENGTHS)}x40"}, [(n,) for n in LENGTHS],
        lambda size: {"x": np.random.default_rng(size).standard_normal((1, *size, 40), np.float32)},
        [(n,) for n in TIMED_LENGTHS],
    ),
    "decoder": _of_text(Decoder),
}  # fmt: skip
"""By name."""
