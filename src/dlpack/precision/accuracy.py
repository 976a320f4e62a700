"""What smaller numbers change: the model before and after, run by onnxruntime on the same inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from dlpack.graph.ir import Array
from dlpack.verify.runners import runner


@dataclass(frozen=True)
class Change:
    """How far an output has moved: the largest and the root-mean-square error as parts of its largest absolute value,
    and, for an output of one row of scores per run, in which part of the runs the largest score stayed the same one."""

    name: str
    largest: float
    rms: float
    same_top: float | None


def changes(before: onnx.ModelProto, after: onnx.ModelProto, runs: Sequence[Mapping[str, Array]]) -> list[Change]:
    """The change of each float output over all runs (at least one), in the outputs' order."""
    first, second = runner(before), runner(after)
    pairs = [list(zip(first(run), second(run), strict=True)) for run in runs]
    found = []
    for k, output in enumerate(before.graph.output):
        olds, news = ([np.asarray(run[k][side], np.float64) for run in pairs] for side in (0, 1))
        if any(old.shape != new.shape or not old.size for old, new in zip(olds, news, strict=True)):
            continue
        errors = np.concatenate([(new - old).ravel() for old, new in zip(olds, news, strict=True)])
        span = max(float(np.abs(old).max()) for old in olds) or 1.0
        found.append(
            Change(
                output.name,
                float(np.abs(errors).max()) / span,
                float(np.sqrt(np.mean(errors**2))) / span,
                _same_top(olds, news),
            )
        )
    return found


def _same_top(olds: Sequence[Array], news: Sequence[Array]) -> float | None:
    """The part of rows whose largest element stayed; None for what is no table of scores."""
    if any(old.ndim != 2 or old.shape[1] < 2 for old in olds):
        return None
    same = [old.argmax(1) == new.argmax(1) for old, new in zip(olds, news, strict=True)]
    return float(np.concatenate(same).mean())


def described(changed: Sequence[Change]) -> str:
    """In words, the output that moved most."""
    worst = max(changed, key=lambda c: c.rms, default=None)
    if worst is None:
        return "no output changed"
    top = "" if worst.same_top is None else f", the same class in {worst.same_top:.1%} of the runs"
    return f"'{worst.name}' moved by {worst.rms:.2g} of its range (at most {worst.largest:.2g}){top}"
