"""The bundle for wasm in real browsers: headless Chromium and Firefox, driven by tests/browser.mjs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import processes
import pytest
from conftest import DIGITS, ROOT, requires_tool
from nets import shared_net
from onnx import helper, numpy_helper
from pages import Driver, requires_npm, served
from PIL import Image
from processes import Lines, started

from dlpack.bundle import serve
from dlpack.pipeline import Options, build

CHAR_LSTM = ROOT / "examples" / "char_lstm"

Play = Callable[..., Any]


DRIVERS = {"chromium": "playwright-core", "firefox-esr": "puppeteer-core"}


@pytest.fixture(scope="session", params=DRIVERS)
def play(request: pytest.FixtureRequest) -> Iterator[Play]:
    """``play(scenario, address, *files)`` is what the scenario saw, after checks that hold for every page."""
    requires_tool("node"), requires_tool(request.param)
    requires_npm(DRIVERS[request.param])
    drivers: list[Driver] = []  # the last is in use; a browser that hung or fell makes way for another

    def run(scenario: str, address: str, *files: Path | str, errors: bool = False) -> Any:
        if not drivers or not drivers[-1].alive:
            drivers.append(Driver(request.param))
        seen = drivers[-1].play(scenario, address, [*map(str, files)])
        assert "failed" not in seen, seen["failed"]
        assert errors or seen["errors"] == []
        assert seen["foreign"] == []
        assert not seen["wide"], "the page is wider than a phone"
        return seen

    yield run
    for driver in drivers:
        driver.close()


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = str(ROOT / "examples" / "digits" / "preprocess.json")
    options = Options("wasm", verify=False, preprocess=spec, target_options={"single-file-html": True})
    return build(DIGITS, tmp_path_factory.mktemp("browser") / "digits", options)


@pytest.fixture(scope="session")
def squeezenet(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = tuple((models_dir / "labels" / "synset.txt").read_text(encoding="utf-8").split("\n")[:1000])
    options = Options(
        "wasm",
        "squeezenet",
        labels=labels,
        verify=False,
        preprocess="imagenet",
        target_options={"single-file-html": True},
    )
    model = models_dir / "onnx" / "squeezenet1.1" / "squeezenet1.1.onnx"
    return build(model, tmp_path_factory.mktemp("browser") / "squeezenet", options)


def test_a_photograph_to_its_name(play: Play, squeezenet: Path, models_dir: Path, tmp_path: Path) -> None:
    """Picked, dropped and pasted; from a server with a strict policy, in a worker, and from a single file."""
    pictures = [models_dir / "images" / "coyote.jpg", models_dir / "images" / "chelsea.png"]
    with served(squeezenet) as address:
        for where in (address, f"file://{squeezenet}/squeezenet.html"):
            seen = play("photo", where, *pictures)
            coyote, dropped, pasted = seen["got"]
            assert coyote[0][0].startswith("coyote") and float(coyote[0][1].split()[0]) == pytest.approx(62, abs=1)
            assert dropped == pasted and len(dropped) == 5
            assert dropped[0][0] == "Egyptian cat" and float(dropped[0][1].split()[0]) == pytest.approx(50, abs=1)
            assert seen["label"] == "photo.png" and "ms" in seen["timing"] and "4.9 MB of weights" in seen["bytes"]
        (tmp_path / "broken.png").write_bytes(b"no picture")
        seen = play("noPicture", address, tmp_path / "broken.png")
        assert seen["status"] == "broken.png is not a picture that the browser can read" and seen["shown"] == 0


def test_the_picture_given_last_is_the_one_shown(play: Play, threaded: Path, tmp_path: Path) -> None:
    """Though an earlier one takes longer to read, being larger than a canvas of a phone; no camera stays on."""
    Image.new("RGB", (4200, 4100), "red").save(tmp_path / "large.png")
    Image.new("RGB", (40, 30), "blue").save(tmp_path / "small.png")
    with served(threaded) as address:
        seen = play("latest", address, tmp_path / "large.png", tmp_path / "small.png")
        alone = play("latest", address, tmp_path / "small.png", tmp_path / "large.png")
    assert seen["last"]["size"] == [40, 30] and seen["camera"] == "true"
    assert alone["last"]["size"] == pytest.approx([4096 * (42 / 41) ** 0.5, 4096 / (42 / 41) ** 0.5], abs=1)
    assert seen["frame"]["size"] == [32, 24] and seen["tracks"] == ["ended"]
    assert seen["status"] == "the camera cannot be used: Permission denied"


def test_the_server_answers_for_localhost_alone(digits: Path) -> None:
    """A stranger's page whose name leads here (DNS rebinding) gets nothing; a path that no file has is not found."""
    with served(digits) as address:
        port = int(address.rstrip("/").rpartition(":")[2])

        def status(host: str, path: str = "/manifest.json", method: str = "GET") -> int:
            connection = HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request(method, path, headers={"Host": host})
            found = connection.getresponse().status
            connection.close()
            return found

        assert [status(name) for name in (f"localhost:{port}", "LOCALHOST", f"127.0.0.1:{port}", "[::1]")] == [200] * 4
        assert [status(name) for name in ("example.org", f"example.org:{port}", "localhost.example.org", "")] == [
            403
        ] * 4
        assert status("example.org", method="HEAD") == 403
        assert [status("localhost", path) for path in ("/%00", "/manifest.json%00", "/nothing")] == [404] * 3


