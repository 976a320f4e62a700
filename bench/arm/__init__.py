"""Arm without an Arm: instructions executed under qemu, and cycles by llvm-mca. `python -m bench.arm --help`"""
