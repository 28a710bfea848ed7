"""Which channels of a network hang together, read off one run of it.

The idea of Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023 (arXiv:2301.12900), at the level of
single channels and of ATen operators: each channel of each parameter bears a label, and labels follow tensors through
views, slices and products (`compress.pruning.tracing`). What code fixes by numbers of its own cannot be seen so:
`compress.pruning.verify` tries each group before it is believed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from compress.errors import UsageError
from compress.pruning.groups import Group, Place, Traced, form_groups
from compress.pruning.heads import AttentionPart
from compress.pruning.layers import Axis, has_two_axes, layout
from compress.pruning.tracing import Trace, run

EXAMPLES = 2
"""Examples that are run: more tell nothing more."""


def trace_groups(
    module: nn.Module, example_inputs: Sequence[Tensor], attention: AttentionPart = "heads"
) -> tuple[list[Group], dict[str, str]]:
    """Coupled layers of `module` in the order of the network, and for each layer that must stay the reason.

    `module` is left as it was. What may go of attention are heads, or channels of every head alike.

    Raises:
        UsageError: the network fails on the example.
    """
    example = [tensor[:EXAMPLES] for tensor in example_inputs]
    try:
        trace = run(module, example, attention)
    except UsageError:
        raise
    except Exception as error:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in example_inputs)
        raise UsageError(f"prune: the network fails on an example of shape {shapes}: {_text(error)}") from error
    makers = [path for path, part in module.named_modules() if has_two_axes(part)]
    return form_groups(_places(module, trace), makers, trace.labels, trace.attention)


def _places(module: nn.Module, trace: Trace) -> dict[Place, Traced]:
    """The labels along each axis of each layer, and of parameters outside of the layers that are known."""
    found: dict[Place, Traced] = {}
    for name, axes in trace.leaves.items():
        path, _, attribute = name.rpartition(".")
        layer = module.get_submodule(path)
        axes_of: tuple[Axis, ...] = ("in", "out")
        layouts = [(axis, known) for axis in axes_of if (known := layout(layer, axis)) is not None]
        for dim, ids in enumerate(axes):
            if not isinstance(ids, np.ndarray):
                continue
            if not layouts and not all(trace.labels.reasons(ids)):
                found.setdefault((name, "out"), Traced(ids, dim))
            for axis, known in layouts:
                if any(slot.name == attribute and slot.dim % len(axes) == dim for slot in known.slots):
                    found.setdefault((path, axis), Traced(np.tile(ids, known.channels // len(ids))))
    for path, (inputs, outputs) in trace.own.items():
        found[path, "in"], found[path, "out"] = Traced(inputs), Traced(outputs)
    return found


def _text(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
