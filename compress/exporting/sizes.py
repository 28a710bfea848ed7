"""Dynamic axes of files that are given a size: a batch of 1, texts of 128 tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.bundle import Deployment, TensorSpec
from compress.errors import UsageError
from compress.models.deployment import SEQUENCE
from compress.suggest import unknown


def with_sizes(deployment: Deployment, sizes: Mapping[str, int]) -> Deployment:
    """The deployment of a file whose axes of those names are fixed.

    Raises:
        UsageError: the network has no such axis, or texts of the data are longer.
    """
    tensors = (*deployment.inputs, *deployment.outputs)
    known = dict.fromkeys(axis for spec in tensors for axis in spec.shape if isinstance(axis, str))
    longest = dict(deployment.extra.get("sizes", {}))
    if SEQUENCE in longest:  # where files are measured; texts may be longer
        longest[SEQUENCE] = max(longest[SEQUENCE], deployment.extra.get("tokenizer", {}).get("max_length", 0))
    for name, size in sizes.items():
        if name not in known and name != "batch":
            raise UsageError(f"export.axes: {unknown('axis', name, known)}")
        if size < longest.get(name, 0):
            raise UsageError(
                f"export.axes.{name}: texts have up to {longest[name]} tokens, and {size} are too few: shorten them "
                "with `text.max_length` of the data, or give more"
            )

    def fix(spec: TensorSpec) -> TensorSpec:
        return replace(
            spec, shape=tuple(sizes.get(axis, axis) if isinstance(axis, str) else axis for axis in spec.shape)
        )

    return replace(deployment, inputs=tuple(map(fix, deployment.inputs)), outputs=tuple(map(fix, deployment.outputs)))


def fill(inputs: Sequence[NDArray[Any]], deployment: Deployment) -> tuple[NDArray[Any], ...]:
    """Batches of texts, (examples, tokens), filled up with zeros (mask 0) where the deployment fixes more tokens."""
    result = []
    for array, spec in zip(inputs, deployment.inputs, strict=True):
        size = spec.shape[1] if array.ndim == 2 and spec.dtype == "int64" else None
        missing = size - array.shape[1] if isinstance(size, int) else 0
        result.append(np.pad(array, ((0, 0), (0, missing))) if missing > 0 else array)
    return tuple(result)
