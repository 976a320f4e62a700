"""Uses the wheel of a decoder with a tokenizer; what it prints is read by test_bindings_text.py."""

import sys
from collections.abc import Callable
from typing import Any

import writer

PROMPT = sys.argv[1]
DRAWN: dict[str, Any] = {"temperature": 1.2, "top_k": 50, "top_p": 0.95, "seed": 7}


def told(text: str) -> str:
    return f"{len(text.encode())} {sum(text.encode())}"


def refused(name: str, call: Callable[[], object]) -> Any:
    try:
        call()
    except Exception as error:  # noqa: BLE001 - what it is says the test
        print(f"{name}: {error}")
        return error
    print(f"{name}: no error")
    return None


def nested(piece: str) -> None:
    p.close()
    p.tokenize("a")


p = writer.Predictor()
ids = p.tokenize(PROMPT)
print("ids", *ids)
print("back", p.detokenize(ids))
print("plain", len(p.tokenize(PROMPT, special=False)))
print("tokens", *p.generate(ids, 6, **DRAWN))
pieces: list[str] = []
print("text", told(p.write(PROMPT, 20, on_text=pieces.append, **DRAWN)), len(pieces))
print("first", told(p.write(PROMPT, 20, on_text=lambda _: True, **DRAWN)))
p.write(PROMPT, 5, **DRAWN)
print("kept", told(p.write("and", 4, keep=True)))
print("written", told(refused("full", lambda: p.write(PROMPT, 99, stop=())).text))
print("made", len(refused("full", lambda: p.generate(ids, 99)).tokens))
print("broken", str(p.tokenize(b"a\xff") == p.tokenize("a\ufffd")).lower())
refused("long", lambda: p.tokenize("a" * 40_000))
refused("empty", lambda: p.generate([]))
refused("token", lambda: p.generate([9999]))
refused("sampler", lambda: p.write(PROMPT, temperature=1, top_p=2))
refused("callback", lambda: p.write(PROMPT, on_text=lambda _: int("of its own")))
refused("type", lambda: p.tokenize(5))
refused("nested", lambda: p.write(PROMPT, on_text=nested))
p.close()
refused("closed", lambda: p.tokenize(PROMPT))
