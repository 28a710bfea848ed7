from __future__ import annotations

import pytest
from torch import nn

from compress.errors import UsageError
from compress.pruning.ignore import ignored_modules, is_under


def _module() -> nn.Module:
    return nn.ModuleDict({"layer1": nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "head": nn.Linear(2, 2)})


def test_globs_match_names() -> None:
    assert ignored_modules(_module(), ["layer1.*"]) == {"layer1.0", "layer1.1"}
    assert ignored_modules(_module(), []) == set()


def test_a_container_covers_what_is_inside() -> None:
    ignored = ignored_modules(_module(), ["layer1"])
    assert is_under("layer1.0", ignored)
    assert not is_under("head", ignored)
    assert not is_under("layer10.0", ignored)


def test_globs_that_match_nothing_are_all_named_with_what_is_near() -> None:
    with pytest.raises(UsageError) as caught:
        ignored_modules(_module(), ["layr1", "head", "haed"])
    assert [fault.where for fault in caught.value.faults] == ["prune.ignore", "prune.ignore"]
    assert "'layr1' matches no module of the network (near: layer1" in str(caught.value)
    assert "(near: head" in str(caught.value)
