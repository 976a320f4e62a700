"""What Python raises for archives that are damaged, or that it cannot read."""

from __future__ import annotations

import zipfile
import zlib

ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    ValueError,
    EOFError,
    KeyError,  # no entry of that name
    RuntimeError,  # an encrypted entry; NotImplementedError among them: a compression that zipfile does not know
)
