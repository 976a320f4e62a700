"""The target ios: a Swift package over an xcframework that a Mac has not seen, and over NAME.cc.

Apple's formats are read by a small reader (macho.py). The same NAME.cc runs under emulation and on this computer, and
programs for Macs are linked with the libraries.
"""

from __future__ import annotations

import json
import plistlib
import re
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
from conftest import DIGITS, ROOT, optional_tool, requires_tool
from macho import Object, members, read_object, slices
from onnx import TensorProto, helper
from processes import run

from dlpack.errors import UsageError
from dlpack.options import Options
from dlpack.pipeline import build
from dlpack.starters import start
from dlpack.targets.toolchains.compiler import program_command
from dlpack.targets.toolchains.host import runs_avx2

PREPROCESS = str(ROOT / "examples" / "digits" / "preprocess.json")
PLATFORM_SLICES = {
    "ios-arm64": {"arm64": ("ios", (13, 0))},
    "ios-arm64_x86_64-simulator": {"arm64": ("ios-simulator", (14, 0)), "x86_64": ("ios-simulator", (13, 0))},
    "macos-arm64_x86_64": {"arm64": ("macos", (11, 0)), "x86_64": ("macos", (11, 0))},
}
"""By slice and architecture the platform and its oldest version."""

MEMORY = {"free", "malloc", "bzero", "__bzero", "memcpy", "memset", "memset_pattern16", "memmove"}
FILES = {"open", "close", "lseek", "mmap", "munmap", "madvise", "sysconf"}
THREADS = {
    "getpid", "sched_yield", "sysconf", "pthread_create", "pthread_join", "pthread_mutex_init", "pthread_mutex_lock",
    "pthread_mutex_unlock", "pthread_mutex_destroy", "pthread_cond_init", "pthread_cond_wait", "pthread_cond_broadcast",
    "pthread_cond_destroy",
}  # fmt: skip

