"""The conformance harness: ONNX's own backend node tests, through the compiler and run.

It lives beside the tests and not in the package, since nobody who builds a model needs it: `script/conformance` and
`tests/test_conformance.py` use it. `cases` finds the tests, `batch` compiles and runs many of them in one translation
unit, `execute` is the process that runs them, `harness` spreads them over processes, `table` writes docs/operators.md.
"""
