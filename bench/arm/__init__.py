"""64-bit Arm without an Arm: instructions that a run executes under qemu, and cycles by llvm-mca. `python -m bench.arm --help`"""
