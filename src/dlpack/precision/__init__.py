"""Smaller numbers on request: weights of 16 bits (`--weights-type`), integer networks (`--quantize`); what they change.

`rounded` rounds weights, `quantize` has onnxruntime's quantiser make an integer network from `samples`, and `accuracy`
compares the result with the model as it was.
"""
