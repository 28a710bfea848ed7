from __future__ import annotations

from typing import Any

import pytest

from compress.bare.asked import Asked, emissions_of, is_symmetric
from compress.errors import UsageError
from compress.targets.settings import TargetSettings

TARGET = TargetSettings(name="here")


def message(**settings: Any) -> str:
    with pytest.raises(UsageError) as error:
        emissions_of(Asked(**settings), TARGET)
    return str(error.value)


def test_files_are_those_of_the_target_or_those_that_were_named() -> None:
    names = emissions_of(Asked(), TARGET)
    assert names and not {"fp32", "fp16", "bf16"} & set(names)
    assert emissions_of(Asked(emit=("tensorrt", "ort-arm")), TARGET) == ["tensorrt", "ort-arm"]


def test_grid_and_bits_follow_the_files() -> None:
    assert is_symmetric(Asked(), ["tensorrt", "ort-x86"])
    assert not is_symmetric(Asked(), ["ort-x86"])
    assert is_symmetric(Asked(grid="symmetric"), ["ort-x86"])
    assert [Asked().bits(names) for names in (["ort-x86"], ["ort-x86", "ort-x86-avx2"])] == [8, 7]
    assert Asked(weight_bits=8).bits(["ort-x86-avx2"]) == 8


def test_every_wrong_setting_is_named() -> None:
    assert "ort-x86" in message(emit=("ort-x68",))
    assert "static" in message(rungs=("static", "statik"))
    assert "'trained'" in message(rungs=("static", "trained"))
    assert "minmax" in message(calibration="minmaks")
    assert "symmetric" in message(grid="symetric")
    assert "--budget" in message(budget=-0.1)
    assert "--rung: the ladder begins with static" in message(rungs=("adaround",))
    assert "TensorRT has no zero points" in message(grid="affine", emit=("tensorrt",))
    assert "fp32" in message(emit=("fp32",))
    assert "twice" in message(emit=("ort-x86", "ort-x86"))
    assert "--budget" in message(budget=float("nan"))
    assert "7 or 8" in message(weight_bits=4)
    assert "adaround" in message(adaround_iterations=0)
