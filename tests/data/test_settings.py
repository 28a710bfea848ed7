from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml

from compress.data.locations import builtin_folder
from compress.data.settings import DataSettings, read_data_settings
from compress.errors import UsageError

HEAVY = ("numpy", "torch", "sklearn", "pyarrow", "PIL", "datasets", "pandas")


def faults_of(value: Any, base: Path | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        read_data_settings(value, base)
    return str(caught.value)


def archive(folder: Path, name: str = "d.npz", offset: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / name, x=np.arange(6.0).reshape(3, 2) + offset, y=np.arange(3))
    return folder / name


@pytest.mark.parametrize("file", sorted(builtin_folder("data").glob("*.yaml")), ids=lambda file: str(file.stem))
def test_every_shipped_file_is_read(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESS_DATA", str(tmp_path))
    for name in re.findall(r"\$COMPRESS_DATA/([\w./-]+)", file.read_text()):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    settings = read_data_settings(file.stem)
    assert settings == read_data_settings(str(file))
    jsonschema.validate(yaml.safe_load(file.read_text()), DataSettings.model_json_schema())


def test_settings_survive_json(tmp_path: Path) -> None:
    archive(tmp_path)
    settings = read_data_settings(
        {
            "source": {"npz": {"path": "d.npz"}},
            "preprocessing": [{"resize": [4, 5]}, {"normalize": {"mean": [0], "std": [1]}}],
            "augmentation": ["flip", {"pad_crop": 2}, "mixup", {"cutmix": 0.5}],
        },
        tmp_path,
    )
    again = DataSettings.model_validate(json.loads(json.dumps(settings.model_dump(mode="json"))))
    assert again == settings
    assert DataSettings.model_validate_json(settings.model_dump_json()).fingerprint() == settings.fingerprint()
    assert settings.plain_preprocessing() == (
        {"resize": {"size": [4, 5], "keep": None}},
        {"normalize": {"mean": [0.0], "std": [1.0]}},
    )
    assert settings.plain_augmentation() == (
        {"flip": {"probability": 0.5}},
        {"pad_crop": {"padding": 2, "fill": "zero"}},
        {"mixup": {"probability": 1.0, "alpha": 1.0}},
        {"cutmix": {"probability": 0.5, "alpha": 1.0}},
    )


def test_paths_become_absolute_and_lists_and_patterns_are_read(tmp_path: Path) -> None:
    one, two = archive(tmp_path, "a-1.npz"), archive(tmp_path, "a-2.npz")
    for train in ("a-*.npz", ["a-1.npz", "a-2.npz"]):
        npz = read_data_settings({"source": {"npz": {"train": train}}}, tmp_path).source.npz
        assert npz is not None
        assert npz.train == (one, two)


def test_every_fault_is_told_at_once_with_file_line_and_hint(tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    file.write_text(
        "source:\n  table:\n    path: none.csv\n    inptu: a\n    target: b\nlimit: {train: 0}\npreprocesing: 3\n"
        "augmentation:\n  - flipp\n  - pad_crop: x\n  - mixup: 2\n"
    )
    text = faults_of(str(file))
    for part in (
        f"{file}:3: source.table.path: no such file or folder",
        f"{file}:4: source.table.inptu: unknown key (did you mean 'input'?)",
        "source.table.input: is missing",
        f"{file}:6: limit.train: must be at least 1",
        f"{file}:7: preprocesing: unknown key (did you mean 'preprocessing'?)",
        f"{file}:9: augmentation[0]: unknown 'flipp' (did you mean 'flip'?)",
        f"{file}:10: augmentation[1].pad_crop: must be a whole number",
        f"{file}:11: augmentation[2].mixup: must be at most 1",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"source": {}}, "give exactly one kind of source, got none"),
        ({"source": {"digits": {}, "npz": {"path": "x"}}}, "exactly one kind of source, got digits, npz"),
        ({"source": {"digitz": {}}}, "did you mean 'digits'?"),
        (
            {"source": {"npz": {"path": "d.npz", "test": "d.npz"}}},
            "with validation or test name the training file train",
        ),
        ({"source": {"npz": {}}}, "give either path"),
        ({"source": {"npz": {"path": "d.npz", "input": "x_{split}"}}}, "must both name the split"),
        ({"source": {"npz": {"path": "$NOT_SET_ANYWHERE/x.npz"}}}, "NOT_SET_ANYWHERE, which is not set"),
        ({"source": {"hub": {"input": "a", "target": "b"}}}, "give either name"),
        (
            {"source": {"hub": {"name": "n", "input": "a", "target": "b", "splits": {"test": "t"}}}},
            "which split is train",
        ),
        ({"source": {"python": {"function": "nowhere_at_all:f"}}}, "no module named 'nowhere_at_all'"),
        ({"source": {"python": {"function": "missing.py:f"}}}, "no such file"),
        ({"source": {"python": {"function": "no function"}}}, "neither module:function nor"),
        ({"source": "digits", "split": {"validation": 0.6, "test": 0.5}}, "leave nothing to train on"),
        (
            {"source": "digits", "preprocessing": [{"normalize": {"mean": [1], "std": [1, 2]}}]},
            "mean has 1 numbers and std 2",
        ),
        ({"source": "digits", "preprocessing": [{"scale": 1, "color": "grey"}]}, "one step a line, got scale, color"),
        ({"source": "digits", "preprocessing": [{"color": "blue"}]}, "preprocessing[0].color"),
        ({"source": "digits", "preprocessing": [{"resize": {"size": [2, 3], "keep": "shortest"}}]}, "needs one number"),
        ("digit", "did you mean 'digits'?"),
        ("/", "is a folder: name a data file"),
    ],
)
def test_what_is_wrong_is_said(value: Any, message: str, tmp_path: Path) -> None:
    archive(tmp_path)
    assert message in faults_of(value, tmp_path)


def test_fingerprint_is_of_contents_and_settings_not_of_places(tmp_path: Path) -> None:
    def fingerprint(folder: Path, **more: Any) -> str:
        return read_data_settings({"source": {"npz": {"path": "d.npz"}}, **more}, folder).fingerprint()

    archive(tmp_path / "one")
    archive(tmp_path / "two")
    archive(tmp_path / "three", offset=1)
    same = fingerprint(tmp_path / "one")
    assert fingerprint(tmp_path / "two") == same
    different = [
        fingerprint(tmp_path / "three"),
        fingerprint(tmp_path / "one", split={"seed": 1}),
        fingerprint(tmp_path / "one", limit={"train": 1}),
        fingerprint(tmp_path / "one", augmentation=["flip"]),
        fingerprint(tmp_path / "one", preprocessing=[{"scale": 2}]),
    ]
    assert len({same, *different}) == 6
    archive(tmp_path / "one", offset=2)
    assert fingerprint(tmp_path / "one") != same


def test_a_file_that_is_gone_is_a_fault(tmp_path: Path) -> None:
    file = archive(tmp_path)
    settings = read_data_settings({"source": {"npz": {"path": "d.npz"}}}, tmp_path)
    file.unlink()
    with pytest.raises(UsageError, match=r"cannot read .*d\.npz"):
        settings.fingerprint()


def test_reading_and_fingerprinting_import_nothing_heavy() -> None:
    program = (
        "import sys; from compress.data.settings import read_data_settings; from compress.tasks.settings import *; "
        "read_data_settings('digits').fingerprint(); read_task_settings('regression').fingerprint(); "
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
