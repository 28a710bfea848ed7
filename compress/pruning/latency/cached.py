"""Latency tables kept between runs: a kind of layer is measured once on a machine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from compress.data.locations import cache_folder
from compress.pruning.latency.kinds import LayerKind
from compress.pruning.latency.measure import Widths, measure_table
from compress.pruning.latency.table import Grid, LatencyTable
from compress.stage import Progress
from compress.targets.settings import TargetSettings


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
    places = {kind: home / f"{_key(kind, given, target, emission, batch)}.json" for kind, given in widths.items()}
    missing = {kind: widths[kind] for kind, place in places.items() if not place.is_file()}
    if missing:
        home.mkdir(parents=True, exist_ok=True)
        measured = measure_table(missing, target, emission, batch, progress)
        for kind, grid in measured.grids.items():
            scratch = places[kind].with_suffix(".new")
            scratch.write_text(json.dumps(grid.plain()))
            scratch.replace(places[kind])
    grids = {kind: Grid.from_plain(json.loads(place.read_text())) for kind, place in places.items()}
    return LatencyTable("fp32" if emission == "fp32" else "int8", batch, grids)


def _key(kind: LayerKind, widths: object, target: TargetSettings, emission: str, batch: int) -> str:
    facts = [kind.plain(), widths, target.fingerprint(), target.threads, target.cores, target.provider, emission, batch]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]
