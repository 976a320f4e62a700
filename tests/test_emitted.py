"""The emitted C++ file: it compiles clean everywhere, needs nothing, exports only its API, and its self-test passes."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import processes
import pytest
from conftest import requires_tool
from emitted_files import COMPILERS, MODELS, SANITIZE, STRICT, Emitted, run

from dlpack.bundle.loader import read_kernels
from dlpack.targets.toolchains.compiler import compile_library


def symbols(*words: str | Path) -> list[tuple[str, str]]:
    """(type letter, name) of what nm lists."""
    return [(line.split()[-2], line.split()[-1]) for line in run(requires_tool("nm"), *words).splitlines() if line]


# --- compilers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("options", [["-std=c++17"], ["-std=c++20", "-march=native"]], ids=" ".join)
def test_it_compiles_without_a_warning(
    tmp_path: Path, emitted: Callable[[str], Emitted], model: str, compiler: str, options: list[str]
) -> None:
    """With all warnings as errors. Not even a note, except GCC's -Wpsabi where the vectors are wider than registers."""
    e = emitted(model)
    note = ["-Wno-psabi"] if compiler == "g++" else []
    run(requires_tool(compiler), *options, "-O2", *STRICT, *note, "-c", e.source, "-o", tmp_path / "x.o")


@pytest.mark.parametrize("model", MODELS)
def test_it_compiles_with_the_flags_that_it_names(
    tmp_path: Path, emitted: Callable[[str], Emitted], model: str
) -> None:
    """The opening comment tells the compiler's flags."""
    e = emitted(model)
    found = re.search(r"^// Flags: (.*)$", e.source.read_text(), re.MULTILINE)
    assert found, "no line with flags"
    run(requires_tool("g++"), *found[1].split(), *STRICT, "-c", e.source, "-o", tmp_path / "x.o")


@pytest.mark.parametrize("model", MODELS)
def test_the_header_is_c_and_cxx(tmp_path: Path, emitted: Callable[[str], Emitted], model: str) -> None:
    e = emitted(model)
    (tmp_path / "user.c").write_text(f'#include "{e.name}.h"\n#include "{e.name}.h"\nint size_of(void);\n'
                                     f"int size_of(void) {{ return (int){e.name}_memory_size(); }}\n")  # fmt: skip
    warnings = ["-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{e.folder}"]
    run(requires_tool("gcc"), "-std=c99", *warnings, "-c", tmp_path / "user.c", "-o", tmp_path / "c.o")
    for standard in ("c++11", "c++17", "c++20"):
        run(requires_tool("g++"), f"-std={standard}", *warnings, "-Wshadow", "-x", "c++", "-c", tmp_path / "user.c",
            "-o", tmp_path / "cc.o")  # fmt: skip


# --- the self-test ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [*MODELS, "wide_net", "winograd_net"])
@pytest.mark.parametrize("how", ["plain", "native", "sanitized"])
def test_the_self_test_passes(tmp_path: Path, emitted: Callable[[str], Emitted], model: str, how: str) -> None:
    """For any x86-64, for this machine, and under AddressSanitizer and UndefinedBehaviorSanitizer without a report."""
    e = emitted(model)
    options = {"plain": ["-Wno-psabi"], "native": ["-march=native"], "sanitized": ["-march=native", *SANITIZE]}[how]
    program = tmp_path / "selftest"
    run(requires_tool("g++"), "-std=c++17", "-O1", *STRICT, *options, f"-D{e.macro}_SELFTEST", e.source, "-o", program)
    assert ": ok" in run(program)


def test_the_self_test_fails_when_a_weight_is_wrong(tmp_path: Path, side_file_bundle: Path) -> None:
    """It reads the weights file named on its command line, and does not say ok to anything."""
    program = tmp_path / "selftest"
    source = side_file_bundle / "digits.cc"
    run(requires_tool("g++"), "-O1", "-march=native", "-DDIGITS_SELFTEST", source, "-o", program)
    assert ": ok" in run(program, side_file_bundle / "digits.weights")
    text = source.read_text()
    expected = re.search(r"expected\[\] = \{([^,]*),", text)
    assert expected
    (tmp_path / "wrong.cc").write_text(text.replace(expected[1], "0.9", 1))
    run(requires_tool("g++"), "-O1", "-march=native", "-DDIGITS_SELFTEST", tmp_path / "wrong.cc", "-o", program)
    done = processes.run([program, side_file_bundle / "digits.weights"])
    assert done.returncode == 1 and "WRONG" in done.stdout


# --- what is in the object --------------------------------------------------------------------------------------------


