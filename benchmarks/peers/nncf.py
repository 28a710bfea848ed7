"""NNCF's post-training quantization of an ONNX graph, for the CPU."""

from __future__ import annotations

import nncf  # type: ignore[import-not-found]
import onnx
from peers.asked import Asked, main


def quantize(asked: Asked) -> None:
    """Its defaults, which are mixed for transformers; told what kind of network it is."""
    kind = nncf.ModelType.TRANSFORMER if asked.kind == "transformer" else None
    quantized = nncf.quantize(
        onnx.load(asked.float_file),
        nncf.Dataset(list(asked.single())),
        subset_size=len(next(iter(asked.samples.values()))),
        target_device=nncf.TargetDevice.CPU,
        model_type=kind,
    )
    onnx.save(quantized, asked.out)


if __name__ == "__main__":
    main({"onnx": quantize})
