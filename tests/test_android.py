"""Target android: what an AAR contains, its libraries under Java's virtual machine and QEMU, its Java API.

The file of the ABI x86_64 runs in this computer's virtual machine as it is, since it needs no library; tests/android/
has classes that stand for Android's own. Those for Arm are loaded by tests/android/load.cc under QEMU.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import xml.etree.ElementTree as ET
import zipfile
from collections import defaultdict
from pathlib import Path
from textwrap import dedent

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import DIGITS, ROOT, optional_tool, requires_tool
from nets import model
from onnx import helper
from processes import run
from shape_bundles import PICTURES, expected, picture_net, pictures

import dlpack
from dlpack.errors import ToolchainError, UsageError
from dlpack.meaning.detect import detections
from dlpack.meaning.preprocess import resolve
from dlpack.pipeline import Options, build
from dlpack.starters import start
from dlpack.targets.android import TARGET, java, libraries
from dlpack.targets.toolchains.compiler import FLAGS, program_command
from dlpack.targets.toolchains.processors import NEON_FLAGS

HERE = ROOT / "tests" / "android"
TOOLCHAINS = ROOT / "targets" / "toolchains"
ABIS = ("arm64-v8a", "armeabi-v7a", "x86_64")
LABELS = ("null", *"abcdefgh", "猫")
JAVA = ("-Dstdout.encoding=UTF-8", "-Dfile.encoding=UTF-8", "-Xcheck:jni")
MANIFEST = "{http://schemas.android.com/apk/res/android}"


@pytest.fixture(scope="module", autouse=True)
def javac() -> str:
    return optional_tool("javac", "it takes 250 MB")


class Aar:
    """A bundle, its AAR unpacked in `root`, and an input and a picture of the digits."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        self.bundle, self.root, self.folder = bundle, folder / "aar", folder
        self.manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
        self.file = bundle / self.manifest["android"]["aar"]
        with zipfile.ZipFile(self.file) as archive:
            self.entries = archive.infolist()
            archive.extractall(self.root)
        draw = np.random.default_rng(1)
        self.image = draw.random((1, 1, 8, 8), np.float32)
        self.picture = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        self.image.tofile(folder / "image.bin")
        self.picture.tofile(folder / "picture.bin")

    def library(self, abi: str) -> Path:
        return self.root / "jni" / abi / f"lib{self.manifest['name']}.so"

    def java(self, program: str, *arguments: str | Path) -> dict[str, list[str]]:
        """What a program of tests/android prints: the rest of each line by its first word."""
        work = self.folder / program
        work.mkdir(exist_ok=True)
        path = f"{self.root / 'classes.jar'}:{work}"
        stubs = sorted((HERE / "stubs").rglob("*.java"))
        javac = ["javac", "-encoding", "UTF-8", "-Xlint:all", "-Werror", "-cp", self.root / "classes.jar", "-d", work]
        run([*javac, *stubs, HERE / f"{program}.java"], check=True)
        library = f"-Djava.library.path={self.library('x86_64').parent}"
        done = run([requires_tool("java"), *JAVA, library, "-cp", path, program, *arguments], check=True)
        assert "WARNING" not in done.stdout + done.stderr, done.stdout + done.stderr
        told = defaultdict(list)
        for line in done.stdout.splitlines():
            told[line.split()[0]].append(line.partition(" ")[2])
        return told


@pytest.fixture(scope="module")
def aar(tmp_path_factory: pytest.TempPathFactory) -> Aar:
    folder = tmp_path_factory.mktemp("android")
    return Aar(build(DIGITS, folder / "bundle", Options("android", preprocess="none", labels=LABELS)), folder)


@pytest.fixture(scope="module")
def asset(tmp_path_factory: pytest.TempPathFactory) -> Aar:
    folder = tmp_path_factory.mktemp("asset")
    options = Options("android", target_options={"android-weights": "asset"}, verify=False)
    return Aar(build(DIGITS, folder / "bundle", options), folder)


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(DIGITS, tmp_path_factory.mktemp("native") / "bundle", Options(preprocess="none", labels=LABELS))


def numbers(lines: list[str]) -> np.ndarray:
    return np.array([float(line) for line in lines])


def elf(option: str, library: Path) -> str:
    return run([requires_tool("readelf"), option, "-W", library], check=True).stdout


# --- the package ------------------------------------------------------------------------------------------------------


