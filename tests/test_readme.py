"""README.md: its examples compile and run, and its options exist."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import click
import processes
import pytest
from conftest import ROOT, requires_tool

from dlpack.cli import cli

README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The README's one code block in a language."""
    (code,) = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return code


def run(*words: str | Path, cwd: Path) -> str:
    done = processes.run(words, cwd=cwd)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.parametrize("language, compiler", [("c", "gcc"), ("cpp", "g++")])
def test_the_c_and_cxx_examples_compile_and_run(tmp_path: Path, digits: Path, language: str, compiler: str) -> None:
    (tmp_path / f"main.{language}").write_text(block(language))
    strict = ["-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{digits}"]
    run(requires_tool(compiler), *strict, "-c", f"main.{language}", "-o", "main.o", cwd=tmp_path)
    run(requires_tool("g++"), "-O1", "-march=native", digits / "digits.cc", "main.o", "-o", "main", cwd=tmp_path)
    assert re.search(r"0\.\d+", run(tmp_path / "main", cwd=tmp_path))


def test_the_python_example_runs(tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "digits").symlink_to(digits)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(block("python"), names)
    assert names["probability"].shape == (1, 10)


def test_the_cmake_example_builds(tmp_path: Path, digits: Path) -> None:
    requires_tool("g++")
    cmake = requires_tool("cmake")
    shutil.copytree(digits, tmp_path / "third_party" / "digits")
    (tmp_path / "main.c").write_text(block("c"))
    (tmp_path / "CMakeLists.txt").write_text("cmake_minimum_required(VERSION 3.15)\n\n" + block("cmake"))
    run(cmake, "-S", ".", "-B", "build", "-DCMAKE_BUILD_TYPE=Release", cwd=tmp_path)
    run(cmake, "--build", "build", cwd=tmp_path)
    assert "probability of class 0" in run(tmp_path / "build" / "app", cwd=tmp_path)


def test_the_commands_and_options_exist() -> None:
    commands = set(re.findall(r"^\| `dlpack ([\w-]+)", README, re.MULTILINE))
    assert commands == set(cli.commands)
    told = set(re.findall(r"^\| `(--?[\w-]+)", README, re.MULTILINE))
    command = cli.commands["build"]
    known = {name for p in command.get_params(click.Context(command)) for name in p.opts}
    assert told <= known, told - known
