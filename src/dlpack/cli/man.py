"""The man page, made from the commands that click knows."""

from __future__ import annotations

import re

import click


def man_page(cli: click.Group, version: str) -> str:
    """dlpack(1) in roff: all commands and options, exit codes, environment."""
    about = _sentence(cli).rstrip(".")
    with click.Context(cli, info_name="dlpack") as root:
        parts = [
            f'.TH DLPACK 1 "" "dlpack {_escaped(version)}" "User Commands"',
            ".SH NAME",
            f"dlpack \\- {_escaped(about[:1].lower() + about[1:])}",
            ".SH SYNOPSIS",
            ".B dlpack\n.I COMMAND\n[\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]",
            ".SH COMMANDS",
        ]
        for name, command in cli.commands.items():
            with click.Context(command, info_name=name, parent=root) as context:
                parts += [f".SS dlpack {_escaped(name)} {_escaped(' '.join(command.collect_usage_pieces(context)))}"]
                parts += [_paragraphs(command.help or ""), *_options(command, context)]
        parts += [".SH NOTES", _verbatim(re.sub(r"^\x08\n", "", cli.epilog or "", flags=re.MULTILINE))]
    return "\n".join(part for part in parts if part) + "\n"


def _options(command: click.Command, context: click.Context) -> list[str]:
    parts = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and isinstance(parameter, click.Option) and not parameter.hidden:
            parts.append(f".TP\n\\fB{_escaped(record[0])}\\fR\n{_escaped(' '.join(record[1].split()))}")
    return parts


def _sentence(command: click.Command) -> str:
    return (command.help or "").partition("\n\n")[0].replace("\n", " ")


def _paragraphs(text: str) -> str:
    """A help text: its paragraphs, and those that are not to be wrapped line by line."""
    made = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if paragraph.startswith("\b\n"):
            made.append(_verbatim(paragraph.removeprefix("\b\n")))
        elif paragraph:
            made.append(_escaped(" ".join(paragraph.split())))
    return "\n.PP\n".join(made)


def _verbatim(text: str) -> str:
    return f".nf\n{_escaped(text.strip())}\n.fi"


def _escaped(text: str) -> str:
    """Text in which roff sees no commands; its hyphens can be copied from a terminal."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)