def test_what_an_aar_contains(aar: Aar) -> None:
    names = [e.filename for e in aar.entries]
    assert names == sorted(names) and {e.date_time for e in aar.entries} == {(1980, 1, 1, 0, 0, 0)}
    libraries_ = {f"jni/{abi}/libdigits.so" for abi in ABIS}
    files = {"AndroidManifest.xml", "classes.jar", "R.txt", "proguard.txt", "META-INF/NOTICE"}
    assert files | libraries_ <= set(names) and not any(n.startswith("assets/") for n in names)
    manifest = ET.parse(aar.root / "AndroidManifest.xml").getroot()
    assert manifest.get("package") == "dlpack.digits"
    assert manifest.find("uses-sdk").get(f"{MANIFEST}minSdkVersion") == "21"  # type: ignore[union-attr]
    rules = (aar.root / "proguard.txt").read_text()
    assert "class dlpack.digits.**" in rules and "native <methods>" in rules
    with zipfile.ZipFile(aar.root / "classes.jar") as jar:
        classes = {n for n in jar.namelist() if "$" not in n}
        assert classes == {f"dlpack/digits/{n}.class" for n in ("Classifier", "Picture", "Predictor")}
        assert {jar.read(n)[7] for n in jar.namelist()} == {52}  # Java 8
    told = aar.manifest["android"]
    assert told["sha256"] == hashlib.sha256(aar.file.read_bytes()).hexdigest()
    assert told["libraries"] == {abi: aar.library(abi).stat().st_size for abi in ABIS}


def test_cpp_finds_the_libraries_by_prefab(aar: Aar) -> None:
    prefab = aar.root / "prefab"
    package = json.loads((prefab / "prefab.json").read_text())
    assert package == {"schema_version": 2, "name": "digits", "version": "1.0.0", "dependencies": []}
    module = prefab / "modules" / "digits"
    assert json.loads((module / "module.json").read_text()) == {"export_libraries": [], "library_name": "libdigits"}
    assert (module / "include" / "digits.h").read_bytes() == (aar.bundle / "digits.h").read_bytes()
    for abi in ABIS:
        folder = module / "libs" / f"android.{abi}"
        about = json.loads((folder / "abi.json").read_text())
        assert about == {"abi": abi, "api": 21, "ndk": 27, "stl": "none", "static": False}
        assert (folder / "libdigits.so").read_bytes() == aar.library(abi).read_bytes()


def test_the_folder_is_a_maven_repository(aar: Aar) -> None:
    place = aar.bundle / "maven" / "dlpack" / "digits" / "1.0.0"
    pom = ET.parse(place / "digits-1.0.0.pom").getroot()
    values = {child.tag.partition("}")[2]: child.text for child in pom}
    wanted = {"groupId": "dlpack", "artifactId": "digits", "version": "1.0.0", "packaging": "aar"}
    assert wanted.items() <= values.items()
    with zipfile.ZipFile(place / "digits-1.0.0-sources.jar") as jar:
        assert "dlpack/digits/Predictor.java" in jar.namelist()
    if shutil.which("javadoc"):
        with zipfile.ZipFile(place / "digits-1.0.0-javadoc.jar") as jar:
            assert "dlpack/digits/Classifier.html" in jar.namelist()


def test_a_build_gives_the_same_bytes_again(aar: Aar, tmp_path: Path) -> None:
    again = build(DIGITS, tmp_path / "again", Options("android", preprocess="none", labels=LABELS, verify=False))
    for file in (aar.bundle / "maven").rglob("*.*r"):
        assert (again / file.relative_to(aar.bundle)).read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize("abi", ABIS)
def test_a_library_needs_no_other(aar: Aar, abi: str) -> None:
    library = aar.library(abi)
    dynamic = elf("-d", library)
    assert "(NEEDED)" not in dynamic and "[libdigits.so]" in dynamic and "TEXTREL" not in dynamic
    assert "(HASH)" in dynamic  # Android 5 knows no other
    segments = [line.split() for line in elf("-l", library).splitlines() if "LOAD " in line]
    assert segments and all(int(s[-1], 16) == 16 << 10 for s in segments)
    assert all((int(s[1], 16) - int(s[2], 16)) % (16 << 10) == 0 for s in segments)
    symbols = [line.split() for line in elf("--dyn-syms", library).splitlines()[4:]]
    assert [s[-1] for s in symbols if s[6] == "UND" and len(s) > 7] == []
    exported = {s[7] for s in symbols if s[6] != "UND"}
    header = (aar.bundle / "digits.h").read_text()
    api = set(re.findall(r"^DIGITS_API .*?(digits_\w+)\(", header, re.M))
    methods = {n for n in exported if n.startswith("Java_dlpack_digits_Predictor_")}
    assert exported == api | methods and len(methods) >= 8
    assert "GNU_STACK" in (stack := elf("-l", library)) and "RWE" not in stack


