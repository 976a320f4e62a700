"""The command line: build, build-all, export, inspect, verify, run, new, bench, serve, targets, doctor, completion,
help.

`arguments` holds the options that commands share, `console` the output; the commands are in the other modules.
"""

from __future__ import annotations

import errno
import signal
from typing import Any, NoReturn

import click

from dlpack.cli import build, build_all, doctor, new, run, shell, show
from dlpack.cli.console import fail, interrupted
from dlpack.cli.version import version_text
from dlpack.errors import DlpackError, did_you_mean

_EPILOG = """\b
Examples:
  dlpack build model.onnx --target native     compile for this computer
  dlpack build model.onnx --target wasm       an npm package and a page
  dlpack build-all models.toml                many models, several at a time
  dlpack run build/model --input cat.jpg      a quick look at the result
  dlpack new vite build/model                 a project to start from
  dlpack help build                           the options of a command

\b
Exit codes: 0 done, 1 verification failed, 2 usage, 3 model not supported, 4 toolchain missing, 130 interrupted.
NO_COLOR=1 turns colours off."""


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
        except OSError as e:
            if e.errno != errno.ENOSPC:
                raise
            fail(f"{e.filename or 'what the output is sent to'} has no space left", 2, as_json=False)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is meant; for a wrong name the error says which is like it."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"there is no command '{name}'{did_you_mean(name, self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


def _show_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"dlpack, version {version_text()}")
        ctx.exit()


@click.group(
    cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, epilog=_EPILOG
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def cli() -> None:
    """Compile a trained model to one C++ file without dependencies."""


for command in (
    build.build,
    build_all.build_all,
    build.export,
    show.inspect,
    show.verify,
    run.run,
    new.new,
    show.bench,
    show.serve,
    show.targets,
    doctor.doctor,
    shell.completion,
    shell.help_,
):
    cli.add_command(command)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    """The console entry point."""
    try:
        signal.signal(signal.SIGTERM, _interrupt)  # handled like Ctrl-C: no half-written bundle is left
        cli(prog_name="dlpack", standalone_mode=True)
    except KeyboardInterrupt:
        interrupted()
