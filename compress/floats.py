"""Floating-point numbers, and which of them devices have."""

from __future__ import annotations

import torch


def widest(device: torch.device) -> torch.dtype:
    """The widest floating-point numbers that a device has: float64, but float32 on Apple's GPUs (`mps`)."""
    return torch.float32 if device.type == "mps" else torch.float64
