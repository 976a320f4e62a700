"""How long a network with open dimensions takes at a size, as a part of what it takes with that size fixed."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from processes import run

import dlpack
from dlpack.bundle.loader import Predictor, read_kernels
from dlpack.pipeline import Options, build
from open_sizes.kinds import Kind

ROUNDS, RUNS = 25, 4
"""In a round each of two predictors runs so many times."""


@dataclass(frozen=True)
class Kernel:
    """All `calls` of a kernel in a run, and the least time that they take, in microseconds."""

    name: str
    computes: str
    calls: int
    us: float


@dataclass(frozen=True)
class Times:
    """The sums of the least times of each step, in microseconds, and the kernels, slowest first."""

    size: tuple[int, ...]
    opened: float
    fixed: float
    kernels: list[Kernel]
    fixed_kernels: list[Kernel]

    @property
    def ratio(self) -> float:
        return self.opened / self.fixed


def fixed_bundle(kind: Kind, model: Path, folder: Path, size: tuple[int, ...]) -> Path:
    """The network with a size fixed; it is taken from `folder` if it is there."""
    bundle = folder / ("fixed-" + "x".join(map(str, size)))
    if not bundle.exists():
        shapes = {name: a.shape for name, a in kind.given(size).items()}
        build(model, bundle, Options(name="net", shapes=shapes, ranges=dict(kind.ranges)))
    return bundle


def times(kind: Kind, model: Path, opened: Path, folder: Path, size: tuple[int, ...]) -> Times:
    """The network as it was built in `opened`, and with a size fixed; bundles and what they need are in `folder`."""
    given, fixed = kind.given(size), fixed_bundle(kind, model, folder, size)
    with dlpack.load(opened) as a, dlpack.load(fixed) as b:
        for predictor in (a, b):
            predictor.bind(given)
            predictor.compute()
        least = [np.full(len(p.steps), np.inf) for p in (a, b)]
        _least_times(folder)(*_steps(a, least[0]), *_steps(b, least[1]), ROUNDS, RUNS)
        found = [_kernels(p.steps, t, bundle) for p, t, bundle in zip((a, b), least, (opened, fixed), strict=True)]
    own, other = (float(t.sum()) / 1e3 for t in least)
    return Times(size, own, other, *found)


def _steps(predictor: Predictor, least: np.ndarray) -> tuple[object, ...]:
    return predictor._run_step, predictor._handle, len(least), least.ctypes.data_as(ctypes.c_void_p)


@cache
def _least_times(folder: Path) -> ctypes._CFuncPtr:
    library = folder / "times.so"
    run(["cc", "-O2", "-shared", "-fPIC", "-o", library, Path(__file__).with_name("times.c")], check=True)
    return ctypes.CDLL(str(library)).least_times


def _kernels(steps: list[str], least: np.ndarray, bundle: Path) -> list[Kernel]:
    told: Mapping[str, str] = {k["name"]: k["computes"] for k in read_kernels(bundle)}
    names = dict.fromkeys(steps)
    rows = [[float(t) / 1e3 for step, t in zip(steps, least, strict=True) if step == name] for name in names]
    found = [Kernel(name, told.get(name, ""), len(us), sum(us)) for name, us in zip(names, rows, strict=True)]
    return sorted(found, key=lambda k: -k.us)
