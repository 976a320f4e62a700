"""Loop nests: index arithmetic, layouts, the kernel IR, and lowering to it. `tir.py` is the only door to TVM."""
