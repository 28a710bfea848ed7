"""Linters: what is wrong with an ONNX file for the runtime and hardware that it is meant for."""
