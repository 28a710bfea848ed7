"""The whole of pruning on a data set: prune, re-estimate, and train what is left."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from compress.data.dataset import Data
from compress.distillation.distill import distill
from compress.models.deployment import nominal_inputs
from compress.models.rest import state_digest
from compress.pruning.batch_norm import reestimate
from compress.pruning.examples import IMPORTANCE_BATCH, STATISTICS_BATCH, at_work, practice_batches, training_batches
from compress.pruning.importance.measures import Given
from compress.pruning.importance.score import LabelledBatch
from compress.pruning.iterations import Cuts, Stock, round_recipe, round_target
from compress.pruning.noted import Noted
from compress.pruning.phases import Phases
from compress.pruning.prunable import Prunable
from compress.pruning.prune import PruneLog, check_share, prune_module
from compress.pruning.reach import Where, prune_to_time
from compress.pruning.settings import Keep
from compress.pruning.share_search import prune_with_blocks
from compress.pruning.sparse import learn_sparsely
from compress.pruning.stage import Prune, Recover
from compress.stage import Context, Metrics
from compress.tasks.task import Task
from compress.training.device import warn_of_slow_precision
from compress.training.log import FitLog
from compress.training.processes import broadcast_object
from compress.training.randomness import derived_seed


@dataclass(frozen=True)
class Pruned:
    """What pruning did, and the training around it: `recoveries` are one for each round, none if it is not trained."""

    log: PruneLog
    recoveries: tuple[FitLog, ...] = ()
    sparse: FitLog | None = None

    def as_metrics(self) -> Metrics:
        """Plain data for the stage's record; `training` is the last recovery."""
        recoveries = [recovery.as_metrics() for recovery in self.recoveries]
        return {
            "pruning": self.log.plain(),
            **({"training": recoveries[-1]} if recoveries else {}),
            **({"rounds": recoveries} if len(recoveries) > 1 else {}),
            **({"sparse": self.sparse.as_metrics()} if self.sparse is not None else {}),
        }


@dataclass(frozen=True)
class _Asked:
    """What is asked of a network, and with what it is answered; `precision` is that of the training afterwards."""

    data: Data
    task: Task
    settings: Prune
    precision: str
    context: Context
    where: Where | None

    def identity(self, module: nn.Module) -> dict[str, Any]:
        """What a choice in `module` depends on; empty where nothing is kept."""
        if self.context.checkpoints is None:
            return {}
        return {
            "seed": self.context.seed,
            "settings": self.settings.model_dump(mode="json", exclude={"recover"}),
            "precision": self.precision,
            "examples": len(self.data.train),
            "data": self.data.fingerprint,
            "task": self.task.name,
            "target": None if self.where is None else self.where.target.model_dump(mode="json"),
            "network": state_digest(module),
        }

    def batches(self, size: int, device: torch.device) -> list[LabelledBatch]:
        """Training examples to choose by, in batches of `size`."""
        return training_batches(self.data, self.settings.examples, size, self.context, device)


