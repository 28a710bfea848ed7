"""How many CPU threads to compute with where nobody says."""

from __future__ import annotations

import os

from compress.targets.measuring.machine import available_cores

VARIABLE = "OMP_NUM_THREADS"


def default_threads() -> int:
    """One for each core that this process may use, or as many as `OMP_NUM_THREADS` says if these are fewer.

    `torchrun` sets that to 1 where several processes share a machine.
    """
    cores, asked = len(available_cores()), os.environ.get(VARIABLE, "").split(",")[0].strip()
    return min(int(asked), cores) if asked.isdigit() and int(asked) > 0 else cores
