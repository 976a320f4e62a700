"""Compares emitted tokenizers with the package `tokenizers`: ``script/tokenizers [--count 10000] [--kind NAME ...]``.

Each kind (`kinds.py`) converts texts of twenty languages, with emoji and broken UTF-8 (`samples.py`), to ids and back.
The first few texts of a kind that differ are printed, and end in exit code 1. ``--file FILE`` tries a tokenizer.json.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
import time
from pathlib import Path

from tokenizers import Tokenizer

from texts.kinds import KINDS
from texts.library import Library
from texts.samples import texts

RECORDED = Path(__file__).with_name("recorded.json.gz")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="texts per kind [default: 10000]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="only these kinds")
    parser.add_argument("--record", action="store_true", help="write the cases of tests/test_tokenizer.py anew")
    parser.add_argument("--file", type=Path, help="a tokenizer.json instead")
    options = parser.parse_args()
    if options.record:
        record()
        return 0
    if options.file:
        given = {"file": Tokenizer.from_file(str(options.file))}
    else:
        given = {name: KINDS[name]() for name in options.kind or KINDS}
    samples = texts(options.count, options.seed)
    different = 0
    with tempfile.TemporaryDirectory() as folder:
        jsons = {f"t_{name}": tokenizer.to_str() for name, tokenizer in given.items()}
        library = Library(Path(folder), jsons, 1 << 16, "-O2")
        for name, tokenizer in given.items():
            began = time.perf_counter()
            wrong = compare(library, name, tokenizer, samples)
            different += wrong
            told = f"{wrong} differ" if wrong else "all equal"
            print(f"{name}: {len(samples):,} texts, {told} ({time.perf_counter() - began:.1f} s)", flush=True)
    return 1 if different else 0


def record() -> None:
    """Writes each kind's tokenizer.json, and what `tokenizers` makes of a few texts."""
    samples = [b"", *texts(39, 1)]
    kinds = {}
    for name, make in KINDS.items():
        tokenizer = make()
        ids = [tokenizer.encode(sample.decode(errors="replace")).ids for sample in samples]
        kinds[name] = {
            "tokenizer": json.loads(tokenizer.to_str()),
            "ids": ids,
            "plain": [tokenizer.encode(s.decode(errors="replace"), add_special_tokens=False).ids for s in samples],
            "decoded": [tokenizer.decode(x) for x in ids],
            "all_decoded": [tokenizer.decode(x, skip_special_tokens=False) for x in ids],
        }
    told = {"texts": [sample.hex() for sample in samples], "kinds": kinds}
    RECORDED.write_bytes(gzip.compress(json.dumps(told, ensure_ascii=False).encode(), 9, mtime=0))


def compare(library: Library, name: str, tokenizer: Tokenizer, samples: list[bytes]) -> int:
    """How many texts become other ids, or other texts again, than with `tokenizer`."""
    wrong = 0
    for sample in samples:
        text = sample.decode(errors="replace")
        ids = tokenizer.encode(text).ids
        plain = tokenizer.encode(text, add_special_tokens=False).ids
        cases = {
            "ids": (library.tokenize(f"t_{name}", sample), ids),
            "ids without special ones": (library.tokenize(f"t_{name}", sample, special=False), plain),
            "text": (library.detokenize(f"t_{name}", ids), tokenizer.decode(ids)),
            "text with special tokens": (library.detokenize(f"t_{name}", ids, True), tokenizer.decode(ids, False)),
        }
        bad = {what: pair for what, pair in cases.items() if pair[0] != pair[1]}
        wrong += bool(bad)
        if bad and wrong <= 3:
            for what, (got, expected) in bad.items():
                print(f"  {name}: {sample!r}\n    {what}: {got}\n    expected: {expected}", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