def prune_and_recover(
    module: nn.Module,
    data: Data,
    task: Task,
    settings: Prune,
    recipe: Recover | None = None,
    context: Context | None = None,
    where: Where | None = None,
) -> Pruned:
    """Prune `module` in place by training examples, then distil from the network as it was; test data is never read.

    With `settings.sparse` it is trained for that before; with `settings.iterations` both are done in so many rounds.

    Args:
        module: Ends in evaluation mode, on its own device.
        data: Importance and batch-norm statistics come from `settings.examples` of its training split.
        task: Its loss is what `taylor` importance and sparse learning are about.
        settings: What to remove and how much.
        recipe: How to train afterwards; None for not at all.
        context: Seed, device, threads, processes, checkpoints; two batches of everything in a rehearsal.
        where: On what times are measured, if `settings.reach` asks for one.

    Raises:
        UsageError: as `prune_module` and `distill` do; or there are no training examples; or the checkpoints are those
            of another step.
        StageError: as they do.
    """
    context = context or Context()
    asked = _Asked(data, task, settings, "fp32" if recipe is None else recipe.precision, context, where)
    choosing = asked.identity(module)
    phases = Phases(context, {**choosing, "recipe": None if recipe is None else recipe.model_dump(mode="json")})
    teacher = copy.deepcopy(module) if recipe is not None else None
    stock, sparse = Stock.of((), {}, settings), None
    if settings.sparse is not None or settings.iterations > 1:
        network = _network(module, asked)
        stock = Stock.of(network.groups, network.ties, settings)
        sparse = _learn_sparsely(module, asked, network, phases)
    if settings.reach is not None or settings.drops_blocks:
        log = _cut_with_blocks(module, asked, phases, phases.noted(choosing))
        context.progress.say(describe(log))
        if recipe is None or teacher is None:
            return Pruned(log, (), sparse)
        train = partial(_recover_round, module, teacher, data, task, recipe, 1)
        return Pruned(log, (phases.trained(_round(1), module, train),), sparse)
    rounds, target = settings.iterations, settings.share.share
    cuts = Cuts(stock)
    recoveries = []
    for number in range(1, rounds + 1):
        cuts = _cut_round(module, asked, phases, number, cuts)
        log = cuts.joined(round_target(target, number, rounds))
        context.progress.say((f"round {number} of {rounds}: " if rounds > 1 else "") + describe(log))
        if recipe is not None and teacher is not None:
            part = round_recipe(recipe, number, rounds)
            train = partial(_recover_round, module, teacher, data, task, part, number)
            recoveries.append(phases.trained(_round(number), module, train))
    return Pruned(cuts.joined(target), tuple(recoveries), sparse)


def recover(
    module: nn.Module, teacher: nn.Module, data: Data, task: Task, recipe: Recover, context: Context | None = None
) -> FitLog:
    """Train the pruned `module` in place to answer like `teacher`, the network before pruning.

    Raises:
        UsageError: as `distill` does.
        StageError: as `distill` does.
    """
    return distill(module, teacher, data, task, recipe, recipe.losses, context, cache=recipe.cache)


def _recover_round(
    module: nn.Module, teacher: nn.Module, data: Data, task: Task, recipe: Recover, number: int, context: Context
) -> FitLog:
    """Rounds after the first meet the examples in other orders, and in other augmented versions, than it did."""
    seed = context.seed if number == 1 else derived_seed(context.seed, "round", number)
    return recover(module, teacher, data, task, recipe, replace(context, seed=seed))


def _learn_sparsely(module: nn.Module, asked: _Asked, network: Prunable, phases: Phases) -> FitLog | None:
    sparse = asked.settings.sparse
    if sparse is None:
        return None
    train = partial(learn_sparsely, module, asked.data, asked.task, network.groups, sparse)
    return phases.trained("sparse", module, train)


def _cut_round(module: nn.Module, asked: _Asked, phases: Phases, number: int, cuts: Cuts) -> Cuts:
    """Cut to the round's share; again, where groups had less to give than was chosen and others must stand in."""
    settings = asked.settings
    target = round_target(settings.share.share, number, settings.iterations)
    last, done = number == settings.iterations, len(cuts.logs)
    while True:
        share = cuts.share(settings.share.measure, target, last=last)
        if share is None:
            return cuts
        chosen = settings.model_copy(update={"keep": Keep.model_validate({settings.share.measure: share})})
        name = f"{_round(number)}/{len(cuts.logs) - done}"
        before, cuts = cuts, _cut(module, replace(asked, settings=chosen), phases, name, cuts)
        if cuts.stock.spent == before.stock.spent:
            return cuts


