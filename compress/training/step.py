"""One training step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compress.data.dataset import Batch
from compress.errors import UsageError
from compress.training.batches import to_torch
from compress.training.compiled import compiled
from compress.training.method import TrainingProgress
from compress.training.optimizer import set_learning_rate
from compress.training.randomness import derived_seed, seed_all
from compress.training.schedule import learning_rate
from compress.training.session import Session
from compress.training.synchronize import average_buffers, averaged_buffers, sum_gradients


def training_step(session: Session, batch: Batch, examples: int) -> None:
    """Move the weights by one step.

    Args:
        session: holds what is moved; it notes the loss.
        batch: this process's share of the step's examples.
        examples: how many examples the step has over all processes.
    """
    context, method, optimizer = session.context, session.method, session.optimizer
    scaler, progress = session.precision.scaler, session.progress()
    own = to_torch(batch, session.device)
    seed_all(derived_seed(context.seed, "step", progress.step, context.rank), session.device)
    set_learning_rate(optimizer, learning_rate(session.recipe, progress.step, session.steps_per_epoch))
    method.before_step(session.student, progress)
    optimizer.zero_grad(set_to_none=True)
    with session.precision.autocast(), compiled(session.student, session.recipe.compile):
        loss = method.loss(session.student, own, progress)
    _check_loss(loss)
    part = loss if context.world_size == 1 else loss * (len(batch.indices) / examples)
    scaler.scale(part).backward()  # type: ignore[no-untyped-call]
    loss = loss.detach()
    if context.world_size > 1:
        sum_gradients(session.parameters)
        buffers = averaged_buffers(session.student, session.extra)
        loss = average_buffers(buffers, loss, len(batch.indices))
    _update(session, progress)
    session.note_loss(loss)


def _update(session: Session, progress: TrainingProgress) -> None:
    scaler, optimizer = session.precision.scaler, session.optimizer
    if scaler.is_enabled():
        scaler.unscale_(optimizer)
    session.method.after_backward(progress)
    if session.recipe.gradient_clip is not None:
        nn.utils.clip_grad_norm_(session.parameters, session.recipe.gradient_clip)
    scaler.step(optimizer)
    scaler.update()
    session.method.after_step(progress)


def _check_loss(loss: Tensor) -> None:
    if not isinstance(loss, torch.Tensor) or loss.ndim:
        found = f"shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise UsageError(f"the task's loss must be one number, the mean over the batch, as a tensor; found {found}")
    if not loss.requires_grad:
        raise UsageError("the task's loss does not depend on the network's parameters: compute it with torch only")
