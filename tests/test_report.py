"""The pictures of the report: they show what was built, no more and no less, in a page that needs nothing else."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from conftest import DIGITS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from dlpack.bundle.plan_file import read_plan
from dlpack.bundle.read import read_kernels, read_manifest
from dlpack.bundle.report import file_sizes, report_html
from dlpack.cli import cli
from dlpack.errors import UsageError
from dlpack.graph.blocks import blocks_of
from dlpack.graph.fuse import Group
from dlpack.graph.ir import Graph, Node, TensorType
from dlpack.pipeline import Options, build
from dlpack.report.arena import arena_map, blocks, peak
from dlpack.report.bars import error_histogram, kernel_bars, roofline
from dlpack.report.layers import draw, layers_of, spread
from dlpack.report.network import LIMIT, network_drawing
from dlpack.report.text import shortened, size_text
from dlpack.report.treemap import boxes, treemap
from dlpack.verify.reference import DECADES, compare


def svgs_of(text: str, kind: str) -> list[ET.Element]:
    """All SVGs of a class, parsed. The pages leave out quotes where HTML allows it, XML does not."""
    found = re.findall(rf"<svg class={kind} .*?</svg>", text, re.DOTALL)
    return [ET.fromstring(re.sub(r"=([\w-]+)(?=[\s/>])", r"='\1'", svg)) for svg in found]


def svg_of(text: str, kind: str) -> ET.Element:
    """The first SVG of a class."""
    return svgs_of(text, kind)[0]


def network_of(text: str) -> ET.Element:
    """The bands of a network as one element."""
    whole = ET.Element("svg")
    whole.extend(svgs_of(text, "network"))
    return whole


def rectangles(svg: ET.Element) -> list[tuple[int, int, int, int]]:
    """x, y, width and height of the values' rectangles in an arena's map."""
    found = [r for r in svg.iter("rect") if "value" in r.get("class", "")]
    return [tuple(int(r.get(key, "")) for key in ("x", "y", "width", "height")) for r in found]  # type: ignore[misc]


# --- the arena --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_a_loop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An LSTM's bundle: a run has a loop, whose steps share memory."""
    folder = tmp_path_factory.mktemp("loop")
    rng = np.random.default_rng(3)
    weights = {"w": rng.normal(size=(1, 32, 6)), "r": rng.normal(size=(1, 32, 8))}
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y", "h"], "lstm", hidden_size=8)
    relu = helper.make_node("Relu", ["y"], ["z"], "relu")
    types = {"x": (5, 1, 6), "z": (5, 1, 1, 8), "h": (1, 1, 8)}
    x, *outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in types.items()]
    tensors = [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()]
    graph = helper.make_graph([node, relu], "lstm", [x], outputs, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "lstm.onnx")
    return build(folder / "lstm.onnx", folder / "bundle", Options("source"))


