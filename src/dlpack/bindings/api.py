"""One description of a bundle's API, made from its manifest: what the bindings of every language are written from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from dlpack.graph.ir import HALVES, STORED
from dlpack.meaning.open_sizes import OpenSizes
from dlpack.meaning.quantization import is_real
from dlpack.meaning.shape_sets import set_name, sets_of

_T = TypeVar("_T")

_STORED = {name: kind for name, kind in STORED.items() if name not in HALVES}
"""The types that no language has; each element is in a byte."""


@dataclass(frozen=True)
class Tensor:
    """An input or output: row-major, of `shape`; `dtype` as in numpy; `meaning` says what its numbers stand for.

    `shapes`: that in each set of shapes, where there are several; `ends`: of open sizes the smallest and the largest;
    `choice`: which it may have of these, as in "1x3x64..512/16x224", empty where it has none. `width`: the last
    dimension of strings, which C does not count among dimensions.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    meaning: str = ""
    shapes: Sequence[tuple[int, ...]] = ()
    ends: tuple[tuple[int, ...], ...] = ()
    choice: str = ""
    width: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """The number of elements, of several sets of shapes the most."""
        return max(map(math.prod, self.ends or self.shapes or (self.shape,)))

    @property
    def type(self) -> str:
        """As in "float32 1x3x224x224"."""
        several = self.ends or self.shapes or (self.shape,)
        told = dict.fromkeys("x".join(map(str, shape)) or "scalar" for shape in several)
        return f"{self.dtype} {(' to ' if self.ends else ' or ').join(told)}"


@dataclass(frozen=True)
class _OfSets(Sequence[_T]):
    """Something of each set of shapes, made when it is asked for."""

    sets: Sequence[Mapping[str, Any]]
    of: Callable[[Mapping[str, Any]], _T]

    def __len__(self) -> int:
        return len(self.sets)

    def __getitem__(self, number: Any) -> Any:
        return self.of(self.sets[number])


@dataclass(frozen=True)
class Function:
    """A function NAME_`name` of the C API. Types are those of NAME.h, without the prefix: "predictor*", "status"."""

    name: str
    returns: str
    parameters: tuple[tuple[str, str], ...]


_HANDLE = ("predictor", "predictor*")

CREATE = Function(
    "create",
    "status",
    (
        ("predictor", "predictor**"),
        ("memory", "void*"),
        ("memory_bytes", "size_t"),
        ("weights", "const void*"),
        ("weights_bytes", "size_t"),
    ),
)
CREATE_FROM_FILE = Function(
    "create_from_file", "status", (("predictor", "predictor**"), ("weights_path", "const char*"))
)
CREATE_FROM_FILE_WITHIN = Function(
    "create_from_file_within", "status", (*CREATE_FROM_FILE.parameters, ("memory_bytes", "size_t"))
)
ALWAYS = (
    Function("destroy", "void", (_HANDLE,)),
    Function("error_text", "const char*", (("status", "status"),)),
    Function("run", "status", (_HANDLE,)),
    Function("get_output", "status", (_HANDLE, ("index", "int32_t"), ("data", "void*"), ("bytes", "size_t"))),
)
SET_INPUT = Function(
    "set_input", "status", (_HANDLE, ("index", "int32_t"), ("data", "const void*"), ("bytes", "size_t"))
)
TOP_K = Function(
    "top_k",
    "status",
    (("predictor", "const predictor*"), ("output", "int32_t"), ("k", "int32_t"), ("classes", "class*")),
)
PREPROCESS_RGB = Function(
    "preprocess_rgb",
    "status",
    (
        _HANDLE,
        ("rgb", "const uint8_t*"),
        ("width", "int32_t"),
        ("height", "int32_t"),
        ("stride", "ptrdiff_t"),
    ),
)
SHAPE = Function("shape", "int32_t", (("predictor", "const predictor*"),))
SET_SHAPE = Function("set_shape", "status", (_HANDLE, ("number", "int32_t")))
RESHAPE = Function(
    "reshape", "status", (_HANDLE, ("input", "int32_t"), ("shape", "const int64_t*"), ("rank", "int32_t"))
)
MEMORY_SIZE_FOR = Function(
    "memory_size_for", "size_t", (("input", "int32_t"), ("shape", "const int64_t*"), ("rank", "int32_t"))
)
INPUT_OF, OUTPUT_OF = (
    Function(name, "const tensor*", (("predictor", "const predictor*"), ("index", "int32_t")))
    for name in ("input_of", "output_of")
)
SET_THREADS = Function("set_threads", "status", (_HANDLE, ("count", "int32_t")))
DETECTIONS = Function(
    "detections",
    "status",
    (
        ("predictor", "const predictor*"),
        ("width", "int32_t"),
        ("height", "int32_t"),
        ("threshold", "double"),
        ("most", "int32_t"),
        ("found", "detection*"),
        ("count", "int32_t*"),
    ),
)

