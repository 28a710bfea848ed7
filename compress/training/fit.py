"""The one training loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from compress.data.dataset import Data
from compress.errors import UsageError
from compress.stage import Context
from compress.tasks.task import Task
from compress.training.batches import epoch_batches, load_batches, reader_count, share
from compress.training.compiled import forget_compiled
from compress.training.device import limited_threads
from compress.training.evaluate import mean_loss, predict
from compress.training.interrupts import deferred_interrupt
from compress.training.log import EpochLog, FitLog
from compress.training.memory_format import from_work
from compress.training.method import Method
from compress.training.randomness import preserved_randomness
from compress.training.schedule import learning_rate
from compress.training.selection import epochs_without_progress, is_best
from compress.training.session import Session
from compress.training.settings import Recipe
from compress.training.state import restore
from compress.training.step import training_step

UNMIXED = "augmentation: mixtures have no labels to learn from: training without a teacher leaves them out"
_REHEARSAL_BATCH = 4
_STEPS_BETWEEN_CHECKS = 20


def fit(
    student: nn.Module, data: Data, task: Task, method: Method, recipe: Recipe, *, context: Context | None = None
) -> FitLog:
    """Train `student` in place by `method`; it ends in evaluation mode, with the weights that the recipe keeps.

    The order of examples, their augmentation and all randomness are functions of seed, epoch, step and example. So a
    run that goes on from a checkpoint in `context.checkpoints` ends in the same bits as one that was never disturbed
    (on the CPU, with the same threads and processes), and any number of processes trains on the same global batches:
    each takes its part, gradients are summed, buffers averaged. Where the loss is a mean over examples that gives what
    one process would have, up to rounding (`compress.training.synchronize` says where not). All processes call `fit`,
    after `compress.training.processes.join`; only rank 0 writes checkpoints.

    Validation data is looked at after each epoch, to keep the best one and to stop early; test data never.

    Raises:
        UsageError: there is nothing to train on or nothing to train, the device or its precision is missing, or the
            checkpoints are those of another training.
        StageError: the loss left the finite numbers.
        KeyboardInterrupt: Ctrl-C, after the step in progress was finished and checkpointed.
    """
    context = context or Context()
    if context.rehearsal:
        data, recipe, context = _rehearsal(data, recipe, context)
    _check(student, data)
    if method.needs_labels and data.mixes:
        data = data.unmixed()
        context.progress.say(UNMIXED)
    started = time.monotonic()
    with preserved_randomness(), limited_threads(context.threads), deferred_interrupt() as interrupted:
        session = Session(student, method, recipe, data=data, task=task, context=context)
        try:
            session.resume()
            _train(session, interrupted)
        finally:
            forget_compiled(session.student)
            from_work(session.student, session.home)
    return session.log(time.monotonic() - started)


def _check(student: nn.Module, data: Data) -> None:
    for name, split in (("training", data.train), ("validation", data.validation)):
        if not len(split):
            raise UsageError(f"the {name} split is empty: training needs examples in both")
    if not any(parameter.requires_grad for parameter in student.parameters()):
        raise UsageError("no parameter of the network wants gradients: there is nothing to train")


def _rehearsal(data: Data, recipe: Recipe, context: Context) -> tuple[Data, Recipe, Context]:
    """Two small steps, and no checkpoints."""
    size = max(min(_REHEARSAL_BATCH, recipe.batch_size), context.world_size)
    small = recipe.model_copy(update={"epochs": 1, "batch_size": size, "warmup_epochs": None, "milestones": ()})
    return data.head(2 * size), small, replace(context, checkpoints=None)


def _train(session: Session, interrupted: Callable[[], bool]) -> None:
    """From where training stands to its end."""
    with session.context.progress.task("training", session.steps) as advance:
        advance(session.reached.step)
        try:
            while session.reached.step < session.steps and not session.reached.stopped_early:
                _train_epoch(session, interrupted, advance)
        except RuntimeError as error:
            if session.context.world_size > 1 and interrupted():  # rank 0 has left after its checkpoint
                raise KeyboardInterrupt from error
            raise
    _finish(session)


def _train_epoch(session: Session, interrupted: Callable[[], bool], advance: Callable[..., None]) -> None:
    """From where training stands to the end of the epoch, its validation and its checkpoint."""
    data, context, seed = session.data, session.context, session.context.seed
    epoch = session.progress().epoch
    done = session.reached.step - epoch * session.steps_per_epoch
    batches = epoch_batches(len(data.train), session.recipe.batch_size, seed, epoch)[done:]
    parts = [share(batch, context.rank, context.world_size) for batch in batches]
    readers = reader_count(session.device, context.threads)
    _training_mode(session)
    augment = session.method.augmentation(seed, epoch)
    for whole, batch in zip(batches, load_batches(data, data.train, parts, augment, readers), strict=True):
        training_step(session, batch, len(whole))
        advance(1)
        if session.reached.step % _STEPS_BETWEEN_CHECKS == 0:
            session.check_finite()
        is_last = session.reached.step % session.steps_per_epoch == 0
        if not is_last and (session.clock.is_due() or interrupted()):
            _save(session, interrupted)
    _end_epoch(session, epoch)
    log = session.reached.epochs[-1]
    advance(0, note=f"epoch {epoch + 1}/{session.recipe.epochs}, {_summary(log)}")
    if session.clock.is_due(epoch_end=True) or interrupted():
        _save(session, interrupted)


def _save(session: Session, interrupted: Callable[[], bool]) -> None:
    """Write a checkpoint, and stop if Ctrl-C was pressed. Other ranks go on until rank 0 has written and left them."""
    session.save()
    if interrupted() and session.context.is_main:
        raise KeyboardInterrupt


def _training_mode(session: Session) -> None:
    session.method.train_mode(session.student)
    session.extra.train()
    if session.recipe.freeze_batch_norm:
        for module in (*session.student.modules(), *session.extra.modules()):
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def _end_epoch(session: Session, epoch: int) -> None:
    """Validate; keep the weights if they are the best so far; see whether it is time to stop."""
    session.check_finite()
    reached, task, recipe = session.reached, session.task, session.recipe
    session.method.eval_mode(session.student)
    data, targets = session.data, session.validation_targets
    answers = predict(session.student, data, data.validation, context=session.context, task=task, keep_mode=True)
    log = EpochLog(
        epoch=epoch,
        learning_rate=learning_rate(recipe, reached.step - 1, session.steps_per_epoch),
        training_loss=reached.loss_sum.item() / session.steps_per_epoch,
        validation_loss=mean_loss(task, answers, targets),
        validation=dict(task.metrics(answers, targets)),
    )
    best = reached.best_metric(task.metric)
    reached.epochs.append(log)
    reached.loss_sum.zero_()
    place = replace(session.progress(), epoch=epoch)
    if session.method.may_keep(place):
        if is_best(log.validation[task.metric], best, higher_is_better=task.higher_is_better):
            session.note_best()
        reached.keepable.append(log.validation[task.metric])
    if recipe.early_stopping is not None:
        waited = epochs_without_progress(reached.keepable, higher_is_better=task.higher_is_better)
        reached.stopped_early = waited >= recipe.early_stopping


def _finish(session: Session) -> None:
    """The weights to keep, in evaluation mode; before, a checkpoint if one is due, for a caller that is killed now."""
    reached = session.reached
    if session.clock.is_due(epoch_end=True):
        session.save()
    session.method.eval_mode(session.student)
    if reached.best_tensors:
        restore(session.student, reached.best_tensors)
    session.optimizer.zero_grad(set_to_none=True)


def _summary(log: EpochLog) -> str:
    metrics: dict[str, Any] = log.validation
    shown = ", ".join(f"{name} {value:.4g}" for name, value in list(metrics.items())[:1])
    return f"loss {log.training_loss:.4g}, validation {shown}"