def test_the_libraries_are_of_their_abis(aar: Aar) -> None:
    machines = {abi: re.search(r"Machine:\s+(.*)", elf("-h", aar.library(abi)))[1] for abi in ABIS}  # type: ignore[index]
    assert machines["arm64-v8a"] == "AArch64" and machines["armeabi-v7a"] == "ARM" and "X86-64" in machines["x86_64"]
    about = elf("-A", aar.library("armeabi-v7a"))
    assert "VFP_args" not in about and "NEONv1" in about and "Fused" not in about  # floats are passed in core registers


def test_what_was_verified(aar: Aar) -> None:
    assert aar.manifest["variants"] == ["neon", "neon32", "avx2", "sse4"]
    on = " ".join(aar.manifest["verified_on"])
    if shutil.which("qemu-aarch64") and shutil.which("qemu-arm"):
        assert "neon on QEMU's Cortex-A57" in on and "neon32 on QEMU's Cortex-A9" in on
    assert "sse4 on this computer" in on
    assert all(e["passed"] for e in aar.manifest["verification"])


# --- under a virtual machine ------------------------------------------------------------------------------------------


def test_java_computes_what_python_does(aar: Aar, native: Path) -> None:
    told = aar.java("Digits", aar.folder / "image.bin", aar.folder / "picture.bin")
    with dlpack.load(native) as predictor:
        image = predictor.run({"image": aar.image})["probability"].ravel()
        classes = predictor.classify(aar.picture, 5)
        translucent = np.concatenate([aar.picture, np.full((8, 8, 1), 100, np.uint8)], 2)
        over_white = predictor.classify(translucent, 5)
        picture = {c.index: c.probability for c in predictor.classify(aar.picture, 10)}
    np.testing.assert_allclose(numbers(told["run"]), image, rtol=1e-5)
    np.testing.assert_allclose(numbers(told["picture"]), [picture[k] for k in range(10)], rtol=1e-5)

    def same(name: str, wanted: list) -> None:
        found = [line.split() for line in told[name]]
        assert [(int(i), label) for i, label, _ in found] == [(c.index, c.label) for c in wanted], name
        np.testing.assert_allclose([float(p) for *_, p in found], [c.probability for c in wanted], rtol=1e-5)

    for name in ("class", "bitmap", "hardware", *(f"turned{degrees}" for degrees in (0, 90, 180, 270))):
        same(name, classes)
    same("transparent", over_white)
    assert told["wide"] == ["[2, 3, 4, 1, 5, 2, 6, 3] [3, 2, 6, 5, 4, 3, 2, 1]"]
    kinds = {name: told[name][0].partition(" ")[0] for name in told}
    for name in ("length", "pixels", "buffer", "stride", "degrees", "huge", "count"):
        assert kinds[name] == "IllegalArgumentException", (name, told[name])
    assert kinds["missing"] == "NullPointerException" and "64" in told["length"][0]
    assert told["closed"] == ["IllegalStateException the predictor is closed"] * 2


def app_stubs(folder: Path) -> list[Path]:
    """The types of tests/android/camera_app.txt, a file each."""
    text = (HERE / "camera_app.txt").read_text(encoding="utf-8")
    files = []
    for name, body in re.findall(r"^(\S+\.java): (.*?)(?=^\S+\.java: |\Z)", text, re.M | re.S):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"package {'.'.join(Path(name).parent.parts)};\n{body}", encoding="utf-8")
        files.append(file)
    return files


