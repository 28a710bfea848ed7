"""ONNX Runtime's own quantizer, as its documentation advises: its preprocessing, then static or dynamic."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from peers.asked import Asked, Reader, main


def prepare(asked: Asked, prepared: Path) -> None:
    """Its preprocessing; without symbolic shapes where these cannot be inferred, as it then advises."""
    try:
        quant_pre_process(str(asked.float_file), str(prepared), auto_merge=True)
    except Exception as error:
        if "symbolic shape inference" not in str(error):
            raise
        quant_pre_process(str(asked.float_file), str(prepared), skip_symbolic_shape=True)


def static(asked: Asked, activations: QuantType, operators: Sequence[str] | None = None) -> None:
    """QDQ, int8 weights per channel, min-max; all kinds of operators that it can quantize unless some are named."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        prepare(asked, prepared)
        quantize_static(
            str(prepared),
            str(asked.out),
            Reader(asked),
            quant_format=QuantFormat.QDQ,
            activation_type=activations,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=operators,
            calibrate_method=CalibrationMethod.MinMax,
        )


def dynamic(asked: Asked) -> None:
    """Activations' ranges are found at run time; int8 weights per channel."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        prepare(asked, prepared)
        quantize_dynamic(str(prepared), str(asked.out), per_channel=True, weight_type=QuantType.QInt8)


def dynamic_optimized(asked: Asked) -> None:
    """The same after ONNX Runtime's optimizer for transformers, which looks for attention to fuse."""
    from onnxruntime.transformers.optimizer import optimize_model

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        kind = "bert" if asked.kind == "transformer" and "input_ids" in asked.samples else "vit"
        optimize_model(str(asked.float_file), model_type=kind, opt_level=0).save_model_to_file(str(prepared))
        quantize_dynamic(
            str(prepared),
            str(asked.out),
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},  # as its error says where shapes are unknown
        )


if __name__ == "__main__":
    main(
        {
            "static-u8s8": lambda asked: static(asked, QuantType.QUInt8),
            "static-s8s8": lambda asked: static(asked, QuantType.QInt8),
            "static-products": lambda asked: static(asked, QuantType.QUInt8, ["MatMul", "Gemm", "Conv"]),
            "dynamic": dynamic,
            "dynamic-optimized": dynamic_optimized,
        }
    )
