"""A model's name in C and C++: an identifier that no header and no part of the runtime uses."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from dlpack.errors import UsageError
from dlpack.runtime_c import read_runtime

_KEYWORDS = frozenset(
    "alignas alignof and asm auto bool break case catch char class const continue default delete do double else "
    "enum explicit export extern false float for friend goto if inline int long mutable namespace new not nullptr "
    "operator or private protected public register return short signed sizeof static struct switch template this "
    "throw true try typedef union unsigned using virtual void volatile while xor std main".split()
)


# Functions and types of C and POSIX that a model's name could collide with.
_C_NAMES = frozenset(
    "abort abs accept access acos alarm asin assert atan atof atoi bind bool bsearch calloc ceil clock close "
    "connect copysign cos creat ctime difftime div dup erf errno exec exit exp fabs fclose fdim file floor fma fmax "
    "fmin fmod fopen fork fprintf fputs fread free frexp fseek fsync ftell fwrite gamma getc getenv gets hypot "
    "index isalpha j0 j1 jn kill labs ldexp ldiv lgamma link linux listen log logb lseek malloc memchr memcmp "
    "memcpy memmove memset mktime mmap modf nan nearbyint nice open pause perror pipe pow printf puts qsort raise "
    "rand random read realloc recv remainder remove rename rewind rint round scalbn scanf select send setjmp "
    "shutdown signal sin size_t sleep socket sqrt srand stat stderr stdin stdout strcat strchr strcmp strcpy strlen "
    "strtol swab sync system tan tgamma time times trunc umask uname ungetc unix unlink utime wait write y0 y1 "
    "yn".split()
)


@cache
def _reserved() -> frozenset[str]:
    """Names that a model cannot have, since its name is a C++ namespace: keywords, C's names and the runtime's own."""
    code = "\n".join(read_runtime().values())
    code = re.sub(r"//[^\n]*|/\*.*?\*/|\"[^\"\n]*\"|@\w+@\w*", " ", code, flags=re.DOTALL)
    return _KEYWORDS | _C_NAMES | frozenset(re.findall(r"[A-Za-z_]\w*", code))


def c_name(text: str) -> str:
    """A C identifier from a file name or `--name`."""
    name = re.sub(r"[^0-9A-Za-z_]+", "_", text).strip("_").lower()
    if not name or name[0].isdigit():
        name = f"net_{name}".rstrip("_")
    return f"{name}_net" if name in _reserved() else name


def bundle_name(name: str, model: Path) -> tuple[str, str]:
    """The bundle's name, from `--name` or else from the model's file, and a warning if the file's name had to be
    changed. Raises UsageError for an invalid `--name`."""
    from dlpack.exporters import model_stem

    given = name or model_stem(model)
    taken = c_name(given)
    if taken == given:
        return taken, ""
    if given.lower() in _KEYWORDS | _C_NAMES:
        reason = "it is a word of C or C++"
    elif given.lower() in _reserved():
        reason = "the emitted code uses that word itself"
    else:
        reason = "C names and macros begin with it, so it is lower-case letters, digits and underscores, a letter first"
    if name:
        raise UsageError(f"--name {name!r} cannot be used: {reason}; try --name {taken}")
    return taken, f"the bundle is named {taken!r} instead of {given!r}: {reason}; use --name to choose another"
