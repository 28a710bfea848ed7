from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from compress.chain import Origin
from compress.config import Pipeline, read_pipeline
from compress.errors import Fault, UsageError
from compress.targets.limits import parse_bytes

REPOSITORY = Path(__file__).parents[1]

DESIGN = """\
name: digits
seed: 0
data: digits                                # a built-in name, or a path to a file like configs/data/digits.yaml
models:                                     # the first is the reference that accuracy and speed are compared with
  teacher: {zoo: resnet14, width: 4}        # with `weights: teacher.safetensors` no training is needed
  student: {zoo: resnet8, width: 4}
stages:                                     # each goes on from the model before it
  - train:    {model: teacher, epochs: 20}  # a model's name means its latest state above this line
  - distill:  {model: student, teacher: teacher, epochs: 20, losses: [{kl: {temperature: 4, weight: 0.9}},
                                                                      {cross_entropy: {weight: 0.1}}]}
  - prune:    {keep: {macs: 0.5}, importance: taylor, recover: {epochs: 10}}
    name: small                             # `name:` and `from:` stand beside the verb
  - quantize: {epochs: 4}
  - export:   {emit: auto}
targets: [local]                            # every exported artifact is evaluated and profiled on every target
budget: {accuracy_drop: 0.01, speedup: 4, size_ratio: 10}
"""
SMALL = "data: digits\nmodels: {net: {zoo: resnet8}}\nstages:\n"


def read(folder: Path, text: str, *overrides: str, name: str = "pipeline.yaml") -> Pipeline:
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return read_pipeline(path, overrides)


def faults(folder: Path, text: str, *overrides: str) -> list[Fault]:
    with pytest.raises(UsageError) as caught:
        read(folder, text, *overrides)
    return list(caught.value.faults)


def test_the_designs_example_loads_as_it_is(tmp_path: Path) -> None:
    pipeline = read(tmp_path, DESIGN)
    assert pipeline.name == "digits"
    assert pipeline.reference == "teacher"
    assert [(placed.name, placed.verb) for placed in pipeline.stages] == [
        ("train", "train"), ("distill", "distill"), ("small", "prune"), ("quantize", "quantize"), ("export", "export"),
    ]  # fmt: skip
    assert [dict(pipeline.inputs(placed)) for placed in pipeline.stages] == [
        {"source": Origin("teacher")},
        {"source": Origin("student"), "teacher": Origin("teacher", "train")},
        {"source": Origin("student", "distill")},
        {"source": Origin("student", "small")},
        {"source": Origin("student", "quantize")},
    ]
    assert pipeline.budget.limits() == {"accuracy_drop": 0.01, "speedup": 4.0, "size_ratio": 10.0}
    assert [target.name for target in pipeline.targets] == ["local"]
    assert pipeline.models["student"].width == 4
    assert pipeline.task.name == "image-classification"


def test_defaults(tmp_path: Path) -> None:
    pipeline = read(tmp_path, SMALL + "  - train\n  - train:\n  - export\n", name="my net.v1.yaml".replace(" ", "-"))
    assert pipeline.name == "my-net.v1"
    assert [placed.name for placed in pipeline.stages] == ["train", "train-2", "export"]
    assert (pipeline.seed, pipeline.device, pipeline.processes, pipeline.threads) == (0, "auto", 1, None)
    assert [target.name for target in pipeline.targets] == ["local"]
    assert pipeline.budget.limits() == {}
    assert pipeline.folder == tmp_path


def test_default_names_leave_given_names_alone(tmp_path: Path) -> None:
    pipeline = read(tmp_path, SMALL + "  - train: {}\n  - train: {}\n  - train: {}\n    name: train-2\n")
    assert [placed.name for placed in pipeline.stages] == ["train", "train-3", "train-2"]


