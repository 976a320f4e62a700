"""The benchmark in Chromium: the site, the clock, the figures, the page, and one small model through all of it."""

from __future__ import annotations

import base64
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from conftest import DIGITS, requires_tool, skip_or_fail

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # bench/ is run where it lies, and not installed

from bench import contest as native  # noqa: E402
from bench.profile import KernelTime  # noqa: E402
from bench.rounds import Timing, WorkerError  # noqa: E402
from bench.web import contest, first_contest, first_report, kept, report, site  # noqa: E402
from bench.web.browser import CpuClock  # noqa: E402
from bench.web.contest import Row, Setup, Start  # noqa: E402
from bench.web.first_contest import Network  # noqa: E402
from bench.web.kept import Stamp  # noqa: E402
from bench.web.sizes import Size, code_size  # noqa: E402

OURS, ORT, LITERT = "ours", "onnxruntime-web", "litert"


# --- what the pages load ----------------------------------------------------------------------------------------------


def test_addresses_lead_into_their_folders_and_never_out(tmp_path: Path) -> None:
    places = {"run": tmp_path / "run", "npm": tmp_path / "npm"}
    assert site.place_of("http://localhost:1/npm/a/b.mjs?x=1#y", places) == tmp_path / "npm" / "a" / "b.mjs"
    assert site.place_of("/run/net%20one.onnx", places) == tmp_path / "run" / "net one.onnx"
    for outside in ("/run/../secret", "/run/%2e%2e/npm/x", "/other/x", "/", "/run//etc/passwd"):
        assert site.place_of(outside, places) is None, outside


def test_the_site_is_isolated(tmp_path: Path) -> None:
    (tmp_path / "a.wasm").write_bytes(b"abc")
    with site.serve({"run": tmp_path}) as address:
        with urllib.request.urlopen(f"{address}/run/a.wasm") as answer:
            assert answer.read() == b"abc" and answer.headers["Content-Type"] == "application/wasm"
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        for wrong in ("run/b.wasm", "run/../x", "etc/passwd"):
            with pytest.raises(urllib.error.HTTPError) as e:
                urllib.request.urlopen(f"{address}/{wrong}")
            assert e.value.code == 404
            e.value.close()


def test_code_is_counted_once_and_compressed_once(tmp_path: Path) -> None:
    requires_tool("node")
    (tmp_path / "a.js").write_text("let a = 1;\n" * 1000)
    (tmp_path / "b.wasm").write_bytes(bytes(5000))
    (tmp_path / "net.weights").write_bytes(bytes(9000))
    files = [tmp_path / name for name in ("a.js", "b.wasm", "net.weights", "a.js")]
    size = code_size(files, tmp_path / "cache.json")
    assert size.raw == 16000 and 0 < size.brotli < 200 and 0 < size.gzip < 200
    assert code_size(files, tmp_path / "cache.json", node="no such program") == size
    assert size + Size(1, 2, 3) == Size(size.raw + 1, size.gzip + 2, size.brotli + 3)


def test_the_clock_counts_what_a_process_works() -> None:
    clock = CpuClock(os.getpid())
    before, began = clock.ms(), time.process_time_ns()
    while time.process_time_ns() < began + 20_000_000:
        pass
    assert clock.ms() - before >= 20
    with pytest.raises(WorkerError, match="has no clock"):
        CpuClock(2**22 + 1)  # above the largest process id


# --- the figures ------------------------------------------------------------------------------------------------------


def stamp(**changes: object) -> Stamp:
    facts = dict(date="2026-01-02", tree="abc", command="python -m bench.web", machine=(("CPU", "a good one"),),
                 browser="Chrome/1", versions={ORT: "1.0", LITERT: "2.0"}, missing={}, ceiling=50.0,
                 clock=499.5)  # fmt: skip
    return Stamp(**(facts | changes))  # type: ignore[arg-type]


def row(model: str, times: dict[tuple[str, int], float], errors: dict[tuple[str, int], float] | None = None) -> Row:
    """CPU times; the wall times are half of them with two threads, so that another peer may be the better one."""
    timings = {key: Timing(t, t, t / key[1], 3, 1) for key, t in times.items()}
    starts = {name: Start(10, 5, 2, 3) for name, threads in times if threads == 1}
    code = {name: Size(50_000, 20_000, 10_000) for name in starts}
    errors = {k: 1e-6 for k in times} | (errors or {})
    return Row(model, 1e8, timings, errors, {}, starts, code, {OURS: 4_000_000}, loads=2, stamp=stamp())


