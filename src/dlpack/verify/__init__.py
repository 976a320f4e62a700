"""Verification: the compiled predictor against onnxruntime, or for integer networks against exact arithmetic."""
