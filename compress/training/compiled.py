"""A network whose calls in training are compiled, and nothing else of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from compress.errors import UsageError


@contextmanager
def compiled(module: nn.Module, wanted: bool) -> Iterator[None]:
    """Within the block the module's calls are compiled, where that is wanted; evaluation stays eager.

    What is compiled is kept for the next block. `compile` leaves the module itself as it is: its names, its state.

    Raises:
        UsageError: There is no compiler for this device.
    """
    if not wanted:
        yield
        return
    attribute = "_compiled_call_impl"
    kept = module.__dict__.get("_compiled_for_training")
    if kept is None:
        kept = torch.compile(module._call_impl)
        module.__dict__["_compiled_for_training"] = kept
    setattr(module, attribute, kept)
    try:
        yield
    except torch._inductor.exc.InductorError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UsageError(f"compile: torch.compile fails here: {lines[0]}; leave `compile` out") from error
    finally:
        setattr(module, attribute, None)


def forget_compiled(module: nn.Module) -> None:
    """Drop what was compiled, so that the module can be copied and saved as any other."""
    module.__dict__.pop("_compiled_for_training", None)
