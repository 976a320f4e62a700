"""Console output: errors with their exit codes, and the progress of a build."""

from __future__ import annotations

import json
import sys
from typing import Any, NoReturn

import click
from rich.console import Console

ERR = Console(stderr=True, highlight=False)
OUT = Console(highlight=False)


def interrupted(as_json: bool = False, what: str = "nothing was written") -> NoReturn:
    # CPython remembers an interrupt inside exec(), where dataclasses are made while a module is imported, and ends
    # `python -m` by that signal whatever its exit code. The next exec() makes it forget.
    exec("")
    fail(f"interrupted; {what}", 130, as_json)


def fail(message: str, code: int, as_json: bool) -> NoReturn:
    if as_json:
        click.echo(json.dumps({"error": message, "exit_code": code}))
    else:
        ERR.print(f"[bold red]error:[/] {plain(message)}", soft_wrap=True)
    sys.exit(code)


def plain(text: str) -> str:
    return text.replace("[", r"\[")


def progress(kind: Any, as_json: bool, quiet: bool = False) -> Any:
    """The callbacks of a build, of the class `kind`; with `quiet` only those for warnings print."""
    if quiet and not as_json:
        return kind(warn=lambda text: click.echo(f"warning: {text}", err=True))
    if as_json:
        return kind(
            done=lambda name, s, d: click.echo(json.dumps({"stage": name, "seconds": round(s, 3), "detail": d})),
            warn=lambda text: click.echo(json.dumps({"warning": text})),
        )
    if not ERR.is_terminal:
        return kind(
            done=lambda name, s, d: click.echo(f"{name:<10} {s:6.2f} s  {d}", err=True),
            warn=lambda text: click.echo(f"warning: {text}", err=True),
        )
    status = ERR.status("")

    def start(name: str) -> None:
        status.update(name)
        status.start()

    def done(name: str, seconds: float, detail: str) -> None:
        status.stop()
        ERR.print(f"[green]✓[/] {name:<10} [dim]{seconds:6.2f} s[/]  {plain(detail)}", soft_wrap=True)

    return kind(start, done, lambda text: ERR.print(f"[yellow]warning:[/] {plain(text)}"))
