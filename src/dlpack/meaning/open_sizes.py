"""The sets of shapes of a bundle with open dimensions, by the rule in its manifest (`open`): nothing lists them.

Wheels hold a copy of this file, so it needs the standard library alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

Set = Mapping[str, Any]


class OpenSizes(Sequence[Set]):
    """The sets in the order of their numbers, each made when it is asked for; the last open dimension changes first.

    `manifest` has the `inputs` and `outputs` of the first set, its `preprocess` if it takes a picture, and `open`:
    `dimensions` (smallest, largest, step), and by tensor and dimension the extents that follow from them.
    """

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self._manifest = manifest
        self._open: Mapping[str, Any] = manifest["open"]
        self._sizes = [range(d["smallest"], d["largest"] + 1, d["step"]) for d in self._open["dimensions"]]

    def __len__(self) -> int:
        return math.prod(map(len, self._sizes))

    @overload
    def __getitem__(self, number: int) -> Set: ...

    @overload
    def __getitem__(self, number: slice) -> Sequence[Set]: ...

    def __getitem__(self, number: int | slice) -> Set | Sequence[Set]:
        if isinstance(number, slice):
            return [self[k] for k in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(f"no set of shapes has the number {number}; there are {len(self)}")
        sizes = self.sizes(number % len(self))
        tensors = {
            kind: [self._tensor(t, self._open[kind].get(t["name"], {}), sizes) for t in self._manifest[kind]]
            for kind in ("inputs", "outputs")
        }
        return {**tensors, **self._picture(tensors["inputs"])}

    def ends(self) -> dict[int, Set]:
        """The first set and the last, whose tensors are the smallest and the largest, by number."""
        return {k: self[k] for k in (0, len(self) - 1)}

    def sizes(self, number: int) -> tuple[int, ...]:
        """Those of the open dimensions in the set of this number."""
        out: list[int] = []
        for sizes in reversed(self._sizes):
            number, k = divmod(number, len(sizes))
            out.append(sizes[k])
        return tuple(reversed(out))

    def find(self, shapes: Mapping[str, Iterable[int]]) -> int | None:
        """The number of the set in which the inputs have these shapes."""
        number = self._number({name: tuple(shape) for name, shape in shapes.items()})
        return number if number is not None and self._fits(self[number], shapes) else None

    def wrong(self, shapes: Mapping[str, Iterable[int]]) -> str:
        """The first dimension of shapes of inputs that is none of theirs, in words; empty where there is none."""
        sizes: dict[int, tuple[int, str]] = {}
        for t in self._manifest["inputs"]:
            name, own = t["name"], t["shape"]
            if name not in shapes:
                continue
            shape = tuple(shapes[name])
            if len(shape) != len(own):
                return f"{name} has {len(own)} dimensions, not {len(shape)}"
            for d, (n, fixed) in enumerate(zip(shape, own, strict=True)):
                rule = self._open["inputs"].get(name, {}).get(str(d))
                told = f"dimension {d} of {name}"
                if rule is None:
                    if n != fixed:
                        return f"{told} is {fixed}, not {n}"
                    continue
                axis = rule["dimension"]
                if n not in self._sizes[axis]:
                    return f"{told} is {self._bounds(axis)}, not {n}"
                first, before = sizes.setdefault(axis, (n, told))
                if n != first:
                    return f"{told} is {n}, and {before} {first}: they are equal"
        return ""

    def _bounds(self, axis: int) -> str:
        sizes = self._sizes[axis]
        return f"{sizes[0]} to {sizes[-1]}" + (f" in steps of {sizes.step}" if sizes.step > 1 else "")

    def _fits(self, own: Set, shapes: Mapping[str, Iterable[int]]) -> bool:
        return all(t["name"] in shapes and tuple(t["shape"]) == tuple(shapes[t["name"]]) for t in own["inputs"])

    def _number(self, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
        number = 0
        for axis, sizes in enumerate(self._sizes):
            size = next(self._given(axis, shapes), None)
            if size is None or size not in sizes:
                return None
            number = number * len(sizes) + sizes.index(size)
        return number

    def _given(self, axis: int, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[int]:
        """What inputs have along an open dimension: it is an extent of theirs as it is."""
        for name, dims in self._open["inputs"].items():
            for d, rule in dims.items():
                if rule["dimension"] == axis and len(shapes.get(name, ())) > int(d):
                    yield shapes[name][int(d)]

    def _tensor(self, first: Set, rules: Mapping[str, Mapping[str, Any]], sizes: Sequence[int]) -> Set:
        if not rules:
            return first
        shape = list(first["shape"])
        for d, rule in rules.items():
            shape[int(d)] = extent(rule, sizes)
        return {**first, "shape": shape}

    def _picture(self, inputs: Sequence[Set]) -> dict[str, Any]:
        """How a picture becomes the input, in a set that takes one."""
        spec = self._manifest.get("preprocess")
        if not spec:
            return {}
        own, first = (
            next(t["shape"] for t in of if t["name"] == spec["input"]) for of in (inputs, self._manifest["inputs"])
        )
        height, width = own[2:] if spec["layout"] == "NCHW" else own[1:3]
        if own[0] != 1:
            return {}
        resize = spec["resize"]
        if self._open.get("resize") == "8/7":
            resize = max(min(height, width) * 8 // 7, height, width)
        elif resize is not None:
            resize = resize * min(height, width) // min(first[2:] if spec["layout"] == "NCHW" else first[1:3])
        return {"preprocess": {**spec, "height": height, "width": width, "resize": resize}}


def extent(rule: Mapping[str, Any], sizes: Sequence[int]) -> int:
    """The extent that follows from the size of an open dimension: ``times * ((size + plus) // by) + then``, and where
    that is rows, which are one dimension with their `columns`, times what their rule gives."""
    plus, by, times, then = (rule.get(k, d) for k, d in (("plus", 0), ("by", 1), ("times", 1), ("then", 0)))
    own: int = times * ((sizes[rule["dimension"]] + plus) // by) + then
    return own * extent(rule["columns"], sizes) if "columns" in rule else own
