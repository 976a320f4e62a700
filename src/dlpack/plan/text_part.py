"""What a program has of a tokenizer: its tables, and how an embedding is made of a text's tokens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Embedding:
    """How a text's embedding is computed: the inputs by what they take (None: there is none), the length of a text in
    each set of shapes (0: it takes none), the output, its size, how tokens are pooled, and whether it gets length 1."""

    ids: int
    mask: int | None
    types: int | None
    lengths: tuple[int, ...]
    output: int
    size: int
    pooling: str
    normalize: bool


@dataclass(frozen=True)
class TextPart:
    """A tokenizer in the file. Its tables lie in the weights at `offset`.

    `constants`: the lines that define them for the runtime's sections, `sections`, which `normalize` calls.
    `work_bytes`: of a predictor's memory; `tokens`: how many ids there are; `most_bytes`: of a text. `stops`: the ids
    that end a text which a decoder writes, where the model's folder says so; `piece`: more bytes than an id adds to a
    text; `writer`: where in the memory a text is written.
    """

    offset: int
    constants: tuple[str, ...]
    sections: tuple[str, ...]
    normalize: tuple[str, ...]
    work_bytes: int
    tokens: int
    most_bytes: int
    embedding: Embedding | None = None
    stops: tuple[int, ...] = ()
    piece: int = 0
    writer: int = 0
