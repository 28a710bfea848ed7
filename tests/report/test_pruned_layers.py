"""The pictures are read back: what is drawn and written are the numbers of the log."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from compress.report.pruned_layers import MOST, channels_by_layer, time_by_layer
from compress.report.pruned_rows import Pruned, read_pruned

Log = dict[str, Any]


def log_of(variants: dict[str, Log], name: str, at: int = 2) -> Log:
    log: Log = variants[name]["models"][at]["pruning"]
    return log


def pruned_to_a_time(variants: dict[str, Log]) -> tuple[Log, Pruned]:
    log = log_of(variants, "pruned to a time")
    return log, read_pruned(log)


def lines(svgs: list[str]) -> dict[str, str]:
    """Names of layers and the words at the end of their lines, of pictures with names that are written in full."""
    found: dict[str, str] = {}
    for svg in svgs:
        texts = [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]
        of_layers = [text for text in texts if re.search("stem|head|stages", text)]
        words = texts[texts.index(of_layers[0]) :]
        found |= dict(zip(words[::2], words[1::2], strict=True))
    return found


def bars(svg: str, colour: str) -> dict[float, float]:
    """Lengths of the bars of one colour, by how far down they are."""
    found = {}
    for path in ElementTree.fromstring(svg).iter("path"):
        if f"fill: var(--{colour})" in path.attrib.get("style", ""):
            numbers = [float(number) for number in re.findall(r"-?\d+\.?\d*", path.attrib["d"])]
            across, down = numbers[::2], numbers[1::2]
            found[round(min(down), 1)] = max(across) - min(across)
    return found


def test_channels_written_are_those_of_the_log(variants: dict[str, Log]) -> None:
    log, pruned = pruned_to_a_time(variants)
    found = lines([svg for _, svg, _ in channels_by_layer(pruned, "p")])
    assert list(found) == log["order"]
    for name, (before, after) in log["widths"].items():
        said = "gone" if after == 0 else f"{after}"
        assert found[name] in (f"{before} → {said}", f"{before}, all kept" if before == after else ""), name
    assert found["head"] == "not pruned" and found["stages.0.0.spatial"] == "–"
    assert found["stages.0.1.spatial"] == "gone"


@pytest.mark.parametrize("what", ["widths", "times"])
def test_bars_are_as_long_as_the_numbers_of_the_log(variants: dict[str, Log], what: str) -> None:
    log, pruned = pruned_to_a_time(variants)
    numbers = log["widths"] if what == "widths" else log["timing"]["layers"]
    [(_, svg, _)] = channels_by_layer(pruned, "p") if what == "widths" else time_by_layer(pruned, "p")
    pale, full = bars(svg, "line"), bars(svg, "accent")
    longest = max(before for before, _ in numbers.values())
    shown = [numbers[name] for name in log["order"] if name in numbers]
    assert len(pale) == len(shown)
    assert [length / max(pale.values()) for _, length in sorted(pale.items())] == pytest.approx(
        [before / longest for before, _ in shown], abs=1e-4
    )
    kept = [after for _, after in shown if after]
    assert [length / max(pale.values()) for _, length in sorted(full.items())] == pytest.approx(
        [after / longest for after in kept], abs=1e-4
    )


def test_times_written_are_those_of_the_log(variants: dict[str, Log]) -> None:
    log, pruned = pruned_to_a_time(variants)
    found = lines([svg for _, svg, _ in time_by_layer(pruned, "p")])
    assert list(found) == log["order"]
    for name, (before, after) in log["timing"]["layers"].items():
        first, arrow, last = found[name].partition(" → ")
        assert float(first) == pytest.approx(before, abs=5e-5)
        assert last == "gone" if after == 0 else float(last if arrow else first) == pytest.approx(after, abs=5e-5)


def test_lines_of_both_pictures_are_level(variants: dict[str, Log]) -> None:
    _, pruned = pruned_to_a_time(variants)
    [(_, channels, _)], [(_, times, _)] = channels_by_layer(pruned, "p"), time_by_layer(pruned, "p")
    assert set(bars(channels, "line")) < set(bars(times, "line"))
    boxes = [ElementTree.fromstring(svg).attrib["viewBox"] for svg in (channels, times)]
    assert boxes[0] == boxes[1]


def test_many_layers_are_several_pictures_on_one_scale(variants: dict[str, Log]) -> None:
    pruned = read_pruned(log_of(variants, "pruned, very deep"))
    drawn = channels_by_layer(pruned, "p")
    assert len(drawn) == -(-len(pruned.layers) // MOST) and len(drawn) > 3
    assert drawn[0][0] == "Channels by layer, 1 to 31 of 152" and drawn[-1][0].endswith("125 to 152 of 152")
    assert [bool(caption) for *_, caption in drawn] == [True] + [False] * (len(drawn) - 1)
    first, last = (max(bars(svg, "line").values()) for _, svg, _ in (drawn[0], drawn[-1]))
    assert last / first == pytest.approx(512 / 128, rel=1e-4)


def test_no_times_no_picture_of_them(variants: dict[str, Log]) -> None:
    pruned = read_pruned(log_of(variants, "pruned to a share"))
    assert time_by_layer(pruned, "p") == []
    [(_, _, caption)] = channels_by_layer(pruned, "p")
    assert "Gone" not in caption and "depthwise" not in caption
