"""Mutations of bytes, text, JSON, protobuf messages and zip archives; each takes its choices from the given `rng`."""

from __future__ import annotations

import copy
import io
import json
import random
import re
import zipfile
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

NUMBERS = ("0", "-1", "1", "2", "3", "7", "255", "65536", "2147483647", "-2147483648", "4294967296",
           "9223372036854775807", "99999999999999999999999", "1e308", "nan", "inf", "1.5", "")  # fmt: skip
INTEGERS = (0, -1, 1, 2, 3, 5, 7, 16, 255, 65536, 1 << 24, 2**31 - 1, -(2**31), 2**32, 2**40, 2**63 - 1, -(2**63))
FLOATS = (0.0, -1.0, 1e-30, 1.5, 1e38, float("nan"), float("inf"))
MAX_PLACES = 20_000


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        if not out:
            break
        place = rng.randrange(len(out)) if rng.random() < 0.3 or len(out) < 400 else rng.randrange(400)
        kind = rng.randrange(6)
        if kind == 0:
            out[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[place] = rng.choice((0, 1, 127, 128, 255))
        elif kind == 2:
            del out[place : place + rng.randrange(1, 64)]
        elif kind == 3:
            out[place:place] = out[place : place + rng.randrange(1, 64)]
        elif kind == 4:
            del out[place:]
        else:
            out[place : place + 8] = rng.choice(
                (b"\xff" * 8, b"\0" * 8, b"\0\0\0\x80\0\0\0\0", b"\xff\xff\xff\x7f\0\0\0\0")
            )
    return bytes(out)


def mutate_binary(data: bytes, rng: random.Random, keep: int = 0) -> bytes:
    """`mutate_bytes`, or one number of 1, 2, 4 or 8 bytes, little-endian, anywhere after the first `keep` bytes."""
    if rng.random() < 0.4 or len(data) < keep + 16:
        return data[:keep] + mutate_bytes(data[keep:], rng)
    size = rng.choice((1, 2, 4, 4, 8))
    place = rng.randrange(keep // size, len(data) // size) * size
    number = rng.choice((*INTEGERS, rng.getrandbits(64))) % (1 << 8 * size)
    return data[:place] + number.to_bytes(size, "little") + data[place + size :]


def mutate_text(text: str, rng: random.Random) -> str:
    for _ in range(rng.choice((1, 1, 2, 3))):
        kind = rng.randrange(6)
        if kind <= 2:  # a number
            found = list(re.finditer(r"-?\d+(\.\d+)?", text))
            if found:
                m = rng.choice(found)
                text = text[: m.start()] + rng.choice(NUMBERS) + text[m.end() :]
        elif kind == 3:  # a word for another
            found = list(re.finditer(r"[A-Za-z_]{2,}", text))
            if len(found) > 1:
                m, other = rng.sample(found, 2)
                text = text[: m.start()] + other.group() + text[m.end() :]
        elif kind == 4:
            place = rng.randrange(len(text) + 1)
            text = text[:place] + text[place + rng.randrange(1, 30) :]
        else:
            text = mutate_bytes(text.encode(), rng).decode("utf-8", "replace")
    return text


def mutate_json(text: str, rng: random.Random) -> str:
    """A document in which some values are dropped, doubled, or replaced by others; one in five as text."""
    if rng.random() < 0.2:
        return mutate_text(text, rng)
    document = json.loads(text)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places: list[tuple[Any, Any]] = []  # (container, key or index)
        todo = [document]
        while todo:
            at = todo.pop()
            keys = list(at) if isinstance(at, dict) else range(len(at)) if isinstance(at, list) else ()
            places += [(at, k) for k in keys]
            todo += [at[k] for k in keys]
        if not places:
            break
        (at, key), (other, k) = rng.choice(places), rng.choice(places)
        kind = rng.randrange(6)
        if kind == 0:
            del at[key]
        elif kind == 1 and isinstance(at, list):
            at.insert(rng.randrange(len(at) + 1), at[key])
        elif kind == 1:
            at[str(k)] = at.pop(key)
        elif kind == 2:
            at[key] = json.loads(json.dumps(other[k]))
        elif isinstance(at[key], int | float) or kind == 3:
            at[key] = rng.choice((*INTEGERS, *FLOATS, True))
        else:
            at[key] = rng.choice((None, "", "a", [], {}, [[]], "é" * 300, -1, [1, 2, 3], {"a": 1}))
    return json.dumps(document)


# --- protobuf ---------------------------------------------------------------------------------------------------------


def mutate_message(message: Message, rng: random.Random) -> None:
    """Changes a few fields, wherever they are nested."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = _places(message)
        if places:
            _change(*rng.choice(places), places, rng)


Place = tuple[Message, FieldDescriptor]


def _places(message: Message) -> list[Place]:
    """Every field that is set, as (message, field)."""
    places: list[Place] = []
    todo = [message]
    while todo and len(places) < MAX_PLACES:
        at = todo.pop()
        for field, value in at.ListFields():
            places.append((at, field))
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                if _is_map(field):
                    todo += [v for v in value.values() if isinstance(v, Message)]
                else:
                    todo += value if field.is_repeated else [value]
    return places


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _change(at: Message, field: FieldDescriptor, places: list[Place], rng: random.Random) -> None:
    value, kind = getattr(at, field.name), rng.randrange(6)
    if rng.random() < 0.1:  # one that is not set
        field = rng.choice(at.DESCRIPTOR.fields)
        if field.is_repeated or field.type == FieldDescriptor.TYPE_MESSAGE:
            return
        _set(at, field, rng, places)
    elif _is_map(field):
        if len(value):
            del value[rng.choice(sorted(value))]
    elif not field.is_repeated:
        if kind == 0:
            at.ClearField(field.name)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            value.CopyFrom(_other(value, places, rng))
        else:
            _set(at, field, rng, places)
    elif len(value):
        k = rng.randrange(len(value))
        if kind == 0:
            del value[k]
        elif kind == 1:
            value.extend([value[k]])
        elif kind == 2:
            items = list(value)
            items.insert(rng.randrange(len(items)), items.pop(k))
            copies = [copy.deepcopy(i) for i in items]
            del value[:]
            value.extend(copies)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            value[k].CopyFrom(_other(value[k], places, rng))
        else:
            value[k] = _scalar(value[k], field, rng, places)


def _other(message: Message, places: list[Place], rng: random.Random) -> Message:
    """Another message of the same type, from anywhere."""
    found = [m for m, _ in places if m.DESCRIPTOR is message.DESCRIPTOR]
    return copy.deepcopy(rng.choice(found or [type(message)()]))


def _set(at: Message, field: FieldDescriptor, rng: random.Random, places: list[Place]) -> None:
    setattr(at, field.name, _scalar(getattr(at, field.name), field, rng, places))


def _scalar(value: Any, field: FieldDescriptor, rng: random.Random, places: list[Place]) -> Any:
    kinds = FieldDescriptor
    if field.type == kinds.TYPE_ENUM:
        return rng.choice(field.enum_type.values).number
    if field.type == kinds.TYPE_BOOL:
        return not value
    if field.cpp_type in (kinds.CPPTYPE_FLOAT, kinds.CPPTYPE_DOUBLE):
        return rng.choice(FLOATS)
    if field.type == kinds.TYPE_BYTES:
        return mutate_binary(value, rng)
    if field.type == kinds.TYPE_STRING:
        words = [w for m, f in places if f.type == kinds.TYPE_STRING for w in _list(getattr(m, f.name), f)]
        return rng.choice((rng.choice(words or [""]), "", mutate_text(value, rng).encode("utf-8", "replace").decode()))
    wide = field.cpp_type in (kinds.CPPTYPE_INT64, kinds.CPPTYPE_UINT64)
    signed = field.cpp_type in (kinds.CPPTYPE_INT32, kinds.CPPTYPE_INT64)
    bits = 63 if wide else 31
    low, high = (-(1 << bits), (1 << bits) - 1) if signed else (0, (2 << bits) - 1)
    return min(max(rng.choice((*INTEGERS, value + 1, value - 1, value * 2)), low), high)


def _list(value: Any, field: FieldDescriptor) -> list[str]:
    return list(value) if field.is_repeated else [value]


# --- archives ---------------------------------------------------------------------------------------------------------


def mutate_zip(data: bytes, rng: random.Random, change: Callable[[str, bytes], bytes | None]) -> bytes:
    """A zip archive with one changed record and right checksums; some are mutated as a whole.

    `change(name, record)` gives the new record; None where the record shall stay, so that another one is chosen.
    """
    if rng.random() < 0.1:
        return mutate_binary(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        records = {n: old.read(n) for n in old.namelist()}
    for name in rng.sample(sorted(records), len(records)):
        made = change(name, records[name])
        if made is not None:
            records[name] = made
            break
    if rng.random() < 0.03:
        del records[rng.choice(sorted(records))]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as new:
        for name, record in records.items():
            new.writestr(zipfile.ZipInfo(name), record)  # without the time of day
    return out.getvalue()
