from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from compress.errors import UsageError
from compress.report.pruned_section import Section, by_reason, pruned_sections
from compress.report.reading import read_rows

Json = dict[str, Any]


@pytest.fixture(scope="module")
def sections(variants: dict[str, Json]) -> dict[str, tuple[Section, ...]]:
    """The sections of each variant that was pruned."""
    return {name: pruned_sections(read_rows(report)) for name, report in variants.items() if "pruned" in name}


def test_one_section_a_prune_step(variants: dict[str, Json], sections: dict[str, tuple[Section, ...]]) -> None:
    assert pruned_sections(read_rows(variants["as usual"])) == ()
    share, time = sections["pruned to a time"]
    assert (share.model, time.model) == ("student", "student-small")
    assert [picture.title for picture in share.layers] == ["Channels by layer"] and share.worth == ()
    assert [picture.title for picture in time.layers] == ["Channels by layer", "Time by layer"]
    assert [picture.title for picture in time.worth] == ["Importance against time"]


def test_tells_how_far_it_went(sections: dict[str, tuple[Section, ...]]) -> None:
    share, time = sections["pruned to a time"]
    assert share.sentences == (
        "50.7 % of the MACs (4.67 M of 9.21 M) and 24.5 % of the parameters (301 k of 1.23 M) are left; asked were "
        "50.0 % of the MACs. Of 9 layers that could be pruned 9 are narrower.",
    )
    assert time.sentences[0].endswith("are left. Of 15 layers that could be pruned 11 are narrower, 4 are gone.")
    assert time.sentences[1] == "2 blocks are gone as a whole: stages.0.1 and stages.1.2."
    assert time.sentences[2] == (
        "Before any training, the 2 layers that read channels that went were made to need them less: 30.2 % of the "
        "squared error of their outputs are left."
    )


def test_channels_that_were_asked_are_told(variants: dict[str, Json]) -> None:
    report = copy.deepcopy(variants["pruned to a share"])
    report["models"][2]["pruning"] |= {"measure": "channels", "asked": 0.4, "reached": 0.41}
    [section] = pruned_sections(read_rows(report))
    assert "and 41.0 % of the channels are left; asked were 40.0 % of the channels." in section.sentences[0]


def test_numbers_are_those_of_the_log(sections: dict[str, tuple[Section, ...]]) -> None:
    share, time = sections["pruned to a time"]
    assert time.numbers == (
        ("before pruning", "0.731 ms", ""),
        ("asked", "0.250 ms", "2.9x faster"),
        ("predicted", "0.247 ms", "before it was measured"),
        ("measured", "0.262 ms", "2.8x faster, 4.8 % over what was asked"),
        ("fastest reachable", "0.121 ms", "6.0x faster"),
    )
    assert "int8 files at batch 1 on local" in time.conditions and "up to 3.4 %" in time.conditions
    assert (share.numbers, share.conditions) == ((), "")


def test_what_was_asked_over_another_precision_is_told_so(variants: dict[str, Json]) -> None:
    report = copy.deepcopy(variants["pruned to a time"])
    [log] = [m["pruning"] for m in report["models"] if (m.get("pruning") or {}).get("timing")]
    log["timing"]["over_ms"] = 1.5
    section = pruned_sections(read_rows(report))[-1]
    assert section.numbers[:3] == (
        ("before pruning, in fp32", "1.50 ms", ""),
        ("before pruning", "0.731 ms", "2.1x faster than in fp32"),
        ("asked", "0.250 ms", "6.0x faster than in fp32"),
    )
    assert section.numbers[-1] == ("fastest reachable", "0.121 ms", "12.4x faster than in fp32")


def test_what_could_not_go_is_listed_by_reason(sections: dict[str, tuple[Section, ...]]) -> None:
    assert by_reason({"a": "x", "b": "y", "c": "y"}) == {"y": ["b", "c"], "x": ["a"]}
    [deep] = sections["pruned, very deep"]
    assert deep.fixed_count == "14 layers could not be pruned" and deep.folded and deep.long
    assert [reason for reason, _ in deep.fixed] == [
        "its channels can only go all together",
        "it is coupled with the input",
        "its outputs are the network's",
    ]
    assert "11 blocks are gone as a whole; below" in deep.sentences[1]
    [short] = sections["pruned to a share"]
    assert short.fixed_count == "1 layer could not be pruned" and not short.folded and not short.long


def test_no_id_is_there_twice_in_one_report(sections: dict[str, tuple[Section, ...]]) -> None:
    for name in ("pruned to a time", "pruned, very deep"):
        svgs = "".join(picture.svg for section in sections[name] for picture in (*section.layers, *section.worth))
        found = re.findall(r'\bid="([^"]+)"', svgs)
        assert len(found) == len(set(found)), name
        assert "http" not in svgs and "#0102" not in svgs


def test_a_log_that_lacks_what_it_should_have_is_told(variants: dict[str, Json]) -> None:
    report = copy.deepcopy(variants["pruned to a time"])
    del report["models"][2]["pruning"]["timing"]["floor_ms"]
    with pytest.raises(UsageError, match="lacks the key 'floor_ms'"):
        read_rows(report)