@pytest.fixture(params=["digits", "with_a_loop"])
def bundle(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def test_values_do_not_overlap_in_the_map(bundle: Path) -> None:
    """At no step two values have the same byte: rectangles may touch only."""
    found = rectangles(svg_of((bundle / "report.html").read_text(), "arena"))
    assert found
    for k, (x, y, w, h) in enumerate(found):
        for u, v, r, s in found[:k]:
            assert x + w <= u or u + r <= x or y + h <= v or v + s <= y


def test_the_map_has_the_arenas_size_and_names_each_value(bundle: Path) -> None:
    svg = svg_of((bundle / "report.html").read_text(), "arena")
    plan = read_plan(bundle)["sets"][0]
    _, _, width, height = map(int, svg.get("viewBox", "").split())
    manifest = read_manifest(bundle)
    assert width == len(plan["steps"]) and 0 <= manifest["arena"]["bytes"] - height < 64
    found = rectangles(svg)
    assert all(x + w <= width and y + h <= height for x, y, w, h in found)
    titles = [r.findtext("title") or "" for r in svg.iter("rect") if "value" in r.get("class", "")]
    for p in plan["places"]:
        if "loop" not in p:
            (told,) = [t for t in titles if t.startswith(p["name"]) and f"at {p['offset']:,}\n" in t and
                       t.endswith(f"steps {p['first']} to {p['last']}" if p["first"] < p["last"] else
                                  f"step {p['first']}")]  # fmt: skip
            assert f"{p['bytes']:,} bytes" in told


def test_the_peak_is_marked_where_most_is_alive(digits: Path) -> None:
    svg = svg_of((digits / "report.html").read_text(), "arena")
    (mark,) = [r for r in svg.iter("rect") if r.get("class") == "peak"]
    found = rectangles(svg)
    alive = [
        sum(h for x, _, w, h in found if x <= step < x + w)
        for step in range(len(read_plan(digits)["sets"][0]["steps"]))
    ]
    assert int(mark.get("x", "")) == alive.index(max(alive))
    assert f"{max(alive):,} bytes" in (digits / "report.html").read_text()


def place(name: str, offset: int, size: int, first: int, last: int, **more: Any) -> dict[str, Any]:
    kind = {"values": [name], "dtype": "float32", "shape": [size // 4]}
    return {"name": name, "offset": offset, "bytes": size, "first": first, "last": last, **kind, **more}


def test_what_a_loop_uses_is_one_rectangle() -> None:
    """The steps of its body take turns in the same bytes."""
    places = [place("x", 0, 64, 0, 2), place("a", 64, 64, 2, 2, loop=3), place("b", 64, 128, 2, 2, loop=3)]
    x, loop = blocks(places)
    assert (loop.offset, loop.size, loop.first, loop.last) == (64, 128, 2, 2) and "a, b" in loop.tells
    assert peak([x, loop]) == (2, 192)


def test_an_arena_without_values_is_said_in_words() -> None:
    assert "needs no memory" in arena_map([], ["k00_add"], 0)


# --- the network ------------------------------------------------------------------------------------------------------


def test_the_network_shows_each_group_with_its_operators(digits: Path) -> None:
    svg = network_of((digits / "report.html").read_text())
    plan = read_plan(digits)["sets"][0]
    assert {b["kernel"] for b in plan["blocks"]} - {""} == {k["name"] for k in read_kernels(digits)}
    drawn = [g for g in svg.iter("g") if "block" in g.get("class", "")]
    ends = [g for g in drawn if "end" in g.get("class", "")]
    assert [g.findtext("title") for g in ends] == ["image", "probability"]
    groups = [g for g in drawn if g not in ends]
    assert len(groups) == len(plan["blocks"])
    for g, b in zip(groups, plan["blocks"], strict=True):
        texts = [t.text for t in g.iter("text")]
        assert texts == [b["operators"][0], *(f"+ {op}" for op in b["operators"][1:]), b["kind"]]


def frames(svg: ET.Element) -> list[tuple[float, float, float, float]]:
    found = [r for r in svg.iter("rect") if r.get("class") == "frame"]
    return [tuple(float(r.get(key, "")) for key in ("x", "y", "width", "height")) for r in found]  # type: ignore[misc]


def test_boxes_do_not_overlap_and_edges_lead_down(digits: Path) -> None:
    svg = network_of((digits / "report.html").read_text())
    found = frames(svg)
    for k, (x, y, w, h) in enumerate(found):
        for u, v, r, s in found[:k]:
            assert x + w <= u or u + r <= x or y + h <= v or v + s <= y
    paths = [p.get("d", "") for p in svg.iter("path")]
    assert len(paths) >= len(found) - 1
    for d in paths:
        ys = [float(d.split("C")[0].split("V")[0].split()[1]), float(re.findall(r"[\d.]+", d)[-1])]
        assert ys[0] < ys[1]


def block(output: str, inputs: list[str]) -> dict[str, Any]:
    return {"kernel": "k", "operators": ["Relu"], "inputs": inputs, "outputs": [output], "kind": "float32[1]"}


def test_paper_ends_between_layers() -> None:
    """A drawing is bands, one below the other; none ends in a box, and an edge through several is in each of them."""
    chain = [block(f"v{k}", [f"v{k - 1}"] if k else ["x"]) for k in range(12)]
    chain[11]["inputs"].append("v0")
    html = network_drawing(chain, ["x"], ["v11"], {})
    bands = svgs_of(html, "network")
    ends = [[float(v) for v in b.get("viewBox", "").split()] for b in bands]
    assert len(bands) > 2 and ends[0][1] == 0
    assert all(y + h == top for (_, y, _, h), (_, top, _, _) in pairwise(ends))
    for band, (_, top, _, height) in zip(bands, ends, strict=True):
        assert all(top <= y and y + h <= top + height for _, y, _, h in frames(band))
        assert any(t.text == "v0: float32[1]" for t in band.iter("title"))
    assert len([f for b in bands for f in frames(b)]) == 14


def test_a_wide_drawing_is_first_seen_at_the_input() -> None:
    html = network_drawing([block(f"v{k}", ["x"]) for k in range(9)], ["x"], [], {})
    (x, _, width, _), *_ = frames(network_of(html))
    assert f"<i style='left:{x + width / 2:g}px'>" in html


PAIRS = st.lists(st.tuples(st.integers(0, 22), st.integers(1, 23)), max_size=40)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.tuples(st.just(24), PAIRS))
def test_any_graph_is_laid_out_in_layers(case: tuple[int, list[tuple[int, int]]]) -> None:
    count, pairs = case
    edges = sorted({(a, b) for a, b in pairs if a < b})
    layer = layers_of(count, edges)
    assert all(layer[a] < layer[b] for a, b in edges)
    drawing = draw([(100.0, 40.0)] * count, edges)
    for k, b in enumerate(drawing.boxes):
        assert b.x >= 0 and b.y >= 0 and b.x + b.width <= drawing.width and b.y + b.height <= drawing.height
        for c in drawing.boxes[:k]:
            assert b.y != c.y or b.x + b.width < c.x + 1e-6 or c.x + c.width < b.x + 1e-6
    assert [(a, b) for a, b, _ in drawing.paths] == edges
    assert all(p[1] <= q[1] for _, _, points in drawing.paths for p, q in pairwise(points))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12))
