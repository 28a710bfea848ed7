"""Losses between the layers of transformers: hidden states, attention, relations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from compress.distillation.exchange import Exchange
from compress.distillation.layout import Attention, Transformer
from compress.distillation.loss_settings import (
    HiddenSettings,
    MiniLmSettings,
    MiniLmV2Settings,
    MobileBertSettings,
    TinyBertSettings,
)
from compress.distillation.loss_settings import Term as TermSettings
from compress.distillation.losses.attention_scores import attention_kl, attention_scores
from compress.distillation.losses.hidden import hidden_cosine, hidden_mse
from compress.distillation.losses.hint import Projector
from compress.distillation.losses.minilm import minilm
from compress.distillation.losses.minilm_v2 import minilm_v2
from compress.distillation.losses.mobilebert import feature_map_transfer, progressive_layer
from compress.distillation.losses.tinybert import attention_mse
from compress.distillation.terms.base import Term
from compress.distillation.terms.site import Site
from compress.errors import UsageError


def layer_map(student: int, teacher: int, how: str) -> list[int]:
    """The teacher's layer that each of the student's learns from, by number: a list as long as the student.

    `uniform` spreads them evenly, the last on the last (TinyBERT, section 3.2: g(m) = m N / M); `all` needs as many.

    Raises:
        UsageError: `all` with different depths.
    """
    if how == "all" and student != teacher:
        raise UsageError(f"losses: hidden.layers: all needs as many layers; student {student}, teacher {teacher}")
    return [-(-(layer + 1) * teacher // student) - 1 for layer in range(student)]


class StatesTerm(Term):
    """Hidden states at paired points, each through a projector where the widths differ."""

    def __init__(self, name: str, settings: TermSettings, site: Site, pairs: list[tuple[str, str]]) -> None:
        super().__init__(settings, tuple(own for own, _ in pairs), tuple(theirs for _, theirs in pairs))
        own, theirs = site.student.shapes(self.student_points), site.teacher.shapes(self.teacher_points)
        if any(len(shape) != 2 for shape in (*own.values(), *theirs.values())):
            raise UsageError(f"losses: {name} compares states of tokens (tokens, width); name such modules")
        widths = [(own[s][-1], theirs[t][-1]) for s, t in pairs]
        self.pairs = pairs
        self.projectors = nn.ModuleList(
            Projector((own_width,), (their_width,)) if own_width != their_width else nn.Identity()
            for own_width, their_width in widths
        )

    def states(self, exchange: Exchange) -> list[tuple[Tensor, Tensor, Tensor]]:
        """(student's, projected; teacher's; mask) at each pair."""
        found = []
        for projector, (own, theirs) in zip(self.projectors, self.pairs, strict=True):
            states = exchange.student.points[own]
            mask = exchange.token_mask(states, own)
            found.append((projector(states), exchange.teacher.points[theirs], mask))
        return found


class HiddenTerm(StatesTerm):
    """Hidden states, by mean squared difference or cosine."""

    def __init__(self, name: str, settings: HiddenSettings, site: Site) -> None:
        super().__init__(name, settings, site, _hidden_pairs(name, settings, site))
        self.function = hidden_mse if settings.distance == "mse" else hidden_cosine

    def forward(self, exchange: Exchange) -> Tensor:
        """Mean over pairs."""
        return torch.stack([self.function(*states) for states in self.states(exchange)]).mean()


def _hidden_pairs(name: str, settings: HiddenSettings, site: Site) -> list[tuple[str, str]]:
    if settings.student is not None or settings.teacher is not None:
        own, theirs = site.paired(name, settings.student, settings.teacher)
        return list(zip(own, theirs, strict=True))
    student, teacher = site.student.needs_transformer(name), site.teacher.needs_transformer(name)
    if settings.layers == "last":
        return [(student.layers[-1], teacher.layers[-1])]
    chosen = layer_map(len(student.layers), len(teacher.layers), settings.layers)
    pairs = [(student.layers[own], teacher.layers[theirs]) for own, theirs in enumerate(chosen)]
    first = (student.hidden(True)[0], teacher.hidden(True)[0])
    return [first, *pairs] if settings.embeddings else pairs


class TinyBertTerm(StatesTerm):
    """TinyBERT's maps: the sum over embeddings and layers of eq. 7 to 9."""

    def __init__(self, name: str, settings: TinyBertSettings, site: Site) -> None:
        hidden = HiddenSettings(embeddings=True)
        super().__init__(name, settings, site, _hidden_pairs(name, hidden, site))
        student, teacher = _readable(name, site, scores=True)
        chosen = layer_map(len(student.layers), len(teacher.layers), "uniform")
        self.attention = [(student.attention[own], teacher.attention[theirs]) for own, theirs in enumerate(chosen)]
        own_heads, their_heads = self.attention[0][0].heads, self.attention[0][1].heads
        if own_heads != their_heads:
            raise UsageError(
                f"losses: {name} compares attention head by head, and the student has {own_heads} heads where the "
                f"teacher has {their_heads}: use minilm_v2, which may differ"
            )
        self.causal = site.causal
        self.student_points += _all_points([own for own, _ in self.attention])
        self.teacher_points += _all_points([theirs for _, theirs in self.attention])

    def forward(self, exchange: Exchange) -> Tensor:
        """The sum over layers, as the paper's eq. 6 for each."""
        total = sum((hidden_mse(*states) for states in self.states(exchange)), start=exchange.student.logits.sum() * 0)
        for own, theirs in self.attention:
            scores, mask = _scores(own, exchange, exchange.student.points, self.causal)
            expected, _ = _scores(theirs, exchange, exchange.teacher.points, self.causal)
            total = total + attention_mse(scores, expected, mask, self.causal)
        return total


