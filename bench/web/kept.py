"""What was measured in browsers: a JSON file per benchmark in bench/results/web, a row per model.

Each row has the stamp of its run, so a run of some models replaces their rows alone, and the page says which rows are
of which run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from bench.models import ALL
from bench.report import LOADED, table
from bench.rounds import ROOT

FOLDER = ROOT / "bench" / "results" / "web"


@dataclass(frozen=True)
class Stamp:
    """A run: the day, the commit, the command, the machine as rows of a table, the browser, the versions of the peers'
    npm packages by peer, and why others took no part.

    `ceiling`: GFLOP/s of one core in WebAssembly; `clock`: CPU milliseconds that were measured of a page that was busy
    for CHECK_MS; both 0 where they are not needed.
    """

    date: str
    tree: str
    command: str
    machine: tuple[tuple[str, str], ...]
    browser: str
    versions: Mapping[str, str]
    missing: Mapping[str, str]
    ceiling: float = 0.0
    clock: float = 0.0

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Stamp:
        return cls(**{**told, "machine": tuple((key, value) for key, value in told["machine"])})


class Row(Protocol):
    """A row that can be kept. `load`: cores that other programs kept busy."""

    model: str
    stamp: Stamp | None
    load: float

    def told(self) -> dict[str, Any]:
        """The row in JSON's types."""

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        """The row that `told` gave."""


R = TypeVar("R", bound=Row)
V = TypeVar("V")


def path_of(benchmark: str, folder: Path = FOLDER) -> Path:
    return folder / f"{benchmark}.json"


def read(kind: type[R], file: Path) -> list[R]:
    """The kept rows, in the zoo's order; none where there is no file."""
    if not file.is_file():
        return []
    told = json.loads(file.read_text(encoding="utf-8"))
    return [kind.of({**row, "stamp": told["runs"][row["stamp"]]}) for row in told["rows"]]


def enter(row: R, file: Path) -> None:
    """Enters a row in the place of an older one of the same model."""
    rows = {kept.model: kept for kept in read(type(row), file)} | {row.model: row}
    names = list(ALL)
    place = {name: (names.index(_net(name)) if _net(name) in names else len(names), name) for name in rows}
    told = [rows[name].told() for name in sorted(rows, key=place.__getitem__)]
    runs: list[Any] = []
    for row_ in told:
        if row_["stamp"] not in runs:
            runs.append(row_["stamp"])
        row_["stamp"] = runs.index(row_["stamp"])
    parts = (_lines("runs", runs), _lines("rows", told))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def _net(model: str) -> str:
    """The network of a row: without the quantiser's name."""
    return model.rpartition("-")[0] or model


def _lines(name: str, values: Sequence[Any]) -> str:
    """A list with a line for each value, so that changes can be read."""
    return f' "{name}": [\n  ' + ",\n  ".join(json.dumps(value, ensure_ascii=False) for value in values) + "\n ]"


def joined(values: Mapping[tuple[str, Any], V]) -> dict[str, V]:
    """A contestant and something else as one key of JSON; no contestant's name has a space."""
    return {f"{name} {other}": value for (name, other), value in values.items()}


def parted(values: Mapping[str, V], kind: Callable[[str], Any] = str) -> dict[tuple[str, Any], V]:
    """What `joined` made one, apart again."""
    pairs = {key: key.partition(" ") for key in values}
    return {(pairs[key][0], kind(pairs[key][2])): value for key, value in values.items()}


# --- the part of a page that tells of the runs ------------------------------------------------------------------------


def stamps(rows: Iterable[Row]) -> list[Stamp]:
    """The rows' runs, each once, the newest first."""
    found: list[Stamp] = []
    for row in rows:
        if row.stamp is not None and row.stamp not in found:
            found.append(row.stamp)
    return sorted(found, key=lambda stamp: stamp.date, reverse=True)


def commands(rows: Iterable[Row], packages: Iterable[str], otherwise: str) -> str:
    """How to make the page again: by the runs' commands, or `otherwise`."""
    lines = "\n".join(run.command for run in stamps(rows)) or otherwise
    return f"""## To repeat it

```
pip install -e .
npm install --prefix build/node-bench {" ".join(packages)} puppeteer-core
{lines}
```"""


def measured(rows: Sequence[Row], visits: Callable[[Any], str]) -> str:
    """When and how the rows were measured: a sentence where all are of one run on a quiet machine, else a table.
    `visits`: how often a row was measured."""
    runs = stamps(rows)
    ways: dict[tuple[int, str, str], list[str]] = {}
    for row in rows:
        if row.stamp is not None:
            load = f"{row.load:.1f}" if row.load > LOADED else "–"
            ways.setdefault((runs.index(row.stamp), visits(row), load), []).append(row.model)
    if len(ways) == 1:
        ((run, many, load), _), *_ = ways.items()
        loaded = f" **Measured under load**: other programs kept {load} cores busy." if load != "–" else ""
        return f"Measured {runs[run].date}, tree {runs[run].tree}; {many}.{loaded}"
    lines = [
        [runs[run].date, runs[run].tree, runs[run].browser, many, load, ", ".join(models)]
        for (run, many, load), models in sorted(ways.items())
    ]
    head = ["measured", "tree", "browser", "how often", "cores that others kept busy", "rows"]
    return "Not all rows were measured in one run:\n\n" + table(head, lines, left=len(head))