def test_from_names_a_model_or_a_stage(tmp_path: Path) -> None:
    text = SMALL + "  - train\n  - export\n  - quantize: {}\n    from: train\n  - export: {}\n    from: net\n"
    pipeline = read(tmp_path, text)
    assert pipeline.stages[2].source == "train"
    assert pipeline.inputs(pipeline.stages[2]) == {"source": Origin("net", "train")}
    assert pipeline.inputs(pipeline.stages[3]) == {"source": Origin("net", "quantize")}


TOP = "data: digits\nmodels: {net: {zoo: resnet8}}\nstages: [export]\n"


def staged(stages: str) -> str:
    return TOP.replace("export", stages)


MADE = staged("{train: {model: net}}")
ONE_FAULT = {
    "unknown key": (TOP + "sead: 1", "sead", 4, "unknown key (did you mean 'seed'?)"),
    "negative seed": (TOP + "seed: -1", "seed", 4, "must be at least 0, not -1"),
    "boolean seed": (TOP + "seed: true", "seed", 4, "must be a whole number, not true"),
    "text seed": (TOP + "seed: '1'", "seed", 4, "must be a whole number, not '1'"),
    "fractional processes": (TOP + "processes: 1.5", "processes", 4, "must be a whole number, not 1.5"),
    "no processes": (TOP + "processes: 0", "processes", 4, "must be at least 1, not 0"),
    "no threads": (TOP + "threads: 0", "threads", 4, "must be at least 1, not 0"),
    "unknown device": (TOP + "device: gpu", "device", 4, "must be auto, cpu, cuda, cuda:N or mps, not 'gpu'"),
    "name with a slash": (TOP + "name: a/b", "name", 4, "must be letters"),
    "name with dots only": (TOP + "name: ..", "name", 4, "must be letters"),
    "unknown budget": (TOP + "budget: {speed: 3}", "budget.speed", 4, "(did you mean 'speedup'?)"),
    "budget in words": (TOP + "budget: {speedup: fast}", "budget.speedup", 4, "must be a number, not 'fast'"),
    "budget in points": (TOP + "budget: {accuracy_drop: 1}", "budget.accuracy_drop", 4, "must be less than 1, not 1"),
    "budget of nothing": (TOP + "budget: {latency_p50_ms: 0}", "budget.latency_p50_ms", 4, "must be more than 0"),
    "budget of furlongs": (TOP + "budget: {size_bytes: 1 furlong}", "budget.size_bytes", 4, "must be a size such as"),
    "budget is a number": (TOP + "budget: 4", "budget", 4, "must be a mapping, not 4"),
    "infinite budget": (TOP + "budget: {speedup: .inf}", "budget.speedup", 4, "must be a finite number"),
    "unknown task": (TOP + "task: regresion", "task", 4, "did you mean 'regression'?"),
    "unknown target": (TOP + "targets: [locl]", "targets[0]", 4, "did you mean 'local'?"),
    "missing target file": (TOP + "targets: [board.yaml]", "targets[0]", 4, "no such"),
    "no targets": (TOP + "targets: []", "targets", 4, "must be a list"),
    "targets is a name": (TOP + "targets: local", "targets", 4, "must be a list"),
    "targets twice": (TOP + "targets: [local, local]", "targets[1]", 4, "is there already"),
    "target of a number": (TOP + "targets: [3]", "targets[0]", 4, "must be a name, a path or a mapping, not 3"),
    "duplicate key": (TOP + "data: digits", "data", 4, "already given on line 1"),
    "unknown data": (TOP.replace("digits", "digitts"), "data", 1, "did you mean 'digits'?"),
    "missing data file": (TOP.replace("digits", "nowhere.yaml"), "data", 1, "no such file"),
    "data is a number": (TOP.replace("digits", "7"), "data", 1, "must be a name, a path or a mapping, not 7"),
    "unknown network": (TOP.replace("resnet8", "resnte8"), "models.net.zoo", 2, "did you mean 'resnet8'?"),
    "impossible depth": (TOP.replace("resnet8", "resnet9"), "models.net.zoo", 2, "6n+2"),
    "unknown model key": (TOP.replace("zoo:", "zo:"), "models.net.zo", 2, "did you mean 'zoo'?"),
    "two networks in one": (TOP.replace("{zoo", "{timm: x, zoo"), "models.net", 2, "exactly one of"),
    "first from another": (
        MADE.replace("{net: {zoo: resnet8}}", "{a: {from: net, width: 0.5}, net: {zoo: resnet8}}"),
        "models.a.from", 2, "the first model is what others are compared with: make it whole",
    ),
    "from itself": (
        MADE.replace("8}}", "8}, b: {from: b, width: 0.5}}"), "models.b.from", 2, "names this model itself; name one",
    ),
    "from a model below": (
        MADE.replace("8}}", "8}, b: {from: c, width: 0.5}, c: {zoo: resnet8}}"),
        "models.b.from", 2, "names a model below; put it above",
    ),
    "from an unknown model": (
        MADE.replace("8}}", "8}, b: {from: ner, width: 0.5}}"), "models.b.from", 2, "(did you mean 'net'?)",
    ),
    "from a number of one's own": (
        MADE.replace("8}}", "8}, b: {from: 3, width: 0.5}}"), "models.b.from", 2, "must be text, not 3",
    ),
    "from and zoo": (
        MADE.replace("8}}", "8}, b: {from: net, zoo: resnet8}}"), "models.b", 2, "found zoo and from",
    ),
    "from misspelt": (
        MADE.replace("8}}", "8}, b: {frm: net, width: 0.5}}"), "models.b.frm", 2, "did you mean 'from'?",
    ),
    "from and nothing else": (MADE.replace("8}}", "8}, b: {from: net}}"), "models.b", 2, "say either `layers`"),
    "from with weights": (
        MADE.replace("8}}", "8}, b: {from: net, layers: 2, weights: w.pt}}"),
        "models.b", 2, "weights: a model made `from` another takes layers, width and depth only",
    ),
    "from with a head": (
        MADE.replace("8}}", "8}, b: {from: net, layers: 2, head: new}}"), "models.b", 2, "has that one's head",
    ),
    "layers and width": (
        MADE.replace("8}}", "8}, b: {from: net, layers: 2, width: 0.5}}"), "models.b", 2, "say either `layers`",
    ),
    "layers in words": (
        MADE.replace("8}}", "8}, b: {from: net, layers: all}}"),
        "models.b.layers", 2, "must be a whole number or 'every-other' or a list, not 'all'",
    ),
    "no layers": (MADE.replace("8}}", "8}, b: {from: net, layers: 0}}"), "models.b.layers", 2, "at least 1"),
    "an empty list of layers": (
        MADE.replace("8}}", "8}, b: {from: net, layers: []}}"), "models.b", 2, "layers: must be numbers that rise",
    ),
    "layers that fall": (
        MADE.replace("8}}", "8}, b: {from: net, layers: [3, 1]}}"), "models.b", 2, "layers: must be numbers that rise",
    ),
    "wider than its origin": (
        MADE.replace("8}}", "8}, b: {from: net, width: 1.5}}"), "models.b", 2, "width: 1.5 would be wider than",
    ),
    "deeper than its origin": (
        MADE.replace("8}}", "8}, b: {from: net, depth: 1.5}}"), "models.b.depth", 2, "must be at most 1, not 1.5",
    ),
    "layers without from": (TOP.replace("8}", "8, layers: 2}"), "models.net", 2, "layers: belongs to `from`"),
    "depth without from": (TOP.replace("8}", "8, depth: 0.5}"), "models.net", 2, "depth: belongs to `from`"),
    "new weights that teach": (
        "data: digits\nmodels: {net: {zoo: resnet8}, b: {from: net, width: 0.5}}\n"
        "stages: [train: {model: net}, {distill: {model: net, teacher: b}}]\n",
        "stages[1].distill.teacher", 3, "the teacher 'b' is untrained here: train it above",
    ),
    "missing weights": (TOP.replace("8}", "8, weights: w.pt}"), "models.net.weights", 2, "no such file"),
    "missing network file": (TOP.replace("zoo: resnet8", "python: 'n.py:net'"), "models.net.python", 2, "no such file"),
    "negative width": (TOP.replace("8}", "8, width: -2}"), "models.net.width", 2, "must be more than 0, not -2"),
    "model without a body": (TOP.replace("{zoo: resnet8}", "~"), "models.net", 2, "must be a mapping, not null"),
    "no models": (TOP.replace("{net: {zoo: resnet8}}", "{}"), "models", 2, "must name at least one network"),
    "models is a list": (TOP.replace("{net: {zoo: resnet8}}", "[resnet8]"), "models", 2, "must name at least one"),
    "model name with a dot": (TOP.replace("net:", "net.v1:"), "models.net.v1", 2, "is no name for a model"),
    "stages is a mapping": (TOP.replace("[export]", "{export: {}}"), "stages", 3, "must be a list"),
    "no stages": (TOP.replace("[export]", "[]"), "stages", 3, "there is none"),
    "unknown verb": (staged("exprot"), "stages[0]", 3, "(did you mean 'export'?)"),
    "unknown verb with keys": (staged("{exprt: {}}"), "stages[0].exprt", 3, "(did you mean 'export'?)"),
    "a verb of its own": (staged("3"), "stages[0]", 3, "must be a verb with its settings"),
    "only a name": (staged("{name: x}"), "stages[0]", 3, "names no verb"),
    "two verbs": (staged("{train: {}, export: {}}"), "stages[0]", 3, "holds train and export"),
    "key beside the verb": (staged("{train: , epochs: 3}"), "stages[0].epochs", 3, "indent it further"),
    "unknown key beside": (staged("{train: {}, nam: x}"), "stages[0].nam", 3, "(did you mean 'name'?)"),
    "verb of a number": (staged("{train: 3}"), "stages[0].train", 3, "must be a mapping, not 3"),
    "stage name is a model": (staged("{export: , name: net}"), "stages[0].name", 3, "a model is called"),
    "stage name is a key": (staged("{export: , name: budget}"), "stages[0].name", 3, "is a key"),
    "stage name with a dot": (staged("{export: , name: a.b}"), "stages[0].name", 3, "is no name"),
    "stage name of a number": (staged("{export: , name: 3}"), "stages[0].name", 3, "is no name"),
    "same stage name": (
        staged("{train: , name: a}, {train: , name: a}"), "stages[1].name", 3, "another stage is called 'a'",
    ),
    "unknown from": (staged("{export: , from: ned}"), "stages[0].from", 3, "(did you mean 'net'?)"),
    "from a number": (staged("{export: , from: 1}"), "stages[0].from", 3, "must be the name of a model"),
    "from and model": (
        staged("train, {train: {model: net}, from: train}"), "stages[1].from", 3, "contradicts `model: net`",
    ),
    "later stage": (
        staged("{train: {model: small}}, {prune: {keep: {macs: 0.5}}, name: small}"),
        "stages[0].train.model", 3, "comes later",
    ),
    "prune an export": (
        staged("export, {prune: {keep: {macs: 0.5}}}"), "stages[1].prune", 3, "put prune above it",
    ),
    "prune after quantize": (
        staged("train, quantize, {prune: {keep: {macs: 0.5}}}"), "stages[2].prune", 3, "`from: train`",
    ),
    "epochs in words": (
        staged("{train: {epochs: ten}}"), "stages[0].train.epochs", 3, "must be a whole number, not 'ten'",
    ),
    "epochs true": (staged("{train: {epochs: yes}}"), "stages[0].train.epochs", 3, "a whole number"),
    "epochs quoted": (staged("{train: {epochs: '3'}}"), "stages[0].train.epochs", 3, "a whole number, not '3'"),
    "misspelt key": (
        staged("{prune: {keep: {macs: 0.5}, scop: layer}}"), "stages[0].prune.scop", 3, "did you mean 'scope'?",
    ),
    "misspelt choice": (
        staged("{prune: {keep: {macs: 0.5}, importance: tailor}}"),
        "stages[0].prune.importance", 3,
        "must be 'taylor', 'magnitude', 'batch_norm', 'hessian', 'fpgm', 'lamp', 'activation' or 'random', "
        "not 'tailor' (did you mean 'taylor'?)",
    ),
    "missing key": (staged("train, {distill: {}}"), "stages[1].distill.teacher", 3, "is missing"),
    "no share": (staged("{prune: {}}"), "stages[0].prune", 3, "`keep: {macs: 0.5}` or `reach: {speedup: 2}`"),
    "share and time": (
        staged("{prune: {keep: {macs: 0.5}, reach: {speedup: 2}}}"), "stages[0].prune", 3, "one of them",
    ),
    "no such target": (
        staged("{prune: {reach: {speedup: 2, target: phone}}}") + "targets: [local, {name: phones}]",
        "stages[0].prune.reach.target", 3, "unknown target 'phone' (did you mean 'phones'?)",
    ),
    "impossible share": (
        staged("{prune: {keep: {macs: 1.5}}}"), "stages[0].prune.keep.macs", 3, "over 0 and under 1",
    ),
    "two shares": (
        staged("{prune: {keep: {macs: 0.5, channels: 0.5}}}"), "stages[0].prune.keep", 3, "exactly one of",
    ),
    "unknown loss": (
        staged("train, {distill: {teacher: train, losses: [{kll: {}}]}}"),
        "stages[1].distill.losses[0].kll", 3, "did you mean 'kl'?",
    ),
    "loss setting": (
        staged("train, {distill: {teacher: train, losses: [{kl: {temp: 4}}]}}"),
        "stages[1].distill.losses[0].kl.temp", 3, "unknown key",
    ),
    "combination": (
        staged("{train: {milestones: [3]}}"), "stages[0].train.milestones", 3, "set `schedule: step`",
    ),
    "unknown emission": (
        staged("{export: {emit: [fp32, ort-x68]}}"),
        "stages[0].export.emit[1]", 3, "(did you mean 'ort-x86'?)",
    ),
    "emit neither word nor list": (
        staged("{export: {emit: all}}"), "stages[0].export.emit", 3, "must be 'auto' or a list, not 'all'",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("regression", "mean error"),
        ("causal-lm", "perplexity"),
        ("multi-label-classification", "f1_micro"),
        ("{text-classification: {metric: f1}}", "f1"),
    ],
)
def test_a_budget_of_accuracy_needs_a_task_with_one(task: str, metric: str, tmp_path: Path) -> None:
    text = f"{TOP}task: {task}\nbudget: {{accuracy_drop: 0.1}}"
    [fault] = faults(tmp_path, text)
    assert fault.where == "budget.accuracy_drop"
    assert f"is judged by its {metric} and has no accuracy; use metric_drop" in fault.message
    read(tmp_path, text.replace("accuracy_drop", "metric_drop"))
    read(tmp_path, f"{TOP}task: text-classification\nbudget: {{accuracy_drop: 0.1}}")


