"""A lock for each predictor, which serves one thread at a time."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar


class _Locked(Protocol):
    _lock: threading.RLock


_P = ParamSpec("_P")
_S = TypeVar("_S", bound=_Locked)
_T = TypeVar("_T")


def atomic(method: Callable[Concatenate[_S, _P], _T]) -> Callable[Concatenate[_S, _P], _T]:
    """Makes a method hold its object's lock."""

    @wraps(method)
    def locked(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        with self._lock:
            return method(self, *args, **kwargs)

    return locked


_LIVING: weakref.WeakSet[Any] = weakref.WeakSet()


def new_lock(owner: _Locked) -> threading.RLock:
    """A lock for `owner._lock`, where a fork puts another."""
    _LIVING.add(owner)
    return threading.RLock()


def _after_fork() -> None:
    """After a fork: no thread of the new process can release a lock that another thread held, so locks are replaced."""
    for owner in list(_LIVING):
        owner._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