REASONS = {
    "NSPrivacyAccessedAPICategoryFileTimestamp": (
        "getattrlist getattrlistbulk fgetattrlist getattrlistat stat fstat fstatat lstat"
    ),
    "NSPrivacyAccessedAPICategorySystemBootTime": "mach_absolute_time",
    "NSPrivacyAccessedAPICategoryDiskSpace": "statfs statvfs fstatfs fstatvfs",
    "NSPrivacyAccessedAPICategoryUserDefaults": "OBJC_CLASS_$_NSUserDefaults",
    "NSPrivacyAccessedAPICategoryActiveKeyboards": "OBJC_CLASS_$_UITextInputMode",
}  # fmt: skip
"""Symbols that Apple wants a reason for: developer.apple.com, "Describing use of required reason API"."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(DIGITS, tmp_path_factory.mktemp("ios") / "digits", Options("ios", preprocess=PREPROCESS))


@pytest.fixture(scope="module")
def resource_bundle(tmp_path_factory: pytest.TempPathFactory, model_files: dict[str, Path]) -> Path:
    """Its weights are a file, and threads share its kernels."""
    options = Options("ios", name="wide", weights="file", threads=2, verify=False)
    return build(model_files["wide_net"], tmp_path_factory.mktemp("ios") / "wide", options)


@pytest.fixture(scope="module")
def linked_bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weights that are too large to be text, in the libraries and beside the source."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dlpack.stages.write.EMBED_LIMIT", 1 << 10)
        options = Options("ios", weights="embed", preprocess=PREPROCESS, verify=False)
        folder = tmp_path_factory.mktemp("ios")
        source = Options(**{**options.__dict__, "target_options": {"xcode-source": True}})
        return {
            "binary": build(DIGITS, folder / "binary", options),
            "source": build(DIGITS, folder / "source", source),
        }


def swift_compiler() -> str:
    return optional_tool("swiftc", "it takes 3.1 GB; script/toolchains swift does")


def manifest_of(bundle: Path) -> dict[str, object]:
    return json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def objects(bundle: Path) -> dict[tuple[str, str], list[Object]]:
    """What is in each library of the xcframework, by slice and architecture."""
    found = {}
    name = manifest_of(bundle)["name"]
    for identifier in PLATFORM_SLICES:
        library = (bundle / f"{name}.xcframework" / identifier / f"lib{name}.a").read_bytes()
        for architecture, archive in slices(library).items():
            read = [read_object(data) for _, data in members(archive)]
            assert {o.architecture for o in read} == {architecture or "arm64"}
            found[identifier, architecture or "arm64"] = read
    return found


def undefined(read: list[Object]) -> set[str]:
    """What the objects of a library need that is in none of them."""
    named = {symbol for o in read for symbol in o.undefined}
    return {s for s in named if not s.endswith("_weights_begin")} - {s for o in read for s in o.exported}


def declared(header: Path) -> set[str]:
    """The functions that a header declares."""
    text = header.read_text(encoding="utf-8")
    return set(re.findall(r"^(?:\w+_API|__attribute__\(\(.*?\)\)\)) .*?(\w+)\(", text, re.MULTILINE))


# --- the package ------------------------------------------------------------------------------------------------------


def test_the_bundle_is_a_swift_package(bundle: Path) -> None:
    names = {p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()}
    in_slices = {
        f"digits.xcframework/{identifier}/{file}"
        for identifier in PLATFORM_SLICES
        for file in ("libdigits.a", "Headers/Cdigits/digits.h", "Headers/Cdigits/module.modulemap")
    }
    sources = {f"Sources/Digits/{name}" for name in ("Predictor.swift", "Classifier.swift", "PrivacyInfo.xcprivacy")}
    assert names >= {"Package.swift", "README.md", "digits.xcframework/Info.plist", *in_slices, *sources}
    assert {n for n in names if n.startswith(("Sources", "digits.xcf"))} == {
        "digits.xcframework/Info.plist", *in_slices, *sources,
    }  # fmt: skip
    text = (bundle / "Package.swift").read_text()
    assert text.startswith("// swift-tools-version:5.5\n")
    assert '.binaryTarget(name: "Cdigits", path: "digits.xcframework")' in text
    assert "unsafeFlags" not in text  # so a package with a version may depend on it


def test_the_package_file_names_what_is_there(
    bundle: Path, resource_bundle: Path, linked_bundles: dict[str, Path]
) -> None:
    for folder in (bundle, resource_bundle, *linked_bundles.values()):
        text = (folder / "Package.swift").read_text()
        name = str(manifest_of(folder)["name"])
        assert f'.target(name: "{name.capitalize()}", dependencies: ["C{name}"]' in text
        for resource in re.findall(r'\.copy\("(.+?)"\)', text):
            assert (folder / "Sources" / name.capitalize() / resource).is_file()
        for left_out in re.findall(r'exclude: \["(.+?)"\]', text):
            assert (folder / "Sources" / f"C{name}" / left_out).is_file()


def test_info_plist_tells_platforms_and_variants(bundle: Path) -> None:
    about = plistlib.loads((bundle / "digits.xcframework" / "Info.plist").read_bytes())
    assert about["CFBundlePackageType"] == "XFWK" and about["XCFrameworkFormatVersion"] == "1.0"
    told = {}
    for library in about["AvailableLibraries"]:
        folder = bundle / "digits.xcframework" / library["LibraryIdentifier"]
        assert (folder / library["LibraryPath"]).is_file() and (folder / library["HeadersPath"]).is_dir()
        assert library["BinaryPath"] == library["LibraryPath"]
        told[library["LibraryIdentifier"]] = (
            library["SupportedPlatform"], library.get("SupportedPlatformVariant"), library["SupportedArchitectures"],
        )  # fmt: skip
    assert told == {
        "ios-arm64": ("ios", None, ["arm64"]),
        "ios-arm64_x86_64-simulator": ("ios", "simulator", ["arm64", "x86_64"]),
        "macos-arm64_x86_64": ("macos", None, ["arm64", "x86_64"]),
    }


def test_the_same_model_gives_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    again = build(DIGITS, tmp_path / "again", Options("ios", preprocess=PREPROCESS, verify=False))
    assert manifest_of(again)["files"] == manifest_of(bundle)["files"] | {
        "reference.npz": manifest_of(again)["files"]["reference.npz"]  # type: ignore[index, operator]
    }


# --- the libraries ----------------------------------------------------------------------------------------------------


def test_each_library_is_for_its_platform_and_version(bundle: Path) -> None:
    told = {key: {(o.platform, o.oldest) for o in read} for key, read in objects(bundle).items()}
    assert told == {(s, a): {platform} for s, of in PLATFORM_SLICES.items() for a, platform in of.items()}


def test_libraries_export_the_api_alone(bundle: Path, linked_bundles: dict[str, Path]) -> None:
    for folder in (bundle, linked_bundles["binary"]):
        headers = folder / "digits.xcframework" / "ios-arm64" / "Headers" / "Cdigits"
        api = set().union(*(declared(path) for path in headers.glob("*.h")))
        assert {"digits_create", "digits_preprocess_rgb"} <= api
        assert ("digits_weights" in api) == (folder != bundle)
        for read in objects(folder).values():
            assert {s for o in read for s in o.exported} == api


def test_libraries_need_little_of_the_system(
    bundle: Path, resource_bundle: Path, linked_bundles: dict[str, Path]
) -> None:
    """Memory; a file's pages and threads only where they are used."""
    for read in objects(bundle).values():
        assert undefined(read) <= MEMORY
    for read in objects(resource_bundle).values():
        needs = undefined(read)
        assert {"mmap", "lseek", "pthread_create"} <= needs <= MEMORY | FILES | THREADS
    for read in objects(linked_bundles["binary"]).values():
        assert undefined(read) <= MEMORY | FILES