def test_weights_come_from_the_cache(play: Play, digits: Path) -> None:
    with served(digits) as address:
        seen = play("cached", address)
    assert (seen["first"], seen["second"]) == (1, 0)


def test_the_api_in_a_page(play: Play, digits: Path) -> None:
    with served(digits) as address:
        seen = play("api", address, errors=True)  # the address that leads nowhere
    assert all(r == seen["results"][0] for r in seen["results"])
    assert seen["aborted"] == "Error: enough"
    assert seen["midway"] == ["Error: changed my mind"] * 3
    assert seen["banded"] == 0 and seen["values"] > 100
    assert seen["stopped"] == ["Error: no more"] * 2
    assert seen["unready"] == ["TypeError: not a picture, or not loaded yet: it has no width or height"] * 2
    assert "disposed of" in seen["disposed"]
    assert "nowhere/page.json cannot be loaded: HTTP 404" in seen["lost"]
    assert seen["growth"] == 0 and seen["isolated"]


def test_the_page_without_a_network(play: Play, digits: Path) -> None:
    """Page, code and weights were kept at the first visit; the server has ended at the second."""
    serve = [sys.executable, "-m", "dlpack.cli", "serve", str(digits), "--port", "0"]
    with started(serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        address = Lines(server.stdout).next(60)
        assert address, "dlpack serve: no address within 60 s"
        seen = play("offline", address.strip(), str(server.pid), errors=True)  # the network's
    assert seen["classes"][0][0] == "1" and len(seen["classes"]) == 10


def test_memory_comes_back_after_dispose(play: Play, tmp_path: Path) -> None:
    """50 predictors of 24 MB each, one after the other; kept, they take 1.8 GB."""
    count = 3_000_000
    tensor = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, count]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "large", tensor[:1], tensor[1:])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8),
        tmp_path / "large.onnx",
    )
    bundle = build(tmp_path / "large.onnx", tmp_path / "large", Options("wasm", verify=False))
    with served(bundle) as address:
        seen = play("disposed", address)
    assert seen["sum"] == 10 * (0 + 1 + 2 + 3 + 4)
    assert seen["growth"] < 6e8


def test_damaged_weights_show_an_error_and_nothing_else(play: Play, digits: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(digits, tmp_path / "copy"))
    data = bytearray((copy / "digits.weights").read_bytes())
    data[0] ^= 1
    (copy / "digits.weights").write_bytes(data)
    with served(copy) as address:
        seen = play("status", address)
    assert "digits.weights is damaged" in seen["status"] and not seen["shown"]


def test_a_browser_without_simd_is_told(play: Play, digits: Path) -> None:
    with served(digits) as address:
        seen = play("withoutSimd", address)
    assert "no WebAssembly SIMD" in seen["status"] and not seen["shown"]


def test_a_digit_drawn_with_the_keyboard(play: Play, digits: Path) -> None:
    with served(digits) as address:
        for where in (address, f"file://{digits}/digits.html"):
            seen = play("pad", where)
            assert seen["focus"] == "pad" and seen["classes"][0][0] == "1" and seen["after"] == 0
            assert seen["pen"] == pytest.approx([0.5, 0.85], abs=0.01)  # 7 of 20 steps up, 14 down


