from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from compress.pipeline import KEYS
from compress.reference import BEGIN, END, with_reference
from compress.schema import reference_markdown, schema
from compress.stages import STAGES
from compress.yaml_source import parse_yaml, read_yaml
from tests.test_config import DESIGN, ONE_FAULT

REPOSITORY = Path(__file__).parents[1]

# Faults that a schema cannot know: files, names given elsewhere, order, and combinations.
BEYOND_A_SCHEMA = {
    "unknown task", "unknown target", "missing target file", "targets twice", "duplicate key", "unknown data",
    "missing data file", "unknown network", "impossible depth", "two networks in one", "missing weights",
    "missing network file", "stage name is a model", "stage name is a key", "same stage name", "unknown from",
    "from and model", "later stage", "prune an export", "prune after quantize", "impossible share", "two shares",
    "combination", "budget of furlongs", "infinite budget", "an empty list of layers", "depth without from",
    "first from another", "from a model below", "from an unknown model", "from and nothing else", "from and zoo",
    "from itself", "from with a head", "from with weights", "layers and width", "layers that fall",
    "layers without from", "new weights that teach", "wider than its origin", "no share", "share and time",
    "no such target",
}  # fmt: skip


def errors(text: str) -> list[str]:
    return [error.message for error in Draft202012Validator(schema()).iter_errors(parse_yaml(text).data)]


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(schema())
    assert tuple(schema()["properties"]) == KEYS


@pytest.mark.parametrize("path", sorted((REPOSITORY / "pipelines").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_pipelines_keep_to_it(path: Path) -> None:
    data = read_yaml(path).data
    assert [error.message for error in Draft202012Validator(schema()).iter_errors(data)] == []


def test_the_designs_example_keeps_to_it() -> None:
    assert errors(DESIGN) == []


@pytest.mark.parametrize("case", sorted(set(ONE_FAULT) - BEYOND_A_SCHEMA))
def test_broken_pipelines_do_not(case: str) -> None:
    assert errors(ONE_FAULT[case][0]), case


def test_what_is_called_beyond_a_schema_is() -> None:
    assert set(ONE_FAULT) >= BEYOND_A_SCHEMA
    assert [case for case in BEYOND_A_SCHEMA if errors(ONE_FAULT[case][0])] == []


@pytest.mark.parametrize(
    "text",
    [
        "data: {source: digits, augmentation: [flip, {pad_crop: 2}], preprocessing: [{scale: 0.5}]}",
        "data: digits\ntask: {regression: {loss: l1}}",
        "data: digits\nbudget: {size_bytes: 1 MB}\ndevice: cuda:1\nthreads: 2",
        "data: digits\ntargets: [local, boards/pi.yaml, {name: mine, threads: 1}]",
    ],
)
def test_other_forms_keep_to_it(text: str) -> None:
    assert errors(f"{text}\nmodels: {{a: {{zoo: resnet8}}}}\nstages: [train, {{export: , from: train}}]") == []


def test_every_key_is_described() -> None:
    def undescribed(part: Any, path: str) -> list[str]:
        if not isinstance(part, dict):
            return []
        found = []
        for name, value in part.get("properties", {}).items():
            if not value.get("description") and "$ref" not in value:
                found.append(f"{path}.{name}")
        return found

    whole = schema()
    missing = undescribed(whole, "")
    for name, definition in whole["$defs"].items():
        missing += undescribed(definition, name)
    assert missing == []


def test_the_reference_names_every_stage_and_key() -> None:
    text = reference_markdown()
    for verb, stage in STAGES.items():
        assert f"#### Stage `{verb}`" in text
        for key in stage.model_fields:
            assert f"| `{key}`" in text, f"{verb}.{key}"
    for key in KEYS:
        assert f"| `{key}`" in text


def test_the_references_tables_are_well_formed() -> None:
    rows = [line for line in reference_markdown().splitlines() if line.startswith("|")]
    assert rows
    for row in rows:
        assert len(re.findall(r"(?<!\\)\|", row)) == 5, row


def test_the_reference_is_put_between_its_marks() -> None:
    text = f"before\n{BEGIN}\nstale text\n{END}\nafter\n"
    once = with_reference(text)
    assert once.startswith(f"before\n{BEGIN}\n")
    assert once.endswith(f"{END}\nafter\n")
    assert "stale text" not in once
    assert with_reference(once) == once
    with pytest.raises(ValueError, match="there is no"):
        with_reference("nothing")


def test_the_readme_holds_the_reference_of_today() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert END in text, "the README has no reference: python -m compress.reference README.md"
    assert with_reference(text) == text, "the README's reference is stale: python -m compress.reference README.md"
