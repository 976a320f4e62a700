"""Imported by the server that the harness's processes split off from, so that the cases are made once."""

from conformance.cases import all_cases

all_cases()