@pytest.fixture(scope="session")
def threaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier built for two threads, with a page that does nothing; in `open` and `locked` the same again."""
    folder = tmp_path_factory.mktemp("threads")
    onnx.save(shared_net(), folder / "shared.onnx")
    options = Options("wasm", "shared", verify=False, threads=2, preprocess="imagenet")
    bundle = build(folder / "shared.onnx", folder / "shared", options)
    (bundle / "empty.html").write_text("<!doctype html><title>empty</title>")
    for name in ("open", "locked"):
        (bundle / name).symlink_to(".")
    Image.linear_gradient("L").save(folder / "picture.png")
    return bundle


class _Handler(serve._Handler):
    """Pages in `open` are not isolated, and those in `locked` may start no worker."""

    def send_header(self, keyword: str, value: str) -> None:
        place = self.path.split("/")[1]
        if place == "open" and keyword in ("Cross-Origin-Opener-Policy", "Cross-Origin-Embedder-Policy"):
            return
        if place == "locked":
            value = value.replace("worker-src 'self'", "worker-src 'none'")
        super().send_header(keyword, value)


@pytest.fixture(scope="session")
def on_threads(play: Play, threaded: Path) -> Any:
    """What the scenario `threads` saw in every way."""
    ways = ("load .", "inWorker .", "load open", "inWorker open", "load locked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serve, "_Handler", _Handler)
        with served(threaded) as address:
            return play("threads", address, threaded.parent / "picture.png", *ways, errors=True)  # the policy's


@pytest.mark.parametrize("way", ["load .", "inWorker ."])
def test_threads_in_an_isolated_page(on_threads: Any, way: str) -> None:
    seen = on_threads["ways"][way]
    one, two = seen["found"]
    assert seen["isolated"] and (one["count"], two["count"]) == (1, 2)
    assert two["build"] == f"{one['build']}_threads"
    assert one["classes"] == two["classes"] and len(one["classes"]) == 5
    assert seen["lines"] == []


@pytest.mark.parametrize("way", ["load open", "inWorker open"])
def test_a_page_that_is_not_isolated_has_one_thread(on_threads: Any, way: str) -> None:
    seen = on_threads["ways"][way]
    one, two = seen["found"]
    assert not seen["isolated"] and one == two and one["count"] == 1 and one["build"] in ("simd", "relaxed")
    assert seen["lines"] == ["shared runs on one thread: to use 2, serve this page cross-origin isolated"]


def test_a_policy_without_workers_leaves_one_thread(on_threads: Any) -> None:
    seen = on_threads["ways"]["load locked"]
    one, two = seen["found"]
    assert seen["isolated"] and (one["count"], two["count"]) == (1, 1) and one["classes"] == two["classes"]
    told = [line for line in seen["lines"] if "one thread" in line]
    assert len(told) == 1 and told[0].startswith("shared runs on one thread: a worker cannot be started (")
    assert all("/thread.js" in error for error in on_threads["errors"])


def test_the_demo_page_on_threads(on_threads: Any) -> None:
    """It tells how many, and keeps their files for a visit without a network."""
    several = on_threads["processors"] > 1
    assert (" for the network on 2 threads, " in on_threads["timing"]) == several
    one, two = on_threads["ways"]["load ."]["found"]
    name = (two if several else one)["build"]
    assert {"thread.js", "index.js", f"shared.{name}.wasm"} <= set(on_threads["kept"])
    assert ("relaxed SIMD" in on_threads["bytes"]) == name.startswith("relaxed")


@pytest.fixture(scope="session")
def tasks(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector; in its folders `style` a model that turns pictures to negatives, and `text` one that writes."""
    folder = tmp_path_factory.mktemp("tasks")
    info = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 48, 64]) for name in "xy"]
    white = onnx.helper.make_tensor("white", onnx.TensorProto.FLOAT, [1], [255])
    negative = onnx.helper.make_node("Sub", ["white", "x"], ["y"])
    graph = onnx.helper.make_graph([negative], "negative", info[:1], info[1:], [white])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8),
        folder / "negative.onnx",
    )
    export = [sys.executable, CHAR_LSTM / "export.py", models_dir / "lstm" / "charRNN_shakespeare"]
    processes.run([*export, "-o", folder / "char_lstm.onnx"], check=True)
    detector = models_dir / "onnx" / "fastestdet"
    names = tuple((detector / "coco.names").read_text(encoding="utf-8").split("\n")[:80])
    spec = str(ROOT / "examples" / "detectors" / "fastestdet.json")
    options = Options("wasm", labels=names, verify=False, preprocess=spec)
    bundle = build(detector / "FastestDet.onnx", folder / "bundle", options)
    build(folder / "negative.onnx", bundle / "style", Options("wasm", verify=False, preprocess="none"))
    build(folder / "char_lstm.onnx", bundle / "text", Options("wasm", verify=False))
    return bundle


