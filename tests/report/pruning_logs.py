"""What records of prune steps hold, of networks of any depth, and reports with such."""

from __future__ import annotations

import random
from typing import Any

Json = dict[str, Any]


def pruning_log(
    stages: list[int], *, timed: bool, dropped: tuple[str, ...] = (), seed: int = 0, prefix: str = "stages"
) -> Json:
    """What the record of a prune step holds, of a residual network with so many blocks in each of its stages."""
    chance = random.Random(seed)
    blocks = [f"{prefix}.{at}.{number}" for at, many in enumerate(stages) for number in range(many)]
    names = ["stem", *(f"{block}.{part}" for block in blocks for part in ("reduce", "spatial", "expand"))]
    widths: Json = {}
    layers: Json = {"head": [0.011, 0.007]}
    for name in sorted(names):  # as JSON with sorted keys has them
        wide = 32 if name == "stem" else 64 * 2 ** int(name.removeprefix(f"{prefix}.")[0])
        gone = name.rpartition(".")[0] in dropped
        if not name.endswith("spatial"):
            widths[name] = [wide, 0 if gone else chance.randrange(8, wide + 1, 8)]
        before = round(chance.uniform(0.01, 0.09), 4)
        layers[name] = [before, 0.0 if gone else round(before * chance.uniform(0.3, 1), 4)]
    log: Json = {
        "measure": "macs",
        "asked": 0.5,
        "reached": 0.507,
        "before": {"macs": 9_210_000, "parameters": 1_228_810},
        "after": {"macs": 4_670_000, "parameters": 301_482},
        "widths": widths,
        "fixed": {"head": "its outputs are the network's"},
        "dropped": list(dropped),
        "reconstructed": {"stages.0.0.spatial": 0.25, "stages.0.0.expand": 0.354} if timed else {},
        "order": [*names, "head"] if timed else [name for name in names if name in widths],
        "timing": None,
    }
    if timed:
        cut = [name for name, (before, after) in widths.items() if 0 < after < before]
        timing = {"whole_ms": 0.731, "wanted_ms": 0.25, "floor_ms": 0.121, "predicted_ms": 0.247, "measured_ms": 0.262}
        log |= {"measure": "latency_p50_ms", "asked": 0.25, "reached": 0.262}
        log["timing"] = {
            **timing,
            "target": "local",
            "precision": "int8",
            "batch": 1,
            "dropped": list(dropped),
            "layers": layers,
            "noise": 0.034,
            "over_ms": None,
            "importance": {name: round(chance.expovariate(2.5), 4) for name in cut},
        }
    return log


def pruned_to_a_share(report: Json) -> None:
    """A small network, cut to a share of its MACs."""
    report["models"][2]["pruning"] = pruning_log([1, 1], timed=False)


def pruned_to_a_time(report: Json) -> None:
    """Two prune steps, the second to a time, with blocks that go."""
    report["models"][1]["pruning"] = pruning_log([2, 2], timed=False, seed=1)
    report["models"][2]["pruning"] = pruning_log([2, 3, 2], timed=True, dropped=("stages.0.1", "stages.1.2"))


def pruned_very_deep(report: Json) -> None:
    """150 layers with long names, and many that cannot be pruned."""
    prefix = "base_model.encoder.feature_extractor.stages"
    dropped = tuple(f"{prefix}.2.{at}" for at in range(9, 20))
    log = pruning_log([3, 8, 36, 3], timed=True, dropped=dropped, prefix=prefix)
    log["fixed"] |= {f"{prefix}.{at}.0.shortcut": "it is coupled with the input" for at in range(4)}
    log["fixed"] |= {f"a.head.number.{at}": "its channels can only go all together" for at in range(9)}
    report["models"][2]["pruning"] = log
