"""From PyTorch to the ONNX files that runtimes run fastest."""