def test_boxes_a_picture_and_text(play: Play, tasks: Path, models_dir: Path) -> None:
    with served(tasks) as address:
        seen = play("tasks", address, models_dir / "images" / "chelsea.png", "style/", "text/")
    assert seen["list"] == [["cat", "83.7 %"]] and seen["none"] == [True, 0]
    ((label, left, top, width, height),) = seen["boxes"]
    assert label == "cat 84 %"
    assert (left, top, width, height) == pytest.approx((0, 0, 423 / 451, 290 / 300), abs=0.02)
    given, made = seen["pixels"]["given"], seen["pixels"]["made"]
    assert [255 - v for v in made[:3]] == pytest.approx(given[:3], abs=25)  # 48 x 64 of 300 x 451
    assert seen["pixels"]["shape"] == pytest.approx(1, abs=0.02)
    greedy, stopped = seen["texts"]
    assert len(greedy) == len("ROMEO:\n") + 50 and greedy.startswith("ROMEO:\n")
    assert len(stopped) < 20_000 and seen["button"] == "Write"


def test_a_model_without_pictures(play: Play, model_files: dict[str, Path], tmp_path: Path) -> None:
    bundle = build(model_files["attention_net"], tmp_path / "a", Options("wasm", verify=False))
    with served(bundle) as address:
        seen = play("sample", address)
    assert [r[0] for r in seen["rows"]] == ["output", "y"] and seen["rows"][1][1] == "1 x 9 x 24"


def table_net() -> onnx.ModelProto:
    """Two features to three classes: the class 0's score is minus the first feature, those of the others the second."""
    made = helper.make_graph(
        [
            helper.make_node("MatMul", ["X", "w"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=-1),
            helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
        ],
        "net",
        [helper.make_tensor_value_info("X", 1, [1, 2])],
        [helper.make_tensor_value_info("label", 7, [1]), helper.make_tensor_value_info("probabilities", 1, [1, 3])],
        [numpy_helper.from_array(np.array([[-1, 0, 0], [0, 1, 0]], np.float32), "w")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    features = [{"name": "width <cm>", "range": [0, 4]}, {"name": "height", "range": [-1, 1]}]
    helper.set_model_props(model, {"dlpack.features": json.dumps(features), "dlpack.labels": '["a", "b", "c"]'})
    return model


def test_a_model_of_tables_has_a_form(play: Play, tmp_path: Path) -> None:
    onnx.save(table_net(), tmp_path / "net.onnx")
    with served(build(tmp_path / "net.onnx", tmp_path / "net", Options("wasm", verify=False))) as address:
        seen = play("table", address)
    assert seen["names"] == ["width <cm>", "height"] and seen["limits"] == [[0, 4], [-1, 1]]
    assert [name for name, _ in seen["first"]][2] == "a"  # softmax of -2, 0, 0
    assert seen["typed"][0] == ["b", "94.6 %"]  # of -2, 3, 0
    assert 0 <= seen["random"][0] <= 4 and -1 <= seen["random"][1] <= 1
    assert seen["others"] == 0  # the class's number is said by the longest bar


def test_a_page_that_is_opened_as_a_file_says_what_to_do(play: Play, tmp_path: Path) -> None:
    for name in ("index.html", "demo.css", "demo_file.js", "demo.js"):
        shutil.copy(ROOT / "web" / name, tmp_path)
    seen = play("opened", f"file://{tmp_path}/index.html", errors=True)
    assert "dlpack serve" in seen["status"] and "--single-file-html" in seen["status"]
