"""What every peer's program is asked: a float ONNX file and samples in, a quantized file out.

    PYTHONPATH=benchmarks python -m peers.NAME FLOAT.onnx SAMPLES.npz OUT.onnx KIND VARIANT

KIND is `convolution` or `transformer`, VARIANT one of the program's own. On failure the last line printed is
`FAILED: ` and the first line of the error. Runs in an environment that has the peer and not this project.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Asked:
    """One file to quantize; `samples` is input name -> examples, `kind` convolution or transformer."""

    float_file: Path
    samples: Mapping[str, Any]
    out: Path
    kind: str
    variant: str

    def single(self) -> Iterator[dict[str, Any]]:
        """The samples one by one, as batches of one."""
        count = len(next(iter(self.samples.values())))
        return ({name: values[i : i + 1] for name, values in self.samples.items()} for i in range(count))


class Reader:
    """Samples one by one, in the form that ONNX Runtime's quantizer asks for."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self.rewind()

    def get_next(self) -> dict[str, Any] | None:
        """The next sample, or None after the last."""
        return next(self._samples, None)

    def rewind(self) -> None:
        """Start again."""
        self._samples = self._asked.single()


def main(variants: Mapping[str, Callable[[Asked], None]]) -> None:
    """Do what the command line asks with the function of the variant."""
    float_file, samples, out, kind, variant = sys.argv[1:]
    try:
        variants[variant](Asked(Path(float_file), dict(np.load(samples)), Path(out), kind, variant))
    except Exception as error:
        traceback.print_exc()
        lines = [line for line in str(error).splitlines() if line.strip()] or [""]
        print(f"FAILED: {type(error).__name__}: {lines[0].strip()}", file=sys.stderr)
        sys.exit(1)