@pytest.mark.parametrize("case", ONE_FAULT)
def test_a_fault_has_its_path_line_and_advice(case: str, tmp_path: Path) -> None:
    text, where, line, message = ONE_FAULT[case]
    found = faults(tmp_path, text)
    assert [fault.where for fault in found] == [where], found
    assert message in found[0].message
    assert found[0].line == line
    assert found[0].file == str(tmp_path / "pipeline.yaml")


def test_a_model_is_made_from_one_above(tmp_path: Path) -> None:
    text = MADE.replace("8}}", "8}, b: {from: net, width: 0.5}, c: {from: b, layers: every-other}}")
    models = read(tmp_path, text).models
    assert [models[name].origin for name in models] == [None, "net", "b"]
    assert (models["b"].source, models["b"].width, models["c"].layers) == ("origin", 0.5, "every-other")
    assert read(tmp_path, text, "models.c.layers=[0, 3]").models["c"].layers == (0, 3)
    assert read(tmp_path, text, "models.c.from=net").models["c"].origin == "net"
    assert faults(tmp_path, text, "models.c.from=nett")[0].where == "models.c.from"
    copied = text.replace("net}}]", "net}}, {distill: {model: net, teacher: c}}]")
    assert len(read(tmp_path, copied).stages) == 2  # layers with their weights may teach


