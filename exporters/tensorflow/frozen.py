"""A graph whose variables are constants, as read from a file: its accepted operators and its shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dlpack.errors import UnsupportedError, UsageError

# TensorFlow operators that would run Python or read and write files and networks.
REFUSED = frozenset(
    "PyFunc PyFuncStateless EagerPyFunc ReadFile WriteFile MatchingFiles Save SaveV2 SaveSlices Restore RestoreV2 "
    "RestoreSlice MergeV2Checkpoints DeleteOldDirs DebugIdentity DebugIdentityV2 DebugIdentityV3 RpcCall RpcClient "
    "TextLineDataset TFRecordDataset FixedLengthRecordDataset SqlDataset WholeFileReader WholeFileReaderV2 "
    "TextLineReader TextLineReaderV2 TFRecordReader TFRecordReaderV2 FixedLengthRecordReader LMDBReader "
    "CreateSummaryFileWriter CreateSummaryDbWriter PrintV2 InitializeTableFromTextFile "
    "InitializeTableFromTextFileV2".split()
)


@dataclass(frozen=True)
class Frozen:
    """A graph whose variables are constants. Inputs and outputs: (tensor's name in the graph, name for the user)."""

    graph: Any
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    handlers: Mapping[str, Any] = field(default_factory=dict)
    """Converters of operators that tf2onnx does not have."""
    warnings: tuple[str, ...] = ()
    """What the user should know, a line each."""
    compute: Callable[[Mapping[str, Any]], list[Any]] | None = None
    """What the framework computes from arrays by the inputs' names, where the graph holds what it cannot run."""


def check_operators(graph: Any) -> None:
    """Raises UnsupportedError for a GraphDef that would run Python or touch files."""
    found = [(n.name, n.op) for n in graph.node]
    found += [(n.name, n.op) for f in graph.library.function for n in f.node_def]
    problems = [f"node '{name}': {op} runs Python code or reads files" for name, op in found if op in REFUSED]
    if problems:
        raise UnsupportedError("the model holds operators that are not accepted from a file:", tuple(problems[:50]))


@dataclass
class OpenShapes:
    """Open dimensions of the inputs: options that would set them, and inputs whose batch was taken as 1."""

    problems: list[str] = field(default_factory=list)
    batches: list[str] = field(default_factory=list)

    def said(self) -> tuple[str, ...]:
        """A warning for each batch that was taken as 1."""
        return tuple(f"{line}; --shape gives another size" for line in self.batches)


def fixed_shape(
    name: str, dims: list[int] | None, shapes: Mapping[str, tuple[int, ...]], found: OpenShapes
) -> tuple[int, ...]:
    """The input's shape: the file's, open dimensions (None or -1) from `--shape`; a first dimension that alone is open
    is a batch of 1. Enters in `found` what is open.
    """
    given = shapes.get(name)
    stated = None if dims is None else [d if d is not None and d >= 0 else -1 for d in dims]
    if given is not None:
        fits = stated is None or (
            len(stated) == len(given) and all(a in (-1, b) for a, b in zip(stated, given, strict=True))
        )
        if not fits or any(d < 1 for d in given):
            raise UsageError(
                f"--shape {name}={_times(given)} does not fit the input '{name}', which is {_text(stated)}"
            )
        return tuple(given)
    if stated and stated[0] == -1 and -1 not in stated[1:]:
        found.batches.append(f"the batch of the input '{name}', {_text(stated)}, is taken as 1")
        return (1, *stated[1:])
    if stated is None or -1 in stated:
        example = "AxBx..." if stated is None else _times([d if d >= 0 else (1 if k == 0 else f"D{k}")
                                                         for k, d in enumerate(stated)])  # fmt: skip
        found.problems.append(f"--shape {name}={example}")
        return ()
    return tuple(stated)


def check_shapes(names: list[str], shapes: Mapping[str, tuple[int, ...]], found: OpenShapes) -> None:
    """Raises UsageError for names that no input has, and for dimensions that remain open."""
    for name in shapes:
        if name not in names:
            raise UsageError(f"--shape names the input '{name}', which the model does not have; its inputs are: "
                             f"{', '.join(names) or 'none'}")  # fmt: skip
    if found.problems:
        raise UsageError(
            f"the model leaves input dimensions open; give each such input its shape: {' '.join(found.problems)}"
        )


def _times(dims: Any) -> str:
    return "x".join(map(str, dims))


def _text(stated: list[int] | None) -> str:
    return "of any shape" if stated is None else f"[{', '.join('?' if d < 0 else str(d) for d in stated)}]"
