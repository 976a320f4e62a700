"""The program: what the emitter prints. Kernels, the steps that call them, where every byte lies; nothing of TVM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from dlpack.graph.blocks import Block
from dlpack.graph.ir import Sizes, TensorType
from dlpack.loops.ir import Kernel
from dlpack.loops.sizes import Size
from dlpack.meaning.generation import Decoder
from dlpack.meaning.open_batch import Bounds
from dlpack.meaning.quantization import Meaning
from dlpack.meaning.sound import Sound
from dlpack.meaning.speech import Speech
from dlpack.plan.memory import ALIGNMENT, Arena
from dlpack.plan.text_part import TextPart


@dataclass(frozen=True)
class Tensor:
    """An input or output of the model.

    `true_shape` names the output with the true shape of one whose size only a run knows; its `shape` is the largest.
    `limits`, names and numbers, are of the output (int64[1]) that is not 0 where a run exceeded one of these maxima.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    meaning: Meaning = field(default_factory=Meaning)
    true_shape: str = ""
    limits: tuple[tuple[str, int], ...] = ()
    sizes: Sizes = ()
    """Of the dimensions of a picture what they are in a run."""

    @property
    def nbytes(self) -> int:
        return TensorType(self.dtype, self.shape).nbytes


@dataclass(frozen=True)
class Place:
    """A block of `nbytes` at `offset` of the arena, the weights or the prepared weights, and what lies there.

    `key` is its own among the places of its kind. `values` are ONNX values, none for a kernel's scratch; `name` says it
    in short. `shape` includes the border of a padded value; its dimensions lie in memory in this `order`, the outermost
    first, those in `blocks` (dimension, size) in blocks. A run uses it from the step `first` to the step `last`; `loop`
    numbers the call of the loop whose body uses it, -1 outside.
    """

    key: str
    name: str
    offset: int
    nbytes: int
    values: tuple[str, ...] = ()
    dtype: str = "uint8"
    shape: tuple[int, ...] = ()
    order: tuple[int, ...] = ()
    blocks: tuple[tuple[int, int], ...] = ()
    first: int = 0
    last: int = 0
    loop: int = -1


@dataclass(frozen=True)
class Address:
    """A pointer: byte `offset` in "arena", "cache", "weights" or "prepared", or in input or output number `index`.

    `place` is the key of the place in the arena where it points, "" for a value without bytes. `steps` is the number of
    bytes by which it advances in each trip of the loops around it, outermost first.
    """

    space: str
    offset: int
    dtype: str
    index: int = 0
    steps: tuple[int, ...] = ()
    place: str = ""


Stride = int | tuple[Size | int, int]


@dataclass(frozen=True)
class Step:
    """One thing that a run does."""


@dataclass(frozen=True)
class FewCall:
    """Another kernel that is called in place of a step's where a run's picture, of `extents`, has at most `most`
    pixels."""

    kernel: str
    arguments: tuple[Address, ...]
    extents: tuple[Size | int, Size | int]
    most: int


@dataclass(frozen=True)
class CallStep(Step):
    """Calls a kernel; the arguments numbered in `in_place` are read only where the output is then written.

    `few`: what is called instead for a small picture. `one_row`: rows and columns of a picture that lies in one row.
    """

    kernel: str
    arguments: tuple[Address, ...]
    sources: tuple[str, ...] = ()
    in_place: frozenset[int] = frozenset()
    few: FewCall | None = None
    one_row: tuple[Size, Size] | None = None


@dataclass(frozen=True)
class HaloStep(Step):
    """Fills the border of a padded buffer: `shape` in memory order, `low` and `high` the border's width there."""

    target: Address
    shape: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    fill: float
    used: tuple[Size | None, ...] = ()
    """What a run has of each dimension within the border, where that may be less than there is room for."""


@dataclass(frozen=True)
class SpreadStep(Step):
    """Copies the dense elements of an input or output to places with strides, or, if `back`, from there.

    `dims` has count and stride, in elements, of each dimension, the outermost first; a `Size` is what a run has.
    """

    source: Address
    target: Address
    dims: tuple[tuple[int | Size, int], ...]
    back: bool


