"""What was measured on emulated Arm processors, and when: a row per model in a JSON file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.rounds import ROOT

KEPT = ROOT / "bench" / "results" / "arm" / "zoo.json"
"""From which docs/benchmarks-arm.md is written."""


@dataclass
class Row:
    """A model's results: million instructions by contestant; errors by processor; why there is none of those; bytes.

    `loops`: lines of the page's table of loops. `stamps`: by result what was measured (our revision, a contestant's
    version) and the day. `digests`: by target, of the sources that ours was measured with; as "model", of the model and
    its inputs.
    """

    model: str
    counts: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    code: int = 0
    digests: dict[str, str] = field(default_factory=dict)
    loops: list[str] = field(default_factory=list)
    stamps: dict[str, tuple[str, str]] = field(default_factory=dict)

    def has(self, what: str) -> bool:
        """Whether there is a result or the reason why there is none."""
        loops = bool(self.loops) and what == LOOPS
        return loops or what in self.counts or what in self.errors or what in self.reasons

    def ratio(self, peer: str) -> float | None:
        return self.counts["ours"] / self.counts[peer] if {"ours", peer} <= self.counts.keys() else None

    def forget(self, what: str) -> None:
        """Takes out a result, or the reason why there is none."""
        self.counts.pop(what, None)
        self.errors.pop(what, None)
        self.reasons.pop(what, None)
        self.stamps.pop(what, None)
        if what == LOOPS:
            self.loops.clear()
        if what == "ours":
            self.code = 0


LOOPS = "loops"
"""The result that is a row's `loops`."""


class Results:
    """Rows by model in a JSON file, so that a run goes on where the last one stopped."""

    def __init__(self, file: Path) -> None:
        self._file = file
        stored: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
        self.rows = {row["model"]: _row(row) for row in stored}

    def row(self, model: Path) -> Row:
        """The model's row; a new one where the model or its inputs are not those that it was measured with."""
        digest = digest_of([model, model.with_suffix(".npz")])
        row = self.rows.get(model.stem)
        if row is None or row.digests.setdefault("model", digest) != digest:
            row = self.rows[model.stem] = Row(model.stem, digests={"model": digest})
        return row

    def forget_reasons(self) -> None:
        for row in self.rows.values():
            row.reasons.clear()

    def save(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps([asdict(row) for row in self.rows.values()], indent=1)
        self._file.write_text(text + "\n", encoding="utf-8")


def _row(told: dict[str, Any]) -> Row:
    stamps = {what: (of, day) for what, (of, day) in told.get("stamps", {}).items()}
    return Row(**{**told, "stamps": stamps})


def digest_of(files: Iterable[Path]) -> str:
    """The SHA-256 of files' contents."""
    made = hashlib.sha256()
    for file in files:
        made.update(file.read_bytes())
    return made.hexdigest()
