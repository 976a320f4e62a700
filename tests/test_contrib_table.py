"""docs/operators-contrib.md lists what there is, and each operator that it lists has a test."""

from __future__ import annotations

from pathlib import Path

from contrib_table import PATH, REFUSED, document

from dlpack.model.contrib_node import DOMAIN, REWRITES


def test_the_table_is_right() -> None:
    text = PATH.read_text(encoding="utf-8")
    assert text == document(text), "run `python tests/contrib_table.py`"


def test_each_operator_has_a_test() -> None:
    texts = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_contrib_*.py"))
    operators = {op for domain, op in REWRITES if domain == DOMAIN}
    untested = {op for op in operators if f'"{op}"' not in texts}
    assert not untested
    assert set(REFUSED) <= operators
