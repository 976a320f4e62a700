"""runtime_c's inflate: every stream of zlib's unpacks, and a damaged one is refused whenever zlib refuses it, without a
read or a write out of bounds."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

import processes
import pytest
from conftest import ROOT, requires_tool

from dlpack.amalgamate.runtime import closure, sections

PROGRAM = r"""
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
@inflate@
// Cases from a file: size of the packed data, expected size, the data. Each is unpacked in memory of just these sizes.
int main(int, char** argv) {
  FILE* const in = fopen(argv[1], "rb");
  FILE* const out = fopen(argv[2], "wb");
  uint32_t sizes[2];
  while (fread(sizes, 4, 2, in) == 2) {
    uint8_t* const packed = static_cast<uint8_t*>(malloc(sizes[0]));
    uint8_t* const data = static_cast<uint8_t*>(calloc(sizes[1], 1));
    if (fread(packed, 1, sizes[0], in) != sizes[0]) return 2;
    const uint8_t good = inflate(data, sizes[1], packed, sizes[0]);
    fwrite(&good, 1, 1, out);
    if (good) fwrite(data, 1, sizes[1], out);
    free(packed), free(data);
  }
  return fclose(out);
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What unpacks a file of cases, under the sanitizers of addresses and of undefined behaviour."""
    folder = tmp_path_factory.mktemp("inflate")
    everything = sections([(ROOT / "runtime_c" / "inflate.h").read_text()])
    text = "\n".join(s.text for s in closure(everything, ["inflate"]))
    (folder / "inflate.cc").write_text(PROGRAM.replace("@inflate@", text))
    sanitized = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    strict = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]
    command = [
        requires_tool("g++"),
        "-std=c++17",
        "-O1",
        *strict,
        *sanitized,
        folder / "inflate.cc",
        "-o",
        folder / "it",
    ]
    processes.run(command, check=True)
    return folder / "it"


def unpacked(program: Path, cases: list[tuple[bytes, int]]) -> list[bytes | None]:
    """What becomes of each pair of packed data and expected size; None where it is refused."""
    source, result = program.parent / "cases", program.parent / "results"
    source.write_bytes(b"".join(struct.pack("<II", len(packed), size) + packed for packed, size in cases))
    processes.run([program, source, result], check=True)
    data, out, at = result.read_bytes(), [], 0
    for _, size in cases:
        good = data[at] == 1
        out.append(data[at + 1 : at + 1 + size] if good else None)
        at += 1 + size if good else 1
    assert at == len(data)
    return out


def by_zlib(packed: bytes, size: int) -> bytes | None:
    """The data if it is one whole stream of that many bytes."""
    d = zlib.decompressobj()
    try:
        data = d.decompress(packed)
    except zlib.error:
        return None
    return data if d.eof and not d.unused_data and len(data) == size else None


def samples(rng: random.Random) -> list[bytes]:
    """Data of which deflate makes all kinds of blocks."""
    words = [bytes(rng.choices(range(256), k=rng.randrange(3, 30))) for _ in range(60)]
    return [
        b"",
        b"a",
        bytes(70_000),
        rng.randbytes(70_000),
        b"".join(rng.choice(words) for _ in range(4000)),
        bytes(rng.choices(b"ab", weights=(30, 1), k=9000)),
        b"".join(bytes([k]) * 2**k for k in range(15)),
        rng.randbytes(40_000) * 2,
    ]


def packings(data: bytes) -> list[bytes]:
    out = []
    for level in (0, 1, 6, 9):
        for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE):
            for window in (9, 15):
                c = zlib.compressobj(level, zlib.DEFLATED, window, 9, strategy)
                out.append(c.compress(data) + c.flush())
    return out


def test_every_stream_of_zlib_unpacks(program: Path) -> None:
    cases = [(packed, data) for data in samples(random.Random(1)) for packed in packings(data)]
    assert unpacked(program, [(packed, len(data)) for packed, data in cases]) == [data for _, data in cases]


def test_a_stream_of_another_size_is_refused(program: Path) -> None:
    data = samples(random.Random(2))[4]
    packed = zlib.compress(data, 9)
    wrong = [(packed, n) for n in (0, 1, len(data) - 1, len(data) + 1)]
    cut = [(packed[:n], len(data)) for n in (*range(12), len(packed) // 2, len(packed) - 1)]
    assert unpacked(program, [*wrong, *cut, (packed + b"\0", len(data))]) == [None] * (len(wrong) + len(cut) + 1)


def test_damaged_streams_are_refused_as_zlib_refuses_them(program: Path) -> None:
    """Bits flipped, bytes replaced, parts cut out; also with the checksum left away, so that blocks alone decide."""
    rng = random.Random(3)
    streams = [(p, len(d)) for d in [s[:3000] for s in samples(rng)] for p in packings(d)]
    cases = []
    for _ in range(6000):
        packed, size = rng.choice(streams)
        damaged = bytearray(packed)
        for _ in range(rng.randrange(1, 4)):
            at = min(int(rng.expovariate(1 / 30)), len(damaged) - 1)  # most often in the header of the first block
            match rng.randrange(3):
                case 0:
                    damaged[at] ^= 1 << rng.randrange(8)
                case 1:
                    damaged[at] = rng.randrange(256)
                case 2 if len(damaged) > 8:
                    del damaged[at : at + rng.randrange(1, 5)]
        cases.append((bytes(damaged), size))
    # The same blocks with the checksum that belongs to what they hold: zlib's raw mode says what that is.
    for damaged, _ in cases[:3000]:
        raw = zlib.decompressobj(-15)
        try:
            data = raw.decompress(damaged[2:], 100_000)
        except zlib.error:
            continue
        if raw.eof:
            body = damaged[2 : len(damaged) - len(raw.unused_data)]
            cases.append((b"\x78\x9c" + body + struct.pack(">I", zlib.adler32(data)), len(data)))
    random_ones = [(b"\x78\x9c" + rng.randbytes(rng.randrange(100)), rng.randrange(300)) for _ in range(2000)]
    cases += random_ones
    expected = [by_zlib(packed, size) for packed, size in cases]
    assert sum(e is not None for e in expected) > 300, "the blocks with a checksum of their own are whole"
    assert unpacked(program, cases) == expected
