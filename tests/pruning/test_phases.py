from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from compress.errors import UsageError
from compress.models.rest import state_digest
from compress.pruning.phases import Phases
from compress.stage import Context
from compress.training.log import EpochLog, FitLog

LOG = FitLog((0.5, 0.25), (EpochLog(0, 0.1, 1 / 3, 0.2, {"accuracy": 0.9}),), 0, 7, False, 1.5, ("said",))
IDENTITY = {"seed": 0, "settings": {"keep": {"macs": 0.5}}}


class _Training:
    """Sets the weights and counts how often."""

    def __init__(self, module: nn.Module, value: float) -> None:
        self.module, self.value, self.contexts = module, value, list[Context]()

    def __call__(self, context: Context) -> FitLog:
        self.contexts.append(context)
        if context.checkpoints is not None and not context.rehearsal:
            (context.checkpoints / "step-000000000003").mkdir(parents=True)
        with torch.no_grad():
            for tensor in self.module.state_dict().values():
                tensor.fill_(self.value)
        return LOG


def _network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()


def test_a_finished_phase_is_not_done_again(tmp_path: Path) -> None:
    first, again = _network(), _network()
    context = Context(checkpoints=tmp_path)
    one, other = _Training(first, 0.3), _Training(again, 0.4)
    assert Phases(context, IDENTITY).trained("one", first, one) == LOG
    log = Phases(context, IDENTITY).trained("one", again.train(), other)
    assert (log, log.seconds, log.notes, other.contexts) == (LOG, 1.5, ("said",), [])
    assert state_digest(again) == state_digest(first)
    assert not again.training
    assert [each.checkpoints for each in one.contexts] == [tmp_path / "one"]
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["finished"]


def test_phases_do_not_meet(tmp_path: Path) -> None:
    module = _network()
    phases = Phases(Context(checkpoints=tmp_path), IDENTITY)
    for name, value in (("one", 0.3), ("other", 0.4)):
        training = _Training(module, value)
        phases.trained(name, module, training)
        assert len(training.contexts) == 1
    phases.trained("one", module, _Training(module, 0.5))
    assert [float(p.detach().max()) for p in module.parameters()] == pytest.approx([0.3] * 4)


def test_what_was_chosen_stays(tmp_path: Path) -> None:
    phases = Phases(Context(checkpoints=tmp_path), IDENTITY)
    assert phases.recalled("one", lambda: {"b": [3], "a": [1]}) == {"b": [3], "a": [1]}
    assert list(phases.recalled("one", lambda: {"a": [2]})) == ["b", "a"]
    assert phases.recalled("other", lambda: {"a": [2]}) == {"a": [2]}


@pytest.mark.parametrize("name", ["trained", "chosen"])
def test_phases_of_another_step_are_refused(name: str, tmp_path: Path) -> None:
    module, context = _network(), Context(checkpoints=tmp_path)

    def do(phases: Phases) -> Any:
        if name == "trained":
            return phases.trained("one", module, _Training(module, 0.3))
        return phases.recalled("one", lambda: {"a": [0]})

    do(Phases(context, IDENTITY))
    with pytest.raises(UsageError, match="checkpoints of another training"):
        do(Phases(context, {**IDENTITY, "seed": 1}))


def test_nothing_is_kept_without_checkpoints_or_in_a_rehearsal(tmp_path: Path) -> None:
    module = _network()
    for context in (Context(), Context(checkpoints=tmp_path / "rehearsal", rehearsal=True)):
        training = _Training(module, 0.3)
        phases = Phases(context, IDENTITY)
        for choice in ({"a": [0]}, {"a": [1]}):
            assert phases.recalled("one", partial(dict, choice)) == choice
            phases.trained("one", module, training)
        assert training.contexts == [context, context]
    assert list(tmp_path.iterdir()) == []
