"""What was measured on each machine: bench/results/MACHINE.json, from which the pages in docs are written.

A machine has some tables, each with its own date, tree and command, so that one may be measured anew without the
others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from bench.ceilings import Ceilings
from bench.contest import Bundle, Row
from bench.kinds import USUAL, Kind
from bench.profile import Cost, KernelTime
from bench.rounds import ROOT, Timing

FOLDER = ROOT / "bench" / "results"


@dataclass(frozen=True)
class Benchmark:
    """One table and what belongs to it.

    `known` and `missing` by contestant; `load`: cores that others kept busy; `stated`: our time over the best peer's by
    model, with "" for the mean, where no more than that is known; `note`: what else is to be said of it.
    """

    kind: Kind
    rows: Sequence[Row]
    machine: Sequence[tuple[str, str]]
    ceilings: Ceilings
    known: Mapping[str, dict[str, Any]]
    missing: Mapping[str, str]
    command: str
    rounds: int
    load: float
    date: str
    tree: str
    stated: Mapping[str, float] | None = None
    note: str = ""

    @property
    def threads(self) -> int:
        return self.kind.threads


@dataclass(frozen=True)
class Results:
    """A machine's tables, by the keys of their kinds."""

    title: str
    tables: Mapping[str, Benchmark]

    def in_order(self) -> list[Benchmark]:
        usual = [kind.key for kind in USUAL]
        keys = sorted(self.tables, key=lambda k: (usual.index(k) if k in usual else len(usual), k))
        return [self.tables[key] for key in keys]


def path_of(stem: str, folder: Path = FOLDER) -> Path:
    return folder / f"{stem}.json"


def read_all(folder: Path = FOLDER) -> dict[str, Results]:
    """The results of all machines, by the stems of their pages."""
    return {path.stem: read(path) for path in sorted(folder.glob("*.json"))}


def read(path: Path) -> Results:
    told = json.loads(path.read_text(encoding="utf-8"))
    return Results(told["title"], {key: _table(table) for key, table in told["tables"].items()})


def keep(table: Benchmark, title: str, stem: str, folder: Path = FOLDER) -> Results:
    """Enters a table into the machine's results, in the place of an older one of its kind."""
    path = path_of(stem, folder)
    before = read(path).tables if path.is_file() else {}
    results = Results(title, {**before, table.kind.key: table})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text_of(results), encoding="utf-8")
    return results


def text_of(results: Results) -> str:
    """The file's text: a line for each row, kernel and other fact, so that changes can be read."""
    parts = []
    for table in results.in_order():
        told = asdict(table)
        rows = [_row_text(row) for row in told.pop("rows")]
        lines = [f"   {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in told.items()]
        lines.append(f'   "rows": [{",".join(rows)}\n   ]' if rows else '   "rows": []')
        parts.append(f"  {json.dumps(table.kind.key)}: {{\n" + ",\n".join(lines) + "\n  }")
    title = json.dumps(results.title, ensure_ascii=False)
    return f'{{\n "title": {title},\n "tables": {{\n' + ",\n".join(parts) + "\n }\n}\n"


def _row_text(row: dict[str, Any]) -> str:
    kernels = [json.dumps(list(k.values()), ensure_ascii=False) for k in row.pop("kernels")]
    text = json.dumps(row, ensure_ascii=False)[:-1]
    return f'\n    {text}, "kernels": [{",".join(f"{chr(10)}     {k}" for k in kernels)}]}}'


def _table(told: dict[str, Any]) -> Benchmark:
    ceilings = told["ceilings"]
    gbps = {int(size): rate for size, rate in ceilings["gbps"].items()}
    known = {field.name for field in fields(Benchmark)}
    return Benchmark(**{
        **{key: value for key, value in told.items() if key in known},
        "kind": Kind(**told["kind"]),
        "rows": [_row(row) for row in told["rows"]],
        "machine": [(key, value) for key, value in told["machine"]],
        "ceilings": Ceilings(**{**ceilings, "gbps": gbps}),
    })  # fmt: skip


def _row(told: dict[str, Any]) -> Row:
    return Row(**{
        **told,
        "cost": Cost(**told["cost"]),
        "bundle": Bundle(**told["bundle"]) if told["bundle"] else None,
        "timings": {name: Timing(**timing) for name, timing in told["timings"].items()},
        "kernels": [KernelTime(*kernel) for kernel in told["kernels"]],
    })  # fmt: skip
