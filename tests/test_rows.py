from __future__ import annotations

from pathlib import Path

import pytest

from compress.bundle import Kind
from compress.config import read_pipeline
from compress.exporting.stage import Export
from compress.models.stage import Build
from compress.rows import Rows
from compress.steps import Steps


@pytest.fixture
def made(tmp_path: Path) -> tuple[Steps, Rows]:
    """A network with a row, and its float file."""
    text = "data: digits\nmodels: {net: {zoo: resnet8}}\nstages: [{export: {}}]\n"
    (tmp_path / "p.yaml").write_text(text + "targets: [{name: one}, {name: two, evaluate: {samples: 20}}]\n")
    pipeline = read_pipeline(tmp_path / "p.yaml")
    steps = Steps(pipeline)
    rows = Rows(steps)
    rows.add_network("net", steps.add("build", Build(name="net", model=pipeline.models["net"]), {}), "train", "nothing")
    rows.add_file(Export(emit=("fp32",)), "build", "export", "net")
    rows.measure("net-fp32", pipeline.targets)
    return steps, rows


def test_networks_are_evaluated_on_the_first_target_and_files_on_all(made: tuple[Steps, Rows]) -> None:
    _, rows = made
    assert rows.named["net"].evaluations == {"one": "net on one"} and rows.named["net"].profiles == {}
    file = rows.named["net-fp32"]
    assert (file.kind, file.parent, file.origin) == (Kind.ONNX, "net", "build")
    assert file.evaluations == {name: f"net-fp32 on {name}" for name in ("one", "two")}
    assert file.profiles == {name: f"profile on {name}" for name in ("one", "two")}


def test_others_are_compared_with_the_reference_and_it_with_none(made: tuple[Steps, Rows]) -> None:
    steps, _ = made
    assert steps.named["net-fp32 on one"].inputs == {"source": "build.fp32"}
    assert steps.named["net on one"].inputs == {"source": "build", "reference": "net-fp32 on one"}
    assert steps.named["profile on two"].inputs == {"net-fp32": "build.fp32"}


def test_a_file_that_is_there_keeps_its_row_and_another_of_its_name_gets_a_number(made: tuple[Steps, Rows]) -> None:
    _, rows = made
    assert rows.add_file(Export(emit=("fp32",)), "build", "prune", "net") is rows.named["net-fp32"]
    assert rows.add_file(Export(emit=("fp32",), opset=19), "build", "export", "net").name == "net-fp32-2"


def test_a_file_that_no_target_there_runs_has_no_row(made: tuple[Steps, Rows], tmp_path: Path) -> None:
    _, rows = made
    late = rows.add_file(Export(emit=("bf16",)), "build", "export", "net")
    rows.drop_unmeasured(read_pipeline(tmp_path / "p.yaml").targets)
    assert late.name not in rows.named and "net-fp32" in rows.named
