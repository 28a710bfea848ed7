from __future__ import annotations

import json

from compress.pruning.prune import PruneLog
from compress.pruning.timing import Timing, in_order


def test_layers_stand_as_they_ran_and_others_behind_the_one_before_them() -> None:
    assert in_order((), ("b", "a")) == ("b", "a")
    assert in_order(("a", "c", "d"), ("first", "a", "b", "d")) == ("first", "a", "b", "c", "d")


def test_attention_stands_behind_the_last_layer_inside_of_it() -> None:
    ran = ("0.self.query", "0.self.key", "0.out", "1.self.query", "1.self.key", "1.out", "0.self", "1.self")
    found = in_order(ran, ("0.self.query", "0.out"))
    assert found == ("0.self.query", "0.self.key", "0.self", "0.out", "1.self.query", "1.self.key", "1.self", "1.out")


def test_a_record_that_sorts_its_keys_keeps_the_order_of_layers() -> None:
    timing = Timing("local", "fp32", 1, 2, 1, 0.5, 1, 1, (), {"z": (1, 1), "depth": (2, 1), "a": (1, 1)})
    widths = {"z": (8, 4), "a": (4, 2)}
    log = PruneLog("latency_p50_ms", 1, 1, {}, {}, widths, {}, timing=timing)
    plain = json.loads(json.dumps(log.plain(), sort_keys=True))
    assert plain["order"] == ["z", "depth", "a"]
    assert PruneLog("macs", 0.5, 0.5, {}, {}, widths, {}).plain()["order"] == ["z", "a"]
