"""Whatever a user gets wrong gives one message, exit status 2, and leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from compress.cli import main
from compress.errors import WRONG_CALL

SMALL = "models: {net: {zoo: resnet8, width: 0.25}}\n"
TRAIN = "stages: [{train: {epochs: 1}}, {export: {emit: [fp32]}}]\n"


@dataclass(frozen=True)
class Broken:
    """A pipeline, what its message must say (all of these), and files that lie beside it."""

    text: str
    says: tuple[str, ...]
    files: tuple[str, ...] = ()


def network(body: str, imports: str = "") -> str:
    """The source of a network that maps a 1x8x8 image to ten numbers, with a forward of one's own."""
    return f"""
        import torch
        {imports}
        class Net(torch.nn.Module):
            def __init__(self, outputs=10):
                super().__init__()
                self.layer = torch.nn.Conv2d(1, 8, 3, padding=1)
                self.relu = torch.nn.ReLU()
                self.head = torch.nn.Linear(8 * 64, outputs)
            def forward(self, x):
                {body}
        def make(outputs=10):
            return Net(outputs)
        def number():
            return 3
        def fails():
            raise RuntimeError("no such luck")
    """


def npz(name: str) -> str:
    return f"data: {{source: {{npz: {{path: {name}.npz}}}}}}\n"


FORWARD = "return self.head(self.relu(self.layer(x)).flatten(1))"
OWN = "models: {net: {python: 'network.py:make'}}\n"
PYTHON = {
    "network.py": network(FORWARD),
    "missing_import.py": network(FORWARD, "import no_such_package"),
    "syntax.py": "def make(:\n",
    "branches.py": network(f"{FORWARD} if x.sum() > 0 else self.head(x.flatten(1).repeat(1, 8))"),
    "data.py": """
        def fails():
            raise ValueError("the disk is full of bees")
        def wrong():
            return 3
    """,
}


def _write_files(folder: Path) -> None:
    """What the pipelines name: arrays, tables, pictures, weights, Python."""
    import torch
    from safetensors.torch import save_file

    for name, text in PYTHON.items():
        (folder / name).write_text(textwrap.dedent(text))
    images, classes = np.random.default_rng(0).normal(size=(40, 1, 8, 8)).astype(np.float32), np.arange(40) % 10
    np.savez(folder / "good.npz", x=images, y=classes)
    np.savez(folder / "lengths.npz", x=images, y=classes[:-1])
    np.savez(folder / "flat.npz", x=images.reshape(40, 64), y=classes)
    np.savez(folder / "values.npz", x=images, y=np.zeros((40, 3), np.float32))
    np.savez(folder / "negative.npz", x=images, y=classes - 5)
    np.savez(folder / "other.npz", a=images, b=classes)
    (folder / "garbage.npz").write_text("no arrays")
    (folder / "table.csv").write_text("width,height,kind\n" + "1,2,a\n3,4,b\n" * 20)
    (folder / "empty").mkdir()
    save_file({"conv.weight": torch.zeros(3, 3)}, folder / "other.safetensors")
    (folder / "garbage.safetensors").write_bytes(b"nothing of the kind")
    torch.save({"state_dict": {"layer.weight": torch.zeros(4, 1, 3, 3)}}, folder / "shapes.pt")


