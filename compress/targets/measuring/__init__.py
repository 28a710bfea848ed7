"""The one measuring program: gives a model's answers, its raw latency, load time, memory and energy, where it runs.

    python measuring.pyz REQUEST.json RESULT.json

`compress.targets.programs` makes one file of this folder, the same bytes each time. It runs here in a fresh process and
is copied to devices, so it needs Python >= 3.9, NumPy and ONNX Runtime and nothing else, and imports those only when it
runs. The request is `{"threads", "cores", "provider", "stop_with_stdin", "jobs": [{"model", "latency": {...},
"answers": {...}}, {"model", "operators": {...}}]}`; the result `{"machine", "conditions", "conditions_before",
"versions", "jobs": [...]}` holds for each job what was measured, or `{"error": {"kind", "message"}}`.
"""