def _cut(module: nn.Module, asked: _Asked, phases: Phases, name: str, cuts: Cuts) -> Cuts:
    """One cut, and batch-norm statistics of what is left."""
    settings = asked.settings
    removed: dict[str, list[int]] = {}

    def recall(choose: Callable[[], dict[str, list[int]]]) -> dict[str, list[int]]:
        removed.update(phases.recalled(name, lambda: cuts.stock.allowed(choose())))
        return removed

    with at_work(module, asked.context) as device:
        batches = asked.batches(IMPORTANCE_BATCH, device)
        example = [tensor[:2] for tensor in batches[0][0]]
        seed, spent, loss = asked.context.seed, cuts.stock.spent, asked.task.loss
        log = prune_module(module, example, settings, batches=batches, loss=loss, seed=seed, spent=spent, recall=recall)
        reestimate(module, (inputs for inputs, _ in asked.batches(STATISTICS_BATCH, device)))
        _agree(module)
    return cuts.after(log, removed)


def _cut_with_blocks(module: nn.Module, asked: _Asked, phases: Phases, noted: Noted) -> PruneLog:
    """The cut for a time, or for a share with blocks among what may go; and batch-norm statistics of what is left.

    Choices are judged in the precision in which what is left will be trained.
    """
    settings, context, where = asked.settings, asked.context, asked.where
    recall = partial(phases.recalled, f"{_round(1)}/0")
    with at_work(module, context) as device:
        warn_of_slow_precision(asked.precision, device, context.progress)
        batches = asked.batches(IMPORTANCE_BATCH, device)
        shapes = None if where is None else where.target.shapes
        example = [tensor.to(device) for tensor in nominal_inputs(asked.data, shapes=shapes)]
        practice = practice_batches(asked.data, batches, context, device) if settings.candidates > 1 else ()
        given = Given(batches, asked.task.loss, settings.norm, context.seed, practice, asked.precision)
        if settings.reach is None:
            log = prune_with_blocks(
                module, example, settings, given, recall, context.progress, noted, quick=context.rehearsal
            )
        else:
            assert where is not None
            log = prune_to_time(module, example, settings, where, given, recall, noted)
        reestimate(module, (inputs for inputs, _ in asked.batches(STATISTICS_BATCH, device)))
        _agree(module)
    return log


@torch.no_grad()
def _agree(module: nn.Module) -> None:
    """All processes hold what the first one does: another processor may compute other last bits."""
    for tensor in module.state_dict().values():
        tensor.copy_(broadcast_object(tensor.cpu()))


def _network(module: nn.Module, asked: _Asked) -> Prunable:
    """What may be pruned before anything was; the share that is asked of it can be reached."""
    settings, context = asked.settings, asked.context
    with at_work(module, context) as device:
        [(inputs, _), *_] = training_batches(asked.data, 2, 2, context, device)
        network = Prunable.find(module, inputs, settings, context.seed)
        if settings.keep is not None and not settings.drops_blocks:
            check_share(network, settings)
    return network


def _round(number: int) -> str:
    return f"round-{number}"


def describe(log: PruneLog) -> str:
    """One line for the user."""
    parts = [f"{name} {log.before[name]:,} -> {log.after[name]:,}" for name in log.before]
    if log.timing is not None:
        timing, blocks = log.timing, f", blocks gone: {len(log.dropped)}" if log.dropped else ""
        over = "" if timing.over_ms is None else f"unpruned in fp32 {timing.over_ms:.3g}, "
        return (
            f"pruned from {timing.whole_ms:.3g} to {timing.measured_ms:.3g} ms in {timing.precision} at batch "
            f"{timing.batch} on {timing.target} ({over}asked {timing.wanted_ms:.3g}, predicted "
            f"{timing.predicted_ms:.3g}, fastest reachable {timing.floor_ms:.3g}){blocks}: {', '.join(parts)}"
        )
    return f"pruned to {log.reached:.1%} of the {log.measure} (asked {log.asked:.1%}): {', '.join(parts)}"
