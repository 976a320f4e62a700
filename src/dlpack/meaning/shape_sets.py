"""Several sets of input shapes in one bundle: from --shape and --buckets to the manifest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlpack.errors import UsageError
from dlpack.meaning.open_batch import OpenBatch
from dlpack.meaning.open_sizes import OpenSizes

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Buckets:
    """Lengths, in ascending order, that one dimension may have: the last that the model leaves open of `input`.

    All dimensions with the same symbol, of this and of other inputs, follow it.
    """

    input: str
    sizes: tuple[int, ...]

    def __str__(self) -> str:
        return f"--buckets {self.input}={','.join(map(str, self.sizes))}"


def alternatives(given: Sequence[tuple[str, tuple[int, ...]]]) -> list[dict[str, tuple[int, ...]]]:
    """The sets of shapes in (input, shape) pairs: an input's k-th shape belongs to set k, a single one to all sets."""
    by_input: dict[str, list[tuple[int, ...]]] = {}
    for name, shape in given:
        by_input.setdefault(name, []).append(shape)
    counts = {name: len(shapes) for name, shapes in by_input.items() if len(shapes) > 1}
    if len(set(counts.values())) > 1:
        text = ", ".join(f"{count} for {name!r}" for name, count in counts.items())
        raise UsageError(f"--shape gives {text}: give each input one shape, or one for each set of shapes")
    sets = [
        {name: shapes[min(k, len(shapes) - 1)] for name, shapes in by_input.items()}
        for k in range(max(counts.values(), default=1))
    ]
    if any(s in sets[:k] for k, s in enumerate(sets)):
        raise UsageError("--shape gives the same set of shapes twice")
    return sets


def bucket_sets(model: Any, shapes: Shapes, buckets: Buckets) -> tuple[list[Shapes], dict[str, list[int]]]:
    """The set of shapes for each bucket, and the dimensions that have the bucket's length, by input.

    `shapes` fixes the dimensions that have no buckets; `model` is an ONNX ModelProto.
    """
    weights = {t.name for t in model.graph.initializer}
    inputs = {v.name: v.type.tensor_type.shape.dim for v in model.graph.input if v.name not in weights}
    if buckets.input not in inputs:
        raise UsageError(f"{buckets}: the model has no input {buckets.input!r}; it has {', '.join(inputs) or 'none'}")
    if not buckets.sizes or min(buckets.sizes) < 1 or list(buckets.sizes) != sorted(set(buckets.sizes)):
        raise UsageError(f"{buckets}: sizes must be at least 1 and in ascending order")
    own = inputs[buckets.input]
    opened = [d for d, dim in enumerate(own) if not dim.HasField("dim_value") or dim.dim_value < 0]
    if not opened:
        raise UsageError(
            f"{buckets}: that input has no open dimension; if the model is exported for one shape at a time, repeat "
            "--shape instead"
        )
    symbol = own[opened[-1]].dim_param
    where: dict[str, list[int]] = {
        name: [d for d, dim in enumerate(dims) if symbol and dim.dim_param == symbol] for name, dims in inputs.items()
    }
    where = {name: dims for name, dims in where.items() if dims} if symbol else {buckets.input: opened[-1:]}
    sets: list[Shapes] = []
    for size in buckets.sizes:
        chosen = dict(shapes)
        for name, dims in where.items():
            base = shapes.get(name)
            if base is None and any(
                not dim.HasField("dim_value") for d, dim in enumerate(inputs[name]) if d not in dims
            ):
                continue  # the other dimensions are open, too: reported by graph/clean where nothing fixes them
            full = base or tuple(dim.dim_value for dim in inputs[name])
            if len(full) != len(inputs[name]):
                raise UsageError(
                    f"--shape {name}={'x'.join(map(str, full))}: the input has {len(inputs[name])} dimensions"
                )
            chosen[name] = tuple(size if d in dims else n for d, n in enumerate(full))
        sets.append(chosen)
    return sets, where