def test_kotlin_uses_the_classes(aar: Aar) -> None:
    """The example of docs/android.md and the camera app compile."""
    kotlinc = optional_tool("kotlinc", "it takes 355 MB")
    text = (ROOT / "docs" / "android.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```kotlin\n( *// Main.kt\n.*?) *```", text, re.S)
    (aar.folder / "Main.kt").write_text(dedent(code), encoding="utf-8")
    activity = ROOT / "examples/android/app/src/main/java/dlpack/example/MainActivity.kt"
    code = activity.read_text(encoding="utf-8").replace("dlpack.classifier.", "dlpack.digits.")
    (aar.folder / "MainActivity.kt").write_text(code, encoding="utf-8")
    newer = "inline fun <T : AutoCloseable, R> T.use(block: (T) -> R): R = try { block(this) } finally { close() }"
    (aar.folder / "Newer.kt").write_text(f"package dlpack.example\n\n{newer}\n")
    stubs = aar.folder / "stubs"
    run(["javac", "-d", stubs, *(HERE / "stubs").rglob("*.java"), *app_stubs(aar.folder / "app")], check=True)
    path = f"{aar.root / 'classes.jar'}:{stubs}"
    sources = [aar.folder / name for name in ("Main.kt", "MainActivity.kt", "Newer.kt")]
    options = ["-nowarn", "-Xnew-inference", "-jvm-target", "1.8"]  # Debian's Kotlin is 1.3, and lacks Newer.kt
    run([kotlinc, *options, "-cp", path, *sources, "-d", aar.folder / "kotlin"], check=True)
    assert (aar.folder / "kotlin" / "MainKt.class").is_file()
    assert (aar.folder / "kotlin" / "dlpack" / "example" / "MainActivity.class").is_file()


def test_weights_as_an_asset(asset: Aar, native: Path, tmp_path: Path) -> None:
    weights = asset.root / "assets" / "digits.weights"
    assert weights.read_bytes() == (asset.bundle / "digits.weights").read_bytes()
    assert asset.library("arm64-v8a").stat().st_size < weights.stat().st_size
    (tmp_path / "shifted").mkdir()
    (tmp_path / "shifted" / "digits.weights").write_bytes(bytes(4) + weights.read_bytes())
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "digits.weights").write_bytes(weights.read_bytes()[:-4])
    told = asset.java("Asset", asset.folder / "image.bin", weights.parent, tmp_path / "shifted", tmp_path / "cut")
    with dlpack.load(native) as predictor:
        wanted = predictor.run({"image": asset.image})["probability"].ravel()
    for name in ("mapped", "misaligned", "compressed"):
        np.testing.assert_allclose(numbers(told[name]), [*wanted, *wanted], rtol=1e-5, err_msg=name)
    assert all("FileNotFoundException" in line for line in told["missing"])
    assert all("wrong weights" in line for line in told["short"])
    assert all("has not the" in line for line in told["cut"])
    assert told["heap"] == ["the weights are not in a direct buffer"]


# --- under QEMU -------------------------------------------------------------------------------------------------------

QEMU = {
    "arm64-v8a": (("qemu-aarch64", "-cpu", "cortex-a57"), "aarch64-linux-none", ()),
    "armeabi-v7a": (("qemu-arm", "-cpu", "cortex-a9"), "arm-linux-eabi", (*NEON_FLAGS, "-mfloat-abi=softfp")),
    "x86_64": ((), "x86_64-linux-none", ()),
}


BARE = ("-static", "-nostdlib", "-fno-stack-protector", "-fno-builtin-strlen", f"-I{TOOLCHAINS}")


@pytest.mark.parametrize("abi", ABIS)
def test_native_methods_compute(aar: Aar, native: Path, tmp_path: Path, abi: str) -> None:
    """The library as it is in the AAR, by a loader that links it and calls it as Android does."""
    command, zig_target, flags = QEMU[abi]
    if command:
        requires_tool(command[0])
    prefix = '-DMETHOD_PREFIX="Java_dlpack_digits_Predictor_"'
    run(program_command([HERE / "load.cc"], tmp_path / "load", zig_target, [*FLAGS, *flags, *BARE, prefix]), check=True)
    library, image, out = aar.library(abi), aar.folder / "image.bin", tmp_path / "out"
    words = [library, str(library.stat().st_size), image, str(image.stat().st_size), out, "40"]
    run([*command, tmp_path / "load", *words], check=True)
    with dlpack.load(native) as predictor:
        wanted = predictor.run({"image": aar.image})["probability"].ravel()
    np.testing.assert_allclose(np.fromfile(out, np.float32), wanted, rtol=1e-5)


# --- detectors --------------------------------------------------------------------------------------------------------

FORMATS = {
    "corners": {"boxes": "boxes", "scores": "scores", "coordinates": "pixels", "background": 0},
    "anchors": {
        "boxes": "boxes", "scores": "scores", "clip": True,
        "anchors": [{"stride": 8, "sizes": [[4, 6], [9, 7.5]]}, {"stride": 16, "sizes": [[12, 12]]}],
    },
    "rows": {"output": "boxes", "background": 2},
    "grid": {"output": "boxes"},
}  # fmt: skip
SHAPES = {
    "corners": {"boxes": (1, 18, 4), "scores": (1, 18, 3)},
    "anchors": {"boxes": (1, 9, 4), "scores": (1, 9, 3)},
    "rows": {"boxes": (1, 1, 9, 7)},
    "grid": {"boxes": (1, 8, 3, 3)},
}