def test_all_faults_are_told_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        """\
        sead: 1
        data: digitts
        models:
          teacher: {zoo: resnet14, widht: 4}
          student: {zoo: resnet9}
        stages:
          - trian: {model: teacher}
          - distill: {model: studnet, teacher: teachr, epochs: ten}
          - prune: {keep: {macs: 2}}
          - quantize: {epochs: -1}
        targets: [nowhere]
        budget: {acuracy_drop: 0.01, speedup: -1}
        """,
    )
    assert [(fault.line, fault.where) for fault in found] == [
        (1, "sead"),
        (2, "data"),
        (4, "models.teacher.widht"),
        (5, "models.student.zoo"),
        (7, "stages[0].trian"),
        (8, "stages[1].distill.epochs"),
        (8, "stages[1].distill.model"),
        (8, "stages[1].distill.teacher"),
        (9, "stages[2].prune.keep.macs"),
        (10, "stages[3].quantize.epochs"),
        (11, "targets[0]"),
        (12, "budget.speedup"),
        (12, "budget.acuracy_drop"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "a pipeline is a mapping"), ("- a\n", "a pipeline is a mapping"), ("{}", "data: is missing")],
)
def test_what_is_no_pipeline(text: str, message: str, tmp_path: Path) -> None:
    assert message in "\n".join(map(str, faults(tmp_path, text)))


