"""torchvision is no dependency and need not be importable: a stand-in with its documented interface takes its place."""

from __future__ import annotations

import enum
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from compress.errors import UsageError
from compress.models.factory import build, factory_for, load_initial_weights
from compress.models.need import Need
from compress.models.settings import ModelSettings

SHAPES = ((3, 8, 8),)


def _network(num_classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))


def get_model(name: str, weights: None = None, num_classes: int = 7) -> nn.Module:
    """`torchvision.models.get_model`."""
    if name != "tiny":
        raise ValueError(f"Unknown model {name}")
    assert weights is None
    return _network(num_classes)


class Weights(enum.Enum):
    """A `WeightsEnum`: published weights are all ones."""

    V1 = "v1"
    DEFAULT = "v1"

    def get_state_dict(self, progress: bool, check_hash: bool) -> dict[str, torch.Tensor]:
        """As torchvision downloads it."""
        assert not progress
        assert check_hash
        return {key: torch.ones_like(value) for key, value in _network(7).state_dict().items()}


@pytest.fixture(autouse=True)
def torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    models: Any = ModuleType("torchvision.models")
    models.get_model, models.get_model_weights = get_model, lambda name: Weights
    library: Any = ModuleType("torchvision")
    library.models = models
    monkeypatch.setitem(sys.modules, "torchvision", library)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)


def _filled(settings: ModelSettings, classes: int) -> nn.Module:
    factory = factory_for(settings, Need(SHAPES, classes))
    module = build(factory)
    load_initial_weights(module, settings, factory)
    return module


def test_random_weights_need_no_download() -> None:
    module = _filled(ModelSettings(torchvision="tiny"), 5)
    assert module(torch.zeros(2, 3, 8, 8)).shape == (2, 5)


def test_published_weights_with_their_head_must_fit() -> None:
    settings = ModelSettings(torchvision="tiny", arguments={"weights": "DEFAULT"})
    assert all(bool((parameter == 1).all()) for parameter in _filled(settings, 7).parameters())
    with pytest.raises(UsageError, match=r"3.weight: \(7, 4\) in the file, \(5, 4\) in the network"):
        _filled(settings, 5)


def test_a_new_head_is_left_random() -> None:
    module = _filled(ModelSettings(torchvision="tiny", arguments={"weights": "V1"}, head="new"), 5)
    assert bool((module.get_parameter("0.weight") == 1).all())
    assert not bool((module.get_parameter("3.weight") == 1).any())


def test_the_factory_at_rest_downloads_nothing() -> None:
    factory = factory_for(ModelSettings(torchvision="tiny", arguments={"weights": "V1"}), Need(SHAPES, 7))
    assert factory.arguments == {"num_classes": 7}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"torchvision": "nothing"}, "Unknown model nothing"),
        ({"torchvision": "tiny", "arguments": {"depth": 3}}, "unexpected keyword argument 'depth'"),
        ({"torchvision": "tiny", "arguments": {"weights": "V9"}}, "no weights called 'V9'; it has V1"),
    ],
)
def test_what_torchvision_refuses_is_the_users_fault(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        _filled(ModelSettings.model_validate(settings), 5)
