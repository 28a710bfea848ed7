"""Every pipeline that we ship runs from its first line to its report, cut down to one epoch of a few examples."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compress.cli import main
from compress.user_code import load_function
from compress.yaml_source import read_yaml

PIPELINES = sorted((Path(__file__).parents[1] / "pipelines").glob("*.yaml"))
QUICK = {"digits_two_experts"}
"""Cut down it takes seconds; all others are run by `pytest -m long`."""
ELSEWHERE = {"IMAGENET", "IMAGES"}
"""Environment variables with data of the user's own: pipelines that need such are only checked."""
LIMIT = {"train": 48, "validation": 16, "test": 16}
MEASURING = {"rounds": 2, "seconds": 0.01, "warmup_seconds": 0, "throughput_seconds": 0.01}
TRAINING = {"epochs": 1, "batch_size": 16, "schedule": "cosine", "milestones": [], "warmup_epochs": 0}
BUDGET = {"size_ratio": 0.001}
"""Any file meets it: what a network reads after a few steps is a matter of chance."""
INSIDE = {
    "recover": ("recover.epochs", 1),
    "cache": ("cache", {"views": 2}),
    "pseudo_labels": ("pseudo_labels.threshold", 0.05),
    "calibration_examples": ("calibration_examples", 16),
}
"""What a key of a stage, where a file gives it, is cut down to."""


def needs(file: Path) -> set[str]:
    """The environment variables that a pipeline, or the data file beside it, speaks of."""
    text = file.read_text()
    named = re.search(r"^data: (\S+\.yaml|[a-z]\w+)", text, re.MULTILINE)
    if named is not None:
        place = file.parent.parent / "configs" / "data" / Path(named[1]).with_suffix(".yaml").name
        text += place.read_text()
    return set(re.findall(r"\$\{?(\w+)", text))


def stages_of(file: Path) -> list[tuple[str, dict[str, Any]]]:
    """(verb, settings) of each stage."""
    items = [{item: {}} if isinstance(item, str) else item for item in read_yaml(file).data["stages"]]
    verbs = [next(key for key in item if key not in ("name", "from")) for item in items]
    return [(verb, item[verb] or {}) for verb, item in zip(verbs, items, strict=True)]


def cut(file: Path) -> list[str]:
    """The command line's `--set`s that make a pipeline as small as it gets, written from what stands in the file."""
    found: dict[str, Any] = {"threads": 1, "budget": BUDGET, "data.limit": LIMIT}
    for number, _ in enumerate(read_yaml(file).data["targets"]):
        found |= {f"targets[{number}].{key}": value for key, value in MEASURING.items()}
    for number, (_, settings) in enumerate(stages_of(file)):
        for key, given in settings.items():
            address, value = INSIDE.get(key, (key, TRAINING.get(key)))
            if value is not None and given != 0:
                found[f"stages[{number}].{address}"] = value
    return [part for address, value in found.items() for part in ("--set", f"{address}={json.dumps(value)}")]


def status(*arguments: str) -> int:
    """The exit status of a command."""
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert isinstance(end.value.code, int)
    return end.value.code


def run(file: Path, folder: Path, *more: str) -> dict[str, Any]:
    """The report of a pipeline that was cut down."""
    for variable in needs(file):
        if variable not in os.environ:
            pytest.skip(f"needs {variable}")
    where = ("--store", str(folder / "store"), "--runs", str(folder / "runs"))
    assert status("run", str(file), *cut(file), *where, *more) == 0
    (report,) = (folder / "runs").glob("*/report.json")
    content: dict[str, Any] = json.loads(report.read_text())
    return content


def require_whole(file: Path, report: dict[str, Any]) -> None:
    """Every stage of the file has been carried out, and every model and file of the report measured."""
    asked, done = Counter(verb for verb, _ in stages_of(file)), Counter(step["stage"] for step in report["steps"])
    assert all(done[verb] >= times for verb, times in asked.items())
    metric = report["primary_metric"]["name"]
    assert report["deploy"] in {model["name"] for model in report["models"]}
    for model in report["models"]:
        assert np.isfinite(model["metrics"][metric]), model["name"]
        assert model["kind"] == "torch" or model["latency"], model["name"]


@pytest.mark.parametrize("file", [file for file in PIPELINES if file.stem in QUICK], ids=lambda file: file.stem)
def test_quick_ones_run(file: Path, tmp_path: Path) -> None:
    require_whole(file, run(file, tmp_path, "--skip-rehearsal"))


@pytest.mark.long
@pytest.mark.parametrize(
    "file", [file for file in PIPELINES if not needs(file) & ELSEWHERE], ids=lambda file: file.stem
)
def test_all_whose_data_can_be_had_run(file: Path, tmp_path: Path) -> None:
    report = run(file, tmp_path)
    require_whole(file, report)
    for verb, settings in stages_of(file):
        if verb == "generate" and settings.get("score"):
            said = f"of 16 answers to the {settings.get('split', 'train')} split"
            assert any(said in note for note in report["notes"])


@pytest.mark.parametrize("file", [file for file in PIPELINES if needs(file) & ELSEWHERE], ids=lambda file: file.stem)
def test_those_with_data_of_the_users_own_are_free_of_faults(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("train", "validation", "test"):
        for name in ("cat", "dog"):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "one.png")
    for variable in needs(file):
        monkeypatch.setenv(variable, str(tmp_path))
    assert status("check", str(file)) == 0
    assert status("check", str(file), *cut(file)) == 0


def test_arithmetic_problems_are_right_and_no_split_knows_those_of_another() -> None:
    problems = load_function("arithmetic.py:problems", PIPELINES[0].parent)
    found = problems(seed=3, train=900, validation=80, test=80)
    assert found == problems(seed=3, train=900, validation=80, test=80) != problems(seed=4)
    seen: dict[str, set[str]] = {}
    for split, (questions, answers, reasons) in found.items():
        numbers = [tuple(map(int, re.findall(r"\d+", question))) for question in questions]
        seen[split] = set(map(str, numbers))
        for (a, b, c), answer, reason in zip(numbers, answers, reasons, strict=True):
            assert answer == f"#### {a + b + c}"
            assert re.findall(r"\d+", reason) == list(map(str, (a, b, a + b, a + b, c, a + b + c)))
    assert [len(questions) for questions, _, _ in found.values()] == [900, 80, 80]
    assert not seen["train"] & seen["test"] and not seen["train"] & seen["validation"]
    assert not seen["validation"] & seen["test"]


def test_none_is_forgotten() -> None:
    stems = {file.stem for file in PIPELINES}
    assert stems >= QUICK
    assert sum(bool(needs(file) & ELSEWHERE) for file in PIPELINES) == 2
