from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compress.config import read_pipeline
from compress.errors import UsageError
from compress.init import Answers, ask, pipeline_text, write_pipeline


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(**flags: object) -> Path:
    path = Path("pipeline.yaml")
    write_pipeline(path, ask(flags, interactive=False))
    return path


def test_defaults_make_a_pipeline_that_passes_the_check() -> None:
    pipeline = read_pipeline(written(data=None, model=None))
    assert pipeline.name == "pipeline"
    assert [placed.verb for placed in pipeline.stages] == ["train", "prune", "quantize", "export"]
    assert pipeline.budget.limits() == {"accuracy_drop": 0.01}
    assert list(Path().iterdir()) == [Path("pipeline.yaml")]


def test_every_line_says_what_it_is_for() -> None:
    lines = pipeline_text(Path("p.yaml"), Answers()).splitlines()
    assert sum("#" in line for line in lines) >= 10


def test_trained_weights_need_no_training() -> None:
    Path("net.safetensors").touch()
    pipeline = read_pipeline(written(model="resnet20", weights="net.safetensors"))
    assert [placed.verb for placed in pipeline.stages] == ["prune", "quantize", "export"]
    assert pipeline.models["net"].weights == str(Path("net.safetensors").resolve())


def test_values_in_an_archive_mean_regression_and_paths_follow_the_file() -> None:
    np.savez("data.npz", x=np.zeros((8, 1, 4, 4), np.float32), y=np.zeros((8, 2), np.float32))
    Path("network.py").write_text("def make():\n    return None\n")
    Path("sub").mkdir()
    path = Path("sub/mine.yaml")
    write_pipeline(path, ask({"data": "data.npz", "model": "network.py:make", "accuracy_drop": 0.2}, interactive=False))
    assert "path: ../data.npz" in path.read_text()
    pipeline = read_pipeline(path)
    assert pipeline.task.name == "regression"
    assert pipeline.budget.limits() == {"metric_drop": 0.2}
    assert pipeline.models["net"].python == f"{Path('network.py').resolve()}:make"


def test_classes_in_an_archive_mean_classification() -> None:
    np.savez("data.npz", x=np.zeros((8, 1, 4, 4), np.float32), y=np.zeros(8, np.int64))
    assert read_pipeline(written(data="data.npz")).task.name == "image-classification"


def test_a_folder_of_images() -> None:
    Path("pictures/cat").mkdir(parents=True)
    Path("pictures/cat/1.png").touch()
    data = read_pipeline(written(data="pictures")).data
    assert data.source.kind == "images"
    assert data.plain_preprocessing()


def test_tables_find_their_columns() -> None:
    Path("one.csv").write_text("img,label\na.png,0\n")
    Path("many.csv").write_text("width,height,Label\n1,2,0\n")
    for name, columns, target in (("one", "img", "label"), ("many", ("width", "height"), "Label")):
        path = Path(f"{name}.yaml")
        write_pipeline(path, ask({"data": f"{name}.csv"}, interactive=False))
        table = read_pipeline(path).data.source.table
        assert table is not None
        assert (table.input, table.target) == (columns, target)


def test_names_that_yaml_would_misread_are_quoted() -> None:
    Path("odd: name#1.csv").write_text("x,y\n1,0\n")
    assert read_pipeline(written(data="odd: name#1.csv")).data.source.kind == "table"


def test_questions_are_asked_for_what_no_flag_gave() -> None:
    asked = []

    def prompt(question: str, default: str) -> str:
        asked.append((question.split(":", maxsplit=1)[0].split(" ", maxsplit=1)[0], default))
        return "resnet14" if question.startswith("Network") else default

    answers = ask({"target": "local", "accuracy_drop": None}, interactive=True, prompt=prompt)
    assert answers == Answers(model="resnet14")
    assert asked == [("Data", "digits"), ("Network", "resnet8"), ("Trained", ""), ("Most", "0.01")]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"data": "nowhere"}, "no file or folder here"),
        ({"data": "text.txt"}, "none of .parquet"),
        ({"data": "bad.npz"}, "is no NumPy archive"),
        ({"data": "bare.csv"}, "no column of bare.csv looks like the target"),
        ({"model": "resnet9"}, "models.net.zoo"),
        ({"model": "none.py:make"}, "no such file"),
        ({"weights": "none.pt"}, "no such file"),
        ({"target": "lokal"}, "did you mean 'local'?"),
        ({"accuracy_drop": 3}, "budget.accuracy_drop"),
    ],
)
def test_wrong_answers_are_usage_errors_and_leave_nothing(flags: dict[str, object], message: str) -> None:
    Path("text.txt").touch()
    Path("bad.npz").write_text("no zip")
    Path("bare.csv").write_text("a,b\n1,2\n")
    before = sorted(Path().iterdir())
    with pytest.raises(UsageError) as caught:
        written(**flags)
    assert message in str(caught.value)
    assert "draft" not in str(caught.value)
    assert sorted(Path().iterdir()) == before


def test_an_answer_that_is_no_number() -> None:
    with pytest.raises(UsageError, match="must be a number"):
        ask({}, interactive=True, prompt=lambda question, default: "little" if question.startswith("Most") else default)


def test_nothing_is_overwritten() -> None:
    path = written()
    text = path.read_text()
    with pytest.raises(UsageError, match="exists already"):
        written()
    assert path.read_text() == text
    with pytest.raises(UsageError, match="no folder"):
        write_pipeline(Path("none/pipeline.yaml"), Answers())
