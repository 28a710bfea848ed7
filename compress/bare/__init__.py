"""Bare ONNX files, without a PyTorch model or a pipeline."""
