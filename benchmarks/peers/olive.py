"""Microsoft Olive's passes for ONNX files: static and dynamic quantization."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnx
from olive.data.config import DataComponentConfig, DataConfig  # type: ignore[import-not-found]
from olive.data.registry import Registry  # type: ignore[import-not-found]
from olive.hardware.accelerator import DEFAULT_CPU_ACCELERATOR  # type: ignore[import-not-found]
from olive.model import ONNXModelHandler  # type: ignore[import-not-found]
from olive.passes.olive_pass import create_pass_from_dict  # type: ignore[import-not-found]
from olive.passes.onnx.quantization import (  # type: ignore[import-not-found]
    OnnxDynamicQuantization,
    OnnxStaticQuantization,
)
from olive.passes.onnx.transformer_optimization import OrtTransformersOptimization  # type: ignore[import-not-found]
from peers.asked import Asked, main

SAMPLES = "samples"


def run(asked: Asked, *passes: tuple[Any, dict[str, Any]]) -> None:
    """One pass after the other; the last one's file is the result."""
    model = ONNXModelHandler(str(asked.float_file))
    with tempfile.TemporaryDirectory() as folder:
        for number, (kind, settings) in enumerate(passes):
            made = create_pass_from_dict(kind, settings, disable_search=True, accelerator_spec=DEFAULT_CPU_ACCELERATOR)
            model = made.run(model, str(Path(folder) / str(number)))
        onnx.save(onnx.load(model.model_path), asked.out)


def static(asked: Asked, **settings: Any) -> None:
    """uint8 activations and int8 weights per channel, min-max; else Olive's defaults."""
    data = list(asked.single())

    @Registry.register_dataset(SAMPLES)  # type: ignore[untyped-decorator]
    def dataset(**_: Any) -> list[tuple[dict[str, Any], int]]:
        return [({name: values[0] for name, values in sample.items()}, 0) for sample in data]

    config = DataConfig(name=SAMPLES, load_dataset_config=DataComponentConfig(type=SAMPLES))
    given = {"data_config": config, "precision": "int8", "activation_type": "uint8", "per_channel": True}
    run(asked, (OnnxStaticQuantization, {**given, **settings}))


def dynamic(asked: Asked) -> None:
    """int8 weights per channel."""
    run(asked, (OnnxDynamicQuantization, {"precision": "int8", "per_channel": True}))


def optimized(asked: Asked) -> None:
    """Dynamic, after the pass that fuses what transformers are made of."""
    kind = "bert" if "input_ids" in asked.samples else "vit"
    passes = (OrtTransformersOptimization, {"model_type": kind, "opt_level": 0})
    run(asked, passes, (OnnxDynamicQuantization, {"precision": "int8", "per_channel": True}))


if __name__ == "__main__":
    main({"static": static, "dynamic": dynamic, "dynamic-optimized": optimized})
