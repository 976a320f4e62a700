"""Formats the files of runtime_c with clang-format: python script/format_c.py CLANG-FORMAT (--check | --fix).

clang-format reads C++, but these files also have placeholders and lines for the emitter (amalgamate/written.py). It
sees them in disguise, placeholders as wide as they are:

    @NAME@_API, @inputs(p)@[i]     an identifier: letters of another alphabet stand for the punctuation
    @fill@, alone on a line        a comment
    //@ section sum                a comment
    //@ shapes ... //@ end         #if shapes ... #endif; an end that another condition follows is an #elif
"""

from __future__ import annotations

import difflib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PUNCTUATION = "@()->"
LETTERS = "ЖФХЦЧ"
END = "#endif  //@"


def disguised(text: str) -> str:
    lines: list[str] = []
    for line in text.split("\n"):
        if re.match(r"//@ (section|needs|scope) ", line):
            lines.append("//#" + line[3:])
        elif line == "//@ end":
            lines.append(END)
        elif line.startswith("//@ ") and lines[-1:] == [END]:
            lines[-1] = f"#elif {line[4:]}  //@"
        elif line.startswith("//@ "):
            lines.append(f"#if {line[4:]}  //@")
        elif re.fullmatch(r"@\w+@", line):
            lines.append("//#" + line)
        else:
            lines.append(re.sub(r"@\w+(\([^@]*\))?@", _as_identifier, line))
    return "\n".join(lines)


def _as_identifier(placeholder: re.Match[str]) -> str:
    return placeholder[0].translate(str.maketrans(PUNCTUATION, LETTERS))


def undisguised(text: str) -> str:
    text = re.sub(r"^ *//#(@\w+@)$", r"\1", text, flags=re.M)
    text = re.sub(r"^ *//#( (?:section|needs|scope) )", r"//@\1", text, flags=re.M)
    text = text.replace(END, "//@ end")
    text = re.sub(r"^#elif (\w+)  //@$", r"//@ end\n//@ \1", text, flags=re.M)
    text = re.sub(r"^#if (\w+)  //@$", r"//@ \1", text, flags=re.M)
    return text.translate(str.maketrans(LETTERS, PUNCTUATION))


def formatted(formatter: str, text: str) -> str:
    """The text as clang-format lays it out, which needs an #endif for each #if: one file may continue another."""
    still_open = len(re.findall("^#if", text, re.M)) - len(re.findall("^#endif", text, re.M))
    before, after = "#if 1\n" * -still_open, "\n#endif" * still_open
    command = [formatter, "--assume-filename=x.cc", f"--style=file:{ROOT / '.clang-format'}"]
    source = before + disguised(text) + after
    done = subprocess.run(command, input=source, capture_output=True, encoding="utf-8", check=True)
    return undisguised(done.stdout.removeprefix(before).removesuffix(after))


def main() -> int:
    formatter, mode = sys.argv[1:]
    wrong = 0
    for file in sorted((ROOT / "runtime_c").glob("*.h")):
        text = file.read_text(encoding="utf-8")
        neat = formatted(formatter, text)
        if neat == text:
            continue
        if mode == "--fix":
            file.write_text(neat, encoding="utf-8")
        else:
            lines, neat_lines = text.splitlines(keepends=True), neat.splitlines(keepends=True)
            sys.stdout.writelines(difflib.unified_diff(lines, neat_lines, file.name, "formatted"))
            wrong = 1
    return wrong


if __name__ == "__main__":
    sys.exit(main())