_TEXT = (("text", "const char*"), ("bytes", "size_t"))
TOKENIZE = Function(
    "tokenize",
    "status",
    (
        _HANDLE,
        *_TEXT,
        ("special", "int32_t"),
        ("ids", "int32_t*"),
        ("capacity", "size_t"),
        ("count", "size_t*"),
    ),
)
DETOKENIZE = Function(
    "detokenize",
    "status",
    (
        ("predictor", "const predictor*"),
        ("ids", "const int32_t*"),
        ("count", "size_t"),
        ("special", "int32_t"),
        ("text", "char*"),
        ("capacity", "size_t"),
        ("bytes", "size_t*"),
    ),
)
EMBED = Function("embed", "status", (_HANDLE, *_TEXT, ("cut", "int32_t"), ("embedding", "float*")))
REWIND = Function("rewind", "status", (_HANDLE, ("length", "size_t")))
_SAMPLER = (("most", "size_t"), ("sampler", "sampler*"), ("stop", "const int64_t*"), ("stop_count", "size_t"))
GENERATE = Function(
    "generate",
    "status",
    (
        _HANDLE,
        ("prompt", "const int64_t*"),
        ("prompt_count", "size_t"),
        *_SAMPLER,
        ("on_token", "on_token"),
        ("user", "void*"),
        ("tokens", "int64_t*"),
        ("made", "size_t*"),
    ),
)
WRITE = Function(
    "write",
    "status",
    (
        _HANDLE,
        ("prompt", "const char*"),
        ("prompt_bytes", "size_t"),
        *_SAMPLER,
        ("on_text", "on_text"),
        ("user", "void*"),
        ("text", "char*"),
        ("capacity", "size_t"),
        ("written", "size_t*"),
    ),
)


@dataclass(frozen=True)
class Texts:
    """What a bundle does with texts; 0 where it does not.

    With a tokenizer it takes texts of at most `bytes`. It embeds those of at most `tokens` as `embedding` numbers. A
    decoder writes texts of at most `context` tokens, as ids, and with a tokenizer in words.
    """

    bytes: int = 0
    embedding: int = 0
    tokens: int = 0
    context: int = 0

    @property
    def functions(self) -> Iterator[Function]:
        """The functions of the C API for texts."""
        if self.bytes:
            yield TOKENIZE
            yield DETOKENIZE
        if self.embedding:
            yield EMBED
        if self.context:
            yield REWIND
            yield GENERATE
        if self.bytes and self.context:
            yield WRITE

    @property
    def errors(self) -> dict[str, str]:
        """What is said about wrong use, in every language the same."""
        return {
            "too_long": f"the text is longer than the {self.bytes} bytes that the model takes",
            "too_many_tokens": f"the text has more than the {self.tokens} tokens that the model takes",
            "full": f"the text would get longer than the {self.context} tokens that a predictor keeps",
            "refused": "an empty prompt, an unknown token, or a sampler whose numbers make no sense",
        }


@dataclass(frozen=True)
class Api:
    """What a bundle offers to every language.

    A predictor is made of nothing, or where `weights` names a file of the path to it. It runs on all `inputs` and gives
    all `outputs`. With `classes` it classifies: by the output `scores`, from a picture of bytes R, G, B if `pictures`,
    else from its inputs. With `boxes` it finds things in pictures instead: at most `most`, whose score is by default at
    least `threshold`. `labels`: its classes have names. `sets`: its sets of shapes in words, where there are several;
    `open`: the rule that they follow (the manifest's), where sizes are open;
    `threads`: the most that it computes on. `texts`: what it does with texts. `flags`: what NAME.cc is compiled with by
    hand.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    source: str
    header: str
    weights: str | None
    classes: bool
    pictures: bool
    scores: int
    about: str
    flags: str
    labels: bool = False
    boxes: bool = False
    threshold: float = 0.0
    most: int = 0
    sets: Sequence[str] = ()
    threads: int = 1
    texts: Texts = Texts()
    open: Mapping[str, Any] | None = None

    @property
    def functions(self) -> Iterator[Function]:
        """The functions of the C API that a binding calls."""
        from_file = CREATE_FROM_FILE_WITHIN if self.open else CREATE_FROM_FILE
        yield from_file if self.weights else CREATE
        yield from ALWAYS
        if self.inputs:
            yield SET_INPUT
        if self.classes:
            yield TOP_K
        if self.pictures:
            yield PREPROCESS_RGB
        if self.boxes:
            yield DETECTIONS
        if self.sets:
            yield SHAPE
            yield SET_SHAPE
            yield INPUT_OF
            yield OUTPUT_OF
        if self.open:
            yield RESHAPE
            yield MEMORY_SIZE_FOR
        if self.threads > 1:
            yield SET_THREADS
        yield from self.texts.functions

    @property
    def conditions(self) -> frozenset[str]:
        """What a template's conditional lines ask for."""
        told = {
            "inputs": bool(self.inputs),
            "side": bool(self.weights),
            "classes": self.classes,
            "pictures": self.pictures,
            "numbers": self.classes and not self.pictures,
            "labels": self.labels,
            "boxes": self.boxes,
            "shapes": bool(self.sets),
            "open": bool(self.open),
            "threads": self.threads > 1,
            "arrays": bool(self.open) or self.texts != Texts(),
            "lists": self.classes or self.boxes,
            "strings": self.classes or self.boxes or bool(self.weights),
            "texts": self.texts != Texts(),
            "tokenizer": self.texts.bytes > 0,
            "embeds": self.texts.embedding > 0,
            "decodes": self.texts.context > 0,
            "writes": self.texts.bytes > 0 and self.texts.context > 0,
        }
        return frozenset(name for name, holds in told.items() if holds)


