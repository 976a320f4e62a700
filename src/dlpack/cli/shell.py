"""`dlpack completion` and `dlpack help`, also as a man page."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from dlpack.errors import UsageError, did_you_mean

_INSTALL = {
    "bash": "  dlpack completion bash > ~/.local/share/bash-completion/completions/dlpack",
    "zsh": "  dlpack completion zsh > ~/.zfunc/_dlpack     # with fpath+=~/.zfunc before compinit in ~/.zshrc",
    "fish": "  dlpack completion fish > ~/.config/fish/completions/dlpack.fish",
}


@click.command(epilog="\b\nTo install it:\n" + "\n".join(_INSTALL.values()))
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for SHELL: commands, options, targets and file names."""
    kind = get_completion_class(shell)
    assert kind is not None
    # Not kind.source(), which runs bash to find out its version: the script may be for another computer.
    maker = kind(ctx.find_root().command, {}, "dlpack", "_DLPACK_COMPLETE")
    click.echo(maker.source_template % maker.source_vars())


_MAN = "  dlpack help --man > ~/.local/share/man/man1/dlpack.1"


@click.command("help", epilog=f"\b\nTo install the man page:\n{_MAN}")
@click.argument("command", required=False)
@click.option("--man", is_flag=True, help="Print the man page, for all commands.")
@click.pass_context
def help_(ctx: click.Context, command: str | None, man: bool) -> None:
    """Show the help of COMMAND, or of dlpack."""
    root = ctx.find_root()
    if man:
        from dlpack import __version__
        from dlpack.cli.man import man_page

        assert isinstance(root.command, click.Group)
        click.echo(man_page(root.command, __version__), nl=False)
        return
    if command is None:
        click.echo(root.get_help())
        return
    group = root.command
    assert isinstance(group, click.Group)
    found = group.get_command(root, command)
    if found is None:
        raise UsageError(f"there is no command {command!r}{did_you_mean(command, group.list_commands(root))}")
    with click.Context(found, info_name=command, parent=root, **found.context_settings) as inner:
        click.echo(found.get_help(inner))


def complete_target(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The targets that begin so."""
    from dlpack.targets import all_targets

    return [name for name in all_targets() if name.startswith(incomplete)]
