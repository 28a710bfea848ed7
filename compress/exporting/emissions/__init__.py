"""One kind of ONNX file a module."""
