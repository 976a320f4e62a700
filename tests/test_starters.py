"""`dlpack new`: the projects are whole, and each is built and run as far as its tools are here.

Those around bundles for phones and boards are tested with these bundles: test_android, test_ios, test_microcontrollers.
"""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result
from conftest import DIGITS, ROOT, requires_tool
from pages import requires_npm, result_of_page
from processes import run

from dlpack.cli import cli
from dlpack.cli.new import PLACES as WORDS
from dlpack.pipeline import Options, build
from dlpack.starters import PLACES, start


def dlpack(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="dlpack")


def test_every_place_has_its_word_and_its_templates() -> None:
    assert set(WORDS) == set(PLACES)
    for name, place in PLACES.items():
        folder = ROOT / "src" / "dlpack" / "starters" / name
        assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == set(place.files.values())


def test_a_program_in_cpp(digits: Path, side_file_bundle: Path, tmp_path: Path) -> None:
    """CMake builds it and CTest runs it; a file of weights is found; classes have their names."""
    cmake = requires_tool("cmake")
    made = dlpack("new", "cmake", side_file_bundle, "-o", tmp_path / "app")
    assert made.exit_code == 0, made.output
    assert f"{tmp_path / 'app' / 'main.cc'}\n" in made.output and "next: cd " in made.output
    assert (tmp_path / "app" / "model" / "manifest.json").is_file()
    run([cmake, "-S", ".", "-B", "build"], cwd=tmp_path / "app", check=True)
    run([cmake, "--build", "build"], cwd=tmp_path / "app", check=True)
    out = run([tmp_path / "app" / "build" / "app"], check=True).stdout
    assert "digits ran in " in out and "probability (float32 1x10): " in out
    start("cmake", digits, tmp_path / "other")
    assert "digits::Predictor predictor;" in (tmp_path / "other" / "main.cc").read_text()


SHOWN = """<!doctype html>
<iframe src="pictures/dist/index.html"></iframe><iframe src="numbers/dist/index.html"></iframe>
<script type="module">
const until = async (condition) => {
  for (let value; ; await new Promise((done) => setTimeout(done, 50))) if ((value = condition())) return value;
};
const of = (frame, id) => frame.contentDocument?.getElementById(id);
window.result = (async () => {
  const [pictures, numbers] = document.querySelectorAll("iframe");
  const canvas = Object.assign(document.createElement("canvas"), { width: 20, height: 20 });
  canvas.getContext("2d").fillRect(0, 0, 20, 20);
  const blob = await new Promise((done) => canvas.toBlob(done));
  await until(() => of(pictures, "status")?.textContent === "Ready");
  const files = new DataTransfer();
  files.items.add(new File([blob], "black.png"));
  of(pictures, "file").files = files.files;
  of(pictures, "file").dispatchEvent(new Event("change"));
  return [await until(() => of(pictures, "result").textContent), await until(() => of(numbers, "result")?.textContent)];
})();
</script>"""


def test_pages(digits_wasm: Path, tmp_path: Path) -> None:
    """Vite makes static files of them, which run in a browser: one classifies pictures, the other takes numbers."""
    plain = build(DIGITS, tmp_path / "plain", Options("wasm", verify=False))
    vite = package_folder(requires_npm("vite"), "vite")
    for name, bundle in (("pictures", digits_wasm), ("numbers", plain)):
        project = tmp_path / name
        start("vite", bundle, project)
        package = json.loads((project / "package.json").read_text())
        assert package["dependencies"] == {"digits": "file:./public/model"}
        assert not [p.name for p in (project / "public" / "model").iterdir() if p.suffix in (".html", ".cc", ".npz")]
        (project / "node_modules").mkdir()  # as `npm install` makes it
        (project / "node_modules" / "digits").symlink_to(project / "public" / "model")
        (project / "node_modules" / "vite").symlink_to(vite)
        done = run([requires_tool("node"), vite / "bin" / "vite.js", "build"], cwd=project)
        assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "shown.html").write_text(SHOWN)
    pictures, numbers = result_of_page(tmp_path, "shown.html")
    assert len(pictures.splitlines()) == 5 and " % " in pictures
    assert numbers.startswith("probability: ")


def package_folder(inside: Path, name: str) -> Path:
    """The folder of an npm package, from any folder in it."""
    return next(p for p in (inside, *inside.parents) if p.name == name and p.parent.name == "node_modules")


def test_what_is_refused(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    for arguments, words in (
        (("vite", digits), "a project for vite takes a bundle for wasm; build the model with --target wasm"),
        (("cmake", digits, "-o", tmp_path / "full"), "is not empty: name another folder with -o"),
        (("cmak", digits), "did you mean 'cmake'?"),
        (("cmake", tmp_path / "nothing"), "is not a bundle"),
    ):
        result = dlpack("new", *arguments)
        assert result.exit_code == 2 and words in result.output.replace("\n", " "), result.output
    assert [p.name for p in tmp_path.iterdir()] == ["full"]
