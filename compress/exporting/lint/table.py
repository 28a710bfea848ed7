"""The rules of each profile, written out."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import TensorProto

from compress.exporting.lint import floating, onnxruntime, quantization, structure, tensorrt, uncalibrated
from compress.exporting.lint.finding import Rule

_REEXPORT = "export the network again with `compress export`, which leaves nothing of the kind in a file"
_QUANTIZE = "quantize the float network with QuantizeLinear and DequantizeLinear instead"
_SYMMETRIC = "set `grid: symmetric` on the quantize stage"
_PER_CHANNEL = "give weights one scale for each output channel"
_AS_FLOAT = "lint it for the kind of file that it is"
_NO_INTEGERS = "lint it for the runtime of int8 files that it is meant for, or export the float network"


def _any(known: frozenset[str]) -> tuple[Rule, ...]:
    return (
        Rule("foreign-domain", "error", structure.foreign_domains(known), "write it with ONNX's own operators"),
        Rule("function", "warning", structure.functions, "inline functions first (onnx.inliner)"),
        Rule("finite-weights", "error", structure.finite_weights, "train or convert again: the weights overflowed"),
        Rule("absolute-path", "warning", structure.absolute_paths, _REEXPORT),
    )


_RUNTIME = _any(structure.ONNX | structure.MICROSOFT | structure.TRADITIONAL)
_INTEGER = (
    Rule("of-its-kind", "warning", quantization.float_file, _AS_FLOAT),
    Rule("positive-scale", "error", quantization.positive_scales, "calibrate again"),
    Rule("equal-pair", "error", quantization.equal_pairs, "give both the same scale and zero point"),
    Rule("weight-axis", "error", quantization.weight_axis, _PER_CHANNEL),
    Rule("activation-per-tensor", "error", quantization.activations_per_tensor, "give an activation one scale"),
)
_ORT = (
    *_RUNTIME,
    *_INTEGER,
    Rule("integer-operator", "warning", quantization.integer_operators, _QUANTIZE + "; these rules do not judge it"),
    Rule("constant-scale", "warning", quantization.constant_scales, "fold constants (onnx.utils or onnxslim)"),
    Rule("weight-type", "error", onnxruntime.signed_weights, "store weights as int8 with zero point 0"),
    Rule("bias-scale", "error", onnxruntime.bias_scales, "round biases with scale (input) * scale (weights)"),
    Rule("float-weights", "error", onnxruntime.float_weights_between, "quantize its weights, or leave float around it"),
    Rule("one-reader", "warning", onnxruntime.one_reader, "give each reader a DequantizeLinear of its own"),
    Rule("quantized-output", "warning", onnxruntime.quantized_outputs, "quantize its output, behind the relu"),
    Rule("foldable-rectifier", "warning", onnxruntime.foldable_rectifiers, "begin (end) the range where it clips"),
    Rule("same-scale", "warning", onnxruntime.same_scales, "give its inputs and its output one scale"),
    Rule("mean-pool", "warning", onnxruntime.mean_pools, "write it as GlobalAveragePool"),
)
_UINT8 = Rule(
    "activation-type", "error", onnxruntime.activations_of(TensorProto.UINT8), "emit `ort-x86`: uint8 activations"
)
_INT8 = Rule(
    "activation-type", "error", onnxruntime.activations_of(TensorProto.INT8), "emit `ort-arm`: int8 activations"
)
_SEVEN_BITS = Rule("seven-bits", "error", onnxruntime.seven_bits, "set `weight_bits: 7` on the quantize stage")
_TENSORRT = (
    *_any(structure.ONNX),
    Rule("opset", "error", structure.operator_set(9, 25), "export with an opset in that range"),
    *_INTEGER,
    Rule("zero-point", "error", tensorrt.zero_points, _SYMMETRIC),
    Rule("integer-type", "error", tensorrt.unsigned, _SYMMETRIC + ", which gives int8"),
    Rule("integer-operator", "error", quantization.integer_operators, _QUANTIZE),
    Rule("constant-scale", "error", quantization.constant_scales, "fold constants (onnx.utils or onnxslim)"),
    Rule("float-bias", "error", quantization.rounded_biases, "keep biases float"),
    Rule("half-quantized", "error", quantization.half_quantized, "quantize both or neither"),
    Rule("kernel-shape", "error", structure.kernel_shape, "write the attribute kernel_shape"),
    Rule("float64", "error", tensorrt.float64, "cast it to float32"),
    Rule("weight-per-channel", "warning", quantization.weights_per_channel, _PER_CHANNEL),
    Rule("output-for-float", "warning", tensorrt.outputs_for_float, "remove this pair"),
    Rule("residual", "warning", tensorrt.residual_sums, "quantize the skip branch, and not the convolution's output"),
    Rule("same-scale", "warning", tensorrt.same_scales, "give its inputs and its output one scale"),
    Rule("quantized-once", "warning", tensorrt.quantized_once, "let one QuantizeLinear serve all readers"),
)


_DYNAMIC = (
    *_RUNTIME,
    Rule("of-its-kind", "error", uncalibrated.holds("MatMulInteger", "DynamicQuantizeMatMul"), _AS_FLOAT),
    Rule("dynamic-input", "error", uncalibrated.dynamic_inputs, "quantize its input by DynamicQuantizeLinear"),
    Rule("integer-weights", "error", uncalibrated.integer_weights, "store weights as int8 with zero point 0"),
)


def _weights(bits: int) -> tuple[Rule, ...]:
    pack = "quantize the float file again with `compress quantize`"
    return (
        *_RUNTIME,
        Rule("of-its-kind", "error", uncalibrated.holds("MatMulNBits"), _AS_FLOAT),
        Rule("microsoft-opset", "error", uncalibrated.microsoft_opset, "import com.microsoft in version 1"),
        Rule("bits", "error", uncalibrated.bits_of(bits), "lint it for the file of its bits"),
        Rule("block-size", "error", uncalibrated.block_size, "give blocks 32 inputs, or another power of two over 8"),
        Rule("packed-shape", "error", uncalibrated.packed_shape, pack),
        Rule("block-scale", "error", uncalibrated.block_scales, pack),
        Rule("int8-level", "warning", uncalibrated.int8_level, "set the attribute accuracy_level to 4"),
    )


def _float(wanted: int) -> tuple[Rule, ...]:
    narrow = (
        Rule("of-its-kind", "warning", floating.holds(wanted), _AS_FLOAT),
        Rule("wide-ends", "error", floating.wide_ends, "keep inputs and outputs float32 behind a Cast"),
        Rule("wide-weights", "warning", floating.wide_weights(wanted), "store it in 16 bits"),
    )
    return (
        *_RUNTIME,
        Rule("no-integers", "error", floating.no_quantization, _NO_INTEGERS),
        Rule("one-float", "error", floating.floats_of(wanted), "export it in one type"),
        Rule("defined-type", "error", floating.defined_types, "export with a newer opset, or keep it float32"),
        *(narrow if wanted != TensorProto.FLOAT else ()),
    )


PROFILES: Mapping[str, tuple[Rule, ...]] = {
    "fp32": _float(TensorProto.FLOAT),
    "fp16": _float(TensorProto.FLOAT16),
    "bf16": _float(TensorProto.BFLOAT16),
    "ort-x86": (*_ORT, _UINT8),
    "ort-x86-avx2": (*_ORT, _UINT8, _SEVEN_BITS),
    "ort-arm": (*_ORT, _INT8),
    "tensorrt": _TENSORRT,
    "ort-dynamic": _DYNAMIC,
    "ort-weights8": _weights(8),
    "ort-weights4": _weights(4),
}
"""Profile, which is an emission -> its rules."""
