"""What the compiler asks of the machine that it compiles for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Protocol

from dlpack.graph.attention import Attention as Attention
from dlpack.graph.strassen import Product as Product
from dlpack.graph.winograd import Layer as Layer
from dlpack.kernels.spec import KernelSpec, Scheduled


@dataclass(frozen=True)
class LayoutPreferences:
    """How a machine wants values to lie in memory.

    Values around convolutions lie channels-last, so that vectors run along the channels; but with at most
    `few_channels` of them no vector is filled: such inputs lie plane by plane, and such outputs too where a row has at
    least `long_row` pixels. A matrix with at least `wide_rows` rows and columns is copied where its rows are strided.
    Kernels differ by whether their operands begin at a multiple of `alignment` elements (1: they do not).
    `dots` is the type of 8-bit values whose dot products with int8 the machine computes ("uint8", "int8", "" for none).
    `dots_each`: it computes them of each channel by itself, too.
    `widens`: float32 weights whose values 16 bits hold may be stored in these, and become float32 in memory when a
    predictor is made; not where memory is scarcer than storage.
    `look_up`: how many instructions on vectors are worth a look-up of each element in a table of 256 (8-bit values).
    `attention`: which attentions one kernel computes (graph/attention.py), None for none.
    `strassen`: which products are computed by Strassen's algorithm (graph/strassen.py), None for none.
    `chooses`: products read the matrices that a run chooses from a table where they lie (graph/chosen.py).
    `nibbles`: weights of four bits are two to a byte in memory, of which a load gives two vectors of so many; 0 where
    bytes are faster.
    `rounds`: what is multiplied with weights of 8 bits and fewer is rounded to 8 bits (graph/rounded.py), and a vector
    has so many sums of dot products; 0: it is not rounded.
    `halves`: the machine computes in float16 (graph/halves.py).
    With `keeps_borders` the memory of a padded value is its own, so that the first run alone fills its border.
    """

    few_channels: int = 4
    long_row: int = 16
    wide_rows: int = 4
    alignment: int = 1
    dots: str = ""
    dots_each: bool = False
    widens: bool = True
    keeps_borders: bool = False
    look_up: float = inf
    attention: Callable[[Attention], bool] | None = None
    strassen: Callable[[Product], bool] | None = None
    halves: bool = False
    chooses: bool = False
    nibbles: int = 0
    rounds: int = 0


class Backend(Protocol):
    """A machine as the compiler sees it. Targets bring it (`targets/cpu` for processors); the compiler asks no target
    for its name."""

    @property
    def name(self) -> str:
        """The machine's name, as the manifest and the emitted file state it."""

    @property
    def layouts(self) -> LayoutPreferences: ...

    def schedule(self, spec: KernelSpec) -> Scheduled:
        """Schedules and lowers one kernel."""

    def winograd_tile(self, layer: Layer) -> int:
        """The m of Winograd's F(m x m, r x r) for a layer, or 0 where the direct convolution is faster."""