def describe(manifest: Mapping[str, Any], flags: str) -> Api:
    """The API of a bundle."""
    picture = manifest.get("preprocess")
    pictures = bool(picture) and len(manifest["inputs"]) == 1
    scores = _scores(manifest)
    task = manifest.get("task") or {}
    detects = task.get("kind") == "detect"
    boxes = pictures and detects
    classes = (bool(manifest.get("labels") and manifest["inputs"]) or pictures) and not detects
    use = "detect" if boxes else "classify"
    inputs = tuple(
        _tensor(manifest, "inputs", k, f"what {use} makes of a picture" if picture else "")
        for k in range(len(manifest["inputs"]))
    )
    outputs = tuple(
        _tensor(manifest, "outputs", k, "a score for each class" if classes else "", k == scores)
        for k in range(len(manifest["outputs"]))
    )
    return Api(
        name=manifest["name"],
        inputs=inputs,
        outputs=outputs,
        source=manifest["source"],
        header=manifest["header"],
        weights=manifest["weights"]["file"] if "weights" in manifest else None,
        classes=classes,
        pictures=pictures,
        scores=scores,
        about=f"Made by {manifest['tool']} from the model with SHA-256 {manifest['model_sha256'][:16]}...",
        flags=flags,
        labels=bool(manifest.get("labels")),
        boxes=boxes,
        threshold=float(task["threshold"]) if boxes else 0.0,
        most=task["most"] if boxes else 0,
        sets=_OfSets(_several(manifest), set_name),
        threads=manifest.get("threads", 1),
        texts=_texts(manifest),
        open=manifest.get("open"),
    )


def _texts(manifest: Mapping[str, Any]) -> Texts:
    tokenizer, embedding, decoder = (manifest.get(part) or {} for part in ("tokenizer", "embedding", "decoder"))
    return Texts(
        bytes=tokenizer.get("text_bytes", 0),
        embedding=embedding.get("size", 0),
        tokens=embedding.get("tokens", 0),
        context=decoder.get("context", 0),
    )


def _several(manifest: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The sets of shapes where there are several."""
    return sets_of(manifest) if {"shapes", "open"} & manifest.keys() else ()


def _tensor(manifest: Mapping[str, Any], side: str, index: int, meaning: str, applies: bool = True) -> Tensor:
    told = manifest[side][index]
    parts = [meaning] if meaning and applies else []
    if told.get("probabilities"):
        parts = ["a probability for each class" if parts else "probabilities"]
    if quantization := told.get("quantization"):
        parts.append(f"quantised: q stands for (q - {quantization['zero_point']}) * {quantization['scale']:g}")
    if told["dtype"] in _STORED:
        parts.insert(0, f"{told['dtype']}, each in a byte")
    width: tuple[int, ...] = ()
    if told["dtype"].startswith("S"):
        width = (int(told["dtype"][1:]),)
        parts.insert(0, f"strings: UTF-8 in {width[0]} bytes each, filled up with zeros, one at least")

    def shape(s: Mapping[str, Any]) -> tuple[int, ...]:
        return (*s[side][index]["shape"], *width)

    dtype = "uint8" if width else _STORED.get(told["dtype"], told["dtype"])
    sets = _several(manifest)
    ends = tuple(map(shape, sets.ends().values())) if isinstance(sets, OpenSizes) else ()
    choice = _choice(manifest, side, index) if side == "inputs" else ""
    return Tensor(told["name"], dtype, shape(manifest), "; ".join(parts), _OfSets(sets, shape), ends, choice, width)


def _choice(manifest: Mapping[str, Any], side: str, index: int) -> str:
    """The shapes of a tensor with open sizes, as --shape has them; empty where it has none."""
    told = manifest[side][index]
    rule = manifest.get("open") or {side: {}}
    dims = rule[side].get(told["name"], {})
    each = list(map(str, told["shape"]))
    for d, of in dims.items():
        bounds = rule["dimensions"][of["dimension"]]
        each[int(d)] = "{smallest}..{largest}/{step}".format(**bounds).removesuffix("/1")
    return "x".join(each) if dims else ""


def _scores(manifest: Mapping[str, Any]) -> int:
    """The index of the output with the classes' scores: the task's, else the first real one with a score per label."""
    outputs = manifest["outputs"]
    told = (manifest.get("task") or {}).get("output")
    labels = len(manifest.get("labels") or ())
    for k, output in enumerate(outputs):
        if output["name"] == told:
            return k
    fits = (k for k, t in enumerate(outputs) if is_real(t) and math.prod(t["shape"]) == labels)
    return next(fits, 0)