def test_missing_parts_are_all_named(tmp_path: Path) -> None:
    text = "\n".join(map(str, faults(tmp_path, "seed: 1\n")))
    assert all(part in text for part in ("data: is missing", "models: must name", "stages: must be a list"))


def test_a_missing_pipeline_file() -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_pipeline(Path("nowhere.yaml"))


def test_numbers_as_yaml_1_2_reads_them(tmp_path: Path) -> None:
    pipeline = read(tmp_path, SMALL + "  - train: {learning_rate: 1e-3, epochs: 3, weight_decay: 0}\n")
    assert pipeline.stages[0].stage.model_dump()["learning_rate"] == 0.001
    assert pipeline.stages[0].stage.model_dump()["weight_decay"] == 0


def test_environment_variables_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = SMALL.replace("resnet8}", "resnet8, weights: $WEIGHTS_FOLDER/net.safetensors}") + "  - export\n"
    monkeypatch.delenv("WEIGHTS_FOLDER", raising=False)
    [fault] = faults(tmp_path, text)
    assert fault.where == "models.net.weights"
    assert "WEIGHTS_FOLDER" in fault.message
    monkeypatch.setenv("WEIGHTS_FOLDER", str(tmp_path))
    assert "no such file" in faults(tmp_path, text)[0].message
    (tmp_path / "net.safetensors").touch()
    assert read(tmp_path, text).models["net"].weights == str(tmp_path / "net.safetensors")


