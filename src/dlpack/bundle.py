"""The bundle: a folder that appears whole or not at all, with its manifest, notices and SBOM."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dlpack.errors import UsageError


@contextmanager
def new_bundle(output: Path) -> Iterator[Path]:
    """A folder to fill; it takes `output`'s place when all went well, and is gone when anything did not.

    An existing bundle is replaced; any other folder that is not empty is refused.
    """
    output = output.absolute()
    if output.exists() and not output.is_dir():
        raise UsageError(f"the output {output} exists and is not a folder")
    if output.is_dir() and any(output.iterdir()) and not (output / "manifest.json").is_file():
        raise UsageError(f"the output folder {output} is not empty and is no bundle; name another with -o")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    except OSError as e:
        raise UsageError(f"cannot write in {output.parent}: {e.strerror or e}; name another folder with -o") from e
    try:
        work.chmod(0o755)
        yield work
        old = Path(f"{work}-old")
        if output.exists():
            os.replace(output, old)
        os.replace(work, output)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as e:
        raise UsageError(f"cannot write {output}: {e.strerror or e}") from e
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=False) + "\n", encoding="utf-8")


def write_notices(folder: Path, manifest: dict[str, Any]) -> None:
    """NOTICE and NAME.spdx.json: what went into the bundle and under which licence."""
    name = manifest["name"]
    (folder / "NOTICE").write_text(
        f"{name}\n\n"
        f"{manifest['source']} and {manifest['header']} were made by {manifest['tool']}.\n"
        "The runtime text in them is licensed under the Apache License, Version 2.0.\n"
        f"The weights come from the model with SHA-256 {manifest['model_sha256']};\n"
        "they are under that model's licence, which its file does not tell.\n",
        encoding="utf-8",
    )
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix != ".html")
    from dlpack.sbom import spdx_document

    write_json(folder / f"{name}.spdx.json", spdx_document(manifest, {p.name: _digests(p) for p in files}))


def _digests(path: Path) -> dict[str, str]:
    data = path.read_bytes()
    return {"SHA1": hashlib.sha1(data, usedforsecurity=False).hexdigest(), "SHA256": hashlib.sha256(data).hexdigest()}
