"""Errors a user can act on; each says what is wrong, where, and what to do, and carries its exit code."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class DlpackError(Exception):
    """Base of every error that `dlpack` reports to its user."""

    exit_code = 2


class UsageError(DlpackError):
    """The command line, a file name or an option is wrong (exit code 2)."""


class ExceededError(UsageError):
    """The data of a run exceeds a maximum that the bundle was built with (`--max`)."""


class FullError(UsageError):
    """A text gets longer than a predictor can keep; `tokens`, or `text`, were written until then."""

    def __init__(self, message: str, tokens: tuple[int, ...] = ()) -> None:
        self.tokens = tokens
        self.text = ""
        super().__init__(message)


class ModelError(DlpackError):
    """The model file is broken or not an ONNX model (exit code 3)."""

    exit_code = 3


class UnsupportedError(DlpackError):
    """The model is valid but holds something that cannot be compiled (exit code 3).

    ``problems`` lists every unsupported node, one line each.
    """

    exit_code = 3

    def __init__(self, message: str, problems: tuple[str, ...] = ()) -> None:
        self.problems = problems
        super().__init__("\n".join([message, *(f"  - {p}" for p in problems)]))


class ToolchainError(DlpackError):
    """A compiler or another tool is missing or failed (exit code 4)."""

    exit_code = 4


class VerificationError(DlpackError):
    """The compiled predictor does not compute what onnxruntime computes (exit code 1)."""

    exit_code = 1


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the name that is most like a wrong one, "" where none is."""
    close = get_close_matches(name, list(names), 1)
    return f"; did you mean '{close[0]}'?" if close else ""
