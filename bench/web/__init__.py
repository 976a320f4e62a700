"""The benchmark in Chromium: our bundles for wasm beside onnxruntime-web and LiteRT.js. `python -m bench.web --help`"""