def test_ratios_are_to_peers_that_agree() -> None:
    one = row("one", {(OURS, 1): 2.0, (ORT, 1): 8.0, (LITERT, 1): 4.0, (ORT, 2): 6.0}, {(LITERT, 1): 0.1})
    assert one.best_peer(1) == ORT and one.ratio(ORT, 1) == 0.25
    assert one.ratio(LITERT, 1) is None, "it computes something else"
    assert one.best_peer(2) == ORT and one.ratio(ORT, 2) is None, "ours has no threads"
    assert one.time((ORT, 2), wall=True) == 3.0
    assert row("two", {(OURS, 1): 2.0, (ORT, 1): 8.0}, {(OURS, 1): 2e-4}).ratio(ORT, 1) is None


def test_outputs_come_back_as_they_were() -> None:
    value = np.array([1.5, -2], np.float32)
    got = contest.decoded({"y": {"dtype": "float32", "base64": base64.b64encode(value.tobytes()).decode()}})
    assert got["y"].dtype == np.float32 and np.array_equal(got["y"], value)


# --- the page ---------------------------------------------------------------------------------------------------------


def lines(text: str, start: str) -> list[list[str]]:
    """The cells of the table rows that begin so."""
    found = [t for t in text.splitlines() if t.startswith(f"| {start} |")]
    return [[cell.strip() for cell in t.strip("|").split("|")] for t in found]


def test_page_times_ratios_and_means() -> None:
    text = report.markdown([
        row("one", {(OURS, 1): 2.0, (ORT, 1): 8.0, (LITERT, 1): 4.0, (ORT, 2): 10.0}),
        row("two", {(OURS, 1): 8.0, (ORT, 1): 4.0, (LITERT, 1): 1.0, (OURS, 2): 9.0, (ORT, 2): 3.0}, {(LITERT, 1): 1}),
    ])  # fmt: skip
    times, wall, cpu, starts, errors = lines(text, "one")
    assert times[1:] == ["0.100", "**2.00**", "8.00", "4.00", "0.25", "0.50", "0.50", "50.0", "100 %", "2.00"]
    assert wall[1:] == ["–", "**5.00**", "–", "–", "–", "–"] and cpu[2] == "**10.0**"
    assert starts[1:4] == ["**10.0**"] * 3 and starts[4:11:3] == ["**5.00**", "**2.00**", "**3.00**"]
    assert errors[1:] == ["1.0e-06"] * 3 + ["–", "1.0e-06", "–"]
    assert lines(text, "two")[0][4:8] == ["1.00 †", "2.00", "–", "2.00"]
    means = lines(text, "**geometric mean**")
    assert means[0][5:8] == ["0.71", "0.50", "1.00"] and means[1][4:] == ["3.00", "–", "3.00"]
    assert lines(text, "ours, one")[0][1:] == ["50.0", "20.0", "10.0", "4.00", "–"]
    assert lines(text, "check of the clock")[0][1] == "a page busy for 500 ms: 499.5 ms of CPU time"
    assert "Measured 2026-01-02, tree abc; 3 rounds, 2 loads" in text
    assert "Ours takes one" not in text and "Kernels" not in text and "int8" not in text.split("## To repeat")[0]


def test_page_says_what_did_not_run_without_paths_and_ports() -> None:
    one = row("one", {(OURS, 1): 2.0})
    one.failed = {(ORT, 1): "http://localhost:4711/npm/x.wasm: HTTP 404", (ORT, 2): "the page crashed"}
    one.failed |= {(LITERT, 1): "no /home/someone/net.tflite", (LITERT, 2): "no /home/someone/net.tflite"}
    one.kernels = [KernelTime("k00_conv", "Conv", "tile", 1, 3.0, 1.0, None, None, None)]
    one.stamp, one.load, one.alone = stamp(missing={LITERT: "not installed: npm install it"}), 1.7, True
    text = report.markdown([one])
    assert "- onnxruntime-web on one, 1 thread: x.wasm: HTTP 404\n" in text
    assert "- onnxruntime-web on one, 2 threads: the page crashed\n" in text
    assert "- LiteRT.js on one, 1 and 2 threads: no net.tflite\n" in text
    assert "- LiteRT.js: not installed: npm install it" in text
    assert "Measured under load" in text and "Ours takes one for one" in text
    assert lines(text, "k00_conv")[0][4:6] == ["3.00", "100.0 %"]
    assert "someone" not in text and "4711" not in text


def test_rows_are_kept_and_replaced_one_by_one(tmp_path: Path) -> None:
    file = kept.path_of("float32", tmp_path)
    one, two = row("resnet18", {(OURS, 1): 2.0, (ORT, 2): 8.0}), row("lenet5", {(OURS, 1): 1.0})
    one.kernels = [KernelTime("k00_conv", "Conv", "tile", 1, 3.0, 1.0, None, None, None)]
    one.failed[LITERT, 1] = "it crashed"
    for each in (two, one):
        kept.enter(each, file)
    assert kept.read(Row, file) == [one, two], "in the zoo's order"
    again = row("lenet5", {(OURS, 1): 0.5})
    again.stamp, again.load = stamp(date="2026-02-03"), 1.0
    kept.enter(again, file)
    assert kept.read(Row, file) == [one, again]
    text = report.markdown(kept.read(Row, file))
    assert lines(text, "2026-01-02")[0][3:] == ["3 rounds, 2 loads", "–", "resnet18"]
    assert lines(text, "2026-02-03")[0][3:] == ["3 rounds, 2 loads", "1.0", "lenet5"]