def test_the_privacy_manifest_has_nothing_to_declare(bundle: Path, resource_bundle: Path) -> None:
    for folder in (bundle, resource_bundle):
        (file,) = (folder / "Sources").rglob("PrivacyInfo.xcprivacy")
        privacy = plistlib.loads(file.read_bytes())
        assert privacy == {
            "NSPrivacyTracking": False, "NSPrivacyTrackingDomains": [], "NSPrivacyCollectedDataTypes": [],
            "NSPrivacyAccessedAPITypes": [],
        }  # fmt: skip
        needs = {s.split("$INODE64")[0] for read in objects(folder).values() for o in read for s in o.undefined}
        for category, names in REASONS.items():
            assert not needs & set(names.split()), category
        swift = "".join(p.read_text() for p in (folder / "Sources").rglob("*.swift"))
        assert not re.search(r"UserDefaults|systemUptime|modificationDate|creationDate|activeInputModes", swift)


def test_the_same_code_runs_right(bundle: Path) -> None:
    """The kernels for arm64 under QEMU, both of those for x86-64 on this computer."""
    manifest = manifest_of(bundle)
    assert manifest["variants"] == ["neon", "avx2", "sse4"]
    where = {"neon on QEMU's Cortex-A57"} if shutil.which("qemu-aarch64") else set()
    where |= {"avx2 on this computer as x86-64-v3", "sse4 on this computer as x86-64-v2"} if runs_avx2() else set()
    assert set(manifest["verified_on"]) == where  # type: ignore[call-overload]
    assert all(e["passed"] for e in manifest["verification"])  # type: ignore[attr-defined]


MAIN = """#include <stdio.h>
#include "digits.h"
#ifdef LINKED
#include "digits_weights.h"
#define WEIGHTS digits_weights(), digits_weights_size()
#else
#define WEIGHTS nullptr, 0
#endif
int main() {
  digits_predictor* p = nullptr;
  digits_status status = digits_create(&p, nullptr, 0, WEIGHTS);
  if (status == 0) status = digits_run(p);
  float y[10] = {};
  if (status == 0) status = digits_get_output(p, 0, y, sizeof y);
  for (float v : y) printf("%.6f ", static_cast<double>(v));
  digits_destroy(p);
  return status;
}
"""


@pytest.mark.parametrize("target", ["aarch64-macos.11.0", "x86_64-macos.11.0"])
def test_mac_programs_link(bundle: Path, linked_bundles: dict[str, Path], target: str, tmp_path: Path) -> None:
    for folder, flags in ((bundle, []), (linked_bundles["binary"], ["-DLINKED"])):
        (tmp_path / "main.cc").write_text(MAIN)
        slice_ = folder / "digits.xcframework" / "macos-arm64_x86_64"
        parts = slices((slice_ / "libdigits.a").read_bytes())
        library = tmp_path / "libdigits.a"
        library.write_bytes(parts["arm64" if target.startswith("aarch64") else "x86_64"])
        program = tmp_path / "program"
        sources = [tmp_path / "main.cc"]
        command = program_command(sources, program, target, [*flags, f"-I{slice_ / 'Headers' / 'Cdigits'}"])
        run([*command, "-x", "none", library], check=True)
        assert program.read_bytes()[:4] == b"\xcf\xfa\xed\xfe"


def test_clang_finds_the_module(bundle: Path, linked_bundles: dict[str, Path], tmp_path: Path) -> None:
    """In a folder of its name, so that several xcframeworks fit into the one folder that Xcode copies them to."""
    clang = requires_tool("clang")
    (tmp_path / "main.m").write_text("@import Cdigits;\nint main(void) { return (int)digits_weights_size(); }\n")
    for folder in (bundle, linked_bundles["binary"]):
        headers = folder / "digits.xcframework" / "ios-arm64" / "Headers"
        flags = ["-fmodules", f"-fmodules-cache-path={tmp_path / folder.name}", "-fsyntax-only", "-Werror"]
        run([clang, *flags, "-I", headers, tmp_path / "main.m"], check=True)


