"""Networks with open dimensions, each at twenty sizes, compared with onnxruntime: script/sizes."""
