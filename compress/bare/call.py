"""What the command line says, as settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compress.bare.asked import RUNGS, Asked
from compress.bare.quantize import QuantizedFile, quantize_file
from compress.bare.samples import Images
from compress.errors import UsageError
from compress.profiling.bare import axis
from compress.stage import Progress
from compress.targets.reading import read_target


def quantize_from_call(
    model: Path, samples: Path, out: Path | None, options: Mapping[str, Any], progress: Progress
) -> QuantizedFile:
    """Carry out `compress quantize`; `options` are its options by name, absent ones None.

    Raises:
        UsageError: An option is wrong; and as `quantize_file` does.
        StageError: As `quantize_file` does.
    """
    wanted = set(options["rung"] or RUNGS)
    asked = Asked(
        emit=tuple(options["emit"] or ()),
        budget=options["budget"],
        grid=options["grid"],
        weight_bits=options["weight_bits"],
        calibration=options["calibration"],
        rungs=tuple(name for name in RUNGS if name in wanted) + tuple(sorted(wanted - set(RUNGS))),
        ignore=tuple(options["ignore"] or ()),
        shapes=dict(map(axis, options["shape"] or ())),
        images=Images(options["scale"], _numbers(options["mean"]), _numbers(options["std"]), _size(options["size"])),
    )
    folder = out or Path(f"{model.stem}-int8")
    place = read_target(options["target"], Path())
    return quantize_file(model, samples, folder, asked, target=place, progress=progress)


def _numbers(given: Sequence[float] | None) -> tuple[float, ...]:
    return tuple(given or ())


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise UsageError(f"--size {text}: write height and width, such as 240x320")
    return int(match[1]), int(match[2])
