"""The fingerprint by which a library recognises its weights (decision 42); test_runtime_c.py has the C's beside it."""

from __future__ import annotations

import numpy as np

from dlpack.amalgamate.fingerprint import fingerprint

PIECE = 65536


def test_bundles_of_another_definition_are_not_mistaken_for_ours() -> None:
    known = "e25f39c51c0ff7e624190634e7772c90dcd6a6445a7c720b98775ea2c474caa9"
    assert fingerprint(bytes(range(256)) * 300).hex() == known


def test_damage_changes_it() -> None:
    """One bit anywhere; two sign bits, a row or a piece apart; pieces, rows and words in another order; zeros more."""
    data = bytearray(np.random.default_rng(5).bytes(2 * PIECE + 300))
    marks = [fingerprint(bytes(data)), fingerprint(bytes(data) + b"\0"), fingerprint(bytes(data[:-1]))]
    for places in ([0], [7], [255], [256], [PIECE - 1], [PIECE], [2 * PIECE], [-1], [7, 263], [7, PIECE + 7]):
        for k in places:
            data[k] ^= 128
        marks.append(fingerprint(bytes(data)))
        for k in places:
            data[k] ^= 128
    for size in (8, 256, PIECE):
        marks.append(fingerprint(bytes(data[size : 2 * size] + data[:size] + data[2 * size :])))
    assert len(set(marks)) == len(marks)
    assert all(len({mark[k : k + 8] for mark in marks[:3]}) == 3 for k in range(0, 32, 8)), "the length is in each word"