def detector(kind: str, path: Path) -> Path:
    """A linear map from a picture of 16 x 16 to what a detector of that format gives, in its range."""
    draw = np.random.default_rng(7)
    nodes, weights = [helper.make_node("Flatten", ["x"], ["flat"])], {}
    for name, shape in SHAPES[kind].items():
        size = int(np.prod(shape))
        offset = draw.uniform(0.3, 1, shape).astype(np.float32)
        if name == "boxes" and kind == "corners":
            offset = offset * 10 + np.array([0, 0, 6, 6], np.float32)
        if kind == "rows":
            offset[..., 1] = draw.integers(-1, 4, shape[:-1])
            offset[..., 5:] += 0.5
        weights |= {
            f"{name}_w": (draw.standard_normal((768, size)) / 300).astype(np.float32),
            f"{name}_b": offset.reshape(1, size),
            f"{name}_s": np.array(shape, np.int64),
        }
        nodes += [
            helper.make_node("MatMul", ["flat", f"{name}_w"], [f"{name}_m"]),
            helper.make_node("Add", [f"{name}_m", f"{name}_b"], [f"{name}_a"]),
            helper.make_node("Reshape", [f"{name}_a", f"{name}_s"], [name]),
        ]
    onnx.save(model(nodes, {"x": (1, 3, 16, 16)}, SHAPES[kind], weights), path)
    return path


def only_x86_64(monkeypatch: pytest.MonkeyPatch) -> None:
    """An AAR has one library, and no documentation."""
    android = sys.modules["dlpack.targets.android.package"]
    monkeypatch.setattr(android, "ABIS", tuple(abi for abi in libraries.ABIS if abi.name == "x86_64"))
    monkeypatch.setattr(android, "document", lambda *_: None)