def check_sets(sets: Sequence[Mapping[str, Any]]) -> None:
    """Raises UsageError for sets that differ in more than shapes, or not at all; each has a manifest's `inputs` and
    `outputs`."""

    def kinds(s: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return [(t["name"], t["dtype"], t.get("quantization")) for t in (*s["inputs"], *s["outputs"])]

    for k, s in enumerate(sets):
        if kinds(s) != kinds(sets[0]):
            raise UsageError(f"the model's inputs or outputs differ between {set_name(s)} and {set_name(sets[0])}")
        if any(s["inputs"] == earlier["inputs"] for earlier in sets[:k]):
            raise UsageError(f"two sets of shapes are equal: {set_name(s)}")


def describe_buckets(
    model: Any, buckets: Buckets, where: Mapping[str, list[int]], sets: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The manifest's `buckets`: the sizes, and the dimensions to pad and to cut, by input and output.

    An output's dimension is cut where it is as long as the bucket in each set; where there is but one bucket, it must
    have the symbol of the input's dimension, too.
    """
    own = {v.name: v.type.tensor_type.shape.dim for v in model.graph.input}[buckets.input]
    symbol = own[where[buckets.input][-1]].dim_param
    symbols = {v.name: [dim.dim_param for dim in v.type.tensor_type.shape.dim] for v in model.graph.output}
    cut: dict[str, list[int]] = {}
    for k, t in enumerate(sets[0]["outputs"]):
        for d in range(len(t["shape"])):
            follows = all(s["outputs"][k]["shape"][d : d + 1] == [n] for s, n in zip(sets, buckets.sizes, strict=True))
            if follows and (len(sets) > 1 or (symbol and symbols[t["name"]][d : d + 1] == [symbol])):
                cut.setdefault(t["name"], []).append(d)
    return {"sizes": list(buckets.sizes), "inputs": dict(where), "outputs": cut}


_OF_A_SET = ("inputs", "outputs", "preprocess")


def describe_shapes(shapes: Shapes, batch: OpenBatch | None = None) -> str:
    """Shapes as written on the command line: "--shape data=1x3x224x224"; `batch` is open."""
    return " ".join(
        f"--shape {name}={batch.describe(name, shape) if batch else 'x'.join(map(str, shape))}"
        for name, shape in shapes.items()
    )


def sets_of(manifest: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The sets of shapes of a bundle: at least one, each with `inputs` and `outputs`, and `preprocess` if it takes a
    picture. Those of open dimensions are made when they are asked for."""
    if "open" in manifest:
        return OpenSizes(manifest)
    return list(manifest.get("shapes") or [{k: manifest[k] for k in _OF_A_SET if k in manifest}])


def tried_sets(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The sets of shapes that the build verifies, which are those of reference.npz: all but where a size is open."""
    sets = sets_of(manifest)
    return [sets[number] for number in manifest.get("tried", range(len(sets)))]


def shown_sets(manifest: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    """The sets of shapes to show to people, by number: all, or the smallest and the largest where a size is open, each
    with `macs` and `arena`."""
    sets = sets_of(manifest)
    if not isinstance(sets, OpenSizes):
        return dict(enumerate(sets))
    macs, arena = (manifest["macs"], manifest["open"]["macs"]), manifest.get("arena")
    return {k: {**s, "macs": n, "arena": arena} for (k, s), n in zip(sets.ends().items(), macs, strict=True)}


def set_name(shapes: Mapping[str, Any]) -> str:
    """The inputs of a set as text: "data 1x3x224x224"."""
    return ", ".join(f"{t['name']} {'x'.join(map(str, t['shape'])) or 'scalar'}" for t in shapes["inputs"])


def set_names(manifest: Mapping[str, Any]) -> str:
    """What a bundle's inputs may be, as text."""
    return (" to " if "open" in manifest else " or ").join(map(set_name, shown_sets(manifest).values()))


def picture_set(sets: Sequence[Mapping[str, Any]], now: int) -> int | None:
    """The number of the set for a picture: `now` if that takes one, else the first that does."""
    others = (0,) if isinstance(sets, OpenSizes) else range(len(sets))  # of open sizes, all do or the first alone
    return next((k for k in (now, *others) if "preprocess" in sets[k]), None)


def find_set(manifest: Mapping[str, Any], shapes: Mapping[str, Iterable[int]]) -> int | None:
    """The number of the set in which the inputs have these shapes."""
    if "open" in manifest:
        return OpenSizes(manifest).find(shapes)
    for number, s in enumerate(sets_of(manifest)):
        if all(t["name"] in shapes and t["shape"] == list(shapes[t["name"]]) for t in s["inputs"]):
            return number
    return None


def no_set(manifest: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> str:
    """Why no set has inputs of these shapes, which are all that there are."""
    given = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
    wrong = OpenSizes(manifest).wrong(shapes) if "open" in manifest else ""
    return f"the shapes are {given}; the model expects {set_names(manifest)}" + (f": {wrong}" if wrong else "")


def reference_names(kind: str, count: int, number: int) -> list[str]:
    """The names in reference.npz of a set's inputs ("in") or outputs ("out")."""
    return [f"{kind}_{k}" if number == 0 else f"{kind}_{k}_{number}" for k in range(count)]