# --- weights ----------------------------------------------------------------------------------------------------------


def test_weights_in_a_file_are_a_resource(resource_bundle: Path) -> None:
    manifest = manifest_of(resource_bundle)
    assert manifest["weights"]["file"] == "Sources/Wide/wide.weights"  # type: ignore[index]
    assert manifest["swift"] == {"package": "Wide", "weights": "resource"}
    assert not (resource_bundle / "wide.weights").exists()
    swift = (resource_bundle / "Sources" / "Wide" / "Predictor.swift").read_text()
    assert 'Bundle.module.path(forResource: "wide", ofType: "weights")' in swift and "import Foundation" in swift


def test_large_weights_are_linked_and_not_compiled(linked_bundles: dict[str, Path]) -> None:
    folder = linked_bundles["binary"]
    weights = (folder / "digits.weights").read_bytes()
    assert "kWeights[" not in (folder / "digits.cc").read_text()
    for identifier in PLATFORM_SLICES:
        library = (folder / "digits.xcframework" / identifier / "libdigits.a").read_bytes()
        assert library.count(weights) == len(PLATFORM_SLICES[identifier])
    assert "digits_weights()" in (folder / "Sources" / "Digits" / "Predictor.swift").read_text()
    assert (linked_bundles["source"] / "Sources" / "Cdigits" / "digits.weights").read_bytes() == weights


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_linked_weights_give_what_embedded_ones_give(
    bundle: Path, linked_bundles: dict[str, Path], compiler: str, tmp_path: Path
) -> None:
    cc = requires_tool(compiler)
    (tmp_path / "main.cc").write_text(MAIN)
    said = []
    for folder, linked in ((bundle, False), (linked_bundles["source"], True)):
        c = folder / "Sources" / "Cdigits" if linked else folder
        sources = [tmp_path / "main.cc", c / "digits.cc", *([c / "digits_weights.cc"] if linked else [])]
        flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", *(["-DLINKED"] if linked else [])]
        flags += ["-Wno-psabi"] if compiler == "g++" else []  # vectors wider than registers
        program = tmp_path / "program"
        run([cc, *flags, "-I", c, "-I", c / "include", *sources, "-o", program], check=True)
        said.append(run([program], check=True).stdout)
    assert said[0] == said[1] and len(said[0].split()) == 10


# --- the source form and Swift ----------------------------------------------------------------------------------------


def test_xcode_may_compile_the_source(linked_bundles: dict[str, Path]) -> None:
    folder = linked_bundles["source"]
    assert not list(folder.glob("*.xcframework"))
    c = folder / "Sources" / "Cdigits"
    assert (c / "digits.cc").read_bytes() == (folder / "digits.cc").read_bytes()
    assert (c / "include" / "digits.h").read_bytes() == (folder / "digits.h").read_bytes()
    text = (folder / "Package.swift").read_text()
    assert '.headerSearchPath(".")' in text and '"-O2"' in text and "-march" not in text
    assert (folder / "Sources" / "Digits" / "PrivacyInfo.xcprivacy").is_file()


@pytest.mark.parametrize("form", ["embedded", "resource", "linked"])
def test_swift_sources_pass_the_compiler(
    bundle: Path, resource_bundle: Path, linked_bundles: dict[str, Path], form: str, tmp_path: Path
) -> None:
    """On Linux with stubs of CoreGraphics, and of what SwiftPM writes for a target that has resources."""
    swiftc = swift_compiler()
    stubs = ROOT / "tests" / "bindings" / "coregraphics.swift"
    run([swiftc, "-emit-module", "-module-name", "CoreGraphics", "-parse-as-library", stubs], cwd=tmp_path, check=True)
    (tmp_path / "module.swift").write_text(
        "import Foundation\nextension Foundation.Bundle { static var module: Bundle { Bundle.main } }\n"
    )
    folder = {"embedded": bundle, "resource": resource_bundle, "linked": linked_bundles["binary"]}[form]
    (headers,) = folder.glob("*.xcframework/ios-arm64/Headers/*")
    sources = [*sorted((folder / "Sources").rglob("*.swift")), tmp_path / "module.swift"]
    run([swiftc, "-typecheck", "-warnings-as-errors", "-I", headers, "-I", tmp_path, *sources], check=True)


