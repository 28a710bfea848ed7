"""A model loaded by ONNX Runtime.

ONNX Runtime 1.29 and later report to Microsoft unless ORT_DISABLE_TELEMETRY is set before the import: an uploading
thread, a data base in the home folder, a file in the temporary one. Here it is set, unless the user has set it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from compress.targets.measuring.errors import RequestError, plain


def open_session(model: str, provider: str, threads: int, profile: str = "") -> Any:
    """An InferenceSession with explicit threads that sleep when idle (spinning harms everybody on a shared machine).

    `profile` is how the file begins in which the runtime notes the time of each operator; nothing: it does not.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    if provider not in onnxruntime.get_available_providers():
        there = ", ".join(onnxruntime.get_available_providers())
        raise RequestError(
            "provider", f"ONNX Runtime {onnxruntime.__version__} here has no {provider} (it has {there})"
        )
    if not Path(model).is_file():
        raise RequestError("model", "there is no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 4  # what is wrong comes as an exception
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    try:
        session = onnxruntime.InferenceSession(model, options, providers=[provider])
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise RequestError("model", f"ONNX Runtime {onnxruntime.__version__} cannot load it: {plain(error)}") from error
    if session.get_providers()[0] != provider:
        raise RequestError(
            "provider", f"{provider} could not be used: ONNX Runtime fell back to {session.get_providers()[0]}"
        )
    return session
