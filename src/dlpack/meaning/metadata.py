"""What a model's metadata say of its meaning, as JSON under keys of their own."""

from __future__ import annotations

import json
from typing import Any

from dlpack.errors import UsageError


def key_words(key: str) -> str:
    """How errors name a key."""
    return f"the model's metadata key {key}"


def read_key(text: str, key: str) -> Any:
    """The JSON that stands under a key. Raises UsageError for text that is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as e:
        raise UsageError(f"{key_words(key)} is not JSON: {e}") from e
