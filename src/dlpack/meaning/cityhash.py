"""CityHash64 (version 1, by Geoff Pike and Jyrki Alakuijala), by which CatBoost numbers words, and its reverse.

A model may have an input of int64 for the hashes of words. Its metadata `dlpack.hashes`, a JSON object, says so: for
each such input, some of the hashes that the model knows. What is compiled takes the words themselves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from dlpack.errors import ModelError

KEY = "dlpack.hashes"
_K0, _K1, _K2, _K3 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F, 0xC949D7C7509E6557
_MIX = 0x9DDFEA08EB382D69
_UNMIX = pow(_MIX, -1, 1 << 64)
_TRIES = 1 << 14


class Text(Protocol):
    """The bytes of a text, and arithmetic modulo 2^64: of NumPy's numbers, or of what computes them in a kernel."""

    size: Any
    most: int
    """What `size` is at most."""

    def number(self, value: Any) -> Any:
        """A number, or one of the places in the text, with 64 bits."""

    def word(self, place: Any, size: int = 8) -> Any:
        """The bytes at a place, the first as the lowest."""

    def keep(self, value: Any) -> Any:
        """A value that is read several times."""

    def cases(self, *cases: tuple[Any, Callable[[], Any]]) -> Any:
        """What the first case gives whose condition holds."""

    def steps(self, count: Any, state: Sequence[Any], step: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
        """The state after so many steps, each of which gets its number and the state before it."""


def city_hash(s: Text) -> Any:
    """CityHash64 of a text."""
    n = s.size
    cases = [
        (n > 32, lambda: _up_to_64(s)),
        (n > 16, lambda: _up_to_32(s)),
        (n > 8, lambda: _up_to_16(s)),
        (n >= 4, lambda: _of_two(s, s.number(n) + (s.word(0, 4) << 3), s.word(n - 4, 4))),
        (n > 0, lambda: _up_to_3(s)),
        (True, lambda: s.number(_K2)),
    ]
    return s.cases(*([(n > 64, lambda: _of_many(s))] if s.most > 64 else []), *cases)


def _rotate(s: Text, x: Any, by: Any) -> Any:
    x = s.keep(x)
    return (x >> by) | (x << (64 - by))


def _shift_mix(s: Text, x: Any) -> Any:
    x = s.keep(x)
    return x ^ (x >> 47)


def _of_two(s: Text, u: Any, v: Any) -> Any:
    v, mix = s.keep(v), s.number(_MIX)
    a = _shift_mix(s, (u ^ v) * mix)
    return _shift_mix(s, (v ^ a) * mix) * mix


def _up_to_3(s: Text) -> Any:
    n = s.size
    y = s.word(0, 1) + (s.word(n >> 1, 1) << 8)
    z = s.number(n) + (s.word(n - 1, 1) << 2)
    return _shift_mix(s, y * s.number(_K2) ^ z * s.number(_K3)) * s.number(_K2)


def _up_to_16(s: Text) -> Any:
    n, last = s.number(s.size), s.keep(s.word(s.size - 8))
    return _of_two(s, s.word(0), _rotate(s, last + n, n)) ^ last


def _up_to_32(s: Text) -> Any:
    n = s.size
    a, b = s.keep(s.word(0) * s.number(_K1)), s.keep(s.word(8))
    c, d = s.keep(s.word(n - 8) * s.number(_K2)), s.word(n - 16) * s.number(_K0)
    u = _rotate(s, a - b, 43) + _rotate(s, c, 30) + d
    return _of_two(s, u, a + _rotate(s, b ^ s.number(_K3), 20) - c + s.number(n))


def _half(s: Text, a: Any, x: Any, y: Any, z: Any) -> tuple[Any, Any]:
    a, z = s.keep(a), s.keep(z)
    b, c = _rotate(s, a + z, 52), _rotate(s, a, 37)
    a = s.keep(a + x)
    c = c + _rotate(s, a, 7)
    a = s.keep(a + y)
    return s.keep(a + z), s.keep(b + _rotate(s, a, 31) + c)


def _up_to_64(s: Text) -> Any:
    n, k0, k2 = s.size, s.number(_K0), s.number(_K2)
    early, late = s.keep(s.word(16)), s.keep(s.word(n - 16))
    v, vs = _half(s, s.word(0) + (s.number(n) + late) * k0, s.word(8), early, s.word(24))
    w, ws = _half(s, early + s.word(n - 32), s.word(n - 24), late, s.word(n - 8))
    r = _shift_mix(s, (v + ws) * k2 + (w + vs) * k0)
    return _shift_mix(s, r * k0 + vs) * k2


def _weak(s: Text, place: Any, a: Any, b: Any) -> tuple[Any, Any]:
    w, x, y, z = (s.word(place + k) for k in (0, 8, 16, 24))
    a, z = s.keep(a + w), s.keep(z)
    b = _rotate(s, b + a + z, 21)
    c = s.keep(a + x + y)
    return c + z, b + _rotate(s, c, 44) + a


def _of_many(s: Text) -> Any:
    n, k0, k1 = s.size, s.number(_K0), s.number(_K1)
    y = s.keep(s.word(n - 16) ^ k1)
    v, vs = _weak(s, n - 64, s.number(n), y)
    w, ws = _weak(s, n - 32, s.number(n) * k1, k0)
    z = (s.word(n - 56) ^ k0) + _shift_mix(s, vs) * k1
    x = _rotate(s, z + s.word(0), 39) * k1
    y = _rotate(s, y, 33) * k1

    def step(k: Any, state: list[Any]) -> list[Any]:
        x, y, z, v, vs, w, ws = state
        at = k * 64
        x = s.keep((_rotate(s, x + y + v + s.word(at + 16), 37) * k1) ^ ws)
        y = s.keep((_rotate(s, y + vs + s.word(at + 48), 42) * k1) ^ v)
        z = s.keep(_rotate(s, z ^ w, 33))
        return [z, y, x, *_weak(s, at, vs * k1, x + w), *_weak(s, at + 32, z + ws, y)]

    x, y, z, v, vs, w, ws = s.steps((n - 1) >> 6, [x, y, z, v, vs, w, ws], step)
    return _of_two(s, _of_two(s, v, w) + _shift_mix(s, y) * k1 + z, _of_two(s, vs, ws) + x)


# --- with NumPy -------------------------------------------------------------------------------------------------------


class _Bytes:
    """Texts of one length, [texts, bytes]."""

    def __init__(self, rows: np.ndarray[Any, Any]) -> None:
        self.rows, self.size = rows.astype(np.uint64), rows.shape[1]
        self.most = self.size

    def number(self, value: int) -> Any:
        return np.full(len(self.rows), value, np.uint64)

    def word(self, place: int, size: int = 8) -> Any:
        shifts = np.arange(0, 8 * size, 8, dtype=np.uint64)
        return np.bitwise_or.reduce(self.rows[:, place : place + size] << shifts, axis=1)

    def keep(self, value: Any) -> Any:
        return value

    def cases(self, *cases: tuple[Any, Callable[[], Any]]) -> Any:
        return next(case() for condition, case in cases if condition)

    def steps(self, count: int, state: Sequence[Any], step: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
        found = list(state)
        for k in range(count):
            found = step(k, found)
        return found


def category_hashes(words: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """CatBoost's numbers of words: the low half of each one's CityHash64, with a sign; int64."""
    texts = [str(word).encode() for word in words.reshape(-1).tolist()]
    found = [_low(city_hash(_Bytes(np.frombuffer(text, np.uint8)[None])))[0] for text in texts]
    return np.array(found, np.int64).reshape(words.shape)


def _low(value: np.ndarray[Any, Any]) -> Any:
    return value.astype(np.uint32).astype(np.int32).astype(np.int64)


def hashed_inputs(metadata: Mapping[str, str]) -> dict[str, list[int]]:
    """By input of hashes some that the model knows. Raises ModelError for what is no such thing."""
    try:
        told = json.loads(metadata.get(KEY, "{}"))
        return {str(name): [int(v) for v in values] for name, values in told.items()}
    except (ValueError, TypeError, AttributeError) as e:
        raise ModelError(f"the metadata {KEY} is no JSON object of lists of hashes: {e}") from None


def word_of(number: int) -> str:
    """A word with this number, to try a model with: 16 printable characters.

    Of 16 bytes the last eight are chosen; the first eight follow from them and from the hash, whose upper half is free.
    """
    signs = np.array([code for code in range(33, 127) if chr(code) not in "\"'\\`"], np.uint8)
    rng = np.random.default_rng(number & 0xFFFFFFFF)
    while True:
        last = rng.choice(signs, (_TRIES, 8))
        b = _Bytes(last).word(0)
        mix = np.uint64(_UNMIX)
        upper = rng.integers(0, 1 << 32, _TRIES, np.uint64) << np.uint64(32)
        wanted = (upper | np.uint64(number & 0xFFFFFFFF)) ^ b
        rotated = _rotate(_Bytes(last), b + np.uint64(16), 16)
        a = _unmixed(_unmixed(wanted * mix) * mix ^ rotated) * mix ^ rotated
        first = a[:, None] >> np.arange(0, 64, 8, dtype=np.uint64) & np.uint64(255)
        good = np.flatnonzero(np.isin(first, signs).all(axis=1))
        if good.size:
            return bytes([*first[good[0]].tolist(), *last[good[0]].tolist()]).decode()


def _unmixed(x: Any) -> Any:
    return x ^ (x >> np.uint64(47))
