from __future__ import annotations

import copy
import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from compress.report.pruned_rows import read_pruned
from compress.report.pruned_worth import worth_against_time

Log = dict[str, Any]


@pytest.fixture
def log(variants: dict[str, Log]) -> Log:
    found: Log = copy.deepcopy(variants["pruned to a time"]["models"][2]["pruning"])
    return found


def test_points_lie_where_the_log_says(log: Log) -> None:
    picture, _ = worth_against_time(read_pruned(log), "p") or ("", "")
    marks = [
        (float(use.attrib["x"]), float(use.attrib["y"]))
        for use in ElementTree.fromstring(picture).iter("use")
        if "fill: var(--accent)" in use.attrib.get("style", "")
    ]
    timing, shown = log["timing"], [name for name in log["order"] if name in log["timing"]["importance"]]
    saved = [timing["layers"][name][0] - timing["layers"][name][1] for name in shown]
    worth = [timing["importance"][name] for name in shown]
    assert len(marks) == len(shown) > 5
    assert np.corrcoef([x for x, _ in marks], saved)[0, 1] == pytest.approx(1, abs=1e-9)
    assert np.corrcoef([y for _, y in marks], worth)[0, 1] == pytest.approx(-1, abs=1e-9)


def test_names_what_saves_most_and_what_was_worth_most(log: Log) -> None:
    log["timing"]["importance"]["stem"] = 9.0
    log["timing"]["layers"]["stages.0.0.expand"] = [5.0, 1.0]
    picture, caption = worth_against_time(read_pruned(log), "p") or ("", "")
    named = re.findall(r"<text[^>]*>([^<]*)</text>", picture)
    assert {"stem", "stages.0.0.expand"} <= set(named)
    assert "Blocks that are gone were judged by the loss" in caption


def test_without_importance_or_times_there_is_no_picture(log: Log, variants: dict[str, Log]) -> None:
    log["timing"]["importance"] = {"stem": 0.5}
    assert worth_against_time(read_pruned(log), "p") is None
    assert worth_against_time(read_pruned(variants["pruned to a share"]["models"][2]["pruning"]), "p") is None
