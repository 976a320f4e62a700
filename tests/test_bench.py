"""The benchmark: interleaving, statistics, the worker's protocol, the page; its contestants compute nothing."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # bench/ is run where it lies, and not installed

from bench import ceilings, contest, int8, limited, machines, models, peers, profile, report, rounds, summary, worker
from bench.contest import Bundle, Row
from bench.kinds import USUAL, V3, Kind
from bench.profile import Cost, KernelTime
from bench.results import Benchmark, Results, keep, read, read_all
from bench.rounds import Timing
from dlpack.bundle.ceilings import SOURCE

LIMITS = ceilings.Ceilings(100.0, {16 << 10: 400.0, 1 << 20: 150.0, 8 << 20: 180.0, 256 << 20: 20.0}, 256)


# --- processes, rounds, statistics ------------------------------------------------------------------------------------

DUMMY = """
import json, sys
log, name, times = open(sys.argv[1], "a"), sys.argv[2], [float(t) for t in sys.argv[3].split(",")]
print(json.dumps({"ready": True, "calls": 7}), flush=True)
for line in sys.stdin:
    if line.strip() == "round":
        log.write(name); log.flush()
        t = times.pop(0)
        if t < 0:
            sys.exit("it fell over")
        print(json.dumps({"cpu_ms": t, "wall_ms": 2 * t}), flush=True)
    else:
        print(json.dumps({"peak_bytes": 9, "base_bytes": 4}), flush=True)
