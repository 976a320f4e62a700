"""The options of a build, and how it reports its progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlpack.meaning.open_batch import OpenBatch
from dlpack.meaning.shape_sets import Buckets, Shapes, describe_shapes

CHOICES = {
    "weights": ("auto", "embed", "file"),
    "optimize": ("speed", "size"),
    "weights-type": ("float32", "float16", "bfloat16"),
    "quantize": ("int8",),
}
"""The values of options that have a few."""

DTYPES = ("float32", "int32", "int64", "uint8", "int8", "bool")
"""The element types that an input may be given with its shape."""


@dataclass(frozen=True)
class Options:
    """The options of `dlpack build`. `more_shapes` holds further sets of shapes; `buckets` derives them from `shapes`.

    `bindings` names the languages to write bindings for.
    `target_options` holds the options that the target declares, by their command-line names.
    """

    target: str = "native"
    name: str = ""
    shapes: Shapes = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    weights: str = "auto"
    cc: str | None = None
    verify: bool = True
    preprocess: str | None = None
    sound: str | None = None
    optimize: str = "speed"
    params: Path | None = None
    dtypes: Mapping[str, str] = field(default_factory=dict)
    task: str | None = None
    threads: int = 1
    more_shapes: tuple[Shapes, ...] = ()
    buckets: Buckets | None = None
    batch: OpenBatch | None = None
    """The open batch; `shapes` are those of one sample then."""
    context: int | None = None
    """How many tokens of a text the predictor of a decoder keeps; None: the usual number."""
    source: int | None = None
    """How many tokens of a text an encoder reads that a decoder answers; None: the usual number."""
    mxnet_api: bool = False
    internals: tuple[str, ...] = ()
    """Inner values to keep as further outputs, or "all"."""
    target_options: Mapping[str, Any] = field(default_factory=dict)
    bindings: tuple[str, ...] = ()
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Inputs to replace by constants, each with its elements as text."""
    tokenizer: Path | None = None
    """A tokenizer.json; None: the one beside the model, if there is one; "none": none."""
    text_bytes: int = 1 << 15
    """The longest text that the tokenizer takes."""
    embedding: str | None = None
    """How tokens become one vector: "cls", "mean", "max" or "last", and ",normalize" behind it for length 1."""
    inputs: Path | None = None
    """An .npz file with the user's inputs, to verify with in addition to the seeded ones."""
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Lowest and highest seeded values of inputs."""
    maxima: Mapping[str, int] = field(default_factory=dict)
    """The largest sizes of what only a run knows the size of, by the name of a value or a node."""
    weights_type: str = "float32"
    """What weights are rounded to: "float32" (as they are), "float16" or "bfloat16"."""
    quantize: str | None = None
    """ "int8": make an integer network of a float one, with ranges from `calibrate`."""
    calibrate: Path | None = None
    """An .npz file, or a folder of pictures or .npz files: inputs as they will come."""
    tolerance: float | None = None
    """The accepted error relative to an output's largest absolute value; None: the default."""

    def seeded(self, inputs: Iterable[str]) -> dict[str, tuple[float, float]]:
        """The ranges of seeded inputs that are stated, or follow from their largest values."""
        return {**{name: (0.0, float(self.maxima[name])) for name in inputs if name in self.maxima}, **self.ranges}


@dataclass(frozen=True)
class Progress:
    """Callbacks for the stages of a build: `start(name)`, `done(name, seconds, detail)` and `warn(text)`."""

    start: Callable[[str], None] = lambda *_: None
    done: Callable[[str, float, str], None] = lambda *_: None
    warn: Callable[[str], None] = lambda *_: None

    @contextmanager
    def stage(self, name: str) -> Iterator[list[str]]:
        """Reports one stage; what is appended to the list is its detail."""
        self.start(name)
        detail: list[str] = []
        began = time.perf_counter()
        yield detail
        self.done(name, time.perf_counter() - began, ", ".join(detail))


def options_text(options: Options) -> str:
    """The options recorded in the emitted file, written as on the command line, without files and paths."""
    words = [
        describe_shapes({k: v}, options.batch)
        for n, shapes in enumerate((options.shapes, *options.more_shapes))
        for k, v in sorted(shapes.items())
        if n == 0 or any(v != s[k] for s in (options.shapes, *options.more_shapes))
    ]
    words += [f"--value {name}={','.join(elements)}" for name, elements in sorted(options.values.items())]
    if options.buckets:
        words.append(str(options.buckets))
    if options.context is not None:
        words.append(f"--context {options.context}")
    if options.source is not None:
        words.append(f"--source {options.source}")
    if options.optimize != "speed":
        words.append(f"--optimize {options.optimize}")
    if options.threads != 1:
        words.append(f"--threads {options.threads}")
    if options.mxnet_api:
        words.append("--mxnet-api")
    words += [f"--keep-internals {name}" for name in options.internals]
    if options.weights != "auto":
        words.append(f"--weights {options.weights}")
    if options.weights_type != "float32":
        words.append(f"--weights-type {options.weights_type}")
    if options.quantize:
        words.append(f"--quantize {options.quantize}")
    words += [f"--range {name}={low:g}:{high:g}" for name, (low, high) in sorted(options.ranges.items())]
    words += [f"--max {name}={size}" for name, size in sorted(options.maxima.items())]
    if options.text_bytes != Options.text_bytes:
        words.append(f"--text-bytes {options.text_bytes}")
    if options.embedding:
        words.append(f"--embedding {options.embedding}")
    if options.tolerance is not None:
        words.append(f"--tolerance {options.tolerance:g}")
    return " ".join(words)
