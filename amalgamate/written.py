"""The runtime's text as it is for a program: its placeholders and its conditional lines."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from dlpack import __version__
from dlpack.amalgamate.decoder import cache_bytes
from dlpack.plan.program import Program

_WORDS = {
    "inputs": ("@name@_impl::kInputs", r"@name@_impl::kShapes[\1->set].inputs"),
    "outputs": ("@name@_impl::kOutputs", r"@name@_impl::kShapes[\1->set].outputs"),
    "input_room": (r"kInputs[\1].bytes", r"kInputRoom[\1]"),
    "output_room": (r"kOutputs[\1].bytes", r"kOutputRoom[\1]"),
    "steps": ("@name@_impl::kStepCount", r"@name@_impl::kShapes[\1->set].steps"),
    "first_step": ("", r"@name@_impl::kShapes[\1->set].first_step + "),
    "set": ("", "set, "),
    "picture": ("@name@_impl::kPicture", r"@name@_impl::kPictures[\1->set]"),
    "step_names": ("@name@_impl::kStepNames", "@name@_impl::kStepNames"),
}
"""What ``@word(argument)@`` in the runtime's text becomes: with one set of shapes, with several."""

_COUNTED = {
    "inputs": r"\1->sized_inputs",
    "outputs": r"\1->sized_outputs",
    "first_step": "",
    "picture": r"@name@_impl::picture_of(\1->set)",
}
"""The same where sets of shapes differ in the extent of an open dimension."""

_WORDS_OF_MACHINES = _WORDS | {
    "steps": (r"\1->code->steps[0].count", r"\1->code->steps[\1->set].count"),
    "first_step": ("", r"\1->code->steps[\1->set].first + "),
    "step_names": (r"\1->code->step_names", r"\1->code->step_names"),
}
"""The same in a file with kernels for several machines."""


def written(
    text: str,
    program: Program,
    side_file: bool = False,
    machines: bool = False,
    conditions: frozenset[str] = frozenset(),
) -> str:
    """The text as it is for a program: with its name, and what there is of threads, shapes and machines.

    The lines between ``//@ condition`` and ``//@ end``, which may contain others and be indented, are kept where the
    condition holds: threads, one_thread, shapes, one_shape, samples (a run does its steps for each sample), whole (it
    does not), opened (a dimension of the kernels is open), closed, pictures (dimensions of pictures are), counted (one
    of these: samples, opened or pictures), uncounted, linear (samples or opened), staged (smaller sizes have plans of
    memory of their own), unstaged, tabled (there are several sets of shapes otherwise), machines, one_machine, choices
    (of shapes or machines); side_file (the weights are in a file of their own), no_side_file; sized (only a run knows
    an output's size); limited (a run may exceed a maximum that the user has stated), no_limits; strings (there are
    inputs or outputs of strings), no_strings; text (there is a tokenizer), text_alone (and no strings), unit_embedding
    (it has length 1); decoder (it reads and writes tokens), no_decoder, positions (it has an input of positions);
    speech (its texts are about features that it hears first), answers (they are about a text that it reads first),
    no_answers, encoder (one of the two); sound_scaled (a spectrogram's values are scaled by the
    largest of them); known_memory (its size does not depend on the system's threads or the machine); no_cuda; and
    where it is among `conditions`: mxnet_model (MXNet's files of the model are known), no_mxnet_model, cuda (there are
    kernels for NVIDIA's GPUs), arm_variants (there are kernels for Arm's processors with more instructions than the
    others), others of the machines' own. Raises ValueError for a condition without end.
    """
    several = len(program.shape_sets) > 1
    limits = {name: most for t in program.outputs for name, most in t.limits}
    strings = any(t.dtype.startswith("S") for t in (*program.inputs, *program.outputs))
    several_threads = program.threads > 1
    answers = program.decoder is not None and program.decoder.encoder is not None
    holds = {
        "threads": several_threads,
        "one_thread": not several_threads,
        "shapes": several,
        "one_shape": not several,
        "samples": program.by_sample,
        "whole": not program.by_sample,
        "counted": program.counted,
        "uncounted": not program.counted,
        "staged": program.staged,
        "unstaged": not program.staged,
        "linear": program.counted and not program.pictures,
        "pictures": program.pictures,
        "tabled": several and not program.counted,
        "opened": program.opened,
        "closed": not program.opened,
        "machines": machines,
        "one_machine": not machines,
        "choices": machines or several,
        "side_file": side_file,
        "no_side_file": not side_file,
        "sized": any(t.true_shape for t in program.outputs),
        "limited": bool(limits),
        "no_limits": not limits,
        "strings": strings,
        "no_strings": not strings,
        "text": program.text is not None,
        "unit_embedding": bool(program.text and program.text.embedding and program.text.embedding.normalize),
        "text_alone": program.text is not None and not strings,
        "known_memory": not several_threads and not machines,
        "no_cuda": "cuda" not in conditions,
        "decoder": program.decoder is not None,
        "no_decoder": program.decoder is None,
        "speech": program.decoder is not None and program.decoder.features >= 0,
        "answers": answers,
        "no_answers": not answers,
        "encoder": program.decoder is not None and program.decoder.encoding > 0,
        "sound_scaled": program.sound is not None and program.sound.values == "whisper",
        "positions": program.decoder is not None and program.decoder.positions >= 0,
    }
    out: list[str] = []
    kept: list[bool] = []  # of the conditions around a line, whether each holds
    for line in text.split("\n"):
        mark = line.strip()
        if mark == "//@ end":
            kept.pop()
        elif mark.startswith("//@ "):
            kept.append(holds.get(mark[4:], mark[4:] in conditions))
        elif all(kept):
            out.append(line)
    if kept:
        raise ValueError(f"a condition of the runtime has no end:\n{text[:200]}")
    text = "\n".join(out)
    words, own, rest = _memory(program, side_file)
    text = (
        text.replace("@handle_words@", str(words)).replace("@own_bytes@", str(own)).replace("@bound_bytes@", str(rest))
    )
    for word, value in _versions().items():
        text = text.replace(f"@{word}@", value)
    for word, forms in (_WORDS_OF_MACHINES if machines else _WORDS).items():
        form = forms[several]
        if program.counted:
            form = forms[0] if word == "steps" else _COUNTED.get(word, form)
        if program.by_sample and word == "steps":
            count = r"@name@_impl::samples_in(\1->set)" if program.pictures else r"(\1->set + 1)"
            form = rf"@name@_impl::sample_steps(*\1) * {count}"
        text = re.sub(rf"@{word}\(([^@]*)\)@", form, text)
    said = json.dumps(", ".join(f"--max {name}={most}" for name, most in limits.items()))[1:-1]
    return text.replace("@limits@", said).replace("@name@", program.name).replace("@NAME@", program.name.upper())


