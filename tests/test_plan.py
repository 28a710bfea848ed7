from __future__ import annotations

from pathlib import Path

import pytest

from compress.bundle import Kind
from compress.cli import main
from compress.config import read_pipeline
from compress.errors import UsageError
from compress.plan import Plan, make_plan

PIPELINE = """
data: digits
models:
  teacher: {zoo: resnet14, width: 4}
  student: {zoo: resnet8, width: 4}
stages:
  - train: {model: teacher, epochs: 2}
  - distill: {model: student, teacher: teacher, epochs: 2}
  - prune: {keep: {macs: 0.5}}
    name: small
  - quantize: {epochs: 1}
  - export: {emit: [fp32, ort-x86, ort-arm]}
targets: [local]
"""
VNNI = "targets=[{name: local, emit: [fp32, ort-x86]}]"
"""What `local` is where it has VNNI: what is planned must not depend on where the tests run."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "digits.yaml"
    path.write_text(PIPELINE)
    return path


def plan_of(file: Path, *overrides: str) -> Plan:
    return make_plan(read_pipeline(file, overrides))


def changed(before: Plan, after: Plan) -> set[str]:
    known = {step.key for step in before.steps}
    return {step.name for step in after.steps if step.key not in known}


def test_steps_stand_behind_what_they_read(file: Path) -> None:
    seen: set[str] = set()
    for step in plan_of(file).steps:
        assert set(step.inputs.values()) <= seen, step.name
        seen.add(step.name)


def test_the_same_file_gives_the_same_keys(file: Path) -> None:
    assert [s.key for s in plan_of(file).steps] == [s.key for s in plan_of(file).steps]


def test_every_model_shows_the_way_with_a_file(file: Path) -> None:
    plan = plan_of(file)
    files = {row.origin: row.emission for row in reversed(plan.rows) if row.kind is Kind.ONNX}
    assert set(files) == {"train", "distill", "small", "quantize"}
    assert plan.reference == "teacher-fp32"
    (profile,) = [step for step in plan.steps if step.stage.verb == "profile"]
    assert set(profile.inputs) == {row.name for row in plan.rows if row.kind is Kind.ONNX}


@pytest.mark.parametrize(
    "emit", ["fp16, ort-x86", "fp32, bf16, fp16, ort-arm", "ort-x86, fp16", "ort-dynamic, tensorrt"]
)
def test_a_quantized_model_is_shown_by_its_int8_file_whatever_is_listed_before(file: Path, emit: str) -> None:
    wanted = next(name for name in ("ort-x86", "ort-arm", "tensorrt") if name in emit)
    text = PIPELINE.replace("  - export: {emit: [fp32, ort-x86, ort-arm]}\n", "")
    file.write_text(text.replace("targets: [local]", f"targets: [{{name: board, emit: [{emit}]}}]"))
    shown = [row.emission for row in plan_of(file).rows if row.origin == "quantize" and row.kind is Kind.ONNX]
    assert shown == [wanted]


def test_changing_the_export_touches_only_files_and_their_measurements(file: Path) -> None:
    names = changed(plan_of(file, VNNI), plan_of(file, VNNI, "export.emit=[ort-x86]", "export.opset=19"))
    assert names == {"quantize.ort-x86-2", "student-quantize-ort-x86-2 on local", "profile on local"}


def test_changing_the_target_only_measures_again(file: Path) -> None:
    names = changed(plan_of(file), plan_of(file, "targets=[{name: local, rounds: 3}]"))
    assert names and all(" on " in name for name in names)


def test_changing_a_stage_runs_it_and_what_follows(file: Path) -> None:
    names = changed(plan_of(file), plan_of(file, "small.keep.macs=0.4"))
    assert {"small", "quantize", "small.fp32"} <= names
    assert not {"train", "distill", "train.fp32", "models.student"} & names


def test_budgets_and_names_of_models_in_stages_are_no_part_of_keys(file: Path) -> None:
    assert changed(plan_of(file), plan_of(file, "budget.speedup=4", "quantize.model=small")) == set()


def test_seed_and_threads_belong_to_training(file: Path) -> None:
    names = changed(plan_of(file, "threads=1"), plan_of(file, "threads=2"))
    assert "train" in names
    assert "models.teacher" not in names
    assert "models.teacher" in changed(plan_of(file), plan_of(file, "seed=1"))


DERIVED = """
data: digits
models:
  teacher: {zoo: resnet14, width: 4}
  before: {from: teacher, width: 0.5}
  after: {from: teacher, width: 0.5}
  smaller: {from: after, width: 0.5}
  unused: {from: before, width: 0.5}