@dataclass(frozen=True)
class RowsStep(Step):
    """Moves the rows of a picture in its memory: one behind the other, or, if `apart`, from there to their places.

    A pixel has so many `channels`; pixels and rows are so many elements `pixel` and `row` apart.
    """

    target: Address
    rows: Size
    columns: Size
    channels: int
    pixel: int
    row: int
    apart: bool


@dataclass(frozen=True)
class PixelsStep(Step):
    """Copies all pixels of a picture: those of its rows one behind the other, or back.

    `dims` has count and strides, in elements, in the source and in the target, of each dimension, the outermost first.
    A `Size` is what a run has; a stride that is a pair is the product.
    """

    source: Address
    target: Address
    dims: tuple[tuple[int | Size, Stride, Stride], ...]


@dataclass(frozen=True)
class ShareStep(Step):
    """Writes one over the number of elements: the product of `sizes` and `fixed`."""

    target: Address
    sizes: tuple[Size, ...]
    fixed: int


@dataclass(frozen=True)
class CountStep(Step):
    """Writes a number of elements that a run has, in the type of the target."""

    target: Address
    size: Size


@dataclass(frozen=True)
class TapsStep(Step):
    """Writes of which elements, and with which weights, each element along a dimension is made: interpolation, borders.

    `places` (int32) and `weights` (float32, where there are some) have `whole` rows, more than the `to` elements of a
    run; `source` is the run's number of elements that are read. `how` has the numbers of `HOW`, in its order, as
    runtime_c/values.h describes them.
    """

    HOW: ClassVar = ("taps", "start", "low", "positions", "kernel", "rounding", "normalise", "scale", "shrink", "cubic")

    places: Address
    weights: Address | None
    source: Size | int
    to: Size | int
    whole: int
    how: tuple[float, ...]


@dataclass(frozen=True)
class FillStep(Step):
    """Gives rows of the open dimension a `value` behind their elements, up to a multiple of `FILLED` (loops/ir.py).

    `rows` has counts and strides, in elements, of the dimensions around; a `Size` is what a run has, and `size` that of
    the elements.
    """

    target: Address
    rows: tuple[tuple[int | Size, int], ...]
    value: float
    size: Size


@dataclass(frozen=True)
class CopyStep(Step):
    """Copies `nbytes` from one place to another."""

    source: Address
    target: Address
    nbytes: int


@dataclass(frozen=True)
class LoopStep(Step):
    """Runs `body` `count` times, a number that may be one of a run; `backwards`: the last trip first."""

    count: int | Size
    body: tuple[Step, ...]
    backwards: bool = False


@dataclass(frozen=True)
class NamedKernel:
    """A kernel with its name in the file, what it computes, and how often which nodes call it."""

    name: str
    kernel: Kernel
    title: str
    schedule: str
    sources: tuple[str, ...]
    macs: int
    restrict: bool


