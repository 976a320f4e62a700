"""An ONNX model: loaded, cleaned, its shapes inferred and its constants folded, then read into the typed graph."""