"""


def dummy(folder: Path, name: str, times: str) -> list[str]:
    return [sys.executable, "-c", DUMMY, str(folder / "log"), name, times]


def test_rounds_go_in_turn_and_the_first_does_not_count(tmp_path: Path) -> None:
    commands = {"a": dummy(tmp_path, "a", "100,3,1,2"), "b": dummy(tmp_path, "b", "100,5,7,9")}
    result = rounds.race(commands, 3)
    assert (tmp_path / "log").read_text() == "abababab"
    assert result.timings == {"a": Timing(2, 1, 4, 3, 7), "b": Timing(7, 5, 14, 3, 7)}
    assert result.ends["a"]["peak_bytes"] == 9 and not result.failed


def test_threads_count_wall_time(tmp_path: Path) -> None:
    result = rounds.race({"a": dummy(tmp_path, "a", "9,3,4")}, 2, threads=2)
    assert result.timings["a"].median_ms == 7


def test_a_contestant_that_falls_over_leaves_the_others_running(tmp_path: Path) -> None:
    commands = {
        "a": dummy(tmp_path, "a", "1,1,1"),
        "b": dummy(tmp_path, "b", "1,-1"),
        "c": [sys.executable, "-c", 'print(\'{"error": "no such model"}\')'],
    }
    result = rounds.race(commands, 2)
    assert list(result.timings) == ["a"]
    assert "exit code 1" in result.failed["b"] and "it fell over" in result.failed["b"]
    assert result.failed["c"] == "no such model"


def test_a_contestant_that_hangs_is_stopped() -> None:
    result = rounds.race({"a": [sys.executable, "-c", "import time; time.sleep(60)"]}, 1, timeout_s=0.3)
    assert "no answer within 0.3 s" in result.failed["a"]


def test_worker_serves_rounds_and_outputs(tmp_path: Path) -> None:
    class Counter:
        calls = 0

        def run(self) -> None:
            self.calls += 1

        def outputs(self) -> dict[str, peers.Array]:
            return {"y": np.array([self.calls])}

    session, told = Counter(), []
    (tmp_path / "commands").write_text("round\nround\nend\n")
    with (tmp_path / "commands").open() as lines:
        worker.serve(lambda: session, tmp_path / "out.npz", lines, told.append)
    assert told[0]["ready"] and told[0]["calls"] > 1
    assert all(0 < t["wall_ms"] < 1000 and t["cpu_ms"] > 0 for t in told[1:3])  # milliseconds of microseconds' work
    assert told[3]["peak_bytes"] >= told[3]["base_bytes"] > 1 << 20
    with np.load(tmp_path / "out.npz") as stored:
        assert stored["out_y"] == session.calls


def test_onnxruntime_answers_as_a_worker(tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    node = helper.make_node("Relu", ["x"], ["y"])
    kinds = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 3]) for n in "xy"]
    graph = helper.make_graph([node], "g", kinds[:1], kinds[1:])
    file = tmp_path / "relu.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
    np.savez(tmp_path / "relu.npz", in_x=np.array([[-1, 0, 2]], np.float32))
    inputs = contest.write_inputs(file, None, tmp_path / "in.npz")
    arguments = (str(file), str(tmp_path / "in.npz"), str(tmp_path / "out.npz"), "1")
    result = rounds.race({"o": rounds.worker_command(sys.executable, "run", "onnxruntime", *arguments)}, 1)
    assert not result.failed and result.timings["o"].median_ms > 0
    assert contest.largest_error(contest._stored(tmp_path / "out.npz"), contest.reference(file, inputs)) == 0


def test_a_missing_peer_is_told_with_what_to_install() -> None:
    lacking = peers.Peer("x", "X", ("numpy", "surely-not-installed"), "numpy", peers._as_is, peers._Onnxruntime)
    with pytest.raises(peers.PeerError, match="pip install surely-not-installed"):
        peers.versions(lacking)


# --- the figures ------------------------------------------------------------------------------------------------------


def test_errors_go_by_name_or_position_and_never_pass_another_shape() -> None:
    want = {"y": np.array([[1.0, 2.0]], np.float32), "h": np.array([4.0], np.float32)}
    assert contest.largest_error({"h": want["h"], "y": want["y"]}, want) == 0
    assert contest.largest_error({"0": want["y"][0], "1": want["h"] + 1}, want) == 0.25
    assert contest.largest_error({"0": want["y"]}, want) == np.inf
    assert contest.largest_error({"0": want["h"], "1": want["y"]}, want) == np.inf


def test_ceilings_know_where_data_lies() -> None:
    assert LIMITS.reading(1 << 10) == 400 and LIMITS.reading(1 << 30) == LIMITS.memory == 20
    assert LIMITS.reading(1 << 20) == 180, "a larger set that is read faster shows what the smaller can do"
    assert LIMITS.roofline_ms(1e9, 0, 0, 0, 0) == pytest.approx(10)
    assert LIMITS.roofline_ms(0, 20_000_000, 100 << 20, 0, 0) == pytest.approx(1)
    told = ceilings.parse('{"vector_bits": 512, "ghz": 3.5, "gflops": 50, "gbps": {"1024": 9, "2048": 30}}')
    both = ceilings.better(told, ceilings.Ceilings(60, {1024: 10, 2048: 20}, 512, 3.6))
    assert both == ceilings.Ceilings(60, {1024: 10, 2048: 30}, 512, 3.6)
    assert SOURCE.is_file()


def test_kernels_bytes_and_roofline() -> None:
    assert profile.activation_bytes("MatMul + Add: float32[1x4], int64[2] -> float32[1x2]") == 16 + 16 + 8
    assert profile.activation_bytes("Gather: int64[1x3] -> float32[1x3x2]") == 24 + 24 + 24
    import onnx
    from onnx import helper, numpy_helper

    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"], name="gather"),
        helper.make_node("MatMul", ["e", "w"], ["y"], name="product"),
    ]
    arrays = {"table": np.zeros((100, 8), np.float32), "w": np.zeros((8, 4), np.float32)}
    weights = profile.Initializers(
        helper.make_model(
            helper.make_graph(nodes, "g", [], [], [numpy_helper.from_array(v, k) for k, v in arrays.items()])
        )
    )
    assert weights.total == 128 and weights.of_kernel("k1", ["product", "gather"], 1) == 128
    manifest = {
        "arena": {"bytes": 1024}, "weights_bytes": 128, "macs": 3_000_000,
    }  # fmt: skip
    kernels = [{"name": "k1", "computes": "MatMul: float32[1x8] -> float32[1x4]", "schedule": "s",
                "macs": 1_000_000, "nodes": ["product"]}]  # fmt: skip
    rows = [
        {"name": "k1", "calls": 1, "us": 40.0, "share": 0.4},
        {"name": "loop", "calls": 1, "us": 60.0, "share": 0.6},
    ]
    first, loop = profile.kernel_times(rows, manifest, kernels, weights, LIMITS)
    assert first.gflops == pytest.approx(50) and first.of_roofline == pytest.approx(0.5)
    assert loop.gflops == pytest.approx(4e6 / 60e3)
    assert onnx.__version__


def test_the_zoo_is_defined_once() -> None:
    assert len(models.MODELS) == 15
    for model in models.MODELS.values():
        first, second = models.make_inputs(model), models.make_inputs(model)
        for value in model.inputs:
            assert first[value.name].shape == value.shape and first[value.name].dtype == value.dtype
            assert np.array_equal(first[value.name], second[value.name])


# --- the page ---------------------------------------------------------------------------------------------------------


def row(model: str, times: dict[str, float], errors: dict[str, float] | None = None) -> Row:
    timings = {name: Timing(t, t / 2, t, 3, 1) for name, t in times.items()}
    agree = {name: 1e-6 for name in times} | (errors or {})
    memory = {name: 50_000_000 for name in times}
    return Row(
        model, Cost(2e8, 4 << 20), 4_000_000, 30_000_000, Bundle(5, 70_000, 0, 4096, 4096), timings, memory, agree
    )


def measured(rows: list[Row], **changes: object) -> Benchmark:
    known = {n: {"versions": {n: "1.0"}, "bytes": 1_000_000} for n in ("ours", "onnxruntime", "ncnn")}
    facts = dict(kind=Kind(), rows=rows, machine=[("CPU", "a good one")], ceilings=LIMITS, known=known, missing={},
                 command="python -m bench", rounds=3, load=0.0, date="2026-11-22", tree="abc1234")  # fmt: skip
    return Benchmark(**(facts | changes))  # type: ignore[arg-type]


def page(rows: list[Row], **changes: object) -> str:
    table = measured(rows, **changes)
    return report.markdown(Results("A machine", {table.kind.key: table}))


def line(text: str, start: str) -> list[str]:
    """The cells of the first table row that begins so."""
    found = next(t for t in text.splitlines() if t.startswith(f"| {start} |"))
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_page_ratios_and_geometric_means() -> None:
    text = page([
        row("one", {"ours": 2.0, "onnxruntime": 4.0, "ncnn": 8.0}),
        row("two", {"ours": 8.0, "onnxruntime": 4.0, "ncnn": 4.0}, {"ncnn": 0.5}),
    ])  # fmt: skip
    assert line(text, "one") == ["one", "0.200", "**2.00**", "4.00", "8.00", "0.50", "0.50", "onnxruntime", "100",
                                 "100 %", "1 %"]  # fmt: skip
    two = line(text, "two")
    assert two[2:8] == ["8.00", "**4.00**", "4.00 †", "2.00", "2.00", "onnxruntime"], "what is wrong is not the best"
    assert line(text, "**geometric mean of ours to it**")[3:7] == ["1.00", "0.25", "1.00", "1.00"]


def test_page_has_the_time_to_load_and_its_cycles_per_byte_of_weights() -> None:
    one = row("one", {"ours": 2.0, "onnxruntime": 4.0, "ncnn": 8.0}, {"ncnn": 0.5})
    one.loads = {"ours": 5.0, "onnxruntime": 20.0, "ncnn": 1.0}
    one.bundle = Bundle(5, 70_000, 10_000_000, 4096, 4096)
    text = page([one], ceilings=replace(LIMITS, ghz=4.0))
    load = text[text.index("### Load") :]
    assert line(load, "one") == ["one", "**5.00**", "20.0", "1.00 †", "0.25", "2.00"], "what is wrong does not count"


def test_page_says_what_is_missing_without_paths() -> None:
    one = row("one", {"ours": 2.0})
    one.failed["ncnn"] = "pnnx failed on /home/someone/models/net.onnx"
    one.kernels = [KernelTime("k00_conv", "Conv", "tile", 1, 3.0, 1.0, None, None, None)]
    text = page([one], missing={"mnn": "not installed: pip install MNN"}, load=1.7)
    assert "- MNN: not installed: pip install MNN" in text
    assert "- ncnn on one: pnnx failed on net.onnx" in text and "someone" not in text
    assert "Measured under load" in text and "Measured under load" not in page([one])
    assert line(text, "k00_conv")[4:] == ["3.00", "100.0 %", "–", "–", "–"]
    assert line(text, "one")[3:7] == ["–", "–", "–", "–"]


@pytest.mark.parametrize(
    ("facts", "title", "stem"),
    [
        ({"vendor_id": "AuthenticAMD", "cpu family": "26", "model": "2", "stepping": "1", "model name": "AMD EPYC"},
         "AMD EPYC (Zen 5)", "amd-epyc-zen5"),
        ({"vendor_id": "GenuineIntel", "cpu family": "6", "model": "143", "stepping": "8",
          "model name": "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"},
         "Intel Xeon Platinum 8481C (Sapphire Rapids)", "intel-xeon-platinum-8481c-sapphire-rapids"),
        ({"vendor_id": "GenuineIntel", "cpu family": "6", "model": "85", "stepping": "4",
          "model name": "Intel(R) Xeon(R)"}, "Intel Xeon (Skylake)", "intel-xeon-skylake"),
        ({"model name": "aarch64"}, "aarch64", "aarch64"),
        ({"vendor_id": "AuthenticAMD", "model name": "AMD Ryzen 9 7950X 16-Core Processor"},
         "AMD Ryzen 9 7950X", "amd-ryzen-9-7950x"),
    ],
)  # fmt: skip
def test_a_machine_is_called_by_its_name_and_its_cores(facts: dict[str, str], title: str, stem: str) -> None:
    assert machines.title_of(facts) == title and machines.stem_of(title) == stem


def test_a_table_takes_the_place_of_the_older_one_of_its_kind(tmp_path: Path) -> None:
    one = row("one", {"ours": 2.0, "onnxruntime": 4.0})
    one.kernels = [KernelTime("k00_conv", "Conv", "tile", 1, 3.0, 1.0, None, 2.0, None)]
    one.failed["ncnn"] = "it fell over"
    first, other = measured([one]), measured([], kind=Kind(threads=2), stated={"": 0.8, "one": 1.1}, note="busy")
    for table in (measured([], date="2026-01-01"), other, first):
        keep(table, "A machine", "a-machine", tmp_path)
    kept = read(tmp_path / "a-machine.json")
    assert kept == Results("A machine", {first.kind.key: first, other.kind.key: other})
    assert [b.kind for b in kept.in_order()] == [Kind(), Kind(threads=2)] and list(read_all(tmp_path)) == ["a-machine"]


def test_the_pages_are_what_the_results_give() -> None:
    for path, text in summary.pages_of(read_all()).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run python -m bench --pages"


def test_the_summary_compares_machines() -> None:
    first = measured([row("one", {"ours": 2.0, "ncnn": 4.0}), row("two", {"ours": 9.0, "ncnn": 10.0})])
    avx2 = measured([row("one", {"ours": 3.0, "ncnn": 4.0})], kind=Kind(machine=V3))
    other = measured([], stated={"": 0.8, "one": 1.1})
    text = summary.summary({
        "a": Results("A", {b.kind.key: b for b in (first, avx2)}), "b": Results("B", {other.kind.key: other}),
    })  # fmt: skip
    assert line(text, "[A](benchmarks/a.md)")[1:] == [
        "**0.67** (two 0.90; 2026-11-22)",
        "**0.75** (one 0.75; 2026-11-22)",
    ]
    assert line(text, "[B](benchmarks/b.md)")[1:] == ["**0.80** (one 1.10; 2026-11-22)", "not measured"]
    assert line(text, "one")[1:] == ["0.50", "1.10"] and line(text, "two")[1:] == ["0.90", "–"]


def test_tables_say_what_is_special_about_them() -> None:
    one = [row("one", {"ours": 2.0, "onnxruntime": 4.0})]
    assert [kind.key for kind in USUAL] == ["float32", "float32-x86-64-v3", "float32-2-threads", "int8"]
    texts = {kind.key: page(one, kind=kind) for kind in USUAL}
    assert "## Float32 for x86-64-v3 (AVX2), one thread" in texts["float32-x86-64-v3"]
    assert "keep to AVX2" in texts["float32-x86-64-v3"] and "keep to AVX2" not in texts["float32"]
    assert "wall time per call" in texts["float32-2-threads"] and "LiteRT reads no ONNX" in texts["int8"]
    for key, text in texts.items():
        assert ("of the FMA ceiling" in text) == (key in ("float32", "float32-2-threads")), key
        assert "Measured 2026-11-22, tree abc1234, by `python -m bench`" in text


def test_bundles_of_each_kind_lie_apart_and_peers_are_limited(tmp_path: Path) -> None:
    known = {"ncnn": {"versions": {"ncnn": "1.0"}, "bytes": 1}}
    made = contest.Setup(tmp_path, {"ncnn": sys.executable}, known)
    folders = {contest.bundle_folder(Path("net.onnx"), replace(made, kind=kind)).name for kind in USUAL[:3]}
    assert folders == {"net", "net-x86-64-v3", "net-2-threads"}
    avx2, folder = replace(made, kind=USUAL[1]), (tmp_path / "limited" / "ncnn").resolve()
    folder.mkdir(parents=True)
    (folder / "limited.json").write_text('{"package": "ncnn", "version": "1.0"}')
    assert contest._limits("ncnn", avx2) == ["env", f"PYTHONPATH={folder}"]
    assert contest._limits("ours", avx2) == contest._limits("ncnn", made) == []


def test_a_library_without_avx512_is_told_so_where_it_asks() -> None:
    asks, number = b"\x31\xc9\x0f\x01\xd0\x25\xe0", b"\x0f\x01\xd0 is a number here"
    made, count = limited.without_avx512(b"\x90" + asks + b"\x00" * 40 + number)
    assert count == 1 and made == b"\x90\x31\xc9\xb0\x07\x90\x25\xe0" + b"\x00" * 40 + number


def test_litert_takes_part_where_its_own_file_is(tmp_path: Path) -> None:
    file = tmp_path / "net-tflite.onnx"
    assert not int8.takes_part("litert", file) and int8.takes_part("onnxruntime", file)
    file.with_suffix(".tflite").touch()
    assert int8.takes_part("litert", file)
    assert peers._convert_litert(file, tmp_path) == file.with_suffix(".tflite")
    assert set(int8.NAMES) <= set(models.ALL) and len(int8.samples("mobilenetv3")) == int8.SAMPLES


def test_paths_are_cut_and_names_are_not() -> None:
    assert report.without_paths("a /usr/lib/python3/x.py: b") == "a x.py: b"
    assert report.without_paths("1/2 of https://example.org/a/b") == "1/2 of https://example.org/a/b"


def test_geometric_mean() -> None:
    assert report.geometric_mean([2.0, None, 8.0]) == pytest.approx(4)
    assert report.geometric_mean([None]) is None
