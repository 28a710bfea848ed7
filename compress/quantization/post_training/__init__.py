"""Int8 without training, on a float ONNX graph: one method a file."""