def test_places_keep_their_distance(wanted: list[float]) -> None:
    found = spread(wanted, [10.0] * (len(wanted) - 1))
    assert all(b - a >= 10 - 1e-6 for a, b in pairwise(found))
    if all(b - a >= 10 for a, b in pairwise(wanted)):
        assert found == pytest.approx(wanted)


def test_a_huge_network_says_what_is_not_drawn() -> None:
    chain = [
        {"kernel": f"k{k}", "operators": ["Relu"], "inputs": [f"v{k}"], "outputs": [f"v{k + 1}"], "kind": "float32[1]"}
        for k in range(LIMIT + 7)
    ]
    text = network_drawing(chain, ["v0"], [f"v{LIMIT + 7}"], {})
    assert "The last 7 groups are not drawn" in text and text.count("class='block light'") == LIMIT


# --- sizes ------------------------------------------------------------------------------------------------------------


def cells(text: str) -> list[list[tuple[str, int]]]:
    """Of each treemap the names and bytes of its rectangles."""
    maps = re.findall(r"<div class=treemap>(.*?)</div><figcaption>", text, re.DOTALL)
    found = [re.findall(r"data-bytes='(\d+)' style='[^']*' title='(.*?): [\d,]+ bytes", m) for m in maps]
    return [[(name, int(size)) for size, name in m] for m in found]


def test_the_treemaps_add_up_to_the_files_and_the_weights(digits: Path) -> None:
    files, weights = cells((digits / "report.html").read_text())
    assert sorted(files) == file_sizes(digits)
    assert sum(size for _, size in files) == sum(p.stat().st_size for p in digits.iterdir() if p.name != "report.html")
    assert sum(size for _, size in weights) == read_manifest(digits)["weights_bytes"]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=40))
