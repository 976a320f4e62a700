"""What the command line does for its user: help, completion, hints at what was meant, a diagnosis, a quick look."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import DIGITS, requires_module
from processes import run

import dlpack as package
from dlpack.bundle.loader import load, read_kernels
from dlpack.cli import cli
from dlpack.cli import version as version_module
from dlpack.errors import did_you_mean


def dlpack(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="dlpack")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


# --- help -------------------------------------------------------------------------------------------------------------


def test_python_m_dlpack_is_the_command() -> None:
    done = run([sys.executable, "-m", "dlpack", "help", "inspect"])
    assert done.returncode == 0 and done.stdout.startswith("Usage: dlpack inspect")


def test_help_shows_what_dash_dash_help_shows() -> None:
    assert dlpack("help").output == dlpack("--help").output
    for name in cli.commands:
        assert dlpack("help", name).output == dlpack(name, "--help").output


def test_help_has_examples_and_exit_codes() -> None:
    for text in (dlpack("--help").output, dlpack("help", "build").output):
        assert "Examples:" in text and "Exit codes: 0 done, 1 verification failed, 2 usage, 3" in text
    assert "NO_COLOR" in dlpack("--help").output


def test_the_man_page_has_all_commands_and_options(tmp_path: Path) -> None:
    page = dlpack("help", "--man").output.replace("\\-", "-")
    for name, command in cli.commands.items():
        section = page.partition(f".SS dlpack {name} ")[2].partition(".SS ")[0]
        options = {o for p in command.get_params(click.Context(command)) for o in p.opts if o.startswith("--")}
        assert section and all(o in section for o in options), name
    assert "Exit codes: 0 done" in page
    if groff := shutil.which("groff"):
        (tmp_path / "dlpack.1").write_text(page)
        done = run([groff, "-man", "-Tutf8", "-ww", tmp_path / "dlpack.1"], check=True)
        assert done.stderr == "" and "without" in done.stdout


def test_the_examples_of_the_help_parse() -> None:
    """Each names a command and options that there are."""
    helps = [dlpack("help", *name).output for name in ((), *((n,) for n in cli.commands))]
    lines = [line.strip().split("    ")[0].split() for text in helps for line in text.splitlines()]
    found = [words for words in lines if words[:1] == ["dlpack"] and words[1] not in ("completion", "help")]
    assert len(found) >= 9
    for _, name, *words in found:
        known = {o for p in cli.commands[name].get_params(click.Context(cli.commands[name])) for o in p.opts}
        assert {w for w in words if w.startswith("-")} <= known, (name, words)


def test_the_version_has_the_revision_of_a_development_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = dlpack("--version").output
    assert shown.startswith(f"dlpack, version {package.__version__}")
    if shutil.which("git") and (Path(__file__).parents[1] / ".git").exists():
        assert re.search(r"\(git [0-9a-f]{7,}(, changed)?\)$", shown.strip())
    installed = tmp_path / "site-packages" / "dlpack" / "cli" / "version.py"
    monkeypatch.setattr(version_module, "__file__", str(installed))
    assert version_module.version_text() == package.__version__


# --- hints ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["bild", "x.onnx"], "did you mean 'build'?"),
        (["help", "inspekt"], "did you mean 'inspect'?"),
        (["build", "x.onnx", "--taget", "wasm"], "--target"),
        (["build", str(DIGITS), "--target", "wasn"], "did you mean 'wasm'?"),
        (["build", str(DIGITS), "--shape", "imag=1x1x8x8"], "did you mean 'image'?"),
        (["build", str(DIGITS), "--value", "imag=1"], "did you mean 'image'?"),
        (["build", str(DIGITS), "--range", "imag=0:1"], "did you mean 'image'?"),
    ],
    ids=lambda v: " ".join(v[:1]) if isinstance(v, list) else "",
)
def test_a_wrong_name_gets_the_one_that_is_like_it(tmp_path: Path, arguments: list[str], hint: str) -> None:
    more = ["-o", str(tmp_path / "x")] if arguments[0] == "build" else []
    result = dlpack(*arguments, *more)
    assert result.exit_code == 2 and hint in result.output.replace("\n", " ")


def test_nothing_is_meant_where_nothing_is_alike() -> None:
    assert did_you_mean("zzz", ["image", "mask"]) == ""


# --- completion -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    result = dlpack("completion", shell)
    assert result.exit_code == 0 and f"_DLPACK_COMPLETE={shell}_complete" in result.output
    if shell == "bash" and shutil.which("bash"):
        assert run(["bash", "-n"], input=result.output).returncode == 0


def completed(words: str) -> set[str]:
    environment = {**os.environ, "_DLPACK_COMPLETE": "bash_complete", "COMP_WORDS": words}
    environment["COMP_CWORD"] = str(len(words.split(" ")) - 1)
    done = run([sys.executable, "-m", "dlpack"], env=environment)
    return {line.partition(",")[2] for line in done.stdout.splitlines()}


def test_commands_options_and_targets_are_completed() -> None:
    assert {"build", "build-all", "bench"} == completed("dlpack b")
    assert "--target" in completed("dlpack build --ta")
    assert completed("dlpack build --target linux-a") == {"linux-arm64", "linux-armhf"}


# --- build ------------------------------------------------------------------------------------------------------------


def test_a_quiet_build_prints_the_path_alone(tmp_path: Path) -> None:
    result = dlpack("build", DIGITS, "--target", "source", "-o", tmp_path / "x", "--quiet")
    assert (result.stdout, result.stderr) == (f"{tmp_path / 'x'}\n", "")


def test_a_verbose_build_lists_kernels_and_files(tmp_path: Path) -> None:
    result = dlpack("build", DIGITS, "--target", "source", "-o", tmp_path / "x", "--verbose")
    assert all(f"{k['name']}: {k['computes']}" in result.stderr for k in read_kernels(tmp_path / "x"))
    assert all(p.name in result.stderr for p in (tmp_path / "x").iterdir() if p.name != "report.html")
    assert f"next: c++ -O2 -march=native -c {tmp_path / 'x' / 'digits.cc'}" in result.stderr
    assert dlpack("build", DIGITS, "--quiet", "--verbose").exit_code == 2


def test_no_color_is_obeyed() -> None:
    code = "from dlpack.cli.console import Console; Console(force_terminal=True).print('[red]x[/]')"
    plain = run([sys.executable, "-c", code], env={**os.environ, "NO_COLOR": "1", "TERM": "xterm"}).stdout
    assert "\x1b[31m" not in plain
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    assert "\x1b[31m" in run([sys.executable, "-c", code], env={**environment, "TERM": "xterm"}).stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux alone has /dev/full")
def test_output_that_has_no_room_is_told_in_a_sentence() -> None:
    done = run(["sh", "-c", '"$0" -m dlpack targets --json > /dev/full', sys.executable])
    assert done.returncode == 2 and "Traceback" not in done.stderr and "no space left" in done.stderr


# --- doctor -----------------------------------------------------------------------------------------------------------


def test_doctor_tells_what_is_there_and_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    result = dlpack("doctor", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and found["healthy"]
    assert {"native", "wasm", "android"} <= {t["target"] for t in found["targets"]}
    assert found["packages"]["numpy"] == np.__version__
    monkeypatch.setattr("dlpack.cli.doctor.importlib.util.find_spec", lambda _: None)
    sick = dlpack("doctor")
    assert sick.exit_code == 4
    words = " ".join(sick.output.split())
    assert "ziglang" in words and "does not work here" in words and "pip install 'dlpack-aot[torch]'" in words


# --- run --------------------------------------------------------------------------------------------------------------


def test_run_shows_a_summary_of_each_output(tmp_path: Path, digits: Path) -> None:
    image = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8)
    np.save(tmp_path / "x.npy", image)
    for given in (f"image={tmp_path / 'x.npy'}", str(tmp_path / "x.npy")):
        result = dlpack("run", digits, "--input", given, "--json", "-o", tmp_path / "out.npz")
        (told,) = json.loads(result.stdout)["outputs"]
        with load(digits) as predictor:
            want = predictor.run({"image": image})["probability"]
        assert np.array_equal(np.load(tmp_path / "out.npz")["probability"], want)
        assert (told["name"], told["shape"], told["nan"]) == ("probability", [1, 10], 0)
        assert told["max"] == pytest.approx(want.max()) and told["mean"] == pytest.approx(0.1)


def test_run_without_inputs_takes_those_of_verification(digits: Path) -> None:
    result = dlpack("run", digits)
    assert result.exit_code == 0 and "probability" in result.output


def test_run_shows_the_classes_of_a_picture(tmp_path: Path) -> None:
    image = requires_module("PIL.Image")
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"digit {k}\n" for k in range(10)))
    assert (
        dlpack("build", DIGITS, "-o", tmp_path / "x", "--labels", labels, "--preprocess", "none", "-q").exit_code == 0
    )
    image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "x.png")
    result = dlpack("run", tmp_path / "x", "--input", tmp_path / "x.png", "--json")
    classes = json.loads(result.stdout)["classes"]
    assert len(classes) == 5 and all(re.fullmatch(r"digit \d", c["label"]) for c in classes)
    assert classes[0]["label"] in dlpack("run", tmp_path / "x", "--input", tmp_path / "x.png").stdout


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda f: f"imag={f / 'x.npy'}", "did you mean 'image'?"),
        (lambda f: f"image={f / 'none.npy'}", "neither a .npy file nor a picture"),
        (lambda f: f"image={f / 'flat.npy'}", "is float32 of shape (3,); the model expects"),
        (lambda f: f"image={f / 'x.png'}", "--preprocess"),
    ],
)
def test_what_run_cannot_take_is_told(tmp_path: Path, digits: Path, make: Callable[[Path], str], told: str) -> None:
    np.save(tmp_path / "flat.npy", np.zeros(3, np.float32))
    requires_module("PIL.Image").new("RGB", (8, 8)).save(tmp_path / "x.png")
    result = dlpack("run", digits, "--input", make(tmp_path))
    assert result.exit_code == 2 and told in result.stderr.replace("\n", " ")
