"""How samples of sound become an input, and which tokens are around what is said: of the options, or the metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from dlpack.errors import UsageError
from dlpack.meaning import speech as speaking
from dlpack.meaning.sound import METADATA_KEY, from_metadata, read_sound
from dlpack.options import Options

if TYPE_CHECKING:
    from dlpack.plan.program import Program


def with_sound(programs: Mapping[str, Program], metadata: Mapping[str, str], options: Options) -> dict[str, Program]:
    """The programs with what they know of sound and speech. Raises UsageError for what does not fit the model."""
    from dlpack.bundle.manifest import described

    program = next(iter(programs.values()))
    speech = speaking.from_metadata(metadata) if program.decoder and program.decoder.features >= 0 else None
    if speech and program.decoder and speaking.largest_token(speech) >= program.decoder.vocabulary:
        largest, vocabulary = speaking.largest_token(speech), program.decoder.vocabulary
        raise UsageError(f"the model's metadata name the token {largest}, and it has {vocabulary}")
    sets = program.shape_sets[:1] if program.decoder else program.ends  # its first set is the one that hears
    inputs = [described(s)["inputs"] for s in sets]
    sound = None
    if options.sound:
        sound = read_sound(options.sound, inputs)
    elif METADATA_KEY in metadata:
        sound = from_metadata(metadata[METADATA_KEY], inputs)
    return {machine: replace(p, sound=sound, speech=speech) for machine, p in programs.items()}