def test_a_treemap_fills_its_area_without_overlaps(sizes: list[int]) -> None:
    sizes.sort(reverse=True)
    found = boxes(sizes, 200, 100)
    assert sum(w * h for _, _, w, h in found) == pytest.approx(20000)
    for size, (x, y, w, h) in zip(sizes, found, strict=True):
        assert w * h == pytest.approx(20000 * size / sum(sizes))
        assert -1e-6 <= x <= x + w <= 200 + 1e-6 and -1e-6 <= y <= y + h <= 100 + 1e-6
    for k, (x, y, w, h) in enumerate(found):
        for u, v, r, s in found[:k]:
            across, down = min(x + w, u + r) - max(x, u), min(y + h, v + s) - max(y, v)
            assert across < 1e-6 or down < 1e-6


def test_many_small_sizes_are_one_rectangle() -> None:
    ((entries),) = cells(treemap([(f"w{k}", 10) for k in range(500)], "weights"))
    assert len(entries) == 60 and sum(size for _, size in entries) == 5000 and ("441 more", 4410) in entries


# --- errors and times -------------------------------------------------------------------------------------------------


def test_errors_are_counted_by_decade() -> None:
    want = np.array([4.0, 2.0, 2.0, 2.0, 2.0, 1.0], np.float32)
    got = want + np.array([0, 0, 3e-5, 3e-3, 0.3, 30], np.float32)
    error = compare("y", got, want)
    assert sum(error.counts) == 6 and len(error.counts) == len(DECADES) + 2
    filled = {k: c for k, c in enumerate(error.counts) if c}
    decade = {k: DECADES[k - 1] for k in filled if 0 < k <= len(DECADES)}
    assert filled[0] == 2 and list(decade.values()) == pytest.approx([1e-5, 1e-3, 1e-1])
    assert filled[len(DECADES) + 1] == 1
    text = error_histogram(error.__dict__)
    assert "6 elements" in text and text.count("class=beyond") == 5  # 1e-3 to "more": all above 1e-4
    assert error_histogram({**error.__dict__, "counts": ()}) == ""


def test_every_output_has_a_histogram(digits: Path) -> None:
    (error,) = read_manifest(digits)["verification"]
    assert sum(error["counts"]) == 10
    assert error_histogram(error) in (digits / "report.html").read_text()


def kernel(name: str, us: float, share: float, flops: float = 0, size: int = 0) -> dict[str, Any]:
    return {"name": name, "calls": 1, "us": us, "share": share, "flops": flops, "bytes": size}


def test_kernels_are_bars_with_the_roofline() -> None:
    kernels = [kernel("k00_conv", 100, 0.8, 1e7, 4000), kernel("k01_add", 25, 0.2, 0, 1_000_000)]
    limits = {"gflops": 200.0, "gbps": 100.0}
    text = kernel_bars(kernels, limits)
    assert re.findall(r"<i style='width:([\d.]+)%'", text) == ["100", "25"]
    assert re.findall(r"<b style='left:([\d.]+)%'", text) == ["50", "10"]  # 50 µs by operations, 10 µs by bytes
    assert "<b style" not in kernel_bars(kernels, None)
    circles = list(svg_of(roofline(kernels, limits), "roofline").iter("circle"))
    assert len(circles) == 1 and "100.0 GFLOP/s" in (circles[0].findtext("title") or "")


def test_bench_writes_the_times_into_the_report(tmp_path: Path) -> None:
    where = build(DIGITS, tmp_path / "digits")
    before = (where / "report.html").read_text()
    assert ">Memory</h2>" in before and ">Time<" not in before
    done = CliRunner().invoke(cli, ["bench", str(where), "--rounds", "2", "--report"], catch_exceptions=False)
    assert done.exit_code == 0 and "has the times" in done.output
    text = (where / "report.html").read_text()
    assert ">Time<" in text and "roofline" in text and "2 rounds" in text
    assert all(k["name"] in text for k in read_kernels(where))
    assert build(DIGITS, where) == where  # the folder is still a bundle that a build replaces


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_stands_alone(bundle: Path) -> None:
    """No scripts, no files beside it, no addresses; it says how wide it is, and knows dark screens and paper."""
    text = (bundle / "report.html").read_text()
    for word in ("<script", "http", "<img", "<link", "url(", "@import"):
        assert word not in text
    for word in ("width=device-width", "prefers-color-scheme: dark", "@media print", "max-width: 40rem"):
        assert word in text


