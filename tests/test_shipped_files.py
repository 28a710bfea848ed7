"""Every file that we ship is one that loads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from compress.config import read_pipeline
from compress.data.settings import read_data_settings
from compress.targets.reading import read_target
from compress.yaml_source import read_yaml

REPOSITORY = Path(__file__).parents[1]


def _named(folder: str) -> list[Path]:
    return sorted((REPOSITORY / folder).rglob("*.y*ml"))


@pytest.fixture(autouse=True)
def _stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Files that a shipped file names through an environment variable, made empty: here only the naming is tested."""
    path = request.node.callspec.params["path"]
    files = [path, *(_named("configs/data") if "pipelines" in path.parts else [])]
    for variable, rest in re.findall(r"\$\{?(\w+)\}?/([\w./-]+)", "".join(file.read_text() for file in files)):
        monkeypatch.setenv(variable, str(tmp_path))
        (tmp_path / rest).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / rest).touch()


@pytest.mark.parametrize("path", _named("pipelines"), ids=lambda path: path.name)
def test_pipelines_load(path: Path) -> None:
    pipeline = read_pipeline(path)
    assert all(pipeline.inputs(placed) for placed in pipeline.stages)


@pytest.mark.parametrize("path", _named("configs/data"), ids=lambda path: path.name)
def test_data_files_load_by_path_and_by_name(path: Path) -> None:
    assert read_data_settings(str(path)) == read_data_settings(path.stem)


@pytest.mark.parametrize("path", _named("configs/targets"), ids=lambda path: path.name)
def test_target_files_load_by_path_and_by_name(path: Path) -> None:
    assert read_target(str(path)) == read_target(path.stem)


@pytest.mark.parametrize("path", [*_named("pipelines"), *_named("configs")], ids=lambda path: path.name)
def test_no_file_has_faults_in_its_yaml(path: Path) -> None:
    source = read_yaml(path)
    assert not source.faults
    assert isinstance(source.data, dict)
    assert path.read_text().startswith("#"), "says in its first line what it is"
