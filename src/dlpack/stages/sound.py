"""How samples of sound become an input: of the options, or of the model's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from dlpack.meaning.sound import METADATA_KEY, from_metadata, read_sound
from dlpack.options import Options

if TYPE_CHECKING:
    from dlpack.plan.program import Program


def with_sound(programs: Mapping[str, Program], metadata: Mapping[str, str], options: Options) -> dict[str, Program]:
    """The programs with what they know of sound. Raises UsageError for what does not fit the inputs."""
    from dlpack.bundle.manifest import described

    if not options.sound and METADATA_KEY not in metadata:
        return dict(programs)
    inputs = [described(s)["inputs"] for s in next(iter(programs.values())).shape_sets]
    sound = read_sound(options.sound, inputs) if options.sound else from_metadata(metadata[METADATA_KEY], inputs)
    return {machine: replace(p, sound=sound) for machine, p in programs.items()}
