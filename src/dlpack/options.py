"""What a build is told, and whom it tells of its stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlpack.meaning.shape_sets import Buckets, Shapes, describe_shapes


@dataclass(frozen=True)
class Options:
    """What `dlpack build` is told. `more_shapes` has further sets of shapes, `buckets` makes them of `shapes`.

    `bindings` names the languages that the bundle is bound to.
    `target_options` has the options that the target declares, by their names on the command line.
    """

    target: str = "native"
    name: str = ""
    shapes: Shapes = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    weights: str = "auto"
    cc: str | None = None
    verify: bool = True
    preprocess: str | None = None
    optimize: str = "speed"
    params: Path | None = None
    dtypes: Mapping[str, str] = field(default_factory=dict)
    task: str | None = None
    threads: int = 1
    more_shapes: tuple[Shapes, ...] = ()
    buckets: Buckets | None = None
    target_options: Mapping[str, Any] = field(default_factory=dict)
    bindings: tuple[str, ...] = ()
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Inputs that become constants, each with its elements as text."""


@dataclass(frozen=True)
class Progress:
    """Told about stages: `start(name)` and `done(name, seconds, detail)`."""

    start: Callable[[str], None] = lambda name: None
    done: Callable[[str, float, str], None] = lambda name, seconds, detail: None
    warn: Callable[[str], None] = lambda text: None

    @contextmanager
    def stage(self, name: str) -> Iterator[list[str]]:
        """Reports one stage; what is appended to the list is its detail."""
        self.start(name)
        detail: list[str] = []
        began = time.perf_counter()
        yield detail
        self.done(name, time.perf_counter() - began, ", ".join(detail))


def options_text(options: Options) -> str:
    """What of the options shows in the emitted file: as on the command line, without files and paths."""
    words = [
        describe_shapes({k: v})
        for n, shapes in enumerate((options.shapes, *options.more_shapes))
        for k, v in sorted(shapes.items())
        if n == 0 or any(v != s[k] for s in (options.shapes, *options.more_shapes))
    ]
    words += [f"--value {name}={','.join(elements)}" for name, elements in sorted(options.values.items())]
    if options.buckets:
        words.append(str(options.buckets))
    if options.optimize != "speed":
        words.append(f"--optimize {options.optimize}")
    if options.threads != 1:
        words.append(f"--threads {options.threads}")
    if options.weights != "auto":
        words.append(f"--weights {options.weights}")
    return " ".join(words)
