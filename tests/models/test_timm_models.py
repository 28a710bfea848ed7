"""timm is no dependency and need not be importable: a stand-in with its documented interface takes its place."""

from __future__ import annotations

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

SHAPES = ((1, 8, 8),)


class _Network(nn.Module):
    pretrained_cfg = {"classifier": "fc"}  # noqa: RUF012

    def __init__(self, num_classes: int, in_chans: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, 4, 3)
        self.fc = nn.Linear(4, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.fc(self.conv(x).mean((2, 3)))
        return y


def create_model(
    name: str, pretrained: bool = False, num_classes: int = 7, in_chans: int = 3, **rest: Any
) -> nn.Module:
    """`timm.create_model`: published weights are all ones."""
    if name != "tiny" or rest:
        raise RuntimeError(f"Unknown model ({name})" if name != "tiny" else f"unexpected {rest}")
    network = _Network(num_classes, in_chans)
    if pretrained:
        for parameter in network.parameters():
            nn.init.ones_(parameter)
    return network


@pytest.fixture(autouse=True)
def timm(monkeypatch: pytest.MonkeyPatch) -> None:
    library = ModuleType("timm")
    library.create_model = create_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", library)


def _filled(settings: ModelSettings, classes: int) -> nn.Module:
    factory = factory_for(settings, Need(SHAPES, classes))
    module = build(factory)
    load_initial_weights(module, settings, factory)
    return module


def test_random_weights_need_no_download() -> None:
    module = _filled(ModelSettings(timm="tiny"), 5)
    assert module(torch.zeros(2, 1, 8, 8)).shape == (2, 5)
    assert not torch.equal(module.get_parameter("fc.bias"), torch.ones(5))


def test_published_weights_with_their_head_must_fit() -> None:
    settings = ModelSettings(timm="tiny", arguments={"pretrained": True})
    assert all(bool((parameter == 1).all()) for parameter in _filled(settings, 7).parameters())
    with pytest.raises(UsageError, match=r"fc.weight: \(7, 4\) in the file, \(5, 4\) in the network"):
        _filled(settings, 5)


def test_a_new_head_is_left_random() -> None:
    module = _filled(ModelSettings(timm="tiny", arguments={"pretrained": True}, head="new"), 5)
    assert bool((module.get_parameter("conv.weight") == 1).all())
    assert not bool((module.get_parameter("fc.weight") == 1).any())


def test_the_factory_at_rest_downloads_nothing() -> None:
    factory = factory_for(ModelSettings(timm="tiny", arguments={"pretrained": True}), Need(SHAPES, 7))
    assert factory.arguments == {"num_classes": 7, "in_chans": 1}


@pytest.mark.parametrize("settings", [{"timm": "nothing"}, {"timm": "tiny", "arguments": {"depth": 3}}])
def test_what_timm_refuses_is_the_users_fault(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="timm: "):
        _filled(ModelSettings.model_validate(settings), 5)


def test_without_timm_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match="pip install"):
        _filled(ModelSettings(timm="tiny"), 5)
