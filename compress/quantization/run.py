"""What the `quantize` stage does."""

from __future__ import annotations

from pathlib import Path

from compress.bundle import Bundle, Kind, write_bundle
from compress.quantization.quantize import quantize
from compress.quantization.rest import CANONICAL_FILE, Preparation, save_quantized
from compress.quantization.stage import Quantize
from compress.stage import Context, Metrics
from compress.training.finish import measure_model, open_training


def run_stage(settings: Quantize, source: Bundle, out: Path, context: Context) -> Metrics:
    """Quantize the source, write it, measure it on validation.

    Raises:
        UsageError: as `quantize` and `open_training` do.
        StageError: as `quantize` and `save_quantized` do.
    """
    work = open_training(source, context)
    result = quantize(work.module, work.data, work.task, settings, context)
    metrics = measure_model(result.module, work.data, work.task, context)
    if context.is_main:
        save_quantized(result.module, Preparation.of(settings, result.ignore), source.path, source.deployment, out)
        write_bundle(out, Kind.QUANTIZED, source.deployment)
        metrics["size_bytes"] = (out / CANONICAL_FILE).stat().st_size
    metrics["quantization"] = {
        "grid": "symmetric" if settings.symmetric else "affine",
        "weight_bits": settings.bits,
        "kept": result.kept,
        "post_training": result.post_training,
        "trained": result.trained,
        "rungs": list(result.rungs),
        "in_float": list(result.ignore),
        "allowed": settings.accuracy_drop,
    }
    if result.log is not None:
        metrics["training"] = result.log.as_metrics()
    return metrics
