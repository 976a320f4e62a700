"""The parts of script/release: sets the version, takes the notes out of the changelog, checks what was built.

python script/release.py prepare VERSION               pyproject.toml, src/dlpack/__init__.py and CHANGELOG.md
python script/release.py address REPOSITORY            prints its address on the web
python script/release.py links ADDRESS FOLDER          README.md and pyproject.toml of a copy that is to be built
python script/release.py check VERSION                 dist/*.whl and dist/*.tar.gz; writes dist/NOTES.md
"""

from __future__ import annotations

import re
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterable
from email import message_from_string
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UNRELEASED = "## Unreleased\n"

NEEDED = (
    "py.typed", "amalgamate/document.py", "exporters/pytorch/export.py", "targets/wasm/package.py", "web/index.html",
    "web/index.d.ts", "runtime_c/predictor.h", "bindings/swift/", "bindings/rust/", "starters/cmake/main.cc",
    "starters/xcode/App.xcodeproj/project.pbxproj", "targets/gpu/device.h",
)  # fmt: skip
"""What a wheel has below `dlpack/`; a name that ends with a slash is a folder with templates."""

FORBIDDEN = re.compile(r"__pycache__|\.pyc$|(^|/)tests?/|node_modules|(^|/)\.venv/|\.so$")


def with_version(changelog: str, version: str, day: str) -> str:
    """The changelog with its unreleased part under the version, and a new empty one. Raises ValueError without one."""
    if changelog.count(UNRELEASED) != 1:
        raise ValueError("CHANGELOG.md has no section '## Unreleased'")
    if not notes(changelog, "Unreleased"):
        raise ValueError("the section '## Unreleased' of CHANGELOG.md is empty")
    return changelog.replace(UNRELEASED, f"{UNRELEASED}\n## {version} ({day})\n")


def notes(changelog: str, version: str) -> str:
    """The text of a version's section of the changelog, without its heading."""
    found = re.search(rf"^## {re.escape(version)}\b[^\n]*\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def missing(names: Iterable[str]) -> list[str]:
    """What a wheel with these files lacks, and what it should not have."""
    names = list(names)
    lacks = [f"dlpack/{n} is missing" for n in NEEDED if not any(name.startswith(f"dlpack/{n}") for name in names)]
    return lacks + [f"{name} does not belong there" for name in names if FORBIDDEN.search(name)]


def prepare(version: str) -> None:
    """Sets the version. Raises ValueError for one that is none, or a changelog without news."""
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        raise ValueError(f"{version!r} is no version as 1.2.3 or 1.2.3rc1")
    changelog = ROOT / "CHANGELOG.md"
    text = changelog.read_text(encoding="utf-8")
    if not notes(text, version):
        changelog.write_text(with_version(text, version, time.strftime("%Y-%m-%d")), encoding="utf-8")
    for path, pattern in (("pyproject.toml", r'^version = ".*"'), ("src/dlpack/__init__.py", r'^__version__ = ".*"')):
        file = ROOT / path
        old = file.read_text(encoding="utf-8")
        new = re.sub(pattern, lambda m: m[0].partition('"')[0] + f'"{version}"', old, count=1, flags=re.MULTILINE)
        file.write_text(new, encoding="utf-8")


def address(repository: str) -> str:
    """Where a browser finds a repository. Raises ValueError for one that no browser opens."""
    web = re.sub(r"^(?:ssh://)?git@([^:/]+)[:/]", r"https://\1/", repository).removesuffix(".git").rstrip("/")
    if not web.startswith("https://"):
        raise ValueError(
            f"the repository's address {repository!r} is none on the web: "
            "run REPOSITORY=https://... script/release VERSION"
        )
    return web


def links(web: str, folder: Path) -> None:
    """Makes the links of a copy's README.md lead into the repository, and adds its address to pyproject.toml."""
    readme, project = folder / "README.md", folder / "pyproject.toml"
    readme.write_text(absolute_links(readme.read_text(encoding="utf-8"), f"{web}/blob/HEAD/"), encoding="utf-8")
    urls = (
        f'[project.urls]\nRepository = "{web}"\nChangelog = "{web}/blob/HEAD/CHANGELOG.md"\nIssues = "{web}/issues"\n\n'
    )
    text = project.read_text(encoding="utf-8")
    project.write_text(text.replace("[project.scripts]\n", f"{urls}[project.scripts]\n", 1), encoding="utf-8")


def absolute_links(text: str, base: str) -> str:
    """A text whose relative links begin with `base`."""
    return re.sub(r"\]\((?!https?:|#|mailto:)([^)\s]+)\)", rf"]({base}\1)", text)


def check(version: str, dist: Path) -> list[str]:
    """What is wrong with the files in `dist`; writes the notes beside them."""
    wheels, sources = list(dist.glob("*.whl")), list(dist.glob("*.tar.gz"))
    if len(wheels) != 1 or len(sources) != 1:
        return [f"{dist} has {len(wheels)} wheels and {len(sources)} source distributions, not one of each"]
    with zipfile.ZipFile(wheels[0]) as wheel:
        wrong = missing(wheel.namelist())
        (path,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        about = message_from_string(wheel.read(path).decode("utf-8"))
    if about["Version"] != version:
        wrong.append(f"the wheel's version is {about['Version']}")
    wrong += [f"README.md: the link to {link} leads nowhere on PyPI" for link in local_links(str(about.get_payload()))]
    with tarfile.open(sources[0]) as source:
        inside = {name.partition("/")[2] for name in source.getnames()}
    for needed in ("LICENSE", "README.md", "script/test", "tests/conftest.py", "examples/digits/digits.onnx"):
        if needed not in inside:
            wrong.append(f"{needed} is missing in {sources[0].name}")
    (dist / "NOTES.md").write_text(notes((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version) + "\n")
    return wrong


def local_links(text: str) -> list[str]:
    """The relative links of a text, without those in code."""
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", prose) if not re.match(r"https?:|#|mailto:", link)]


def main(arguments: list[str]) -> int:
    command, value, *folder = arguments
    wrong: list[str] = []
    try:
        if command == "check":
            wrong = check(value, ROOT / "dist")
        elif command == "address":
            print(address(value))
        elif command == "links":
            links(value, Path(folder[0]))
        else:
            prepare(value)
    except ValueError as e:
        wrong = [str(e)]
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
