"""What every benchmark shares: claims held against figures, and results kept with the machine they were read on."""

from __future__ import annotations

import json
import operator
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from compress.data.dataset import Data
from compress.environment import environment
from compress.errors import INTERRUPTED, CompressError
from compress.library import load_data

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
_COMPARE = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}


@dataclass(frozen=True)
class Claim:
    """A figure and the limit that it is held to."""

    what: str
    value: float
    relation: str
    limit: float
    form: str = "{:.3g}"

    @property
    def holds(self) -> bool:
        """Whether the figure keeps to its limit."""
        return bool(_COMPARE[self.relation](self.value, self.limit))

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "DOES NOT HOLD"
        return (
            f"{self.what}: {self.form.format(self.value)} ({self.relation} {self.form.format(self.limit)}): {verdict}"
        )


def cifar10_settings(**limit: int | None) -> dict[str, Any]:
    """The shipped settings of CIFAR-10, with fewer examples of a split: `train=10_000`."""
    content = yaml.safe_load((ROOT / "configs" / "data" / "cifar10.yaml").read_text())
    return {**content, "limit": limit}


def cifar10(images: int | None) -> Data:
    """CIFAR-10 as the published ResNets read it, with so many training images and 500 for validation."""
    return load_data(cifar10_settings(train=images, validation=500))


def command() -> str:
    """The command that remakes a result, with paths as one types them in the project's folder."""
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def save_result(name: str, lines: Sequence[dict[str, Any]], claims: Sequence[Claim], notes: Sequence[str] = ()) -> int:
    """Print a table and its claims, write both under `benchmarks/results/`; 0 if every claim holds, else 1."""
    text = "\n".join([table(lines), "", *(f"- {claim}" for claim in claims), *(f"- note: {note}" for note in notes)])
    machine = environment()
    print(text)
    RESULTS.mkdir(exist_ok=True)
    content = {
        "command": command(),
        "environment": machine,
        "lines": list(lines),
        "claims": [{"what": c.what, "value": c.value, "relation": c.relation, "limit": c.limit} for c in claims],
        "notes": list(notes),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(f"`{command()}`\n\n{text}\n")
    return 0 if all(claim.holds for claim in claims) else 1


def finish(main: Callable[[], int]) -> NoReturn:
    """End with the status of `main`; Ctrl-C and what a user can cause end with a message and a status of their own."""
    try:
        status = main()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        status = INTERRUPTED
    except CompressError as error:
        print(error, file=sys.stderr)
        status = error.exit_status
    sys.exit(status)


def table(lines: Sequence[dict[str, Any]]) -> str:
    """A Markdown table; a line need not have every column."""
    columns = list(dict.fromkeys(key for line in lines for key in line))
    rows = [columns, ["---"] * len(columns), *([str(line.get(column, "")) for column in columns] for line in lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
