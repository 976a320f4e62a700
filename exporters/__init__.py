"""From a framework's model to ONNX, labels and preprocessing: one module per framework."""
