"""Several emitted files as one translation unit, as unity builds make of them; and models named after their words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nets
import numpy as np
import onnx
import processes
import pytest
from conftest import requires_tool
from emitted_files import COMPILERS, READ, STRICT, run

from dlpack.bundle.loader import read_manifest
from dlpack.pipeline import Options, build

Bundle = Callable[[str, str], Path]

CHECK = """\
  {{
    const std::vector<float> in = read("{name}.in"), out = read("{name}.out");
    {name}::Predictor p;
    if (!p || p.set_input(0, in.data(), in.size() * sizeof(float)) != {macro}_OK) return 1;
    if (p.run() != {macro}_OK || !near(p.output<float>(0), out)) return 2;
  }}
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, model_files: dict[str, Path]) -> Bundle:
    """``bundle(model, name)``: a model's source under a name; each is built once."""
    folder = tmp_path_factory.mktemp("bundles")

    def get(model: str, name: str) -> Path:
        path = folder / name
        threads = 4 if model == "winograd_net" else 1
        return path if path.exists() else build(model_files[model], path, Options("source", name=name, threads=threads))

    return get


def check_together(folder: Path, compiler: str, bundles: list[Path], flags: list[str]) -> None:
    """Compiles all in one file, with warnings as errors, and compares what each computes with its reference."""
    includes, checks = "", ""
    for path in bundles:
        m = read_manifest(path)
        with np.load(path / "reference.npz") as stored:
            (folder / f"{m['name']}.in").write_bytes(stored["in_0"].tobytes())
            (folder / f"{m['name']}.out").write_bytes(stored["out_0"].tobytes())
        includes += f'#include "{path / m["source"]}"\n'
        checks += CHECK.format(name=m["name"], macro=m["name"].upper())
    (folder / "all.cc").write_text(f"{includes}{READ}int main() {{\n{checks}  return 0;\n}}\n")
    command = [requires_tool(compiler), "-std=c++17", "-O1", *STRICT, *flags, "-pthread"]
    run(*command, "all.cc", "-lstdc++", "-o", "program", cwd=folder)
    run(folder / "program", cwd=folder)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("flags", [["-march=native"], ["-Wno-psabi"]], ids=" ".join)
def test_models_in_one_translation_unit(tmp_path: Path, bundle: Bundle, compiler: str, flags: list[str]) -> None:
    """Different ones, one of them with threads, are compiled as one file; each is right."""
    pairs = [("digits", "first"), ("winograd_net", "second"), ("attention_net", "third")]
    check_together(tmp_path, compiler, [bundle(*pair) for pair in pairs], flags)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_models_may_be_named_after_words_of_the_runtime(tmp_path: Path, bundle: Bundle, compiler: str) -> None:
    """After functions, types, members and variables of the emitted file, and after beginnings of its functions."""
    names = ["run", "arena", "float32", "kernel", "weights", "mask", "impl", "file", "fill", "own", "predictor"]
    check_together(tmp_path, compiler, [bundle("digits", name) for name in names], ["-march=native"])


def test_no_macro_is_left_but_the_models_own(tmp_path: Path, bundle: Bundle) -> None:
    """Every macro that the file defines, headers of the system apart, begins with the model's name."""
    source = bundle("winograd_net", "second") / "second.cc"
    command = [requires_tool("g++"), "-std=c++17", "-march=native", "-E", "-dM", "-x", "c++"]
    (tmp_path / "headers.cc").write_text("".join(f"{x}\n" for x in source.read_text().splitlines() if "#include" in x))
    before, after = (set(run(*command, path).splitlines()) for path in (tmp_path / "headers.cc", source))
    added = {line.split()[1].split("(")[0] for line in after - before}
    assert added and {name for name in added if not name.startswith("SECOND_")} == set()


# --- what the file is not for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("flag", ["-ffast-math", "-Ofast", "-ffinite-math-only"])
def test_fast_maths_is_refused(bundle: Bundle, compiler: str, flag: str) -> None:
    """The error says what to leave out."""
    command = [requires_tool(compiler), "-std=c++17", "-fsyntax-only", flag, bundle("digits", "first") / "first.cc"]
    done = processes.run(command)
    assert done.returncode != 0 and "compile this file without -ffast-math" in done.stderr


@pytest.mark.parametrize(
    "flag", ["-funsafe-math-optimizations", "-freciprocal-math", "-fno-signed-zeros", "-fassociative-math"]
)
def test_gcc_refuses_unsafe_maths(bundle: Bundle, flag: str) -> None:
    given = [flag, *(["-fno-signed-zeros", "-fno-trapping-math"] if flag == "-fassociative-math" else [])]
    command = [requires_tool("g++"), "-std=c++17", "-fsyntax-only", *given, bundle("digits", "first") / "first.cc"]
    done = processes.run(command)
    assert done.returncode != 0 and "compile this file without -funsafe-math-optimizations" in done.stderr


def test_clang_takes_unsafe_maths_back(tmp_path: Path, bundle: Bundle) -> None:
    """It defines no macro for it; the machine code is that of a compilation without."""
    command = [requires_tool("clang++"), "-std=c++17", "-O2", "-march=native", "-Wall", "-Wextra", "-Werror", "-S"]
    texts = []
    for flags in ([], ["-funsafe-math-optimizations"]):
        run(*command, *flags, bundle("attention_net", "third") / "third.cc", "-o", "third.s", cwd=tmp_path)
        texts.append((tmp_path / "third.s").read_text())
    assert texts[0] == texts[1]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_clang_compiles_for_visual_studio(tmp_path: Path, machine: str) -> None:
    """clang-cl, without the headers of Windows; also kernels for several machines."""
    options = Options("source", name="net", target_options={"machine": "avx512,avx2,neon_dotprod,neon"})
    onnx.save(nets.attention_net(), tmp_path / "net.onnx")
    source = build(tmp_path / "net.onnx", tmp_path / "net", options) / "net.cc"
    flags = ["--driver-mode=cl", f"--target={machine}-pc-windows-msvc", "/std:c++17", "/O2", "/W4", "/WX"]
    run(requires_tool("clang++"), *flags, "/clang:-ffreestanding", "-DNET_FREESTANDING", "-c", source, cwd=tmp_path)
    assert (tmp_path / "net.obj").stat().st_size > 10_000


@pytest.mark.parametrize("target", ["s390x-none", "powerpc64-none"])
def test_big_endian_machines_are_refused(bundle: Bundle, target: str) -> None:
    source = bundle("digits", "first") / "first.cc"
    flags = [f"--target={target}", "-nostdlibinc", "-ffreestanding", "-std=c++17", "-DFIRST_FREESTANDING"]
    done = processes.run([requires_tool("clang++"), *flags, "-fsyntax-only", source])
    assert done.returncode != 0 and "compile this file for a little-endian machine" in done.stderr
