"""The emissions that targets can run, by name, and what their processors decide of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

FLOAT_EMISSIONS = ("fp32", "fp16", "bf16")
"""Those that compute in float."""
CALIBRATED_EMISSIONS = ("ort-x86", "ort-x86-avx2", "ort-arm", "tensorrt")
"""Those made of quantized networks, whose activations have ranges."""
UNCALIBRATED_EMISSIONS = ("ort-dynamic", "ort-weights8", "ort-weights4")
"""Those that round a float network as it is."""
EMISSIONS = (*FLOAT_EMISSIONS, *CALIBRATED_EMISSIONS, *UNCALIBRATED_EMISSIONS)
INTEGER_PRECISIONS = ("int8", "int4")
"""What a file is called that computes with integers."""
VNNI = frozenset({"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8"})
"""Processors' features with which products of uint8 and int8 are added without saturation."""
X86, ARM = frozenset({"x86_64", "amd64", "i386", "i686"}), frozenset({"aarch64", "arm64", "armv8l", "armv7l"})


def saturates(machine: Mapping[str, Any]) -> bool:
    """Whether int8 kernels of a processor, as `measuring.machine` describes it, add two products in 16 bits.

    With weights of 8 bits such sums come out wrong, with 7 bits right.
    """
    return str(machine["architecture"]).lower() in X86 and not VNNI.intersection(machine["features"])


def weight_bits_for(emissions: Collection[str]) -> int:
    """Bits of a weight that all of these files can have: 7 where one is for processors whose sums saturate."""
    return 7 if "ort-x86-avx2" in emissions else 8


def precision_of(emission: str) -> str:
    """What the weights of a file are stored in: `fp32`, `fp16`, `bf16`, `int8` or `int4`."""
    if emission in FLOAT_EMISSIONS:
        return emission
    return "int4" if emission == "ort-weights4" else "int8"
