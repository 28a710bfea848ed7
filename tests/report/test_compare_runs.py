from __future__ import annotations

import copy
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from compress.cli import app
from compress.errors import UsageError
from compress.profiling.right import packed
from compress.report.compare_page import html_comparison, results_table, settings_table
from compress.report.compare_runs import compare_runs
from compress.report.runs_compared import Compared, flattened
from compress.tasks.paired import newcombe_paired
from tests.report.target_logs import DEPLOYED, side_by_side

Json = dict[str, Any]


@pytest.fixture
def report(digits: Json) -> Json:
    side_by_side(digits)
    return digits


def written(report: Json, folder: Path) -> Path:
    """A run's folder with its `report.json` alone: comparing reads nothing else."""
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(report))
    return folder


def two(report: Json, tmp_path: Path, **changes: Any) -> list[Path]:
    """A run, and another that differs by the keys of `targets` given in `changes`."""
    other = copy.deepcopy(report)
    for place in other["targets"]:
        place.update(changes)
    return [written(report, tmp_path / "a"), written(other, tmp_path / "b")]


def said(folders: list[Path], what: str, target: str | None = None) -> str:
    found = [one for one in compare_runs(folders).compared if (one.what, one.target) == (what, target)]
    assert len(found) == 1
    return found[0].said


def test_settings_that_differ_are_named_by_their_path(report: Json, tmp_path: Path) -> None:
    other = copy.deepcopy(report)
    other["settings"]["stages"][2]["prune"]["keep"]["macs"] = 0.4
    other["settings"]["stages"].append({"name": "quantize", "quantize": {"epochs": 3}})
    compared = compare_runs([written(report, tmp_path / "a"), written(other, tmp_path / "b")])
    rows = {one.setting: one.values for one in compared.settings}
    assert rows == {
        "stages.small.prune.keep.macs": (0.5, 0.4),
        "stages.quantize": (None, "there"),
    }
    assert settings_table(compared).headings == ("Setting", "a", "b")


def test_flattening_names_items_by_their_names() -> None:
    assert flattened({"a": [{"name": "x", "b": 1}, {"c": [1, 2]}]}) == [
        ("a.x.name", "x"),
        ("a.x.b", 1),
        ("a.1.c", [1, 2]),
    ]


def test_one_session_is_compared_in_pairs(report: Json, tmp_path: Path) -> None:
    assert said(two(report, tmp_path), "p50", "local") == "the same measurement"
    other = copy.deepcopy(report) | {"deploy": "student-small-fp32", "judged": "student-small-fp32"}
    folders = [tmp_path / "a", written(other, tmp_path / "c")]
    one = next(one for one in compare_runs(folders).compared if (one.what, one.target) == ("p50", "local"))
    times = {row["name"]: row["latency"][0]["p50_ms"] for row in report["models"] if row["latency"]}
    assert one.value is not None and one.value == pytest.approx(times[DEPLOYED] / times["student-small-fp32"])
    assert one.ci95 is not None and one.ci95[0] < one.value < one.ci95[1] and "slower" in one.said


def test_two_sessions_are_compared_over_a_file_that_both_timed(report: Json, tmp_path: Path) -> None:
    """The second session ran at half the speed, with the same files: over the reference nothing has changed."""
    other = copy.deepcopy(report)
    for place in other["targets"]:
        place["session"] = "another"
    for row in other["models"]:
        for entry in row["latency"]:
            entry["p50_ms"] *= 2
            entry["p50_ci95_ms"] = [2 * end for end in entry["p50_ci95_ms"]]
    folders = [written(report, tmp_path / "a"), written(other, tmp_path / "b")]
    one = next(one for one in compare_runs(folders).compared if (one.what, one.target) == ("p50", "local"))
    assert one.value == pytest.approx(1) and "two sessions saw over one reference file" in one.said
    for row in other["models"]:
        row["sha256"] = "cd" * 32
    folders[1] = written(other, tmp_path / "c")
    text = said(folders, "p50", "local")
    assert text.startswith("not comparable: measured in two sessions (session-loca") and "no file in common" in text


def test_two_machines_are_not_compared(report: Json, tmp_path: Path) -> None:
    folders = two(report, tmp_path, fingerprint="another")
    text = said(folders, "p50", "local")
    assert text == (
        "not comparable: measured on the processor of local (machine-loca) and on the processor of local (another)"
    )
    assert said(folders, "p50", "arm64-emulated") == "not comparable: times in a are those of an emulator"


def test_metrics_are_compared_on_the_same_data_only(report: Json, tmp_path: Path) -> None:
    other = copy.deepcopy(report)
    row = next(row for row in other["models"] if row["name"] == DEPLOYED)
    row["sha256"] = "ef" * 32
    row["metrics"].update(accuracy=0.9, accuracy_ci95=[0.865, 0.927])
    folders = [written(report, tmp_path / "a"), written(other, tmp_path / "b")]
    assert said(folders, "accuracy").startswith("8.61 points worse (95 % interval of the difference: −12")
    other["data"]["fingerprint"] = "00" * 32
    folders[1] = written(other, tmp_path / "c")
    assert said(folders, "accuracy") == "not comparable: judged on other data (abababababab and 000000000000)"