def test_paths_are_tried_beside_the_file_then_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, working = tmp_path / "pipelines", tmp_path / "working"
    folder.mkdir()
    working.mkdir()
    monkeypatch.chdir(working)
    text = SMALL.replace("resnet8}", "resnet8, weights: w.pt}") + "  - export\n"
    (working / "w.pt").touch()
    assert read(folder, text).models["net"].weights == str(working / "w.pt")
    (folder / "w.pt").touch()
    assert read(folder, text).models["net"].weights == str(folder / "w.pt")


def test_data_and_targets_may_be_files_or_written_in_place(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("source: {digits: {}}\nsplit: {test: 0.3}\n")
    (tmp_path / "board.yaml").write_text("threads: 1\nbatches: [1, 4]\n")
    text = TOP.replace("digits", "data.yaml") + "targets: [board.yaml, {name: mine, threads: 1}]\n"
    pipeline = read(tmp_path, text)
    assert pipeline.data.split.test == 0.3
    assert [target.name for target in pipeline.targets] == ["board", "mine"]


def test_faults_in_a_named_file_keep_that_files_name(tmp_path: Path) -> None:
    (tmp_path / "board.yaml").write_text("threads: 1\nbatchs: [1]\n")
    [fault] = faults(tmp_path, TOP + "targets: [board.yaml]\n")
    assert fault.file.endswith("board.yaml")
    assert (fault.where, fault.line) == ("batchs", 2)


def test_faults_of_what_is_written_in_place_have_its_path(tmp_path: Path) -> None:
    found = faults(
        tmp_path, TOP.replace("data: digits", "data: {source: {digits: {}}, splt: {}}") + "targets: [{thread: 1}]"
    )
    assert [(fault.where, fault.line) for fault in found] == [("data.splt", 1), ("targets[0].thread", 4)]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1 MB", 10**6),
        ("1MiB", 2**20),
        ("1.5 kB", 1500),
        ("2GB", 2 * 10**9),
        ("64 ki", 65536),
        ("800", 800),
        ("7 b", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


def test_sizes_in_a_budget(tmp_path: Path) -> None:
    budget = read(tmp_path, TOP + "budget: {size_bytes: 1 MB, peak_memory_bytes: 4096}").budget
    assert budget.limits() == {"size_bytes": 10**6, "peak_memory_bytes": 4096}


def test_overrides_change_what_is_read(tmp_path: Path) -> None:
    pipeline = read(
        tmp_path, DESIGN, "small.keep.macs=0.4", "distill.epochs=3", "budget.speedup=3", "models.student.width=2",
        "seed=7", "stages[0].name=first", "export.emit=[fp32]", "small.recover.learning_rate=1e-3", "targets=[local]",
    )  # fmt: skip
    assert pipeline.stages[2].stage.model_dump()["keep"]["macs"] == 0.4
    assert pipeline.stages[2].stage.model_dump()["recover"]["learning_rate"] == 0.001
    assert pipeline.stages[1].stage.model_dump()["epochs"] == 3
    assert pipeline.budget.speedup == 3
    assert pipeline.models["student"].width == 2
    assert (pipeline.seed, pipeline.stages[0].name) == (7, "first")


def test_faults_of_overrides_say_so(tmp_path: Path) -> None:
    found = faults(tmp_path, DESIGN, "prune.keep.macs=3", "distill.epoch=3", "seed=x", "smal.keep.macs=0.5")
    assert [str(fault) for fault in found] == [
        "--set smal.keep.macs=0.5: unknown stage or key 'smal' (did you mean 'small'?)",
        "--set: seed: must be a whole number, not 'x'",
        "--set: stages[1].distill.epoch: unknown key (did you mean 'epochs'?)",
        "--set: stages[2].prune.keep.macs: 3 is not a share to keep: it must be over 0 and under 1 "
        "(for instance 0.5 for half)",
    ]


def test_reading_is_little_work(tmp_path: Path) -> None:
    """In calls of functions, which do not depend on what else a machine does: 670,000, and 11,000 for a second file."""
    (tmp_path / "digits.yaml").write_text(DESIGN)
    code = """if True:
        import sys
        from pathlib import Path

        calls = 0

        def count(frame, event, argument):
            global calls
            calls += event in ("call", "c_call")

        sys.setprofile(count)
        from compress.config import read_pipeline
        read_pipeline(Path("digits.yaml"))
        first = calls
        read_pipeline(Path("digits.yaml"))
        sys.setprofile(None)
        print(first, calls - first)
    """
    command, environment = [sys.executable, "-c", code], {"PYTHONPATH": str(REPOSITORY), "PATH": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    first, second = map(int, done.stdout.split())
    assert 0 < first < 1_000_000
    assert 0 < second < 30_000
