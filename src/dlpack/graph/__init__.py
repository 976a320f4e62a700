"""The typed graph: reading ONNX into it, and the passes over it."""