stages:
  - train: {model: teacher, epochs: 2}
  - distill: {model: before, teacher: teacher, epochs: 2}
  - train: {model: teacher, epochs: 3}
    name: again
  - distill: {model: smaller, teacher: teacher, epochs: 2}
    name: both
  - train: {model: teacher, epochs: 1}
    name: last
  - distill: {model: after, teacher: before, epochs: 2}
    name: later
  - export: {emit: [fp32]}
targets: [local]
"""
VNNI = "targets=[{name: local, emit: [fp32, ort-x86]}]"
"""What `local` is where it has VNNI: what is planned must not depend on where the tests run."""


@pytest.fixture
def derived(tmp_path: Path) -> Path:
    path = tmp_path / "digits.yaml"
    path.write_text(DERIVED)
    return path


def test_a_student_is_made_from_its_teacher_at_the_first_use(derived: Path) -> None:
    plan = plan_of(derived)
    steps = {step.name: step for step in plan.steps}
    made = {name: step.inputs for name, step in steps.items() if step.stage.verb == "derive"}
    assert made == {
        "models.before": {"source": "train"},
        "models.after": {"source": "again"},  # where what is made from it is first read
        "models.smaller": {"source": "models.after"},
    }
    assert steps["distill"].inputs == {"source": "models.before", "teacher": "train"}
    assert steps["both"].inputs == {"source": "models.smaller", "teacher": "again"}
    assert steps["later"].inputs == {"source": "models.after", "teacher": "distill"}
    seen: set[str] = set()
    for step in plan.steps:
        assert set(step.inputs.values()) <= seen, step.name
        seen.add(step.name)
    assert plan.reference == "teacher-fp32"
    assert {row.name for row in plan.rows} >= {"teacher", "before", "smaller", "after", "after-fp32"}


def test_a_student_is_another_where_its_teacher_is_trained_otherwise(derived: Path) -> None:
    names = changed(plan_of(derived), plan_of(derived, "again.epochs=4"))
    assert {"again", "models.after", "models.smaller", "both", "later"} <= names
    assert not {"train", "models.teacher", "models.before", "distill"} & names
    names = changed(plan_of(derived), plan_of(derived, "last.epochs=4"))
    assert not {"models.before", "models.after", "models.smaller"} & names
    assert {"models.before", "distill"} <= changed(plan_of(derived), plan_of(derived, "train.epochs=4"))


def test_what_is_made_of_a_model_is_a_part_of_the_key(derived: Path) -> None:
    names = changed(plan_of(derived), plan_of(derived, "models.before.width=0.25"))
    assert {"models.before", "distill", "later"} <= names
    assert not {"models.after", "models.smaller", "again"} & names
    assert changed(plan_of(derived), plan_of(derived, "models.unused.width=0.25")) == set()
    assert "models.before" in changed(plan_of(derived), plan_of(derived, "seed=1"))
    keys = [plan_of(derived, f"models.before={form}").step("models.before").key for form in (
        "{from: teacher, layers: 2}", "{from: teacher, layers: [0, 1]}", "{from: teacher, layers: every-other}",
        "{from: teacher, depth: 0.5}", "{from: teacher, width: 0.5}")]  # fmt: skip
    assert len(set(keys)) == len(keys)


def test_a_student_of_an_untrained_teacher_is_made_of_its_build(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        "data: digits\nmodels: {net: {zoo: resnet8}, half: {from: net, width: 0.5}}\n"
        "stages:\n  - train: {model: half}\n  - export: {emit: [fp32]}\n"
    )
    plan = make_plan(read_pipeline(file))
    assert plan.step("models.half").inputs == {"source": "models.net"}
    assert plan.step("train").inputs == {"source": "models.half"}
    assert plan.reference == "net-fp32"


def test_a_model_that_only_others_are_made_from_is_built(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        "data: digits\nmodels:\n  net: {zoo: resnet8}\n  large: {zoo: resnet14}\n  half: {from: large, width: 0.5}\n"
        "  quarter: {from: half, width: 0.5}\n  unread: {zoo: resnet20}\n"
        "stages:\n  - train: {model: quarter}\n  - export: {emit: [fp32]}\n"
    )
    steps = {step.name: step.inputs for step in make_plan(read_pipeline(file)).steps}
    assert steps["models.half"] == {"source": "models.large"}
    assert steps["models.quarter"] == {"source": "models.half"}
    assert "models.unread" not in steps


def test_a_quantized_teacher_leaves_its_float_state_to_copy(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        "data: digits\nmodels: {net: {zoo: resnet8}, half: {from: net, width: 0.5}}\n"
        "stages:\n  - train: {model: net}\n  - quantize: {epochs: 1}\n  - train: {model: half}\n    name: student\n"
    )
    assert make_plan(read_pipeline(file)).step("models.half").inputs == {"source": "train"}


def test_a_reference_with_weights_gets_its_own_float_file(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    (tmp_path / "w.safetensors").write_bytes(b"")
    file.write_text(
        "data: digits\nmodels: {net: {zoo: resnet8, weights: w.safetensors}}\n"
        "stages:\n  - quantize: {epochs: 0}\n  - export: {emit: [ort-x86]}\n"
    )
    plan = make_plan(read_pipeline(file))
    row = next(row for row in plan.rows if row.name == plan.reference)
    assert (row.name, row.stage, row.step) == ("net-fp32", "export", "models.net.fp32")


@pytest.mark.parametrize(
    ("overrides", "decided"),
    [
        ((), "affine grid, weights of 8 bits"),
        (("export.emit=[fp32, tensorrt]",), "symmetric grid, weights of 8 bits"),
        (("export.emit=[ort-x86-avx2]",), "affine grid, weights of 7 bits"),
        (("export.emit=[ort-x86-avx2, tensorrt]",), "symmetric grid, weights of 7 bits"),
        (("export.emit=[tensorrt]", "quantize.grid=affine"), "affine grid, weights of 8 bits"),
        (("export.emit=[ort-x86-avx2]", "quantize.weight_bits=8"), "affine grid, weights of 8 bits"),
        (("quantize.grid=symmetric", "quantize.weight_bits=7"), "symmetric grid, weights of 7 bits"),
    ],
)
def test_grid_and_bits_follow_from_the_files_unless_they_are_given(
    file: Path, overrides: tuple[str, ...], decided: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan_of(file, VNNI, *overrides).step("quantize").stage.decided() == decided
    arguments = [item for override in (VNNI, *overrides) for item in ("--set", override)]
    with pytest.raises(SystemExit) as end:
        main(["plan", str(file), "--store", str(file.parent / "store"), *arguments])
    assert end.value.code == 0
    assert decided in " ".join(capsys.readouterr().out.split())


def test_the_grid_is_a_part_of_the_key(file: Path) -> None:
    plan = plan_of(file, VNNI)
    assert "quantize" in changed(plan, plan_of(file, VNNI, "export.emit=[tensorrt]"))
    assert "quantize" not in changed(plan, plan_of(file, VNNI, "quantize.grid=affine", "quantize.weight_bits=8"))


UNCALIBRATED = ("ort-dynamic", "ort-weights8", "ort-weights4")


def test_files_without_calibration_are_made_of_float_networks(file: Path) -> None:
    plan = plan_of(file, f"stages[4].export.emit=[{', '.join(UNCALIBRATED)}]", "stages[4].from=small")
    made = [row for row in plan.rows if row.emission in UNCALIBRATED]
    assert [row.emission for row in made] == list(UNCALIBRATED)
    assert {row.origin for row in made} == {"small"}
    (profile,) = [step for step in plan.steps if step.stage.verb == "profile"]
    assert {row.name for row in made} <= set(profile.inputs)


def test_of_a_quantized_network_they_are_refused_with_the_way_out(file: Path) -> None:
    with pytest.raises(UsageError) as error:
        plan_of(file, "export.emit=[ort-x86, ort-dynamic]")
    assert "export: ort-dynamic is made of a float network, and this one is quantized" in str(error.value)
    assert "with `from: small`" in str(error.value)


def test_a_target_may_ask_for_them(tmp_path: Path) -> None:
    """They are no files of a quantized network, nor what shows what quantizing has done."""
    file = tmp_path / "p.yaml"
    file.write_text(
        "data: digits\nmodels: {net: {zoo: resnet8}}\ntargets: [{emit: [fp32, ort-weights8, ort-x86]}]\n"
        "stages:\n  - train: {epochs: 1}\n  - export: {}\n  - quantize: {model: net, epochs: 0}\n  - export: {}\n"
        "    name: again\n"
    )
    found = {row.name: (row.origin, row.emission) for row in make_plan(read_pipeline(file)).rows if row.emission}
    assert set(found.values()) == {
        ("train", "fp32"), ("train", "ort-weights8"), ("quantize", "fp32"), ("quantize", "ort-x86"),
    }  # fmt: skip