@dataclass(frozen=True)
class ShapeSet:
    """What a program does for one set of input shapes.

    Where `samples` is not 0, a run does the steps of the program's first set so many times, each time for the next part
    of those inputs and outputs that depend on their number; of the sets, only the first has steps then.

    Where `extent` is not 0, all sets have the first one's steps, and kernels do so many elements of the open dimension.
    Where there are `sizes`, they are those of a picture's open dimensions, and all sets have the first one's steps; the
    last of them are the samples, where there are such, too.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    steps: tuple[Step, ...]
    arena: Arena
    macs: int
    places: tuple[Place, ...] = ()
    blocks: tuple[Block, ...] = ()
    samples: int = 0
    extent: int = 0
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Stage:
    """The memory that suffices for the sets of shapes up to number `last`: another plan of the same items.

    `rooms` are bytes of inputs and outputs, as `Program.rooms`.
    """

    last: int
    arena: Arena
    rooms: tuple[int, ...] = ()


@dataclass(frozen=True)
class StoredCache:
    """A decoder's keys or values, which lie in the predictor from run to run: byte `offset` of its caches.

    `shape` is (heads, rows, size), `strides` are in elements. `name` and `present` are the ONNX values.
    """

    name: str
    present: str
    dtype: str
    offset: int
    shape: tuple[int, int, int]
    strides: tuple[int, ...]

    @property
    def heard(self) -> bool:
        """Whether its rows are of what was heard, not of tokens."""
        return self.name == self.present

    @property
    def end(self) -> int:
        """The byte behind it."""
        return self.offset + TensorType(self.dtype, self.shape).nbytes


@dataclass(frozen=True)
class Program:
    """A compiled model. `weights` are packed, in order, each at a multiple of 64 bytes of the blob.

    `shape_sets` has one entry for each set of input shapes, all with the same kernels and weights.
    `threads` may share the trips of its kernels; 1 where none is worth it.
    The steps of `prepare` run once, when a predictor is made, and fill its `prepared` bytes.
    `weight_places` and `prepared_places` say what lies in the weights and in these; behind these weights are the
    tables of `text`, if there is a tokenizer.
    `rooms`, where a dimension is open: bytes of each input, then of each output, up to which kernels may go.
    `bounds` are those of the open dimensions of pictures. `stages`: plans of the arena, those for smaller sizes first.
    `caches` are the same in all sets of shapes; `decoder` says how a text is read with them.
    `rounded` has the ONNX nodes whose first operand is rounded to 8 bits, in blocks of so many elements.
    `sound` says how samples become an input, `speech` which tokens are around a text of what is heard.
    """

    name: str
    shape_sets: Sequence[ShapeSet]
    kernels: tuple[NamedKernel, ...]
    weights: bytes
    prepare: tuple[Step, ...] = ()
    prepared: int = 0
    threads: int = 1
    weight_places: tuple[Place, ...] = ()
    prepared_places: tuple[Place, ...] = ()
    rooms: tuple[int, ...] = ()
    bounds: tuple[Bounds, ...] = ()
    stages: tuple[Stage, ...] = ()
    text: TextPart | None = None
    caches: tuple[StoredCache, ...] = ()
    decoder: Decoder | None = None
    sound: Sound | None = None
    speech: Speech | None = None
    rounded: Mapping[str, int] = field(default_factory=dict)

    @property
    def cached(self) -> int:
        """Bytes of the caches."""
        return max((-(-c.end // ALIGNMENT) * ALIGNMENT for c in self.caches), default=0)

    @property
    def by_sample(self) -> bool:
        """Whether a run does the steps of the first set once for each sample."""
        return self.shape_sets[0].samples > 0

    @property
    def opened(self) -> bool:
        """Whether a dimension of the kernels is open."""
        return self.shape_sets[0].extent > 0

    @property
    def counted(self) -> bool:
        """Whether the sets of shapes differ in the extent of an open dimension, which grows by one from set to set."""
        return self.by_sample or self.opened or self.pictures

    @property
    def staged(self) -> bool:
        """Whether a smaller run has its values in other places."""
        return len(self.stages) > 1

    @property
    def pictures(self) -> bool:
        """Whether kernels do pictures of several sizes."""
        return bool(self.shape_sets[0].sizes)

    def place_of(self, size: Size) -> int:
        """Which of the open dimensions of pictures an extent follows from, as a place among their `bounds`."""
        return [b.axis for b in self.bounds].index(size.axis)

    @property
    def own_sets(self) -> Sequence[ShapeSet]:
        """The sets of shapes that have steps of their own."""
        return self.shape_sets[:1] if self.counted else self.shape_sets

    @property
    def ends(self) -> Sequence[ShapeSet]:
        """All sets of shapes, or where sizes are open the smallest and the largest, between which all others lie."""
        return (self.shape_sets[0], self.shape_sets[-1]) if self.counted else self.shape_sets

    @property
    def batches(self) -> int:
        """How many sets of shapes, one behind the other, differ in nothing but the number of samples."""
        return len(self.bounds[-1].sizes) if self.by_sample and self.pictures else 1

    @property
    def one_text_ends(self) -> Sequence[ShapeSet]:
        """Those of `ends`, with the smallest number of samples."""
        return (self.shape_sets[0], self.shape_sets[-self.batches]) if self.counted else self.shape_sets

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Those of the first set of shapes, as are outputs, steps and macs."""
        return self.shape_sets[0].inputs

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return self.shape_sets[0].outputs

    @property
    def steps(self) -> tuple[Step, ...]:
        return self.shape_sets[0].steps

    @property
    def macs(self) -> int:
        return self.shape_sets[0].macs

    @property
    def arena(self) -> Arena:
        """The largest, which all sets of shapes work in."""
        return max((s.arena for s in self.own_sets), key=lambda a: a.size)
