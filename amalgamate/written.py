"""The runtime's text as it is for a program: its placeholders and its conditional lines."""

from __future__ import annotations

import re

from dlpack.plan.program import Program

_WORDS = {
    "inputs": ("kInputs", r"\1->set->inputs"),
    "outputs": ("kOutputs", r"\1->set->outputs"),
    "input_room": (r"kInputs[\1].bytes", r"kInputRoom[\1]"),
    "output_room": (r"kOutputs[\1].bytes", r"kOutputRoom[\1]"),
    "steps": ("kStepCount", r"\1->set->steps"),
    "first_step": ("", r"\1->set->first_step + "),
    "set": ("", "set, "),
    "picture": ("kPicture", r"kPictures[\1->set - kShapes]"),
}
"""What ``@word(argument)@`` in the runtime's text becomes: with one set of shapes, with several."""


def written(text: str, program: Program) -> str:
    """The text as it is for a program: with its name, and what there is of threads and of several shapes.

    The lines between ``//@ condition`` and ``//@ end`` are kept where the condition holds: threads, one_thread,
    shapes, one_shape.
    """
    several = len(program.variants) > 1
    several_threads = program.threads > 1
    holds = {
        "threads": several_threads,
        "one_thread": not several_threads,
        "shapes": several,
        "one_shape": not several,
        "end": True,
    }
    out, keep = [], True
    for line in text.split("\n"):
        if line.startswith("//@ "):
            keep = holds[line[4:]]
        elif keep:
            out.append(line)
    text = "\n".join(out)
    for word, forms in _WORDS.items():
        text = re.sub(rf"@{word}\(([^@]*)\)@", forms[several], text)
    return text.replace("@name@", program.name).replace("@NAME@", program.name.upper())