# --- the example ------------------------------------------------------------------------------------------------------


def project(text: str) -> Any:
    """Apple's older property lists, as in project.pbxproj: dictionaries, arrays and strings."""
    tokens = re.findall(r'/\*.*?\*/|//[^\n]*|"(?:[^"\\]|\\.)*"|[{}()=;,]|[^\s{}()=;,"]+', text, re.DOTALL)
    left = iter(t for t in tokens if not t.startswith(("/*", "//")))

    def value(token: str) -> Any:
        if token == "{":
            out = {}
            while (key := next(left)) != "}":
                assert next(left) == "="
                out[key.strip('"')] = value(next(left))
                assert next(left) == ";"
            return out
        if token == "(":
            items = []
            while (item := next(left)) != ")":
                items.append(value(item))
                assert next(left) == ","
            return items
        return token.strip('"')

    read = value(next(left))
    assert next(left, None) is None
    return read


def test_the_example_is_a_whole_project() -> None:
    """Every object that one names is there, every file too, and the package is where README.md builds it."""
    folder = ROOT / "examples" / "ios"
    read = project((folder / "Classify.xcodeproj" / "project.pbxproj").read_text(encoding="utf-8"))
    objects = read["objects"]
    named = set(re.findall(r"\bA[0-9]{23}\b", json.dumps([read["rootObject"], *objects.values()])))
    assert named == set(objects)
    files = {o["path"] for o in objects.values() if o["isa"] == "PBXFileReference" and o["path"].endswith(".swift")}
    assert files == {p.name for p in (folder / "Classify").glob("*.swift")}
    (package,) = (o for o in objects.values() if o["isa"] == "XCLocalSwiftPackageReference")
    (product,) = (o for o in objects.values() if o["isa"] == "XCSwiftPackageProductDependency")
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert (
        f"--name {product['productName'].lower()} " in readme
        and f"-o examples/ios/{package['relativePath']}\n" in readme
    )
    assert f"/examples/ios/{package['relativePath']}/\n" in (ROOT / ".gitignore").read_text()
    assert any(f"import {product['productName']}\n" in p.read_text() for p in (folder / "Classify").glob("*.swift"))


def test_a_starter_project_is_whole(bundle: Path, tmp_path: Path) -> None:
    """`dlpack new xcode`: its objects and files are there, and it imports the package that lies in `model`."""
    start("xcode", bundle, tmp_path / "app")
    read = project((tmp_path / "app" / "App.xcodeproj" / "project.pbxproj").read_text(encoding="utf-8"))
    objects = read["objects"]
    named = set(re.findall(r"\bA[0-9]{23}\b", json.dumps([read["rootObject"], *objects.values()])))
    assert named == set(objects)
    files = {o["path"] for o in objects.values() if o["isa"] == "PBXFileReference" and o["path"].endswith(".swift")}
    assert files == {p.name for p in (tmp_path / "app" / "App").glob("*.swift")}
    (package,) = (o for o in objects.values() if o["isa"] == "XCLocalSwiftPackageReference")
    assert (tmp_path / "app" / package["relativePath"] / "Package.swift").is_file()
    view = (tmp_path / "app" / "App" / "ContentView.swift").read_text()
    assert "import Digits\n" in view and "predictor.run(image: [Float](repeating: 0, count: 64))" in view


# --- what is refused --------------------------------------------------------------------------------------------------


def test_what_the_target_does_not_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="remove --cc"):
        build(DIGITS, tmp_path / "cc", Options("ios", cc="clang++"))


def test_shapes_and_threads(resource_bundle: Path, tmp_path: Path) -> None:
    """The Swift class chooses between sets of shapes, and how many threads compute."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "open", [x], [y])
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), tmp_path / "open.onnx")
    options = Options("ios", name="wide", shapes={"x": (1,)}, more_shapes=({"x": (2,)},), verify=False)
    bundle = build(tmp_path / "open.onnx", tmp_path / "shapes", options)
    text = (bundle / "Sources" / "Wide" / "Predictor.swift").read_text()
    assert "/// - 1: x 2" in text and "public func setShape(" in text and "setThreads" not in text
    assert "try set(0, x, wide_input_of(handle, 0).pointee.bytes / 4," in text
    assert "count: wide_output_of(handle, 0).pointee.bytes / 4)" in text
    threads = (resource_bundle / "Sources" / "Wide" / "Predictor.swift").read_text()
    assert "guard (1...2).contains(count)" in threads and "setShape" not in threads
