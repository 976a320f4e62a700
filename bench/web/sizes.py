"""The bytes of code that a page loads: raw, and as a server sends them."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CODE = {".js", ".mjs", ".wasm", ".json"}
"""The suffixes of files that are code, or of the manifest that ours reads; all else is the model's."""

_BROTLI = """const { brotliCompressSync } = require("node:zlib");
console.log(brotliCompressSync(require("node:fs").readFileSync(process.argv[1])).length);"""


@dataclass(frozen=True)
class Size:
    """Bytes. `gzip` at level 9, `brotli` at quality 11, each file for itself."""

    raw: int = 0
    gzip: int = 0
    brotli: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.raw + other.raw, self.gzip + other.gzip, self.brotli + other.brotli)


def code_size(files: Iterable[Path], cache: Path, node: str = "node") -> Size:
    """The size of those of `files` that are code, each once. `cache`: a JSON file of what was compressed before, by
    SHA-256 (brotli takes half a minute for a runtime)."""
    known: dict[str, list[int]] = json.loads(cache.read_text(encoding="utf-8")) if cache.is_file() else {}
    total = Size()
    for file in sorted({f.resolve() for f in files if f.suffix in CODE}):
        data = file.read_bytes()
        key = hashlib.sha256(data).hexdigest()
        if key not in known:
            command = [node, "-e", _BROTLI, str(file)]
            brotli = int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
            known[key] = [len(data), len(gzip.compress(data, 9)), brotli]
            cache.parent.mkdir(parents=True, exist_ok=True)
            cache.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        total += Size(*known[key])
    return total
