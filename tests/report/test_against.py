from __future__ import annotations

from typing import Any

import pytest

from compress.profiling.statistics import LEAST_ROUNDS
from compress.report.against import add_intervals
from tests.report.conftest import latency


@pytest.mark.parametrize("rounds", [2, LEAST_ROUNDS - 1, LEAST_ROUNDS, 12])
def test_intervals_take_as_many_rounds_as_they_are_known_to_cover_with(rounds: int) -> None:
    def row(name: str, p50_ms: float) -> dict[str, Any]:
        entry = latency(p50_ms)
        return {"name": name, "latency": [{**entry, "rounds_ms": entry["rounds_ms"][:rounds]}]}

    models = [row("float", 2.0), row("int8", 1.0)]
    add_intervals(models, "float")
    (before,), (after,) = (model["latency"] for model in models)
    enough = rounds >= LEAST_ROUNDS
    assert ("p90_ci95_ms" in before) is ("p90_ci95_ms" in after) is ("speedup_ci95" in after) is enough
    if enough:
        assert after["speedup_ci95"][0] < 2.0 < after["speedup_ci95"][1]
        assert after["p90_ci95_ms"][0] <= after["p90_ms"] * 1.05 and after["p90_ms"] <= after["p90_ci95_ms"][1] * 1.05