def test_integers_have_a_table_and_a_tolerance_of_their_own() -> None:
    one = row("one-qdq", {(OURS, 1): 2.0, (ORT, 1): 8.0, (OURS, 2): 1.0, (ORT, 2): 8.0}, {(OURS, 1): 0.01})
    one.int8 = True
    text = report.markdown([], [one])
    times, wall, errors = lines(text, "one-qdq")
    assert times[1:] == ["**2.00**", "8.00", "–", "0.25", "–", "0.25"] and wall[1] == "**0.500**"
    assert errors[1:] == ["1.0e-02", "1.0e-06", "–"] and "## One thread" not in text


def test_the_pages_are_those_of_what_is_kept() -> None:
    rows = {kind: kept.read(Row, kept.path_of(kind)) for kind in ("float32", "int8")}
    if any(rows.values()):
        assert (ROOT / "docs" / "benchmarks-web.md").read_text() == report.markdown(rows["float32"], rows["int8"])
    visits = kept.read(first_contest.Row, kept.path_of("first"))
    if visits:
        assert (ROOT / "docs" / "benchmarks-page.md").read_text() == first_report.markdown(visits)


# --- all of it --------------------------------------------------------------------------------------------------------


def test_ours_in_chromium(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model from outside the zoo, with a peer that cannot have it."""
    requires_tool("node")
    modules = Path(os.environ.get("NODE_PATH") or ROOT / "build" / "node" / "node_modules")
    if not (modules / "puppeteer-core").is_dir():
        skip_or_fail("the npm package puppeteer-core is not in NODE_PATH (script/test puts it in build/node)")
    chromium = requires_tool("chromium")
    monkeypatch.setattr(contest, "ROUND_MS", 5.0)
    monkeypatch.setattr(contest, "WARM_UP_MS", 20.0)
    site.make_site(tmp_path / "web" / "site")
    without = native.Setup(tmp_path, {}, {})
    told = contest.run_model(
        DIGITS, Setup(tmp_path, modules, chromium, (LITERT,), without, stamp(), 2, 2, profile=True)
    )
    assert set(told.failed) == {(LITERT, 1), (LITERT, 2)} and "litert-torch" in told.failed[LITERT, 1]
    assert told.errors[OURS, 1] <= 1e-4 and told.timings[OURS, 1].rounds == 2
    assert told.timings[OURS, 1].median_ms > 0 and told.starts[OURS].instantiate > 0
    assert 1000 < told.code[OURS].brotli < told.code[OURS].raw < 100_000
    assert told.weights[OURS] > 1000 and any("conv" in k.name for k in told.kernels)

    said: list[str] = []
    peers = (ORT, LITERT) if (modules / ORT).is_dir() else ()
    setup = Setup(tmp_path, modules, chromium, peers, without, stamp(), reuse=True)
    seen = first_contest.run_model(DIGITS, setup, [Network(None, 1)], said.append)
    assert seen.shown[OURS, "localhost"][0] > seen.ready[OURS, "localhost"][0] > 0 and len(said) == 1
    assert ((ORT, "localhost") in seen.shown) == bool(peers) and 1000 < seen.code[OURS].brotli < seen.code[OURS].raw


def test_the_page_of_the_first_second(tmp_path: Path) -> None:
    one = first_contest.Row("one", {(OURS, "localhost"): [9.0, 80, 100], (ORT, "localhost"): [400.0]}, stamp=stamp())
    one.ready = {key: [5.0] * len(times) for key, times in one.shown.items()}
    one.classes, one.load = {OURS: 3, ORT: 3}, 1.0
    one.code = {OURS: Size(50_000, 20_000, 10_000)}
    one.failed = {(LITERT, "localhost"): "it crashed"}
    other = first_contest.Row("other", one.shown, one.ready, {OURS: 3, ORT: 4}, stamp=stamp())
    file = kept.path_of("first", tmp_path)
    for each in (one, other):
        kept.enter(each, file)
    text = first_report.markdown(kept.read(first_contest.Row, file))
    assert lines(text, "one")[0][1:] == ["**80.0**", "400", "–", "5.00", "5.00", "–", "0.20", "–", "0.20"]
    assert lines(text, "other")[0][2] == "400 †" and lines(text, "other")[0][7] == "–", "it computes something else"
    assert "LiteRT.js on one, localhost: it crashed" in text and "other: another class than ours" in text
    assert lines(text, "ours, one")[0][1:] == ["50.0", "20.0", "10.0"]
