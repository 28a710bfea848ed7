"""Distillation of a network as deep as its teacher, one layer after the other."""

from __future__ import annotations

from torch import Tensor

from compress.distillation.losses.attention_scores import attention_kl, in_full


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
    difference = in_full(student_states[real]) - in_full(teacher_states[real])
    # A batch of padding alone has no features: the sum over none is 0, and so is the loss.
    return difference.square().sum() / max(1, difference.numel())


def attention_transfer_kl(student_scores: Tensor, teacher_scores: Tensor, mask: Tensor) -> Tensor:
    """Mean over heads and real queries of KL(teacher || student) of a layer's attention, a scalar; 0 if both are equal.

    Sun et al. 2020, "MobileBERT", section "Training Objectives", attention transfer.

    Args:
        student_scores: (examples, heads, tokens, tokens), before the softmax; keys hidden from a query hold a very
            negative number, padding may hold anything.
        teacher_scores: of the same shape.
        mask: (examples, tokens), 1 = a real token.

    Raises:
        ValueError: the numbers of heads differ.
    """
    return attention_kl(student_scores, teacher_scores, mask)


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