@pytest.mark.parametrize("kind", FORMATS)
def test_detectors(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Detector.java finds what dlpack.detections finds."""
    only_x86_64(monkeypatch)
    task = {"kind": "detect", "format": kind, "threshold": 0.4, "most": 7, **FORMATS[kind]}
    spec = {"scale": 1 / 255, "resize": 20}
    labels = ("none", "猫", "dog") if kind != "grid" else ()
    path = detector(kind, tmp_path / "found.onnx")
    options = Options("android", task=json.dumps(task), preprocess=json.dumps(spec), labels=labels, verify=False)
    found = Aar(build(path, tmp_path / "bundle", options), tmp_path)
    picture = np.random.default_rng(3).integers(0, 256, (30, 41, 3), dtype=np.uint8)
    picture.tofile(tmp_path / "rgb.bin")
    lines = found.java("Detect", tmp_path / "rgb.bin", "41", "30")
    told = [[index, *line.split()] for index in lines for line in lines[index]]
    x = resolve(json.dumps(spec), [found.manifest["inputs"]])[0](picture)  # type: ignore[misc]
    session = onnxruntime.InferenceSession(str(path))
    outputs = dict(zip((o.name for o in session.get_outputs()), session.run(None, {"x": x}), strict=True))
    wanted = detections(outputs, found.manifest, 41, 30)
    assert wanted and len(told) == len(wanted)
    by_score = sorted(told, key=lambda line: -float(line[2]))
    for line, d in zip(by_score, wanted, strict=True):
        assert (int(line[0]), line[1]) == (d.index, d.label)
        np.testing.assert_allclose([float(v) for v in line[2:]], [d.score, d.x, d.y, d.width, d.height], rtol=1e-3)


# --- several sets of shapes, and threads ------------------------------------------------------------------------------

SIZES = (PICTURES[0], PICTURES[2])


def test_shapes_and_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Java's threads compute for the library, which has none of its own, and end when they are not wanted."""
    only_x86_64(monkeypatch)
    onnx.save(picture_net(), tmp_path / "several.onnx")
    first, last = ({"image": shape} for shape in SIZES)
    options = Options("android", shapes=first, more_shapes=(last,), threads=3, verify=False)
    several = Aar(build(tmp_path / "several.onnx", tmp_path / "bundle", options), tmp_path)
    assert "(NEEDED)" not in elf("-d", several.library("x86_64"))
    files = [tmp_path / f"{k}.bin" for k in range(len(SIZES))]
    images = [pictures(shape) for shape in SIZES]
    for file, inputs in zip(files, images, strict=True):
        inputs["image"].tofile(file)
    told = several.java("Shapes", *files)
    for number, inputs in enumerate(images):
        for name, want in expected(tmp_path / "several.onnx", inputs).items():
            got = numbers(told[f"{name}{number}"]).reshape(9, *want.shape)
            np.testing.assert_allclose(got, np.broadcast_to(want, got.shape), rtol=1e-4, atol=1e-4 * abs(want).max())
    assert told["names"] == 3 * [str(n) for n in (0, 2, 1) for _ in SIZES] and told["left"] == ["0"]
    assert told["length"] == [
        "IllegalArgumentException image (float32 1x3x30x26 or 1x3x45x60) has 3 elements; 2340 are needed"
    ]
    assert all("there are 2, from 0 on" in line for line in told["shape"]) and len(told["shape"]) == 2
    assert all("from 1 to 3 can be chosen" in line for line in told["threads"]) and len(told["threads"]) == 2
    assert all("closed" in line for line in told["closed"]) and len(told["closed"]) == 2


# --- what cannot be built ---------------------------------------------------------------------------------------------


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--android-weights sdcard: the weights can be in the library or the asset"):
        build(DIGITS, tmp_path / "a", Options("android", target_options={"android-weights": "sdcard"}))
    with pytest.raises(UsageError, match="remove --weights embed"):
        build(DIGITS, tmp_path / "a", Options("android", weights="embed"))
    monkeypatch.setattr(java, "_tool", lambda _: None)
    assert "javac" in (TARGET.missing() or "")
    with pytest.raises(ToolchainError, match="it needs javac, from a JDK"):
        build(DIGITS, tmp_path / "a", Options("android"))
    assert not (tmp_path / "a").exists()


def test_a_starter_project_uses_the_classes(aar: Aar, asset: Aar, tmp_path: Path) -> None:
    """`dlpack new gradle`: the Maven folder and the version are the bundle's; Kotlin compiles the activity."""
    for made, weights in ((aar, "Predictor()"), (asset, "Predictor(assets)")):
        folder = tmp_path / weights
        start("gradle", made.bundle, folder)
        activity = folder / "app/src/main/java/com/example/app/MainActivity.kt"
        assert f"{weights}.use {{ predictor ->" in activity.read_text()
        assert "predictor.run(FloatArray(64))" in activity.read_text()
        assert 'implementation("dlpack:digits:1.0.0")' in (folder / "app/build.gradle.kts").read_text()
        assert ("noCompress" in (folder / "app/build.gradle.kts").read_text()) == (weights == "Predictor(assets)")
        assert (folder / "model/maven/dlpack/digits/1.0.0/digits-1.0.0.aar").is_file()
    kotlinc = optional_tool("kotlinc", "it takes 355 MB")
    stubs = tmp_path / "stubs"
    sources = [p for folder in ("stubs", "app_stubs") for p in sorted((HERE / folder).rglob("*.java"))]
    run(["javac", "-d", stubs, *sources], check=True)
    path = f"{asset.root / 'classes.jar'}:{stubs}"
    run([kotlinc, "-nowarn", "-cp", path, activity, "-d", tmp_path / "kotlin"], check=True)


# --- the example app --------------------------------------------------------------------------------------------------


def test_the_example_app_is_complete() -> None:
    """Its XML is well-formed, it names its resources, and it takes the AAR from the folder that its README builds."""
    app = ROOT / "examples" / "android"
    main = app / "app" / "src" / "main"
    for file in app.rglob("*.xml"):
        ET.parse(file)
    texts = "".join(file.read_text(encoding="utf-8") for file in (*main.rglob("*.xml"), *main.rglob("*.kt")))
    for kind, name in re.findall(r"R\.(\w+)\.(\w+)", texts):
        declared = {"layout": f"{name}.xml", "id": f'"@+id/{name}"', "string": f'<string name="{name}">'}[kind]
        assert declared in texts or (main / "res" / "layout" / declared).is_file(), name
    assert 'uri("classifier/maven")' in (app / "settings.gradle.kts").read_text()
    assert "-o examples/android/classifier" in (app / "README.md").read_text()
    assert '"dlpack:classifier:1.0.0"' in (app / "app/build.gradle.kts").read_text()
