"""What was measured kept between runs: a kind of layer, and a whole file, is measured once on a machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.data.locations import cache_folder
from compress.pruning.latency.files import Measured, tell_of_unsure
from compress.pruning.latency.measure import Widths, measure_table
from compress.pruning.latency.table import Grid, LatencyTable
from compress.pruning.shape import Shape
from compress.stage import Progress
from compress.targets.settings import TargetSettings
from compress.targets.target import fingerprint

TABLE_RULE, FILES_RULE = 3, 4
"""Go up with every change of how layers and files are measured: what was kept under another rule is measured again."""


def table_for(
    widths: Widths, target: TargetSettings, emission: str, batch: int, progress: Progress, folder: Path | None = None
) -> LatencyTable:
    """The table of these kinds and channel counts; what was measured before, on this machine and so, is read back.

    Args:
        widths: what it holds.
        target: where times are measured.
        emission: as which file.
        batch: examples at a time.
        progress: where to say how far it is.
        folder: where measurements are kept; unset: the cache.

    Raises:
        StageError: a layer fails when it is run.
    """
    home = folder or cache_folder() / "layers"
    places = {
        kind: home / f"{_key([TABLE_RULE, [kind.plain(), given]], target, emission, batch)}.json"
        for kind, given in widths.items()
    }
    missing = {kind: widths[kind] for kind, place in places.items() if not place.is_file()}
    if missing:
        measured = measure_table(missing, target, emission, batch, progress)
        for kind, grid in measured.grids.items():
            _keep(places[kind], grid.plain())
    grids = {kind: Grid.from_plain(json.loads(place.read_text())) for kind, place in places.items()}
    return LatencyTable(batch, grids)


@dataclass(frozen=True)
class ShapeFile:
    """A file of what is left of a network, as `emission` has it."""

    shape: Shape
    emission: str


def times_for(
    what: str,
    files: Mapping[str, ShapeFile],
    target: TargetSettings,
    batch: int,
    measure: Callable[[], Measured],
    progress: Progress,
    folder: Path | None = None,
) -> dict[str, float]:
    """Milliseconds of a network's files by their names; what was measured before is read back.

    What was measured while other programs had the processor is not kept. How sure what is kept is, is said again.

    Args:
        what: a digest of the network's structure, and what its shapes count.
        files: what is left of it in each, and as which file.
        target: where times are measured.
        batch: examples at a time.
        measure: makes and measures the files.
        progress: where to say that times are not sure.
        folder: where measurements are kept; unset: the cache.
    """
    emissions = {name: file.emission for name, file in files.items()}
    left = {name: [dict(file.shape.kept), sorted(file.shape.dropped)] for name, file in files.items()}
    digest = _key([FILES_RULE, [what, left, target.shapes]], target, emissions, batch)
    place = (folder or cache_folder() / "files") / f"{digest}.json"
    if place.is_file():
        kept = json.loads(place.read_text())
        tell_of_unsure(kept["within"], progress)
        found: dict[str, float] = kept["ms"]
        return {name: found[name] for name in files}
    measured = measure()
    times = {name: measured[name][0] for name in files}
    if measured.is_quiet:
        _keep(place, {"ms": times, "within": measured.within})
    return times


def _keep(place: Path, content: dict[str, Any]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch = place.with_suffix(".new")
    scratch.write_text(json.dumps(content))
    scratch.replace(place)


def _key(what: list[Any], target: TargetSettings, emission: str | Mapping[str, str], batch: int) -> str:
    facts = [*what, fingerprint(target), target.threads, target.cores, target.provider, emission, batch]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]
