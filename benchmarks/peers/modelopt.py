"""NVIDIA modelopt's quantization of an ONNX graph to int8, calibrated on the CPU, floats left in fp32."""

from __future__ import annotations

from modelopt.onnx.quantization import quantize as modelopt_quantize  # type: ignore[import-not-found]
from peers.asked import Asked, main


def quantize(asked: Asked) -> None:
    """Its defaults, but for what only a GPU can use: fp16, and calibrating there."""
    shapes = {name: (1, *values.shape[1:]) for name, values in asked.samples.items()}
    modelopt_quantize(
        str(asked.float_file),
        quantize_mode="int8",
        calibration_data=dict(asked.samples),
        calibration_shapes=",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items()),
        calibration_method="max",
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=str(asked.out),
    )


if __name__ == "__main__":
    main({"onnx": quantize})
