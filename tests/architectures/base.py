"""An architecture: what makes its module and its inputs, with weights of a fixed seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SEED = 0


@dataclass(frozen=True)
class Architecture:
    """`make` gives the module in evaluation mode and its inputs by name; a Keras model has no inputs here.

    `ranges` are those of the inputs for which a user would give `--range`.
    """

    name: str
    family: str
    make: Callable[[], tuple[Any, dict[str, Any]]]
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def plain(model: Any, names: Sequence[str], **fixed: Any) -> Any:
    """A module that takes its inputs by position and gives the floating-point tensors among its outputs."""
    import torch

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *values: Any) -> Any:
            result = self.model(**dict(zip(names, values, strict=True)), **fixed)
            return tuple(_tensors(result))

    return Plain().eval()


def _tensors(value: Any) -> list[Any]:
    import torch

    if isinstance(value, torch.Tensor):
        return [value] if value.dtype.is_floating_point and value.numel() else []
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [tensor for part in value for tensor in _tensors(part)][:4]
    return []


def tokens(length: int = 16, high: int = 500) -> Any:
    import torch

    return torch.randint(4, high, (1, length), generator=torch.Generator().manual_seed(SEED))


def noise(*shape: int) -> Any:
    import torch

    return torch.randn(shape, generator=torch.Generator().manual_seed(SEED))


def picture(size: int = 64, channels: int = 3) -> Any:
    return noise(1, channels, size, size)


def seeded(maker: Callable[[], Any], inputs: dict[str, Any]) -> Callable[[], tuple[Any, dict[str, Any]]]:
    """What makes a module of torch with weights of the fixed seed, and gives its inputs."""

    def make() -> tuple[Any, dict[str, Any]]:
        import torch

        torch.manual_seed(SEED)
        return maker().eval(), inputs

    return make
