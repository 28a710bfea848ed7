"""Distillation of a network as deep as its teacher, one layer after the other; attention goes by `attention_kl`."""

from __future__ import annotations

from torch import Tensor

from compress.distillation.losses.numerics import wide


def feature_map_transfer(student_states: Tensor, teacher_states: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference of a layer's outputs over real tokens and features, a scalar.

    Sun et al. 2020, "MobileBERT", section "Training Objectives", feature map transfer.

    Args:
        student_states: (examples, tokens, width).
        teacher_states: of the same shape.
        mask: (examples, tokens), 1 = a real token.

    Raises:
        ValueError: the shapes differ.
    """
    if student_states.shape != teacher_states.shape:
        raise ValueError(
            f"the student's states have the shape {tuple(student_states.shape)} and the teacher's "
            f"{tuple(teacher_states.shape)}: this loss compares feature with feature"
        )
    real = mask.bool()
    difference = wide(student_states[real]) - wide(teacher_states[real])
    # A batch of padding alone has no features: the sum over none is 0, and so is the loss.
    return difference.square().sum() / max(1, difference.numel())


def progressive_layer(layers: int, fraction: float) -> int:
    """The layer that is taught once `fraction` of training is done, from 0 on; each is taught for an equal share.

    Sun et al. 2020, "MobileBERT", section "Training Strategies", progressive knowledge transfer: from the lowest layer
    to the highest, with those below frozen, or learning slowly.

    Args:
        layers: at least 1.
        fraction: steps done of all steps, in [0, 1].

    Raises:
        ValueError: there is no layer, or `fraction` is no share.
    """
    if layers < 1 or not 0 <= fraction <= 1:
        raise ValueError(f"needs at least one layer and a share of training in [0, 1]; got {layers} and {fraction}")
    # 29 / 100 * 100 is 28.999...: the sum puts a step on the border into the layer that begins there. At the end of
    # training the last layer is still the one taught.
    return min(int(fraction * layers + 1e-9), layers - 1)
