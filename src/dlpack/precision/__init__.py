"""Smaller numbers on request: integer networks (`--quantize`), and what they and rounded weights change.

`dlpack.model.rounded` rounds weights; `quantize` has onnxruntime's quantiser make an integer network from `samples`;
`accuracy` compares the result with the model as it was.
"""