def test_names_of_a_model_stay_text(digits: Path) -> None:
    evil = "<script>alert('x')</script>&"
    plan = json.loads(json.dumps(read_plan(digits)).replace('"image"', json.dumps(evil)))
    plan["weights"][0]["name"] = plan["sets"][0]["places"][0]["name"] = plan["sets"][0]["steps"][0] = evil
    plan["sets"][0]["blocks"][0].update(kernel=evil, operators=[evil], kind=evil)
    times = {"about": evil, "runs": [], "kernels": [{"name": evil, "calls": 1, "us": 5.0, "share": 1.0}]}
    text = report_html(read_manifest(digits), read_kernels(digits), [(evil, 1)], plan, times)
    assert "<script" not in text and "onerror" not in text


def test_a_plan_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"sets": [{}]}')
    with pytest.raises(UsageError, match=r"no readable plan\.json"):
        read_plan(tmp_path)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (1023, "1,023 bytes"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")]
)
def test_sizes_are_short(size: int, text: str) -> None:
    assert size_text(size) == text


def test_long_names_lose_their_middle() -> None:
    assert shortened("/layers/0/attention/query/MatMul_output_0", 20) == "/layers/0/at…utput_0"
    assert shortened("short", 20) == "short"


# --- before a build ---------------------------------------------------------------------------------------------------


def inspect(*arguments: str | Path) -> str:
    done = CliRunner().invoke(cli, ["inspect", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_inspect_draws_a_model_that_is_not_built(tmp_path: Path, digits: Path) -> None:
    page = tmp_path / "digits.html"
    assert f"{page} is written" in inspect(DIGITS, "--html", page).replace("\n", " ")
    text = page.read_text()
    svg = network_of(text)
    titles = [g.findtext("title") or "" for g in svg.iter("g")]
    assert titles[0] == "image" and titles[-1] == "probability" and any("Convolution+Add+Relu" in t for t in titles)
    found = rectangles(svg_of(text, "arena"))
    assert found and max(y + h for _, y, _, h in found) <= 2 * read_manifest(digits)["arena"]["bytes"]
    ((weights),) = cells(text)
    assert sum(size for _, size in weights) == json.loads(inspect(DIGITS, "--json"))["weights_bytes"]


def test_inspect_draws_a_bundle(tmp_path: Path, digits: Path) -> None:
    inspect(digits, "--html", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == (digits / "report.html").read_text()


def test_inspect_draws_what_cannot_be_compiled_node_by_node(tmp_path: Path, model_files: dict[str, Path]) -> None:
    page = tmp_path / "page.html"
    inspect(model_files["unsupported_net"], "--html", page)
    text = page.read_text()
    assert "class=network" in text and "class=arena" not in text and "<span class=bad>no</span>" in text


def test_inspect_counts_layers_beside_pools_in_ceil_mode(tmp_path: Path) -> None:
    """onnx's inference sees such a pool as a node of another domain, and goes on with the others."""
    kernel_ = numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv"),
        helper.make_node("MaxPool", ["a"], ["y"], "pool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 16, 16))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "pools", [x], [y], [kernel_])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "pools.onnx")
    facts = json.loads(inspect(tmp_path / "pools.onnx", "--json"))
    assert facts["macs"] == 4 * 14 * 14 * 27 and facts["outputs"][0]["shape"] == [1, 4, 7, 7]


def test_a_table_counts_as_what_is_looked_up() -> None:
    """Of a thousand rows a run reads the four of its indices; the roofline needs no more."""
    types = {"i": TensorType("int64", (4,)), "w": TensorType("float32", (1000, 8)), "y": TensorType("float32", (4, 8))}
    node = Node("Gather", ("w", "i"), ("y",), {"axis": 0}, "look")
    graph = Graph("t", ("i",), ("y",), (node,), {"w": np.zeros((1000, 8), np.float32)}, types)
    (found,) = blocks_of(graph, [Group((node,), node, ("w", "i"), ("y",))], {"look": "k00_gather"})
    assert found.nbytes == 4 * 8 + 2 * 4 * 8 * 4
