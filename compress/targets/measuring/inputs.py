"""Made-up inputs."""

from __future__ import annotations

from typing import Any

from compress.targets.measuring.axes import concrete_shapes, input_shapes
from compress.targets.measuring.errors import RequestError

DTYPES = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16", "tensor(bool)": "bool",
    "tensor(int8)": "int8", "tensor(int16)": "int16", "tensor(int32)": "int32", "tensor(int64)": "int64",
    "tensor(uint8)": "uint8", "tensor(uint16)": "uint16", "tensor(uint32)": "uint32", "tensor(uint64)": "uint64",
}  # fmt: skip


def feeds_for(session: Any, batch: int, axes: dict[str, int]) -> dict[str, Any]:
    """Made-up inputs for one call."""
    shapes = concrete_shapes(input_shapes(session), batch, axes)
    for item in session.get_inputs():
        if item.type not in DTYPES:
            raise RequestError("model", f"values for its input '{item.name}' of type {item.type} cannot be made up")
    feeds = {item.name: made_up(shapes[item.name], DTYPES[item.type]) for item in session.get_inputs()}
    for name, values in feeds.items():
        if "mask" in name.lower() and values.dtype.kind != "f":
            values[...] = 1  # what is masked may be skipped, and some kernels do
    return feeds


def made_up(shape: list[int], dtype: str) -> Any:
    """Seeded random values: normal for floats, 0 and 1 for integers (which any embedding table accepts)."""
    import numpy

    generator = numpy.random.default_rng(0)
    if dtype.startswith("float"):
        return generator.standard_normal(shape).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)
