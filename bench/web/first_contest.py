"""One row of `python -m bench.web.first`: the contestants' pages of one model, visited in turn."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.ceilings import busy_cores
from bench.report import without_paths
from bench.rounds import WorkerError
from bench.web import contest
from bench.web.browser import Browser
from bench.web.contest import OURS, PEERS, TITLES, Setup
from bench.web.first_pages import CONTESTANTS, own_code, peers_code, write_pages
from bench.web.kept import Stamp, joined, parted
from bench.web.site import HERE, serve
from bench.web.sizes import Size, code_size

LATENCY_MS = 20
"""Of each request on a network that is emulated."""

Key = tuple[str, str]
"""A contestant and a network's title."""


@dataclass(frozen=True)
class Network:
    """`mbit`: megabits per second of a network that is emulated; None for localhost as it is. `visits` that count."""

    mbit: float | None
    visits: int

    @property
    def title(self) -> str:
        return "localhost" if self.mbit is None else f"{self.mbit:g} Mbit/s"

    @property
    def conditions(self) -> dict[str, float] | None:
        if self.mbit is None:
            return None
        rate = self.mbit * 1e6 / 8
        return {"latency": LATENCY_MS, "downloadThroughput": rate, "uploadThroughput": rate}


@dataclass
class Row:
    """One model: milliseconds to the first class by contestant and network, and of which until the runtime is ready, of
    each visit; the class that each finds; what failed, and why; bytes of code. `load`: cores that others kept busy."""

    model: str
    shown: dict[Key, list[float]] = field(default_factory=dict)
    ready: dict[Key, list[float]] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    failed: dict[Key, str] = field(default_factory=dict)
    code: dict[str, Size] = field(default_factory=dict)
    load: float = 0.0
    stamp: Stamp | None = None

    def told(self) -> dict[str, Any]:
        tenths = {key: [round(t, 1) for t in times] for key, times in self.shown.items()}
        ready = {key: [round(t, 1) for t in times] for key, times in self.ready.items()}
        parts: dict[str, Any] = {"shown": joined(tenths), "ready": joined(ready), "failed": joined(self.failed)}
        return asdict(replace(self, **parts))

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Row:
        parts: dict[str, Any] = {key: parted(told[key]) for key in ("shown", "ready", "failed")}
        parts["code"] = {name: Size(**size) for name, size in told["code"].items()}
        return cls(**{**told, **parts, "stamp": Stamp.of(told["stamp"]) if told["stamp"] else None})

    def networks(self) -> list[str]:
        """The titles of those that it was measured on."""
        return list(dict.fromkeys(network for _, network in self.shown))

    def median(self, name: str, network: str) -> float | None:
        times = self.shown.get((name, network))
        return statistics.median(times) if times and (name, network) not in self.failed else None

    def ready_median(self, name: str, network: str) -> float | None:
        return statistics.median(self.ready[name, network]) if self.median(name, network) is not None else None

    def agrees(self, name: str) -> bool:
        """Whether it finds the class that ours finds."""
        return self.classes.get(name) == self.classes.get(OURS)

    def best_peer(self, network: str) -> str | None:
        times = {name: t for name in PEERS if (t := self.median(name, network)) is not None and self.agrees(name)}
        return min(times, key=times.__getitem__, default=None)

    def ratio(self, peer: str | None, network: str) -> float | None:
        """Our time over the peer's; None unless both have shown the same class."""
        if peer is None or not self.agrees(peer):
            return None
        mine, its = self.median(OURS, network), self.median(peer, network)
        return mine / its if mine is not None and its else None


def run_model(model: Path, setup: Setup, networks: Sequence[Network], say: Callable[[str], None]) -> Row:
    """Visits the pages of one model in turn; on the first network, a visit of each before them does not count. Raises
    WorkerError where our bundle cannot be built."""
    row = Row(model.stem, stamp=setup.stamp, load=busy_cores())
    made = contest.Row(model.stem, 0)
    entries, _ = contest.prepare(model, setup, made)
    if OURS not in entries:
        raise WorkerError(made.failed[OURS, 1])
    row.failed = {
        (name, n.title): without_paths(why) for (name, k), why in made.failed.items() if k == 1 for n in networks
    }
    bundle, folder = entries[OURS].place, setup.cache / "web" / "first" / model.stem
    write_pages(bundle, {name: entries[name].url for name in setup.peers if name in entries}, folder)
    known = setup.cache / "web" / "sizes.json"
    codes = {OURS: own_code(bundle), **peers_code(setup.modules)}
    row.code = {name: code_size(codes[name], known) for name in CONTESTANTS if name in entries}
    places = {f"model-{name}": entry.place for name, entry in entries.items()}
    places |= {"run": folder, "bench": HERE, "npm": setup.modules}
    with serve(places, compressed=True) as address, Browser(setup.chromium, setup.modules) as browser:
        for network in networks:
            for number in range(0 if network is networks[0] else 1, network.visits + 1):
                for name in entries:
                    _visit(row, name, network, number > 0, address, browser)
            say(f"{row.model}, {network.title}: " + ", ".join(_told(row, name, network) for name in CONTESTANTS))
    row.load = max(row.load, busy_cores())
    return row


def _visit(row: Row, name: str, network: Network, counts: bool, address: str, browser: Browser) -> None:
    key = name, network.title
    if key in row.failed:
        return
    try:
        seen = browser.visit(f"{address}/run/{name}.html", network.conditions)
    except WorkerError as e:
        row.failed[key] = without_paths(str(e))
        return
    row.classes[name] = seen["largest"]
    if counts:
        row.shown.setdefault(key, []).append(seen["shown"])
        row.ready.setdefault(key, []).append(seen["ready"])


def _told(row: Row, name: str, network: Network) -> str:
    median, ready = row.median(name, network.title), row.ready_median(name, network.title)
    if median is None or ready is None:
        return f"{TITLES[name]}: {row.failed.get((name, network.title), 'takes no part')}"
    return f"{TITLES[name]} {median:.0f} ms (ready {ready:.0f})"
