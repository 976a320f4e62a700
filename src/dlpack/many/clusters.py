"""The same tasks on several machines, through Ray or Dask: each is built by a process on the machine that gets it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import islice
from typing import Any

from dlpack.errors import ToolchainError
from dlpack.many.pool import end_apart, run_apart, run_here
from dlpack.many.tasks import Outcome, Task

Outcomes = Generator[Outcome, None, None]
Engine = Callable[[Sequence[Task], int, str | None], Outcomes]
"""Yields the outcomes of tasks as they come: of so many tasks at once (0: as many as the engine has room for), on the
cluster with an address (None: one on this computer, or what the environment says)."""


def _module(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as e:
        raise ToolchainError(f"the engine {extra} is not installed: pip install 'dlpack-aot[{extra}]'") from e


def _here(tasks: Sequence[Task], at_once: int, _address: str | None) -> Outcomes:
    return run_here(tasks, at_once or 1)


def _on_ray(tasks: Sequence[Task], at_once: int, address: str | None) -> Outcomes:
    ray = _module("ray", "ray")
    own = not ray.is_initialized()
    if own:
        # Without an address RAY_ADDRESS counts, and else a cluster is started here, of as many tasks at once.
        size = {"num_cpus": at_once} if at_once and address is None and not os.environ.get("RAY_ADDRESS") else {}
        ray.init(address=address, include_dashboard=False, log_to_driver=False, configure_logging=False, **size)
    build = ray.remote(num_cpus=1)(run_apart)
    pending: dict[Any, Task] = {}
    left = iter(tasks)
    try:
        while True:
            room = at_once - len(pending) if at_once else None
            pending |= {build.remote(task): task for task in islice(left, room)}
            if not pending:
                return
            (done, *_), _ = ray.wait([*pending])
            task = pending.pop(done)
            try:
                yield from ray.get(done)
            except ray.exceptions.RayError as e:
                yield from _lost(task, e)
    finally:
        for reference in pending:
            ray.cancel(reference)  # raises KeyboardInterrupt in the task, which ends its process
        if pending:
            ray.wait([*pending], num_returns=len(pending), timeout=20)
        if own:
            ray.shutdown()


def _on_dask(tasks: Sequence[Task], at_once: int, address: str | None) -> Outcomes:
    distributed = _module("distributed", "dask")
    cluster = None
    if address is None and not os.environ.get("DASK_SCHEDULER_ADDRESS"):
        # Threads are enough here: each task starts a process.
        cluster = distributed.LocalCluster(
            n_workers=1, threads_per_worker=at_once or None, processes=False, dashboard_address=None
        )
    client = distributed.Client(address or cluster)
    left = iter(tasks)
    pending: dict[Any, Task] = {}
    try:
        while True:
            room = at_once - len(pending) if at_once else None
            pending |= {client.submit(run_apart, task, pure=False): task for task in islice(left, room)}
            if not pending:
                return
            done = next(iter(distributed.wait([*pending], return_when="FIRST_COMPLETED").done))
            task = pending.pop(done)
            error = done.exception()
            yield from _lost(task, error) if error else done.result()
    finally:
        client.cancel([*pending])
        end_apart()
        client.close()
        if cluster is not None:
            cluster.close()


def _lost(task: Task, error: BaseException) -> Iterator[Outcome]:
    """The outcomes of a task that the engine could not run."""
    text = (str(error).strip() or type(error).__name__)[-2000:]
    return (Outcome(number, 0.0, f"the engine lost it: {text}", 4) for number in task.numbers)


ENGINES: dict[str, Engine] = {"processes": _here, "ray": _on_ray, "dask": _on_dask}
