"""examples/drone: ids that last, and files and signals as they come; boxes are in test_drone_boxes.py."""

from __future__ import annotations

import importlib.util
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import processes
import pytest
from conftest import ROOT, requires_module, requires_tool, skip_or_fail
from drone import DRONE, compiled, run, tracks
from fake_driver import kernels_of

from dlpack.pipeline import Options, build

TESTS = DRONE / "tests"
STRICT = "-std=c++17 -O1 -g1 -Wall -Wextra -Wshadow -Wconversion -Werror -fsanitize=address,undefined".split()
STRICT += ["-fno-sanitize-recover=all"]


@pytest.fixture(scope="module")
def blobs() -> ModuleType:
    """make_blobs.py."""
    spec = importlib.util.spec_from_file_location("make_blobs", DRONE / "make_blobs.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_blobs"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def clip(blobs: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "discs.y4m"
    blobs.write_clip(path, blobs.frames())
    return path


@pytest.fixture(scope="module")
def blobs_onnx(blobs: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("blobs") / "blobs.onnx"
    onnx.save(blobs.model(), path)
    return path


@pytest.fixture(scope="module")
def drone(blobs_onnx: Path) -> Path:
    """The program that follows discs."""
    bundle = build(blobs_onnx, blobs_onnx.parent / "native")
    return compiled(bundle, blobs_onnx.parent / "cmake", "-DCMAKE_CXX_FLAGS=-Wshadow -Wconversion -Werror")


# --- the parts --------------------------------------------------------------------------------------------------------


def unit_tests(name: str) -> list[str]:
    return re.findall(r"^TEST\((\w+)\)", (TESTS / f"{name}.cc").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def unit_test(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, list[str]], Path]:
    """A program of tests/NAME.cc and sources of the example; each is compiled once."""
    folder = tmp_path_factory.mktemp("units")

    def get(name: str, sources: list[str]) -> Path:
        path = folder / name
        if not path.exists():
            files = [TESTS / f"{name}.cc", *(DRONE / f"{source}.cc" for source in sources)]
            run(requires_tool("g++"), *STRICT, *files, "-o", path)
        return path

    return get


@pytest.mark.parametrize("name", unit_tests("tracker_test"))
def test_tracker(name: str, unit_test: Callable[[str, list[str]], Path]) -> None:
    run(unit_test("tracker_test", ["tracker"]), name)


@pytest.mark.parametrize("name", unit_tests("frames_test"))
def test_frames(name: str, unit_test: Callable[[str, list[str]], Path], tmp_path: Path) -> None:
    sources = ["camera", "colour", "draw", "frames", "output", "pictures", "video"]
    run(unit_test("frames_test", sources), name, cwd=tmp_path)


# --- ids over a clip --------------------------------------------------------------------------------------------------


def ids_of(blobs: ModuleType, path: Path) -> dict[int, Counter[int]]:
    """For each disc of the scene, by number, the ids of the boxes at its place, where it is alone there."""
    found: dict[int, Counter[int]] = {k: Counter() for k in range(len(blobs.SCENE))}
    for frame, number, (left, top, width, height, _) in tracks(path):
        x, y = left + width / 2, top + height / 2
        near = []
        for k, disc in enumerate(blobs.SCENE):
            if centre := disc.at(frame - 1):
                near.append((float(np.hypot(x - centre[0], y - centre[1])), k, disc.radius))
        (distance, k, radius), second = sorted(near)[:2]
        assert distance < radius, f"frame {frame}: id {number} at {x}, {y} is no disc"
        if second[0] > 2 * radius:
            found[k][number] += 1
    return found


def check_ids(blobs: ModuleType, path: Path) -> None:
    """Every disc has one id, another than every other, in nearly all frames in which it is seen alone."""
    found = ids_of(blobs, path)
    assert all(len(ids) == 1 for ids in found.values()), found
    assert sorted(number for ids in found.values() for number in ids) == [1, 2, 3, 4, 5]
    assert found[4].keys() == {5}  # that which comes last
    for k, disc in enumerate(blobs.SCENE):
        alone = blobs.FRAMES - disc.first - len(disc.hidden) - (20 if k < 2 else 0)
        assert sum(found[k].values()) >= alone - 3, (k, found)


def test_discs_that_cross_hide_fade_and_come_late_have_one_id_each(
    drone: Path, blobs: ModuleType, clip: Path, tmp_path: Path
) -> None:
    _, told = run(drone, clip, "-o", tmp_path / "out.y4m", "--boxes", tmp_path / "boxes.txt")
    check_ids(blobs, tmp_path / "boxes.txt")
    parts = r"read [\d.]+, detect [\d.]+, track [\d.]+, draw and write [\d.]+"
    assert re.search(rf"^120 frames, 5 ids, [\d.]+ frames/s; ms per frame: {parts}$", told, re.MULTILINE), told
    faded = [score for frame, _, (*_, score) in tracks(tmp_path / "boxes.txt") if 41 <= frame <= 60]
    assert sum(score < 0.5 for score in faded) >= 18  # low scores went on with a track, as the scene means them to


def test_without_low_scores_and_memory_ids_change(drone: Path, blobs: ModuleType, clip: Path, tmp_path: Path) -> None:
    """The scene needs what the tracker does: with one threshold and no patience discs come back as new ones."""
    run(drone, clip, "--boxes", tmp_path / "boxes.txt", "--low", "0.5", "--patience", "0")
    found = ids_of(blobs, tmp_path / "boxes.txt")
    assert len(found[2]) > 1 and len(found[3]) > 1


def test_boxes_and_ids_are_drawn(drone: Path, clip: Path, tmp_path: Path) -> None:
    """The written video is colourful where boxes are, and as it was elsewhere."""
    run(drone, clip, "-o", tmp_path / "out.y4m", "--boxes", tmp_path / "boxes.txt", "--frames", "1")
    header, data = (tmp_path / "out.y4m").read_bytes().split(b"\n", 1)
    assert header == b"YUV4MPEG2 W320 H240 F30:1 Ip A1:1 C420jpeg XCOLORRANGE=LIMITED"
    assert len(data) == 6 + 320 * 240 * 3 // 2
    planes = np.frombuffer(data, np.uint8, offset=6 + 320 * 240).reshape(2, 120, 160).astype(int)
    coloured = abs(planes - 128).max(0) > 20
    apart = np.ones_like(coloured)
    for _, _, (left, top, width, height, _) in tracks(tmp_path / "boxes.txt"):
        x, y = round(left) // 2, round(top) // 2
        assert coloured[y, x : x + int(width / 2)].all() and coloured[y : y + int(height / 2), x].all()
        apart[max(y - 9, 0) : y + int(height / 2) + 3, min(x - 2, 110) : x + 60] = False
    assert not coloured[apart].any()


def test_a_pipe_and_a_folder_are_as_good_as_a_file(drone: Path, blobs: ModuleType, clip: Path, tmp_path: Path) -> None:
    """The folder's pictures are in the order of their numbers: 9.pgm, 10.pgm."""
    run(drone, clip, "-o", tmp_path / "file.y4m", "--boxes", tmp_path / "file.txt")
    piped, _ = run(drone, "-", "-o", "-", "--boxes", tmp_path / "pipe.txt", data=clip.read_bytes())
    assert piped == (tmp_path / "file.y4m").read_bytes()
    (tmp_path / "pictures").mkdir()
    for k, picture in enumerate(blobs.frames()):
        height, width = picture.shape
        (tmp_path / "pictures" / f"{k}.pgm").write_bytes(b"P5 %d %d 255\n" % (width, height) + picture.tobytes())
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    run(drone, tmp_path / "pictures", "--boxes", tmp_path / "folder.txt")
    for name in ("pipe.txt", "folder.txt"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "file.txt").read_bytes()


def test_png_and_jpeg_are_read(drone: Path, blobs: ModuleType, tmp_path: Path) -> None:
    """Where the program was built with their libraries. Motion JPEG, which has no Huffman tables, is read too."""
    image = requires_module("PIL.Image")
    picture = next(iter(blobs.frames()))
    boxes = {}
    (tmp_path / "a.pgm").write_bytes(b"P5 320 240 255\n" + picture.tobytes())
    for name, library in (("a.png", "png"), ("a.jpg", "jpeg")):
        image.fromarray(picture).convert("RGB").save(tmp_path / name)
        done = processes.run([drone, tmp_path / name])
        if f"built without lib{library}" in done.stderr:
            skip_or_fail(f"lib{library}-dev is not installed")
    plain = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(without_tables(plain))
    for name in ("a.pgm", "a.png", "a.jpg", "b.jpg"):
        run(drone, tmp_path / name, "--boxes", tmp_path / "boxes.txt")
        boxes[name] = np.array([numbers for _, _, numbers in tracks(tmp_path / "boxes.txt")])
        assert boxes[name].shape == (4, 5)
    np.testing.assert_array_equal(boxes["a.png"], boxes["a.pgm"])
    np.testing.assert_array_equal(boxes["b.jpg"], boxes["a.jpg"])
    order = [np.argsort(boxes[name][:, 0]) for name in ("a.jpg", "a.pgm")]
    np.testing.assert_allclose(boxes["a.jpg"][order[0]], boxes["a.pgm"][order[1]], atol=0.5)
    for name, size in (("a.jpg", 2000), ("a.png", 2000)):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[:size])
        _, told = run(drone, tmp_path / name, code=2)
        assert "a damaged one" in told


def without_tables(jpeg: bytes) -> bytes:
    """A JPEG without its Huffman tables (DHT segments)."""
    out, at = bytearray(jpeg[:2]), 2
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] != 0xC4:
            out += jpeg[at:end]
        at = end
    assert len(out) + len(jpeg) - at < len(jpeg)
    return bytes(out) + jpeg[at:]


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_wrong_uses_are_told(drone: Path, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0 ftypisom" + bytes(100))
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed").mkdir()
    for k in (1, 2):
        (tmp_path / "mixed" / f"{k}.pgm").write_bytes(b"P5 %d 1 255\n" % k + bytes(k))
    copy = tmp_path / "copy.y4m"
    copy.write_bytes(clip.read_bytes())
    wrong: list[tuple[list[str | Path], str]] = [
        ([], "no input"),
        ([clip, clip], "two inputs"),
        ([clip, "--bogus", "1"], "unknown option --bogus"),
        ([clip, "-o"], "-o lacks its value"),
        ([clip, "--frames", "1x"], "--frames takes a whole number"),
        ([clip, "--frames", "0"], "--frames takes a whole number"),
        ([clip, "--high", "2"], "--high takes a number from 0 to 1"),
        ([clip, "--size", "640"], "--size takes WIDTHxHEIGHT"),
        ([clip, "--threads", "2"], "the model has at most 1 threads"),
        ([tmp_path / "absent.y4m"], "No such file"),
        ([tmp_path / "film.mp4"], "ffmpeg -i FILE"),
        ([tmp_path / "empty"], "no pictures in it"),
        ([tmp_path / "mixed", "-o", tmp_path / "out.y4m"], "a video has one size"),
        (["/dev/null"], "/dev/null is no camera"),
        ([copy, "-o", tmp_path / "absent" / "out.y4m"], "No such file"),
        ([copy, "-o", copy], "is the input"),
        ([copy, "-o", "/dev/full"], "No space left"),
        ([copy, "--boxes", "/dev/full"], "No space left"),
    ]  # fmt: skip
    for words, told in wrong:
        error = run(drone, *words, code=2)[1].removeprefix("drone runs on cpu\n")
        assert error.startswith("drone: ") and told in error and error.count("\n") == 1, (words, error)
    assert copy.read_bytes() == clip.read_bytes()
    usage, _ = run(drone, "--help")
    assert usage.startswith(b"usage: drone INPUT")


def test_a_video_that_is_cut_off_is_followed_to_its_last_whole_frame(drone: Path, clip: Path, tmp_path: Path) -> None:
    whole = clip.read_bytes()
    (tmp_path / "cut.y4m").write_bytes(whole[: len(whole) // 2])
    _, told = run(drone, tmp_path / "cut.y4m", "-o", tmp_path / "out.y4m")
    assert "cut.y4m ends within frame 60\n59 frames, " in told
    assert (tmp_path / "out.y4m").stat().st_size == len(HEADER) + 59 * FRAME


HEADER = b"YUV4MPEG2 W320 H240 F30:1 Ip A1:1 C420jpeg XCOLORRANGE=LIMITED\n"
FRAME = 6 + 320 * 240 * 3 // 2


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_closes_the_output(drone: Path, clip: Path, tmp_path: Path, sent: signal.Signals) -> None:
    """While the program waits for a frame: what it was given is written as a whole, and it ends with exit code 0."""
    frame = 6 + 320 * 240
    start = clip.read_bytes().index(b"\n") + 1 + 10 * frame
    out, boxes = tmp_path / "out.y4m", tmp_path / "boxes.txt"
    pipe = subprocess.PIPE
    with processes.started([drone, "-", "-o", out, "--boxes", boxes], stdin=pipe, stderr=pipe) as process:
        assert process.stdin and process.stderr
        process.stdin.write(clip.read_bytes()[:start])
        process.stdin.flush()
        wait_until(lambda: out.exists() and out.stat().st_size == len(HEADER) + 10 * FRAME and sleeps(process.pid))
        process.send_signal(sent)
        told = process.stderr.read().decode()
        process.wait(60)
    assert process.returncode == 0 and "10 frames, 4 ids" in told, told
    assert out.read_bytes().startswith(HEADER) and out.stat().st_size == len(HEADER) + 10 * FRAME
    assert [frame for frame, number, _ in tracks(boxes) if number == 1] == list(range(1, 11))


def sleeps(process: int) -> bool:
    """Whether a process waits, as for its input."""
    return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "S"


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("30 seconds were not enough")


def test_a_reader_that_goes_away_is_told(drone: Path, clip: Path) -> None:
    pipe = subprocess.PIPE
    with processes.started([drone, clip, "-o", "-"], stdout=pipe, stderr=pipe) as process:
        assert process.stdout and process.stderr
        process.stdout.read(1000)
        process.stdout.close()
        told = process.stderr.read().decode()
        process.wait(60)
    assert process.returncode == 2 and "Broken pipe" in told


@pytest.mark.parametrize("bundle", ["", "absent", "digits"])
def test_only_a_detector_is_taken(bundle: str, digits: Path, tmp_path: Path) -> None:
    path = digits if bundle == "digits" else bundle
    _, told = run(requires_tool("cmake"), "-S", DRONE, "-B", tmp_path, f"-DBUNDLE={path}", code=1)
    assert ("digits is no detector" if bundle == "digits" else "is no bundle") in " ".join(told.split())


# --- other bundles, other machines ------------------------------------------------------------------------------------


def test_weights_may_lie_beside_the_program(blobs_onnx: Path, clip: Path, tmp_path: Path) -> None:
    bundle = build(blobs_onnx, tmp_path / "side", Options(weights="file"))
    program = compiled(bundle, tmp_path / "cmake", "-DCMAKE_BUILD_TYPE=Debug")
    _, told = run(program, clip, "--frames", "2", cwd=tmp_path)
    assert "2 frames, 4 ids" in told
    (tmp_path / "cmake" / "blobs.weights").rename(tmp_path / "elsewhere")
    _, told = run(program, clip, code=2)
    assert "blobs.weights: " in told
    run(program, clip, "--frames", "2", "--weights", tmp_path / "elsewhere")


def test_the_tx1s_core_follows_the_discs(blobs_onnx: Path, blobs: ModuleType, clip: Path, tmp_path: Path) -> None:
    """Cross-compiled as README.md says, in QEMU's Cortex-A57."""
    gcc, qemu = requires_tool("aarch64-linux-gnu-g++"), requires_tool("qemu-aarch64")
    bundle = build(blobs_onnx, tmp_path / "tx1", Options(target="jetson-tx1", target_options={"cores-only": True}))
    text = (DRONE / "README.md").read_text()
    (options,) = re.findall(r"^cmake .*tx1 (-DCMAKE_SYSTEM_NAME(?:.*\\\n)*.*)$", text, re.MULTILINE)
    program = compiled(bundle, tmp_path / "cmake", *options.replace("\\\n", " ").split(), f"-DCMAKE_CXX_COMPILER={gcc}")
    run(qemu, "-cpu", "cortex-a57", program, clip, "--boxes", tmp_path / "boxes.txt")
    check_ids(blobs, tmp_path / "boxes.txt")


def test_a_gpu_finds_the_discs(
    blobs_onnx: Path, clip: Path, cuda_driver: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The program is the same; the GPU is the tests' driver (tests/fake_cuda), which runs the kernels on the CPU."""
    bundle = build(blobs_onnx, tmp_path / "gpu", Options(target="cuda", weights="file"))
    program = compiled(bundle, tmp_path / "cmake")
    _, told = run(program, clip, "--device", "cuda", code=2)
    assert "--device cuda does not work: cpu: " in told and "no CUDA driver" in told
    _, told = run(program, clip, "--frames", "2", "--device", "cpu")
    assert "drone runs on cpu: avx" in told
    run(program, clip, "--frames", "1", "--device", "cpu", "--boxes", tmp_path / "cpu.txt")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(cuda_driver.parent))
    monkeypatch.setenv("FAKE_CUDA_ARCH", "90")
    monkeypatch.setenv("FAKE_CUDA_KERNELS", str(kernels_of(bundle, "cuda_sm_90")))
    _, told = run(program, clip, "--frames", "1", "--device", "cuda", "--boxes", tmp_path / "gpu.txt")
    assert "drone runs on cuda: Fake GPU 0 (sm_90)" in told
    boxes = [[row for _, _, row in tracks(tmp_path / f"{name}.txt")] for name in ("cpu", "gpu")]
    np.testing.assert_allclose(*boxes, atol=0.02)
    _, told = run(program, clip, "--device", "cuda:7", code=2)
    assert "--device cuda:7 does not work: cpu: " in told


def test_faces_keep_their_ids(models_dir: Path, tmp_path: Path) -> None:
    """UltraFace on 640 x 480: two faces pass each other, one half behind the other, and a third comes later."""
    image = requires_module("PIL.Image")
    options = Options(
        preprocess=str(ROOT / "examples" / "detectors" / "ultraface.json"),
        labels=("background", "face"),
        name="ultraface",
        threads=2,
    )
    bundle = build(models_dir / "onnx" / "ultraface-rfb-640" / "version-RFB-640.onnx", tmp_path / "bundle", options)
    program = compiled(bundle, tmp_path / "cmake")
    head = image.open(models_dir / "images" / "astronaut.png").convert("RGB").crop((150, 20, 300, 210))
    mirrored = head.transpose(image.Transpose.FLIP_LEFT_RIGHT)
    small = head.resize((105, 133))

    def places(t: int) -> list[tuple[int, int]]:
        """Left upper corners: the second is painted over the first."""
        return [(20 + 6 * t, 60), (470 - 6 * t, 120), *([(500 - 4 * (t - 40), 330)] if t >= 40 else [])]

    (tmp_path / "clip").mkdir()
    for t in range(70):
        frame = image.new("RGB", (640, 480), (90, 110, 100))
        for face, place in zip((head, mirrored, small), places(t), strict=False):
            frame.paste(face, place)
        frame.save(tmp_path / "clip" / f"{t}.ppm")
    run(program, tmp_path / "clip", "--boxes", tmp_path / "boxes.txt", "-o", tmp_path / "out.y4m")
    run(program, tmp_path / "clip", "--boxes", tmp_path / "two.txt", "--threads", "2")
    assert (tmp_path / "two.txt").read_bytes() == (tmp_path / "boxes.txt").read_bytes()
    found: list[Counter[int]] = [Counter(), Counter(), Counter()]
    for frame, number, (left, top, width, height, _) in tracks(tmp_path / "boxes.txt"):
        # The face in the picture of the head lies about its middle.
        middles = [(x + 75, y + 95) if k < 2 else (x + 52, y + 66) for k, (x, y) in enumerate(places(frame - 1))]
        away = [float(np.hypot(left + width / 2 - x, top + height / 2 - y)) for x, y in middles]
        if sorted(away)[0] < 45 and (len(away) < 2 or sorted(away)[1] > 100):
            found[int(np.argmin(away))][number] += 1
    assert [len(ids) for ids in found] == [1, 1, 1], found
    assert {*found[0], *found[1]} == {1, 2} and set(found[2]) == {3}
    assert min(sum(ids.values()) for ids in found) >= 25, found
