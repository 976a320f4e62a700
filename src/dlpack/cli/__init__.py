"""The command line: build, export, inspect, verify, bench, serve, targets.

`arguments` holds the options that commands share, `console` the output; the commands are in `build` and `show`.
"""

from __future__ import annotations

import signal
from typing import Any, NoReturn

import click

from dlpack import __version__
from dlpack.cli import build, show
from dlpack.cli.console import fail, interrupted
from dlpack.errors import DlpackError


class _Group(click.Group):
    """Turns a DlpackError into a message and an exit code, and handles Ctrl-C."""

    def invoke(self, ctx: click.Context) -> Any:
        as_json = "--json" in ctx.args
        try:
            return super().invoke(ctx)
        except DlpackError as e:
            fail(str(e), e.exit_code, as_json)
        except KeyboardInterrupt:
            interrupted(as_json)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="dlpack")
def cli() -> None:
    """Compile a trained neural network to one C++ file without dependencies."""


for command in (build.build, build.export, show.inspect, show.verify, show.bench, show.serve, show.targets):
    cli.add_command(command)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    """The console entry point."""
    try:
        signal.signal(signal.SIGTERM, _interrupt)  # handled like Ctrl-C: no half-written bundle is left
        cli(standalone_mode=True)
    except KeyboardInterrupt:
        interrupted()
