"""NNCF's post-training quantization of an exported torch network, then torch's exporter to ONNX."""

from __future__ import annotations

import nncf  # type: ignore[import-not-found]
import torch
from peers.asked import Asked, main


def quantize(asked: Asked) -> None:
    """As for the ONNX graph, on `torch.export`'s graph of the same network, which lies beside the float file."""
    program = torch.export.load(asked.float_file.with_suffix(".pt2"))
    samples = [tuple(torch.from_numpy(x) for x in sample.values()) for sample in asked.single()]
    quantized = nncf.quantize(
        program.module(check_guards=False),
        nncf.Dataset(samples, lambda sample: sample),
        subset_size=len(samples),
        target_device=nncf.TargetDevice.CPU,
        model_type=nncf.ModelType.TRANSFORMER if asked.kind == "transformer" else None,
    )
    example = tuple(torch.from_numpy(x[:2]) for x in asked.samples.values())
    axes = tuple({0: torch.export.Dim.DYNAMIC} for _ in example)
    torch.onnx.export(
        quantized,
        example,
        str(asked.out),
        dynamo=True,
        dynamic_shapes=axes,
        input_names=list(asked.samples),
        opset_version=18,
        external_data=False,
        verbose=False,
    )


if __name__ == "__main__":
    main({"torch": quantize})
