"""The fingerprint by which a predictor recognises its weights; `runtime_c/fingerprint.h` computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np

_ROW = 256
_PIECE = 65536
_LANES = _ROW // 8
_BEFORE = np.uint64(0xC2B2AE3D27D4EB4F)
_AFTER = np.uint64(0x9E3779B185EBCA87)
"""Primes of XXH64, which takes in a word in the same way."""

_PIECES_AT_ONCE = 64

Words = np.ndarray[Any, np.dtype[np.uint64]]


def fingerprint(data: bytes) -> bytes:
    """32 bytes that tell apart weights of different content or length.

    Pieces of 64 KiB are taken in row by row, 256 bytes each and the last filled up with zeros, into 32 states per
    piece. Word k of the result takes in the length plus k and, piece by piece, the states whose number is k modulo 4.
    A single damaged word of 8 bytes always changes the result, other damage but for once in 2 to the power of 64.
    """
    words = np.uint64(len(data)) + np.arange(4, dtype=np.uint64)
    whole = len(data) // _PIECE
    pieces = np.frombuffer(data, "<u8", whole * _PIECE // 8).reshape(whole, _PIECE // _ROW, _LANES)
    for first in range(0, whole, _PIECES_AT_ONCE):
        words = _combined(words, _states(pieces[first : first + _PIECES_AT_ONCE]))
    left = data[whole * _PIECE :]
    if left:
        rows = np.frombuffer(left + bytes(-len(left) % _ROW), "<u8").reshape(1, -1, _LANES)
        words = _combined(words, _states(rows))
    return words.astype("<u8").tobytes()


def _absorbed(state: Words, x: Words) -> Words:
    """`x` taken into `state`, elementwise and modulo 2 to the power of 64."""
    state = state + x * _BEFORE
    return (state << np.uint64(31) | state >> np.uint64(33)) * _AFTER


def _states(pieces: Words) -> Words:
    """[pieces, rows, 32] → the states of each piece, [pieces, 32]."""
    states = np.tile(np.arange(_LANES, dtype=np.uint64), (len(pieces), 1))
    for row in range(pieces.shape[1]):
        states = _absorbed(states, pieces[:, row])
    return states


def _combined(words: Words, states: Words) -> Words:
    """The four words after the states of some pieces, [pieces, 32]."""
    for four in states.reshape(-1, 4):
        words = _absorbed(words, four)
    return words