BROKEN = {
    # what reading finds
    "no such pipeline": Broken("", ("no such file",)),
    "empty file": Broken("# nothing\n", ("a pipeline is a mapping",)),
    "no yaml": Broken("data: [digits\n", ("is not valid YAML",)),
    "misspelt top level": Broken(f"data: digits\n{SMALL}{TRAIN}buget: {{}}\n", ("buget: unknown key", "'budget'")),
    "misspelt verb": Broken(
        f"data: digits\n{SMALL}stages: [{{trian: {{}}}}]\n", ("stages[0].trian", "did you mean 'train'?")
    ),
    "misspelt setting": Broken(
        f"data: digits\n{SMALL}stages: [{{train: {{epocs: 3}}}}]\n", ("stages[0].train.epocs", "'epochs'")
    ),
    "wrong type": Broken(
        f"data: digits\n{SMALL}stages: [{{train: {{epochs: ten}}}}]\n", ("a whole number, not 'ten'",)
    ),
    "out of range": Broken(
        f"data: digits\n{SMALL}stages: [{{prune: {{keep: {{macs: 2}}}}}}]\n", ("over 0 and under 1",)
    ),
    "unknown data set": Broken(f"data: digit\n{SMALL}{TRAIN}", ("did you mean 'digits'?",)),
    "missing weights": Broken(
        f"data: digits\nmodels: {{net: {{zoo: resnet8, weights: gone.pt}}}}\n{TRAIN}", ("weights", "gone.pt")
    ),
    "variable not set": Broken(
        f"data: digits\nmodels: {{net: {{zoo: resnet8, weights: $NOT_SET_HERE/w.pt}}}}\n{TRAIN}", ("NOT_SET_HERE",)
    ),
    "unknown network": Broken(
        f"data: digits\nmodels: {{net: {{zoo: resnet7}}}}\n{TRAIN}", ("models.net.zoo", "resnet8")
    ),
    "prune after export": Broken(
        f"data: digits\n{SMALL}stages: [train, export, {{prune: {{keep: {{macs: 0.5}}}}}}]\n", ("put prune above it",)
    ),
    "train after quantize": Broken(f"data: digits\n{SMALL}stages: [train, quantize, train]\n", ("put train above it",)),
    "teacher untrained": Broken(
        "data: digits\nmodels: {a: {zoo: resnet14}, b: {zoo: resnet8}}\n"
        "stages: [{distill: {model: b, teacher: a}}, {train: {model: a}}]\n",
        ("teacher 'a' is untrained",),
    ),
    "unknown reference": Broken(
        f"data: digits\n{SMALL}stages: [{{train: {{model: nett}}}}]\n", ("'nett' (did you mean 'net'?)",)
    ),
    "no stages": Broken(f"data: digits\n{SMALL}stages: []\n", ("at least one stage",)),
    "unknown target": Broken(f"data: digits\n{SMALL}{TRAIN}targets: [jetson]\n", ("unknown target 'jetson'",)),
    "a time on an unknown target": Broken(
        f"data: digits\n{SMALL}stages: [{{prune: {{reach: {{speedup: 2, target: locl}}}}}}]\n",
        ("stages[0].prune.reach.target", "did you mean 'local'?"),
    ),
    "more threads than cores": Broken(
        f"data: digits\n{SMALL}{TRAIN}targets: [{{threads: 4000}}]\n", ("4000 threads asked for",)
    ),
    "a core that is not there": Broken(
        f"data: digits\n{SMALL}{TRAIN}targets: [{{cores: [4000]}}]\n", ("targets[0].cores",)
    ),
    "accuracy of a regression": Broken(
        f"{npz('values')}task: regression\n{SMALL}{TRAIN}budget: {{accuracy_drop: 0.01}}\n",
        ("budget.accuracy_drop", "metric_drop"),
    ),
    "unknown emission": Broken(
        f"data: digits\n{SMALL}stages: [{{export: {{emit: [tensorrrt]}}}}]\n", ("stages[0].export.emit[0]",)
    ),
    "many at once": Broken(
        f"data: digit\n{SMALL}stages: [{{train: {{epochs: ten}}}}]\nsead: 1\n", ("data", "epochs", "sead")
    ),
    # what the rehearsal finds
    "network that cannot be imported": Broken(
        f"{npz('good')}models: {{net: {{python: 'missing_import.py:make'}}}}\n{TRAIN}",
        ("missing_import.py", "no_such_package"),
    ),
    "network with a syntax error": Broken(
        f"{npz('good')}models: {{net: {{python: 'syntax.py:make'}}}}\n{TRAIN}",
        ("syntax.py",),
    ),
    "no such function": Broken(
        f"{npz('good')}models: {{net: {{python: 'network.py:mak'}}}}\n{TRAIN}",
        ("network.py", "mak"),
    ),
    "function that fails": Broken(
        f"{npz('good')}models: {{net: {{python: 'network.py:fails'}}}}\n{TRAIN}",
        ("no such luck",),
    ),
    "function that returns no network": Broken(
        f"{npz('good')}models: {{net: {{python: 'network.py:number'}}}}\n{TRAIN}",
        ("network.py:number",),
    ),
    "unknown argument": Broken(
        f"{npz('good')}models: {{net: {{python: 'network.py:make', arguments: {{depth: 3}}}}}}\n{TRAIN}",
        ("depth",),
    ),
    "weights of another network": Broken(
        f"data: digits\nmodels: {{net: {{zoo: resnet8, weights: other.safetensors}}}}\n{TRAIN}", ("conv.weight",)
    ),
    "weights of another shape": Broken(
        f"{npz('good')}models: {{net: {{python: 'network.py:make', weights: shapes.pt}}}}\n{TRAIN}",
        ("layer.weight", "head.weight"),
    ),
    "weights that are none": Broken(
        f"data: digits\nmodels: {{net: {{zoo: resnet8, weights: garbage.safetensors}}}}\n{TRAIN}",
        ("garbage.safetensors",),
    ),
    "too few outputs": Broken(
        f"{npz('good')}models: {{net: {{python: 'network.py:make', arguments: {{outputs: 3}}}}}}\n{TRAIN}",
        ("10", "3"),
    ),
    "inputs of the wrong shape": Broken(f"{npz('flat')}{SMALL}{TRAIN}", ("64",)),
    "more inputs than targets": Broken(f"{npz('lengths')}{SMALL}{TRAIN}", ("40", "39")),
    "targets that are no classes": Broken(f"{npz('values')}{SMALL}{TRAIN}", ("class",)),
    "negative classes": Broken(f"{npz('negative')}{SMALL}{TRAIN}", ("-5",)),
    "no such array": Broken(f"{npz('other')}{SMALL}{TRAIN}", ("other.npz",)),
    "an archive that is none": Broken(f"{npz('garbage')}{SMALL}{TRAIN}", ("garbage.npz",)),
    "no such column": Broken(
        f"data: {{source: {{table: {{path: table.csv, input: [width, heigth], target: kind}}}}}}\n{OWN}{TRAIN}",
        ("heigth",),
    ),
    "a folder without images": Broken(f"data: {{source: {{images: {{path: empty}}}}}}\n{SMALL}{TRAIN}", ("empty",)),
    "data function that fails": Broken(
        f"data: {{source: {{python: {{function: 'data.py:fails'}}}}}}\n{SMALL}{TRAIN}", ("full of bees",)
    ),
    "data function that returns a number": Broken(
        f"data: {{source: {{python: {{function: 'data.py:wrong'}}}}}}\n{SMALL}{TRAIN}", ("data.py:wrong",)
    ),
    "layers of a network that has none": Broken(
        "data: digits\nmodels: {net: {zoo: resnet8, width: 0.25}, half: {from: net, layers: 2}}\n"
        "stages: [{train: {model: half}}]\n",
        ("models.half", "only transformers have layers to choose from"),
    ),
    "depth of a network that has it in its name": Broken(
        "data: digits\nmodels: {net: {zoo: resnet8, width: 0.25}, half: {from: net, depth: 0.5}}\n"
        "stages: [{train: {model: half}}]\n",
        ("models.half", "has its depth in its name"),
    ),
    "from a network of one's own": Broken(
        f"{npz('good')}models: {{net: {{python: 'network.py:make'}}, half: {{from: net, width: 0.5}}}}\n"
        "stages: [{train: {model: half}}]\n",
        ("models.half", "only transformers and zoo networks can be made smaller"),
    ),
    "from a pruned network": Broken(
        "data: digits\nmodels: {net: {zoo: resnet8, width: 0.5}, half: {from: net, width: 0.5}}\n"
        "stages: [{train: {model: net}}, {prune: {keep: {macs: 0.8}, recover: null}}, {train: {model: half}}]\n",
        ("models.half", "the model was pruned"),
    ),
    "more layers than there are": Broken(
        "data: digits\nmodels:\n  net: {transformers: {model_type: vit, hidden_size: 8, num_hidden_layers: 2, "
        "num_attention_heads: 2, intermediate_size: 8, patch_size: 4}}\n  half: {from: net, layers: 3}\n"
        "stages: [{train: {model: half}}]\n",
        ("models.half", "layers: 3 of the 2 that there are"),
    ),
    "classes of an expert that are not there": Broken(
        f"data: digits\n{SMALL}stages: [{{train: {{classes: [3, 12]}}}}]\n", ("classes: there is no class 12",)
    ),
    "pseudo labels without unlabelled examples": Broken(
        "data: digits\nmodels: {a: {zoo: resnet8, width: 0.25}, b: {zoo: resnet8, width: 0.25}}\n"
        "stages: [{train: {model: a}}, {distill: {model: b, teacher: a, pseudo_labels: {}}}]\n",
        ("pseudo_labels: the data have no unlabelled examples",),
    ),
    "nothing matches ignore": Broken(
        f"data: digits\n{SMALL}stages: [{{prune: {{keep: {{macs: 0.5}}, ignore: [laier*], recover: null}}}}]\n",
        ("laier*",),
    ),
    "network that cannot be traced": Broken(
        f"{npz('good')}models: {{net: {{python: 'branches.py:make'}}}}\nstages: [{{export: {{emit: [fp32]}}}}]\n",
        ("cannot be exported",),
    ),
    "network too deep for the image": Broken(
        f"data: digits\nmodels: {{net: {{zoo: vgg19, width: 0.1}}}}\n{TRAIN}", ("vgg19",)
    ),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("broken")
    _write_files(folder)
    return folder


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go, so that what is left of them is seen; the user's cache is elsewhere."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "torch"))  # which torch makes while it is imported
    before = signal.getsignal(signal.SIGTERM)
    yield folder
    signal.signal(signal.SIGTERM, before)


def _content(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts)


@pytest.mark.parametrize("case", BROKEN)
def test_one_message_status_2_and_nothing_left(
    case: str, prepared: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = BROKEN[case]
    monkeypatch.chdir(prepared)
    pipeline = prepared / "pipeline.yaml"
    pipeline.unlink(missing_ok=True)
    if broken.text:
        pipeline.write_text(broken.text)
    before = _content(prepared)
    with pytest.raises(SystemExit) as ended:
        main(["run", "pipeline.yaml"])
    said = capsys.readouterr().err
    assert ended.value.code == WRONG_CALL, said
    assert "Traceback" not in said
    assert said.count("error:") + said.count("errors:\n") == 1, said
    for text in broken.says:
        assert text in said
    assert _content(prepared) == before
    assert _content(scratch) == []


def test_there_are_enough_of_them() -> None:
    assert len(BROKEN) >= 20


def test_the_command_itself_does_the_same(tmp_path: Path) -> None:
    text = f"data: digit\n{SMALL}stages: [{{trian: {{}}}}]\n"
    (tmp_path / "pipeline.yaml").write_text(text)
    command = [sys.executable, "-m", "compress", "run", "pipeline.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == WRONG_CALL
    assert done.stderr.startswith("errors:\n")
    assert len(done.stderr.splitlines()) == 3
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["pipeline.yaml"]