def test_what_cannot_be_read_is_said_all_at_once(report: Json, tmp_path: Path) -> None:
    good = written(report, tmp_path / "good")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "report.json").write_text('{"name": ')
    newer = written(report | {"format": 99}, tmp_path / "newer")
    with pytest.raises(UsageError) as caught:
        compare_runs([good, tmp_path / "empty", tmp_path / "broken", newer])
    texts = [str(fault) for fault in caught.value.faults]
    assert len(texts) == 3
    assert "no report.json here" in texts[0] and "cannot be read" in texts[1]
    assert "format 99, and this version reads format 2" in texts[2] and str(newer) in texts[2]
    with pytest.raises(UsageError, match="at least two runs"):
        compare_runs([good])


def test_folders_of_one_name_are_told_apart(report: Json, tmp_path: Path) -> None:
    folders = [written(report, tmp_path / "mine" / "digits"), written(report, tmp_path / "yours" / "digits")]
    assert [run.name for run in compare_runs(folders).runs] == ["mine/digits", "yours/digits"]
    assert [run.name for run in compare_runs([folders[0], folders[0]]).runs] == ["mine/digits (1)", "mine/digits (2)"]


def test_a_report_from_before_targets_were_told_of_is_not_compared_by_time(digits: Json, tmp_path: Path) -> None:
    folders = [written(digits, tmp_path / "a"), written(digits, tmp_path / "b")]
    assert said(folders, "p50", "local") == "not comparable: a report does not say which machine it was"


class Asked(HTMLParser):
    """Addresses that a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attributes if name in ("src", "href")]


def test_the_command_prints_writes_json_and_a_page(report: Json, tmp_path: Path) -> None:
    folders = [str(folder) for folder in two(report, tmp_path, session="another")]
    page = tmp_path / "compared.html"
    outcome = CliRunner().invoke(app, ["compare", *folders, "--html", str(page)])
    assert outcome.exit_code == 0, outcome.output
    assert "b against a, accuracy: the same file" in outcome.output
    asked = Asked()
    asked.feed(page.read_text())
    assert all(address.startswith("data:") for address in asked.found)
    plain = json.loads(CliRunner().invoke(app, ["compare", *folders, "--json"]).output)
    assert [run["name"] for run in plain["runs"]] == ["a", "b"]
    assert plain["runs"][0]["targets"][0]["p50_ms"] == next(
        row["latency"][0]["p50_ms"] for row in report["models"] if row["name"] == DEPLOYED
    )


def test_the_page_escapes_what_reports_say(report: Json, tmp_path: Path) -> None:
    other = copy.deepcopy(report)
    other["settings"]["note"] = "<script>alert(1)</script>"
    compared = compare_runs([written(report, tmp_path / "a"), written(other, tmp_path / "b")])
    page = html_comparison(compared)
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert results_table(compared).headings == ("", "a", "b")


def with_right(report: Json, name: str, bits: Any) -> Json:
    """The report of a run that deploys `name`, which answers so."""
    row = next(row for row in report["models"] if row["name"] == name)
    row["metrics"]["accuracy"] = float(np.mean(bits))
    row["sha256"] = f"{int(np.sum(bits)):064x}"
    return report | {"deploy": name, "judged": name, "right": {"file": name, "target": "local", **packed(bits)}}


def accuracy(folders: list[Path]) -> Compared:
    return next(one for one in compare_runs(folders).compared if one.what == "accuracy")


def test_accuracies_on_the_same_examples_are_compared_in_pairs(report: Json, tmp_path: Path) -> None:
    first = np.arange(360) % 10 != 0
    second = first.copy()
    second[[1, 2, 10, 20, 30, 40, 50, 60]] = [False, False, *[True] * 6]
    runs = [with_right(copy.deepcopy(report), DEPLOYED, bits) for bits in (first, second)]
    found = accuracy([written(run, tmp_path / str(at)) for at, run in enumerate(runs)])
    assert found.value == pytest.approx(4 / 360) and found.ci95 == pytest.approx(newcombe_paired(322, 6, 2, 30))
    assert "paired: 2 became wrong, 6 right; McNemar's p 0.289" in found.said and "unpaired" not in found.said

    del runs[1]["right"]  # a run that does not tell
    alone = accuracy([written(run, tmp_path / f"alone-{at}") for at, run in enumerate(runs)])
    assert alone.value == pytest.approx(4 / 360) and "unpaired" in alone.said
    assert alone.ci95 is not None and found.ci95 is not None
    assert alone.ci95[1] - alone.ci95[0] > found.ci95[1] - found.ci95[0]


def test_answers_to_other_examples_are_not_paired(report: Json, tmp_path: Path) -> None:
    right = np.arange(360) % 10 != 0
    for change in ("fewer", "another file", "other data"):
        runs = [with_right(copy.deepcopy(report), DEPLOYED, bits) for bits in (right, right | (np.arange(360) < 30))]
        if change == "fewer":
            runs[1]["right"].update(packed(right[:200]))
        elif change == "another file":
            runs[1]["right"]["file"] = "student-small-fp32"
        else:
            runs[1]["data"]["fingerprint"] = "cd" * 32
        found = accuracy([written(run, tmp_path / change / str(at)) for at, run in enumerate(runs)])
        assert ("not comparable" if change == "other data" else "unpaired") in found.said