def _versions() -> dict[str, str]:
    """The placeholders of dlpack's version, and its numbers."""
    numbers = dict(zip(("major", "minor", "patch"), re.findall(r"\d+", __version__), strict=False))
    return {"version": __version__, **{f"version_{part}": number for part, number in numbers.items()}}


HANDLE_WORDS = 8
"""Words of predictor.h's handle beside a pointer to each input and output, the side file, the set and the sample."""


TENSOR_WORDS = 8
"""Words of api.h's description of a tensor; an extent takes up to two."""


def _memory(program: Program, side_file: bool) -> tuple[int, int, int]:
    """A handle's words, and the bytes beside it of a predictor with and without memory for inputs and outputs."""
    variants = program.ends
    work = program.text.work_bytes if program.text else 0
    sets = zip(*([*v.inputs, *v.outputs] for v in variants), strict=True)
    rooms = list(program.rooms) or [max(t.nbytes for t in same) for same in sets]
    rest = max(v.arena.size for v in variants) + program.prepared + cache_bytes(program) + 64 + -(-work // 64) * 64
    own = sum(-(-n // 64) * 64 for n in rooms)
    words = len(rooms) + HANDLE_WORDS + side_file + (len(variants) > 1) + program.by_sample + (work > 0)
    if program.counted:
        tensors = (*program.inputs, *program.outputs)
        words += len(tensors) + 1 if program.by_sample and program.pictures else 0
        words += 2 * TENSOR_WORDS + 6 + len(tensors) + sum(TENSOR_WORDS + 2 * len(t.shape) for t in tensors)
    return words + (5 if program.decoder else 0), rest + own, rest


_MACROS = re.compile(
    r"\b(INLINE|SCALAR_LOOP|TOGETHER|PRAGMA|BASELINE|CPU_NEEDED|ALLOWED|IS_ONE|SHA256_X86|HOSTED_FILES|CUDA_\w+)\b"
)


def own_runtime(runtime: Mapping[str, str]) -> dict[str, str]:
    """The runtime's text with its namespace `impl` and its macros named after the model.

    So files of several models may be compiled as one.
    """
    return {file: _MACROS.sub(r"@NAME@_\1", re.sub(r"\bimpl\b", "@name@_impl", text)) for file, text in runtime.items()}
