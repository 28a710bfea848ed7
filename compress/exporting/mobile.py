"""ONNX Runtime's format for phones and microcontrollers: optimized beforehand, with the list of operators it needs.

Builds of the runtime that hold no more than listed operators (`--include_ops_by_config`) take a few megabytes less.
ONNX Runtime's writer is not deterministic: two files of one graph differ in some hundred bytes (1.32), not in answers.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from compress.errors import StageError
from compress.exporting.graph import Array

MODEL_FILE, OPERATORS_FILE = "model.ort", "required_operators.config"


def write_mobile(model: Path, feeds: dict[str, Array], *, signed: bool = False) -> tuple[Path, Path]:
    """Write `model.ort` and `required_operators.config` beside an ONNX file; returns their paths.

    The graph is optimized as far as any processor can run it. `signed` has int8 activations treated as on Arm, whatever
    this machine is. `feeds` are inputs on which the file must give the very bits that the ONNX file gives.

    Raises:
        StageError: the runtime cannot write or load it, or it gives other answers.
    """
    import onnxruntime
    from onnxruntime.tools.ort_format_model import create_config_from_models

    path, operators = model.with_name(MODEL_FILE), model.with_name(OPERATORS_FILE)
    options = _options(signed)
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", "ORT")
    providers = ["CPUExecutionProvider"]
    try:
        expected = onnxruntime.InferenceSession(str(model), options, providers=providers).run(None, feeds)
        found = onnxruntime.InferenceSession(str(path), _options(signed), providers=providers).run(None, feeds)
        with contextlib.redirect_stdout(io.StringIO()):
            create_config_from_models([path], operators, enable_type_reduction=True)
    except Exception as error:
        raise StageError(f"export: ONNX Runtime cannot make a mobile file of {model.name}: {error}") from error
    if not all(_same_bits(one, other) for one, other in zip(expected, found, strict=True)):
        raise StageError(f"export: {path.name} does not give the bits that {model.name} gives")
    listed = operators.read_text(encoding="utf-8").replace(str(path), path.name)
    operators.write_text(listed, encoding="utf-8", newline="\n")
    return path, operators


def _options(signed: bool) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if signed:
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    return options


def _same_bits(one: Array, other: Array) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and np.array_equal(one, other, equal_nan=True)
