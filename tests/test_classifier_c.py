"""Preprocessing, the choice of classes and labels in the compiled file: what Python's definitions give, from C."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import processes
import pytest
from conftest import requires_tool
from nets import model
from onnx import TensorProto, helper

import dlpack
from dlpack.bundle.loader import Predictor, read_manifest
from dlpack.errors import UsageError
from dlpack.meaning.labels import MAX_BYTES, MAX_LABELS, check_labels, labels_from_metadata
from dlpack.meaning.preprocess import Preprocess, from_json
from dlpack.pipeline import Options, build

STRICT = "-Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wdouble-promotion -Werror".split()
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g1"]
AWKWARD = ('quote " and \\', "line\nbreak\ttab", "Kätzchen 猫 😺", "??=define ??/", "*/ // %s", "", "7\x01")


def identity(folder: Path, shape: tuple[int, ...], dtype: str = "float32") -> Path:
    """A model that gives back its input, so that what went in can be seen."""
    proto = model([helper.make_node("Identity", ["x"], ["y"])], {"x": shape}, {"y": shape})
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = kind
    path = folder / "mirror.onnx"
    onnx.save(proto, path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A bundle of `identity` for a shape, a type and a preprocessing; each is built once."""
    made: dict[str, Path] = {}

    def get(shape: tuple[int, ...], preprocess: str, dtype: str = "float32") -> Path:
        key = f"{shape} {preprocess} {dtype}"
        if key not in made:
            folder = tmp_path_factory.mktemp("pictures")
            options = Options(preprocess=preprocess, labels=AWKWARD, target="native")
            made[key] = build(identity(folder, shape, dtype), folder / "bundle", options)
        return made[key]

    return get


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two outputs of scores, float32 and int32, of three labels."""
    nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Cast", ["x"], ["z"], to=TensorProto.INT32)]
    proto = model(nodes, {"x": (1, 6)}, {"y": (1, 6), "z": (1, 6)})
    proto.graph.output[1].type.tensor_type.elem_type = TensorProto.INT32
    folder = tmp_path_factory.mktemp("scores")
    onnx.save(proto, folder / "scores.onnx")
    return build(folder / "scores.onnx", folder / "bundle", Options(labels=("ash", "beech", "cedar")))


def specification(bundle: Path) -> Preprocess:
    manifest = read_manifest(bundle)
    stored = {k: v for k, v in manifest["preprocess"].items() if k not in ("height", "width", "dtype")}
    return from_json(stored, manifest["inputs"])


def run(*words: str | Path, cwd: Path | None = None) -> str:
    done = processes.run(words, cwd=cwd)
    assert done.returncode == 0 and done.stderr == "", f"{words}\n{done.stderr}\n{done.stdout}"
    return done.stdout


# --- preprocessing ----------------------------------------------------------------------------------------------------

SHAPES = [(24, 32), (48, 64), (97, 131), (300, 41), (7, 5), (1, 1), (25, 200), (1, 300), (500, 2)]
CASES: dict[str, tuple[tuple[int, ...], str, str]] = {
    "none": ((1, 3, 24, 32), "none", "float32"),
    "imagenet": ((1, 3, 28, 28), "imagenet", "float32"),
    "caffe": ((1, 3, 35, 33), "caffe", "float32"),
    "tf": ((1, 20, 20, 3), "tf", "float32"),
    "gray": ((1, 1, 28, 70), '{"scale": 0.00392, "mean": [0.5], "std": [-0.25]}', "float32"),
    "bytes": ((1, 3, 24, 32), '{"mean": [100], "scale": 1.5}', "uint8"),
    "shorts": ((1, 18, 18, 3), '{"mean": [1, 2, 30], "std": [0.1, 3, 3e-3], "resize": 40, "channels": "BGR"}', "int16"),
    "double": ((1, 3, 9, 9), '{"resize": 9, "mean": [1, 2, 3]}', "float64"),
    "wide": ((1, 3, 3, 130), "none", "int64"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_pictures_are_prepared_as_in_python(pictures: Callable[..., Path], case: str) -> None:
    """All presets, channels, layouts and types; pictures larger, smaller, odd and tiny: within one level of 255, and
    in all but few places the very value."""
    bundle = pictures(*CASES[case])
    spec = specification(bundle)
    draw = np.random.default_rng(len(case))
    level = 1.001 * max(abs(spec.scale / s) for s in spec.std) + (1 if np.dtype(spec.dtype).kind in "iu" else 0)
    same = total = 0
    with dlpack.load(bundle) as p:
        for h, w in SHAPES:
            picture = draw.integers(0, 256, (h, w, 3), np.uint8)
            got, want = p.preprocess(picture), spec(picture)
            assert got.dtype == want.dtype and got.shape == want.shape
            np.testing.assert_allclose(got.astype(float), want.astype(float), rtol=0, atol=level)
            close = np.isclose(got.astype(float), want.astype(float), rtol=1e-6, atol=1e-6)
            same, total = same + int(close.sum()), total + close.size
    assert same > 0.97 * total


def exact(spec: Preprocess, picture: np.ndarray) -> np.ndarray:
    """Bytes of the resized picture in exact arithmetic, from the definition in dlpack.preprocess."""
    from fractions import Fraction

    def resized(x: list[list[int]], n_out: int) -> list[list[int]]:  # along the first dimension
        n_in, out = len(x), []
        for i in range(n_out):
            c, s = (i + Fraction(1, 2)) * n_in / n_out, max(Fraction(1), Fraction(n_in, n_out))
            weights = [max(Fraction(0), 1 - abs(j + Fraction(1, 2) - c) / s) for j in range(n_in)]
            row = [sum(w * x[j][k] for j, w in enumerate(weights)) / sum(weights) for k in range(len(x[0]))]
            out.append([int(v + Fraction(1, 2)) for v in row])
        return out

    planes = []
    for channel in range(3):
        x = picture[:, :, channel].tolist()
        across = list(zip(*resized(list(zip(*x, strict=True)), spec.width), strict=True))
        planes.append(resized(across, spec.height))
    return np.array(planes)[None]


@pytest.mark.parametrize("shape", [(6, 8), (9, 21), (5, 3), (12, 40)])
def test_the_resizing_is_exact(pictures: Callable[..., Path], shape: tuple[int, int]) -> None:
    """Against fractions, on bytes near each other, where halves are frequent."""
    bundle = pictures((1, 3, 6, 10), "none")
    picture = np.random.default_rng(sum(shape)).integers(100, 104, (*shape, 3), np.uint8)
    with dlpack.load(bundle) as p:
        np.testing.assert_array_equal(p.preprocess(picture), exact(specification(bundle), picture))


def test_rows_may_lie_anyhow(pictures: Callable[..., Path]) -> None:
    """Padded rows, rows from the bottom up, a part of a picture, gray and RGBA."""
    bundle = pictures(*CASES["imagenet"])
    spec = specification(bundle)
    whole = np.random.default_rng(4).integers(0, 256, (61, 47, 4), np.uint8)
    rgb = np.ascontiguousarray(whole[:, :, :3])
    forms = [rgb[:, 3:40], rgb[::-1], rgb[::3, :20], rgb[:, ::2], rgb[:, ::-1], np.broadcast_to(rgb[:1], rgb.shape),
             rgb[:1], whole, rgb[:, :, 0], rgb[:, :, :1]]  # fmt: skip
    with dlpack.load(bundle) as p:
        for form in forms:
            got = p.preprocess(form)
            np.testing.assert_allclose(got, spec(np.ascontiguousarray(form)), rtol=0, atol=1.001 / 255 / 0.224)


def test_the_predictor_takes_the_input(pictures: Callable[..., Path]) -> None:
    """What is made of a picture is what the next run reads, also after another input was bound."""
    bundle = pictures(*CASES["none"])
    picture = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    with dlpack.load(bundle) as p:
        p.run({"x": np.zeros((1, 3, 24, 32), np.float32)})
        want = p.preprocess(picture)
        p.compute()
        np.testing.assert_array_equal(p._output(0, "float32", (1, 3, 24, 32)), want)


@pytest.mark.parametrize("picture", [
    np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8)
])  # fmt: skip
def test_what_is_no_picture_raises(pictures: Callable[..., Path], picture: np.ndarray) -> None:
    with dlpack.load(pictures(*CASES["none"])) as p, pytest.raises(ValueError, match="picture"):
        p.preprocess(picture)


def test_a_type_that_holds_no_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has type bool"):
        from_json({}, [{"name": "x", "dtype": "bool", "shape": [1, 3, 8, 8]}])
    with pytest.raises(UsageError, match="not finite"):
        from_json({"scale": float("nan")}, [{"name": "x", "dtype": "float32", "shape": [1, 3, 8, 8]}])


# --- classes ----------------------------------------------------------------------------------------------------------


def best(p: Predictor, values: list[float], k: int = 6, **options: Any) -> list[tuple[int, float]]:
    p.run({"x": np.array([values], np.float32)})
    return [(c.index, c.probability) for c in p.top_k(k, **options)]


def test_probabilities_stay_and_scores_go_through_softmax(scores: Path) -> None:
    with dlpack.load(scores) as p:
        assert best(p, [0.1, 0.2, 0.4, 0.05, 0.05, 0.2], 3) == [
            (2, pytest.approx(0.4)), (1, pytest.approx(0.2)), (5, pytest.approx(0.2))
        ]  # fmt: skip
        for values in ([1.0, -2, 3, 0.5, 0, 3.25], [700.0, 710, 711, -900, 0, 1], [-0.5, 0.5, 0.5, 0.5, 0, 0]):
            x = np.array(values)
            want = np.exp(x - x.max()) / np.exp(x - x.max()).sum()
            got = best(p, values)
            assert [i for i, _ in got] == sorted(range(6), key=lambda i, v=values: (-v[i], i))
            np.testing.assert_allclose([q for _, q in got], want[[i for i, _ in got]], rtol=1e-6, atol=1e-30)


def test_ties_keep_their_order_and_k_may_exceed_the_classes(scores: Path) -> None:
    with dlpack.load(scores) as p:
        assert [i for i, _ in best(p, [5, 7, 5, 7, 5, 1], 4)] == [1, 3, 0, 2]
        assert best(p, [0.0] * 6) == [(i, pytest.approx(1 / 6)) for i in range(6)]
        assert len(best(p, [1.0, 2, 3, 4, 5, 6], 100)) == 6
        assert [c.label for c in p.top_k(6)] == ["5", "4", "3", "cedar", "beech", "ash"]
        with pytest.raises(ValueError, match="k is 0"):
            p.top_k(0)


def test_nan_comes_last_and_infinities_are_scores(scores: Path) -> None:
    inf, nan = np.inf, np.nan
    with dlpack.load(scores) as p:
        got = best(p, [nan, 1, nan, 3, 1, -inf])
        assert [i for i, _ in got] == [3, 1, 4, 5, 0, 2]
        e = np.exp(-2)
        assert [q for _, q in got[:4]] == [pytest.approx(v / (1 + 2 * e)) for v in (1, e, e, 0)]
        assert np.isnan([q for _, q in got[4:]]).all()
        assert best(p, [0, inf, 1, inf, -inf, 1e38], 3) == [(1, 0.5), (3, 0.5), (5, 0)]
        assert best(p, [-inf] * 6, 2) == [(0, pytest.approx(1 / 6)), (1, pytest.approx(1 / 6))]
        assert [i for i, _ in best(p, [nan] * 6)] == [0, 1, 2, 3, 4, 5]
        assert best(p, [nan, 0.75, 0, 0.25, 0, 0], 3) == [(1, 0.75), (3, 0.25), (2, 0)]


def test_outputs_of_integers_and_by_name(scores: Path) -> None:
    with dlpack.load(scores) as p:
        assert [i for i, _ in best(p, [1.4, 1.6, 9.0, -3.0, 1.9, 0.0], output="z")] == [2, 0, 1, 4, 5, 3]
        with pytest.raises(ValueError, match="unknown output 'w'; the model has y, z"):
            p.top_k(output="w")


def test_the_digits_are_classified_in_one_call(tmp_path: Path) -> None:
    """`classify` on ten held-out digits drawn as pictures."""
    from conftest import DIGITS

    bundle = build(DIGITS, tmp_path / "digits", Options(preprocess=str(DIGITS.parent / "preprocess.json")))
    rows = np.loadtxt(DIGITS.parent / "held_out.csv", delimiter=",", dtype=np.float32)
    with dlpack.load(bundle) as p:
        answers = [p.classify((row[1:].reshape(8, 8) * 255 / 16).round().astype(np.uint8), 2) for row in rows]
    assert sum(a[0].label == str(int(row[0])) for a, row in zip(answers, rows, strict=True)) >= 9
    assert all(len(a) == 2 and 1 >= a[0].probability >= a[1].probability >= 0 for a in answers)


def test_a_model_without_pictures_says_so(bundles: Callable[[str], Path], scores: Path) -> None:
    with dlpack.load(bundles("attention_net")) as p:
        with pytest.raises(UsageError, match="build it with --labels"):
            p.top_k()
        with pytest.raises(UsageError, match="build it with --preprocess"):
            p.preprocess(np.zeros((2, 2, 3), np.uint8))
    with dlpack.load(scores) as p, pytest.raises(UsageError, match="build it with --preprocess"):
        p.classify(np.zeros((2, 2, 3), np.uint8))


# --- labels -----------------------------------------------------------------------------------------------------------


def test_labels_are_text_of_any_kind(pictures: Callable[..., Path], tmp_path: Path) -> None:
    """Read back byte for byte, by a compiler that knows trigraphs too."""
    bundle = pictures(*CASES["none"])
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "mirror.h"\nint main(void) {\n'
        "  int32_t i;\n"
        "  for (i = 0; i < mirror_label_count(); i++) fputs(mirror_label(i), stdout), putchar(0);\n"
        "  return mirror_label(-1) != NULL || mirror_label(mirror_label_count()) != NULL;\n}\n"
    )
    gcc, gxx = requires_tool("gcc"), requires_tool("g++")
    run(gxx, "-O1", "-std=c++17", "-trigraphs", "-march=native", "-c", bundle / "mirror.cc", "-o", "m.o", cwd=tmp_path)
    run(gcc, "-std=c99", "-pedantic", "-Wall", "-Werror", f"-I{bundle}", "main.c", "m.o", "-o", "main", cwd=tmp_path)
    done = processes.run([tmp_path / "main"], check=True, text=False)
    assert tuple(done.stdout.decode().split("\0")[:-1]) == AWKWARD


@pytest.mark.parametrize("labels, message", [
    (["a", "b\0c"], "label 1 contains a NUL"),
    (["\ud800"], "label 0 contains half of a surrogate pair"),
    (["a"] * (MAX_LABELS + 1), "the limit of 1,048,576"),
    (["a" * (MAX_BYTES // 2), "b" * (MAX_BYTES // 2 + 1)], "the limit of 16,777,216"),
])  # fmt: skip
def test_labels_that_no_file_can_hold_are_refused(labels: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_labels(labels, "--labels")


def test_labels_of_the_metadata_are_checked() -> None:
    assert labels_from_metadata('["a", 2, "\\u00e9"]') == ("a", "2", "é")
    for text in ('{"a": 1}', '"abc"', "[", "[" * 100_000, '["\\ud800"]', '["\\u0000"]'):
        with pytest.raises(UsageError, match=r"dlpack\.labels"):
            labels_from_metadata(text)


# --- the file ---------------------------------------------------------------------------------------------------------


def declared(bundle: Path) -> set[str]:
    text = next(bundle.glob("*.h")).read_text()
    return set(re.findall(r"_API [^;]*?\b\w+?_(label|label_count|top_k|preprocess_rgb)\(", text))


def test_only_what_the_model_has_is_declared(
    pictures: Callable[..., Path], bundles: Callable[[str], Path], scores: Path, tmp_path: Path
) -> None:
    assert declared(pictures(*CASES["none"])) == {"label", "label_count", "top_k", "preprocess_rgb"}
    assert declared(scores) == {"label", "label_count", "top_k"}
    assert declared(bundles("conv_net")) == set()
    assert "CLASSIFIER]" not in (bundles("conv_net") / "conv_net.cc").read_text()
    unnamed = build(identity(tmp_path, (1, 3, 8, 8)), tmp_path / "b", Options(target="source", preprocess="none"))
    assert declared(unnamed) == {"top_k", "preprocess_rgb"}


@pytest.mark.parametrize("case", ["imagenet", "gray", "bytes", "shorts"])
@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_it_compiles_clean_and_freestanding(
    pictures: Callable[..., Path], tmp_path: Path, case: str, compiler: str
) -> None:
    source = pictures(*CASES[case]) / "mirror.cc"
    for extra in ([], ["-DMIRROR_NO_CLASSIFIER"], ["-DMIRROR_FREESTANDING", "-ffreestanding", "-fno-pic"]):
        run(requires_tool(compiler), "-std=c++17", "-O2", *STRICT, "-Wno-psabi", *extra, "-c", source, "-o",
            tmp_path / "x.o")  # fmt: skip
    listed = run(requires_tool("nm"), tmp_path / "x.o").splitlines()
    outside = {line.split()[-1] for line in listed if " U " in line}
    assert outside <= {"memcpy", "memset", "memmove"}
    assert not [line for line in listed if line.split()[-2] in "bBdD"]


def test_the_header_is_c_and_cxx(pictures: Callable[..., Path], tmp_path: Path) -> None:
    bundle = pictures(*CASES["imagenet"])
    (tmp_path / "user.c").write_text(
        '#include "mirror.h"\nint f(void);\nint f(void) { return mirror_label_count(); }\n'
    )
    warnings = ["-Wall", "-Wextra", "-Wshadow", "-Werror", "-pedantic", f"-I{bundle}"]
    run(requires_tool("gcc"), "-std=c99", *warnings, "-c", tmp_path / "user.c", "-o", tmp_path / "c.o")
    for standard in ("c++11", "c++17"):
        run(requires_tool("g++"), f"-std={standard}", *warnings, "-x", "c++", "-c", tmp_path / "user.c", "-o",
            tmp_path / "cc.o")  # fmt: skip


PROGRAM = """\
#include <string.h>
#include "mirror.h"
#define EXPECT(status, call) if ((call) != MIRROR_##status) return __LINE__
int main() {
  static unsigned char pixels[64 * 64 * 3];
  for (size_t i = 0; i < sizeof pixels; ++i) pixels[i] = static_cast<unsigned char>(i * 7);
  mirror::Predictor p;
  EXPECT(OK, p.preprocess_rgb(pixels, 64, 64, 192));
  EXPECT(OK, p.preprocess_rgb(pixels + 63 * 192, 64, 64, -192));
  EXPECT(OK, p.preprocess_rgb(pixels, 1, 1, 3));
  EXPECT(OK, p.preprocess_rgb(pixels, 4096, 1, 4096 * 3));
  EXPECT(OK, p.preprocess_rgb(pixels, 1, 4096, 3));
  EXPECT(OK, p.run());
  EXPECT(BAD_ARGUMENT, p.preprocess_rgb(nullptr, 64, 64, 192));
  EXPECT(BAD_ARGUMENT, p.preprocess_rgb(pixels, 0, 64, 192));
  EXPECT(BAD_ARGUMENT, p.preprocess_rgb(pixels, 64, -1, 192));
  EXPECT(BAD_ARGUMENT, p.preprocess_rgb(pixels, 64, 64, 191));
  EXPECT(BAD_ARGUMENT, p.preprocess_rgb(pixels, 64, 64, -191));
  EXPECT(BAD_ARGUMENT, p.preprocess_rgb(pixels, 1 << 21, 1, 3 << 21));
  EXPECT(BAD_ARGUMENT, mirror_preprocess_rgb(nullptr, pixels, 64, 64, 192));
  mirror_class* const classes = new mirror_class[3000];
  EXPECT(OK, p.top_k(0, 3000, classes));
  if (classes[2351].index < 0 || classes[2352].index != -1 || classes[2999].label != nullptr) return __LINE__;
  for (int i = 0; i < 2352; ++i)
    if (classes[i].index < 7 && classes[i].label != mirror_label(classes[i].index)) return __LINE__;
  EXPECT(OK, p.top_k(0, 1, classes));
  EXPECT(BAD_ARGUMENT, p.top_k(0, 0, classes));
  EXPECT(BAD_ARGUMENT, p.top_k(1, 1, classes));
  EXPECT(BAD_ARGUMENT, p.top_k(-1, 1, classes));
  EXPECT(BAD_ARGUMENT, p.top_k(0, 1, nullptr));
  EXPECT(BAD_ARGUMENT, mirror_top_k(nullptr, 0, 1, classes));
  delete[] classes;
  return 0;
}
"""


def test_every_access_is_inside_and_wrong_calls_are_a_status(pictures: Callable[..., Path], tmp_path: Path) -> None:
    """From C++, under AddressSanitizer and UndefinedBehaviorSanitizer."""
    bundle = pictures(*CASES["imagenet"])
    (tmp_path / "main.cc").write_text(PROGRAM)
    run(requires_tool("g++"), "-std=c++17", "-O1", "-march=native", *STRICT, *SANITIZE, f"-I{bundle}", "main.cc",
        bundle / "mirror.cc", "-o", "main", cwd=tmp_path)  # fmt: skip
    run(tmp_path / "main")


def test_the_same_bytes_again(pictures: Callable[..., Path], tmp_path: Path) -> None:
    shape, preprocess, dtype = CASES["imagenet"]
    again = build(identity(tmp_path, shape, dtype), tmp_path / "b", Options(preprocess=preprocess, labels=AWKWARD))
    assert (again / "mirror.cc").read_bytes() == (pictures(shape, preprocess, dtype) / "mirror.cc").read_bytes()
