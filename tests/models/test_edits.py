from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from compress.errors import UsageError
from compress.models.edits import Edit, apply_edits, describe_edits


class _Own(nn.Module):
    rate: int

    def __init__(self) -> None:
        super().__init__()
        self.rate = 1
        self.pair = (1, 2.0)
        self.table = torch.arange(3)
        self.register_buffer("mask", torch.ones(2), persistent=False)
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.down: nn.Module | None = nn.Linear(4, 4)
        self.optional: nn.Module | None = None


def _cut_norm(own: _Own) -> None:
    norm: Any = own.body[1]
    norm.num_features = 2
    norm.weight, norm.bias = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    norm.running_mean, norm.running_var = torch.zeros(2), torch.ones(2)


def _exchange(own: _Own) -> None:
    own.body[2] = nn.LeakyReLU(0.3)
    own.body[1] = nn.Identity()


def _rebuild(own: _Own) -> None:
    own.down = nn.Sequential(nn.Linear(4, 2, bias=False), nn.Flatten(1, -1))
    own.optional = nn.Conv2d(1, 1, (1, 3), padding="same")


def _parameter_for_buffer(own: _Own) -> None:
    del own.mask
    own.mask = nn.Parameter(torch.ones(1))


CHANGES: dict[str, Callable[[_Own], object]] = {
    "nothing": lambda own: None,
    "attributes": lambda own: vars(own).update(rate=True, pair=(1, [2.0]), new=None),
    "an attribute gone": lambda own: delattr(own, "rate"),
    "sizes": _cut_norm,
    "exchanged": _exchange,
    "removed": lambda own: setattr(own, "down", None),
    "deleted": lambda own: delattr(own, "down"),
    "rebuilt": _rebuild,
    "out of order": lambda own: own.body._modules.update({"1": own.body._modules.pop("1")}),
    "a layer left out": lambda own: setattr(own, "body", nn.Sequential(own.body[0], own.body[2])),
    "no bias": lambda own: own.body[0].register_parameter("bias", None),
    "another dtype": lambda own: own.down.half() if own.down is not None else None,
    "a buffer": lambda own: own.register_buffer("mask", torch.ones(5, dtype=torch.int64)),
    "a buffer gone": lambda own: delattr(own, "mask"),
    "a parameter for a buffer": _parameter_for_buffer,
}


@pytest.mark.parametrize("change", CHANGES)
def test_edits_turn_the_fresh_network_into_the_changed_one(change: str) -> None:
    fresh, changed = _Own(), _Own()
    CHANGES[change](changed)
    edits = describe_edits(changed, fresh)
    assert bool(edits) == (change != "nothing")
    stored = json.loads(json.dumps([edit.as_json() for edit in edits], sort_keys=True))
    rebuilt = apply_edits(fresh, map(Edit.from_json, stored))
    assert not describe_edits(changed, rebuilt)
    assert not describe_edits(rebuilt, changed)
    assert str(rebuilt) == str(changed)
    assert [*rebuilt.state_dict()] == [*changed.state_dict()]


def test_the_whole_network_can_be_exchanged() -> None:
    edits = describe_edits(nn.Linear(3, 2), nn.ReLU())
    rebuilt = apply_edits(nn.ReLU(), edits)
    assert isinstance(rebuilt, nn.Linear)
    assert (rebuilt.in_features, rebuilt.weight.shape) == (3, (2, 3))


def test_edits_say_the_result() -> None:
    changed = _Own()
    _cut_norm(changed)
    [edit] = describe_edits(changed, _Own())
    assert edit.path == "body.1"
    assert edit.attributes == {"num_features": 2}
    assert edit.tensors["running_mean"] == {"kind": "buffer", "shape": [2], "dtype": "float32"}
    assert edit.made is None


def test_training_mode_and_values_are_no_edits() -> None:
    changed = _Own().eval()
    nn.init.zeros_(changed.get_parameter("body.0.weight"))
    assert not describe_edits(changed, _Own())


class _Other(nn.Module):
    pass


def _hook(own: _Own) -> None:
    own.body[0].register_forward_hook(lambda *_: None)


def _share(own: _Own) -> None:
    own.optional = own.down


UNDESCRIBABLE: dict[str, tuple[Callable[[_Own], object], str]] = {
    "a class of its own": (lambda own: setattr(own, "down", _Other()), "down is a _Other where the factory makes a"),
    "a layer with parts": (
        lambda own: setattr(own, "down", nn.TransformerEncoderLayer(4, 2)),
        "only simple layers",
    ),
    "a tensor": (lambda own: setattr(own, "table", torch.arange(4)), "'table' .Tensor. of another value: register it"),
    "code": (lambda own: setattr(own, "forward", lambda x: x), "attribute 'forward'"),
    "a hook": (_hook, "body.0 has forward hooks"),
    "a module twice": (_share, "optional shares a module"),
    "new parametrization": (
        lambda own: parametrizations.weight_norm(own.body[0]),
        "body.0 is a torch.nn.utils.parametrize.ParametrizedConv2d",
    ),
}


@pytest.mark.parametrize("case", UNDESCRIBABLE)
def test_what_plain_data_cannot_say_is_refused(case: str) -> None:
    change, says = UNDESCRIBABLE[case]
    changed = _Own()
    change(changed)
    with pytest.raises(UsageError, match=says):
        describe_edits(changed, _Own())


def test_all_faults_are_listed() -> None:
    changed: Any = _Own()
    changed.table = torch.zeros(1)
    changed.down = _Other()
    with pytest.raises(UsageError, match=r"(?s)table.*down"):
        describe_edits(changed, _Own())


def test_networks_with_parametrizations_and_shared_modules_of_their_own_are_fine() -> None:
    def make() -> nn.Module:
        layer = nn.Linear(3, 3)
        return nn.Sequential(layer, layer, parametrizations.weight_norm(nn.Linear(3, 3)))

    assert not describe_edits(make(), make())
    changed = copy.deepcopy(make())
    changed[0].in_features = 5  # type: ignore[index]
    edits = describe_edits(changed, make())
    assert [edit.path for edit in edits] == ["0"]
