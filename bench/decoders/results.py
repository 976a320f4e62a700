"""What was measured of decoders: bench/results/decoders/MACHINE.json, of which docs/benchmarks-decoders.md is made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.rounds import ROOT

FOLDER = ROOT / "bench" / "results" / "decoders"


@dataclass(frozen=True)
class Row:
    """An engine with one form of weights and so many threads.

    `times`: of `read_N` (a prompt of N tokens) and `write` (a token) the median and the fastest, in milliseconds.
    `error`: the largest difference of a score from ours after the first prompt, by the largest of ours. `same`: how
    many of the tokens that it then writes are ours, from the first on. `failed`: why there is nothing else.
    """

    engine: str
    form: str
    threads: int
    times: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    error: float | None = None
    same: int | None = None
    peak_bytes: int = 0
    failed: str = ""


@dataclass(frozen=True)
class Table:
    """One measurement. `place`: "native", or a browser's name and version; `gbps`, `gflops`: the ceilings by threads,
    {} where they are not known; `known` and `missing`: versions, and reasons, by engine."""

    place: str
    machine: Sequence[tuple[str, str]]
    sizes: Mapping[str, int]
    gbps: Mapping[int, float]
    gflops: float
    known: Mapping[str, str]
    missing: Mapping[str, str]
    command: str
    rounds: int
    load: float
    date: str
    tree: str
    rows: Sequence[Row]


def keep(table: Table, title: str, stem: str, folder: Path = FOLDER) -> None:
    """Enters a table into the machine's file, in the place of the last one of its kind: native or in a browser."""
    file = folder / f"{stem}.json"
    held = json.loads(file.read_text(encoding="utf-8"))["tables"] if file.is_file() else {}
    held["native" if table.place == "native" else "web"] = asdict(table)
    parts = [f"  {json.dumps(key)}: {_text(told)}" for key, told in sorted(held.items())]
    folder.mkdir(parents=True, exist_ok=True)
    head = f'{{\n "title": {json.dumps(title)},\n "tables": {{\n'
    file.write_text(head + ",\n".join(parts) + "\n }\n}\n", encoding="utf-8")


def _text(told: Mapping[str, Any]) -> str:
    """A line for each fact and row, so that changes can be read."""
    lines = [f"   {json.dumps(key)}: {json.dumps(value)}" for key, value in told.items() if key != "rows"]
    rows = ",".join(f"\n    {json.dumps(row)}" for row in told["rows"])
    return "{\n" + ",\n".join([*lines, f'   "rows": [{rows}\n   ]']) + "\n  }"


def read_all(folder: Path = FOLDER) -> dict[str, list[Table]]:
    """The tables of all machines, by their titles."""
    found = {}
    for file in sorted(folder.glob("*.json")):
        told = json.loads(file.read_text(encoding="utf-8"))
        found[told["title"]] = [_table(table) for table in told["tables"].values()]
    return found


def _table(told: dict[str, Any]) -> Table:
    rows = [Row(**{**row, "times": {k: tuple(t) for k, t in row["times"].items()}}) for row in told["rows"]]
    gbps = {int(threads): rate for threads, rate in told["gbps"].items()}
    return Table(**{**told, "rows": rows, "gbps": gbps, "machine": [(k, v) for k, v in told["machine"]]})