class RelationsTerm(Term):
    """MiniLM's and MiniLMv2's relations: the student's last layer learns from one of the teacher's."""

    def __init__(self, name: str, settings: MiniLmSettings | MiniLmV2Settings, site: Site) -> None:
        student, teacher = _readable(name, site, scores=isinstance(settings, MiniLmSettings))
        count = len(teacher.attention)
        if not -count <= settings.layer < count:
            raise UsageError(f"losses: {name}.layer: the teacher has layers {-count} to {count - 1}")
        own, theirs = student.attention[-1], teacher.attention[settings.layer]
        super().__init__(settings, own.points, theirs.points)
        self.own, self.theirs, self.causal = own, theirs, site.causal
        if isinstance(settings, MiniLmSettings):
            if own.heads != theirs.heads:
                raise UsageError(
                    f"losses: {name} needs as many heads in student ({own.heads}) and teacher ({theirs.heads}): use "
                    "minilm_v2, which may differ"
                )
            return
        for side, attention in ((site.student, own), (site.teacher, theirs)):
            shapes = side.shapes(attention.points)
            for shape in shapes.values():
                width = shape[-1] // (3 if len(attention.points) == 1 else 1)
                if width % settings.relation_heads:
                    raise UsageError(
                        f"losses: {name}.relation_heads: {settings.relation_heads} does not divide the {side.name}'s "
                        f"width of {width}"
                    )

    def forward(self, exchange: Exchange) -> Tensor:
        """The loss of one pair of layers."""
        own, theirs = self.own.split(exchange.student.points), self.theirs.split(exchange.teacher.points)
        mask = exchange.token_mask(own[0], self.own.points[0])
        if isinstance(self.settings, MiniLmV2Settings):
            return minilm_v2(own, theirs, self.settings.relation_heads, mask, causal=self.causal)
        return minilm(own, theirs, self.own.heads, self.theirs.heads, mask, causal=self.causal)


class MobileBertTerm(StatesTerm):
    """One layer after the other: its states and its attention."""

    def __init__(self, name: str, settings: MobileBertSettings, site: Site) -> None:
        student, teacher = _readable(name, site, scores=True)
        chosen = layer_map(len(student.layers), len(teacher.layers), "uniform")
        pairs = [(student.layers[own], teacher.layers[theirs]) for own, theirs in enumerate(chosen)]
        super().__init__(name, settings, site, pairs)
        self.attention = [(student.attention[own], teacher.attention[theirs]) for own, theirs in enumerate(chosen)]
        self.causal = site.causal
        self.same_heads = self.attention[0][0].heads == self.attention[0][1].heads
        self.student_points += _all_points([own for own, _ in self.attention])
        self.teacher_points += _all_points([theirs for _, theirs in self.attention])

    def forward(self, exchange: Exchange) -> Tensor:
        """The loss of the layer whose turn it is; 0 once all had theirs. Unlike heads: states alone."""
        settings = self.settings
        assert isinstance(settings, MobileBertSettings)
        if exchange.progress.fraction >= settings.until:
            return exchange.student.logits.sum() * 0
        turn = progressive_layer(len(self.pairs), exchange.progress.fraction / settings.until)
        states = self.states(exchange)[turn]
        loss = feature_map_transfer(*states)
        if self.same_heads:
            own, theirs = self.attention[turn]
            scores, mask = _scores(own, exchange, exchange.student.points, self.causal)
            expected, _ = _scores(theirs, exchange, exchange.teacher.points, self.causal)
            loss = loss + attention_kl(scores, expected, mask)
        return loss


def _scores(attention: Attention, exchange: Exchange, seen: Any, causal: bool) -> tuple[Tensor, Tensor]:
    """Attention scores before the softmax, and the mask of tokens."""
    query, key, _ = attention.split(seen)
    mask = exchange.token_mask(query, attention.points[0])
    return attention_scores(query, key, attention.heads, mask, causal=causal), mask


def _all_points(layers: list[Attention]) -> tuple[str, ...]:
    return tuple(point for layer in layers for point in layer.points)


def _readable(name: str, site: Site, scores: bool) -> tuple[Transformer, Transformer]:
    """Student and teacher, whose attention must be known; its `scores` are not those of projections that are rotated.

    Raises:
        UsageError: it is not.
    """
    for side in (site.student, site.teacher):
        if why := side.needs_transformer(name).obstacle:
            raise UsageError(f"losses: {name} reads the {side.name}'s attention, but {why}: use hidden")
        if scores and side.needs_transformer(name).rotary:
            raise UsageError(
                f"losses: {name} reads attention from queries and keys, and the {side.name}'s are rotated afterwards: "
                "use minilm_v2 or hidden"
            )
    return site.student.needs_transformer(name), site.teacher.needs_transformer(name)


LAYERS: dict[str, Callable[[str, Any, Site], Term]] = {
    "hidden": HiddenTerm,
    "tinybert": TinyBertTerm,
    "minilm": RelationsTerm,
    "minilm_v2": RelationsTerm,
    "mobilebert": MobileBertTerm,
}
"""The table of transformer losses: a term's name in YAML -> its term."""