def api_names(e: Emitted) -> set[str]:
    """The functions that the header declares."""
    text = (e.folder / f"{e.name}.h").read_text()
    return set(re.findall(rf"{e.macro}_API [^;]*?\b({e.name}_\w+)\(", text))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_there_are_no_writable_globals(
    tmp_path: Path, emitted: Callable[[str], Emitted], model: str, compiler: str
) -> None:
    """No symbol in .data or .bss. (Position-independent code keeps tables of pointers in a section that becomes
    read-only once loaded, which nm cannot tell from .data: so this object is position-dependent.)"""
    e = emitted(model)
    run(
        requires_tool(compiler),
        "-std=c++17",
        "-O2",
        "-march=native",
        "-fno-pic",
        "-c",
        e.source,
        "-o",
        tmp_path / "x.o",
    )
    assert [s for s in symbols(tmp_path / "x.o") if s[0] in "bBdDcCgGsSuv"] == []
    exported = {name for letter, name in symbols("--extern-only", "--defined-only", tmp_path / "x.o")}
    assert exported == api_names(e)


@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF files")
def test_the_library_says_its_name(digits: Path) -> None:
    """Without it a program would look for the library under the path that it was linked by."""
    told = run(requires_tool("readelf"), "-d", digits / "libdigits.so")
    assert re.search(r"\(SONAME\) .*\[libdigits\.so\]", told)


@pytest.mark.parametrize("home", [None, "/dev/null"])
def test_the_compiler_needs_no_home(tmp_path: Path, digits: Path, home: str | None, monkeypatch: Any) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("ZIG_GLOBAL_CACHE_DIR", raising=False)
    if home is None:
        monkeypatch.delenv("HOME", raising=False)
    else:
        monkeypatch.setenv("HOME", home)
    compile_library(digits / "digits.cc", tmp_path / "libdigits.so", "", ("-march=native",), None)
    assert (tmp_path / "libdigits.so").stat().st_size > 1000


@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF files")
@pytest.mark.parametrize("model", MODELS)
def test_the_library_exports_the_api_alone(emitted: Callable[[str], Emitted], model: str) -> None:
    e = emitted(model)
    assert {name for _, name in symbols("-D", "--defined-only", e.library)} == api_names(e)
    needed = run(requires_tool("readelf"), "-d", e.library)
    assert set(re.findall(r"NEEDED.*\[(.*?)\]", needed)) <= {"libc.so.6"}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_freestanding_needs_nothing(
    tmp_path: Path, emitted: Callable[[str], Emitted], model: str, compiler: str
) -> None:
    """Without a C library: of symbols from outside there are only those that compilers call by themselves."""
    e = emitted(model)
    for march in ([], ["-march=native"]):
        run(
            requires_tool(compiler), "-std=c++17", "-O2", "-ffreestanding", "-nostdlib", "-fno-exceptions", "-fno-rtti",
            *march, *STRICT, *(["-Wno-psabi"] if compiler == "g++" else []), f"-D{e.macro}_FREESTANDING",
            "-c", e.source, "-o", tmp_path / "x.o",
        )  # fmt: skip
        outside = {name for _, name in symbols("-u", tmp_path / "x.o")} - {"_GLOBAL_OFFSET_TABLE_"}
        assert outside <= {"memcpy", "memset", "memmove", "memcmp"}


@pytest.mark.parametrize("model", MODELS)
def test_every_kernel_names_its_onnx_nodes(emitted: Callable[[str], Emitted], model: str) -> None:
    e = emitted(model)
    text = e.source.read_text()
    kernels = read_kernels(e.folder)
    assert kernels
    for k in kernels:
        assert k["nodes"], k
        found = re.search(rf"((?:^//.*\n)+)void {k['name']}\(", text, re.MULTILINE)
        assert found, f"{k['name']} has no comment"
        listed = ", ".join(line.removeprefix("// ONNX: ") for line in found[1].splitlines() if "ONNX: " in line)
        for node in k["nodes"]:
            assert node in listed, (k["name"], node)
        assert k["computes"] in found[1]


@pytest.mark.parametrize("model", MODELS)
def test_the_contents_at_the_top_can_be_searched_for(emitted: Callable[[str], Emitted], model: str) -> None:
    text = emitted(model).source.read_text()
    contents = re.search(r"// Contents \(search for the words\): ((?:.*\n//)*.*)", text)
    assert contents
    names = re.findall(r"\[([A-Z -]+)\]", contents[1])
    assert names[:2] == ["API", "CONFIGURATION"] and names[-1] == "SELF-TEST"
    places = [text.index(f"=\n// [{name}] ") for name in names]
    assert places == sorted(places)
