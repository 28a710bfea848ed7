"""Shapes of inputs: a size that is no number (a name or nothing) is a dynamic axis."""

from __future__ import annotations

from typing import Any

from compress.targets.measuring.errors import RequestError

BATCH_NAMES = frozenset({"batch", "batch_size", "batchsize", "n", "b"})


def input_shapes(session: Any) -> dict[str, list[Any]]:
    """Each input's shape as the file says it, dynamic axes by name or None."""
    return {item.name: list(item.shape) for item in session.get_inputs()}


def dynamic_axes(inputs: dict[str, list[Any]]) -> dict[str, int]:
    """The dynamic axes of all inputs by name (see `axis_name`), and the position at which each stands first."""
    found: dict[str, int] = {}
    for name, shape in inputs.items():
        for position, size in enumerate(shape):
            if not isinstance(size, int):
                found.setdefault(axis_name(name, position, size), position)
    return found


def axis_name(name: str, position: int, size: Any) -> str:
    """How a dynamic axis is called: by its own name, else by its input and position, as in `pixels:2`."""
    return size if isinstance(size, str) and size else f"{name}:{position}"


def batch_names(inputs: dict[str, list[Any]], axes: dict[str, int]) -> set[str]:
    """Which dynamic axes are the batch, but for those that `axes` sets: those called so, else those that stand first.

    A nameless first axis is the batch as well.
    """
    dynamic = dynamic_axes(inputs)
    first = {name for name, position in dynamic.items() if position == 0}
    called = {name for name in dynamic if name.lower() in BATCH_NAMES}
    return (called | {name for name in first if ":" in name} if called else first) - set(axes)


def fixed_batch(inputs: dict[str, list[Any]], axes: dict[str, int]) -> int | None:
    """The batch size that a file is bound to (its first input's first axis), or None if its batch is dynamic."""
    if batch_names(inputs, axes):
        return None
    name, shape = next(iter(inputs.items()), ("", []))
    size = shape[0] if shape else 1
    return size if isinstance(size, int) else axes[axis_name(name, 0, size)]


def concrete_shapes(inputs: dict[str, list[Any]], batch: int, axes: dict[str, int]) -> dict[str, list[int]]:
    """The shape of each input, with `batch` and `axes` put in for the dynamic axes."""
    known = {**dict.fromkeys(batch_names(inputs, axes), batch), **axes}
    dynamic = sorted(dynamic_axes(inputs))
    missing = [name for name in dynamic if name not in known]
    if missing:
        what, need = ("axes", "need sizes") if len(missing) > 1 else ("axis", "needs a size")
        flags = " ".join(f"--shape {name}=SIZE" for name in missing)
        settings = ", ".join(f"{name}: SIZE" for name in missing)
        named = ", ".join(f"'{name}'" for name in missing)
        raise RequestError("axes", f"its dynamic {what} {named} {need}: {flags} (in a target: shapes: {{{settings}}})")
    unused = [name for name in axes if name not in dynamic]
    if unused:
        there = f"its dynamic axes are {', '.join(dynamic)}" if dynamic else "it has no dynamic axes"
        raise RequestError("axes", f"it has no dynamic axis '{unused[0]}': {there}")
    return {
        name: [size if isinstance(size, int) else known[axis_name(name, i, size)] for i, size in enumerate(shape)]
        for name, shape in inputs.items()
    }
