"""The measuring program for TensorRT: builds engines, and gives their answers, raw latency and memory, on the GPU.

    python measuring_tensorrt.pyz REQUEST.json RESULT.json

`compress.targets.programs` makes one file of this folder and of `compress.targets.measuring`. It needs Python >= 3.10,
NumPy and tensorrt 11. Requests and results have the form of that program: a job may also `build` an engine (`build`),
and `describe` tells what is there without a job. `target` is what the target is called in messages.
"""
