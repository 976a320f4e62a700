"""The bundle: a folder that appears whole or not at all, with its manifest, notices and SBOM."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dlpack.errors import UsageError, VerificationError


@contextmanager
def new_bundle(output: Path) -> Iterator[Path]:
    """Yields a temporary folder to fill; it replaces `output` on success and is deleted on failure.

    An existing bundle is replaced if it contains only the files of its build. Any other non-empty folder is refused,
    so that no user's file is deleted.
    """
    work: Path | None = None
    made: list[Path] = []
    try:
        output = output.resolve()
        if output.exists() and not output.is_dir():
            raise UsageError(f"the output {output} exists and is not a folder")
        if output.is_dir() and any(output.iterdir()) and not (output / "manifest.json").is_file():
            raise UsageError(f"the output folder {output} is not empty and not a bundle; choose another with -o")
        _refuse_foreign(output)
        parents = [p for p in output.parents if not p.exists()]
        made = list(reversed(parents))
        output.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
        work.chmod(0o755)
    except BaseException as e:
        _remove(work, made)
        if isinstance(e, OSError | RuntimeError):  # RuntimeError: a loop of symbolic links
            reason = getattr(e, "strerror", None) or e
            raise UsageError(f"cannot write in {output.parent}: {reason}; choose another folder with -o") from e
        raise
    old = Path(f"{work}-old")
    try:
        yield work
        if output.exists():
            _refuse_foreign(output)  # again: it may have changed during the build
            os.replace(output, old)
        os.replace(work, output)
    except OSError as e:
        raise UsageError(f"cannot write {e.filename or output}: {e.strerror or e}") from e
    finally:
        if old.exists():
            if output.exists():
                shutil.rmtree(old, ignore_errors=True)
            else:
                os.replace(old, output)
        _remove(work, made)


def remove_leftovers(output: Path) -> None:
    """Removes what a build of a bundle left beside it when its process was killed; a bundle that it had just moved
    aside comes back. No other build may be under way there."""
    name = f".{glob.escape(output.name)}-????????"
    for work in (*output.parent.glob(name), *output.parent.glob(f"{name}-old")):
        if work.name.endswith("-old") and not output.exists():
            os.replace(work, output)
        else:
            shutil.rmtree(work, ignore_errors=True)


_LITTER = frozenset({".DS_Store", "Thumbs.db"})
"""Files that file managers create; they may be deleted."""


def _refuse_foreign(output: Path) -> None:
    """Raises UsageError if a bundle's folder contains a file that its build did not write."""
    if not (output / "manifest.json").is_file():
        return
    try:
        manifest = json.loads((output / "manifest.json").read_text(encoding="utf-8"))
        known = {*manifest["files"], *_unlisted(manifest["name"])}
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UsageError(
            f"{output / 'manifest.json'} does not list the files that the build wrote; delete the folder, "
            "or choose another with -o"
        ) from e
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output).as_posix()
        holds_more = path.is_dir() and not path.is_symlink() and any(path.iterdir())
        if name not in known and path.name not in _LITTER and not holds_more:
            raise UsageError(
                f"{path} was not written by the build of that bundle and would be lost; move it elsewhere, or "
                "choose another folder with -o"
            )


def _unlisted(name: str) -> tuple[str, ...]:
    """The files without a checksum in the manifest, because they are written after it."""
    return "manifest.json", f"{name}.spdx.json", "report.html"


def checksums(folder: Path, name: str) -> dict[str, str]:
    """The SHA-256 of each file of a bundle, except the manifest, the SBOM and the report."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    names = {p.relative_to(folder).as_posix(): p for p in files}
    return {n: _digests(p)["SHA256"] for n, p in sorted(names.items()) if n not in _unlisted(name)}


def check_files(folder: Path, manifest: dict[str, Any]) -> None:
    """Raises VerificationError if a file is missing or differs from the one that was built."""
    for name, wanted in manifest.get("files", {}).items():
        try:
            got = _digests(folder / name)["SHA256"]
        except OSError as e:
            raise VerificationError(f"{folder / name} cannot be read: {e.strerror}; build the bundle again") from e
        if got != wanted:
            raise VerificationError(
                f"{folder / name} has changed since the build: its SHA-256 differs from the one in manifest.json; "
                "build the bundle again"
            )


def _remove(work: Path | None, made: list[Path]) -> None:
    """Removes the working folder, and those folders created for it that are empty."""
    if work is not None:
        shutil.rmtree(work, ignore_errors=True)
    for folder in reversed(made):
        try:
            folder.rmdir()
        except OSError:
            return


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """A line per key: a page loads it, too."""
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in manifest.items())
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=False) + "\n", encoding="utf-8")


def notice_text(manifest: dict[str, Any]) -> str:
    """The text of the file NOTICE: the licences of a bundle's parts."""
    return (
        f"{manifest['name']}\n\n"
        f"{manifest['source']} and {manifest['header']} were generated by {manifest['tool']}.\n"
        "The runtime text in them is licensed under the Apache License, Version 2.0.\n"
        f"The weights come from the model with SHA-256 {manifest['model_sha256']};\n"
        "they are subject to that model's licence, which the model file does not state.\n"
    )


def write_notice(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / "NOTICE").write_text(notice_text(manifest), encoding="utf-8")


def write_sbom(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes NAME.spdx.json: the bundle's parts and their licences."""
    name = manifest["name"]
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix != ".html")
    from dlpack.bundle.sbom import spdx_document

    write_json(folder / f"{name}.spdx.json", spdx_document(manifest, {p.name: _digests(p) for p in files}))


def _digests(path: Path) -> dict[str, str]:
    data = path.read_bytes()
    return {"SHA1": hashlib.sha1(data, usedforsecurity=False).hexdigest(), "SHA256": hashlib.sha256(data).hexdigest()}
