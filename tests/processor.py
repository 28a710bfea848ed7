"""What the processor that the tests run on can do."""

from __future__ import annotations

from compress.targets.emissions import saturates
from compress.targets.measuring.machine import machine

WEIGHT_BITS = 7 if saturates(machine()) else 8
"""Of weights whose sums are right here."""
