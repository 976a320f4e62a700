"""The benchmark: our native bundles beside onnxruntime, ncnn, MNN, OpenVINO and LiteRT. `python -m bench --help`"""
