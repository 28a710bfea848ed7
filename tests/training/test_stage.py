from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from compress.training.stage import Train


def test_faults_of_the_recipe_are_the_stages() -> None:
    assert [where for where, _ in Train(schedule="step").faults()] == ["milestones"]
    assert Train().faults() == []


def test_it_refers_to_the_model_to_train() -> None:
    assert Train().references() == {"source": None}
    assert Train(model="teacher").references() == {"source": "teacher"}


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValidationError):
        Train.model_validate({"teacher": "a"})


@pytest.mark.parametrize("module", ["compress.training.stage", "compress.distillation.stage"])
def test_reading_settings_is_light(module: str) -> None:
    heavy = "{'torch', 'numpy', 'sklearn', 'accelerate', 'safetensors', 'onnxruntime', 'pyarrow'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
