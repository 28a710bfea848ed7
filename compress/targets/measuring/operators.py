"""The time of each operator."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from compress.targets.measuring.errors import running
from compress.targets.measuring.inputs import feeds_for
from compress.targets.measuring.session import open_session
from compress.targets.measuring.timing import timed, warm_up

KERNEL = "_kernel_time"
"""What the runtime's notes call the time of an operator."""


def operators(model: str, provider: str, threads: int, request: dict[str, Any]) -> dict[str, Any]:
    """The mean microseconds of each operator of the graph that the runtime made of the file, by its name there.

    The runtime's own clock counts whole microseconds, so that many calls are averaged: the faster half of them but for
    the fastest tenth, since in slower ones something else ran. Asked are `seconds`, `minimum_calls`, `batch`, `axes`.
    """
    with tempfile.TemporaryDirectory(prefix="compress-operators-") as folder:
        session = open_session(model, provider, threads, str(Path(folder) / "profile"))
        feeds = feeds_for(session, request["batch"], request.get("axes", {}))
        with running(feeds):
            warm_up(session, feeds, 0.0)
            calls = len(timed(session, feeds, request["seconds"], request["minimum_calls"]))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    durations: dict[str, list[float]] = {}
    kinds: dict[str, str] = {}
    for event in events:
        name = event["name"]
        if event.get("cat") == "Node" and name.endswith(KERNEL):
            durations.setdefault(name[: -len(KERNEL)], []).append(event["dur"])
            kinds[name[: -len(KERNEL)]] = event["args"].get("op_name", "")
    found = []
    for name, times in durations.items():
        kept = sorted(times[-calls:])
        kept = kept[len(kept) // 10 : len(kept) // 2 + 1]
        found.append({"name": name, "operator": kinds[name], "microseconds": sum(kept) / len(kept)})
    return {"operators": found, "calls": calls}
