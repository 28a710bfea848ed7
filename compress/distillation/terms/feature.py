"""Losses between features of convolution networks, and between the last features of any network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compress.distillation.exchange import Exchange
from compress.distillation.loss_settings import CrdSettings, Features, HintSettings, ReviewSettings, RkdSettings
from compress.distillation.losses.attention_transfer import attention_transfer
from compress.distillation.losses.crd import ContrastiveBank
from compress.distillation.losses.hidden import hidden_mse
from compress.distillation.losses.hint import Projector, hint, match_sizes
from compress.distillation.losses.pkt import pkt
from compress.distillation.losses.review import ReviewConnections, hierarchical_context
from compress.distillation.losses.rkd import rkd_angle, rkd_distance
from compress.distillation.losses.similarity_preserving import similarity_preserving
from compress.distillation.terms.base import Term
from compress.distillation.terms.site import Site
from compress.errors import UsageError
from compress.training.randomness import derived_seed
from compress.training.synchronize import gather_rows


class PairedTerm(Term):
    """The mean of a loss over pairs of feature maps."""

    def __init__(self, name: str, settings: Features, site: Site) -> None:
        super().__init__(settings, *site.paired(name, settings.student, settings.teacher))

    def pairs(self, exchange: Exchange) -> list[tuple[Tensor, Tensor]]:
        """(student, teacher) features."""
        own = [exchange.student.points[point] for point in self.student_points]
        theirs = [exchange.teacher.points[point] for point in self.teacher_points]
        return list(zip(own, theirs, strict=True))


class HintTerm(PairedTerm):
    """FitNets' hints, each through a projector of its own."""

    def __init__(self, name: str, settings: HintSettings, site: Site) -> None:
        super().__init__(name, settings, site)
        own, theirs = site.student.shapes(self.student_points), site.teacher.shapes(self.teacher_points)
        pairs = zip(self.student_points, self.teacher_points, strict=True)
        self.projectors = nn.ModuleList(_projector(name, own[s], theirs[t]) for s, t in pairs)

    def forward(self, exchange: Exchange) -> Tensor:
        """Mean over pairs; of tokens without those of padding."""
        pairs = zip(self.projectors, self.pairs(exchange), self.teacher_points, strict=True)
        losses = [_hint(projector(own), theirs, exchange, point) for projector, (own, theirs), point in pairs]
        return torch.stack(losses).mean()


def _hint(projected: Tensor, theirs: Tensor, exchange: Exchange, point: str) -> Tensor:
    if theirs.ndim == 3:
        return hidden_mse(projected, theirs, exchange.token_mask(theirs, point))
    return hint(*match_sizes(projected, theirs)) if theirs.ndim == 4 else hint(projected, theirs)


def _projector(name: str, own: tuple[int, ...], theirs: tuple[int, ...]) -> Projector:
    try:
        return Projector(own, theirs)
    except ValueError as error:
        raise UsageError(f"losses: {name}: {error}; name modules with features of one kind") from error


class AttentionTransferTerm(PairedTerm):
    """Attention transfer."""

    def __init__(self, name: str, settings: Features, site: Site) -> None:
        super().__init__(name, settings, site)
        own, theirs = site.student.shapes(self.student_points), site.teacher.shapes(self.teacher_points)
        _require_maps(name, [*own.values(), *theirs.values()])

    def forward(self, exchange: Exchange) -> Tensor:
        """Mean over pairs."""
        power: float = self.settings.power  # type: ignore[attr-defined]
        return torch.stack([attention_transfer(own, theirs, power) for own, theirs in self.pairs(exchange)]).mean()


class ReviewTerm(PairedTerm):
    """ReviewKD."""

    def __init__(self, name: str, settings: ReviewSettings, site: Site) -> None:
        super().__init__(name, settings, site)
        own, theirs = site.student.shapes(self.student_points), site.teacher.shapes(self.teacher_points)
        student_shapes = [own[point] for point in self.student_points]
        shapes = (student_shapes, [theirs[point] for point in self.teacher_points])
        _require_maps(name, [*shapes[0], *shapes[1]])
        width = settings.channels or max(shape[0] for shape in student_shapes)
        self.connections = ReviewConnections(*shapes, mid_channels=width)

    def forward(self, exchange: Exchange) -> Tensor:
        """The context loss of all stages."""
        pairs = self.pairs(exchange)
        return hierarchical_context(self.connections([own for own, _ in pairs]), [theirs for _, theirs in pairs])


def _require_maps(name: str, shapes: Sequence[tuple[int, ...]]) -> None:
    if any(len(shape) != 3 for shape in shapes):
        raise UsageError(f"losses: {name} compares feature maps (channels, height, width); name such modules")


class LastFeatures(Term):
    """A loss of the last features, a vector for each example."""

    def __init__(self, name: str, settings: Features, site: Site) -> None:
        own, theirs = site.student.last_point(name, settings.student), site.teacher.last_point(name, settings.teacher)
        super().__init__(settings, (own,), (theirs,))

    def vectors(self, exchange: Exchange) -> tuple[Tensor, Tensor]:
        """(examples, width) of student and teacher."""
        (own,), (theirs,) = self.student_points, self.teacher_points
        student, teacher = exchange.student.points[own], exchange.teacher.points[theirs]
        return _vectors(student, exchange, own), _vectors(teacher, exchange, theirs)


def _vectors(features: Tensor, exchange: Exchange, point: str) -> Tensor:
    """Maps are flattened; tokens are averaged, padding left out."""
    if features.ndim != 3:
        return features.flatten(1)
    mask = exchange.token_mask(features, point).to(features.dtype)[..., None]
    return (features * mask).sum(1) / mask.sum(1).clamp_min(1)


class RelationTerm(LastFeatures):
    """Similarity-preserving and PKT."""

    def __init__(self, name: str, settings: Features, site: Site) -> None:
        super().__init__(name, settings, site)
        self.function = RELATIONS[name]

    def forward(self, exchange: Exchange) -> Tensor:
        """Over the batch."""
        return self.function(*self.vectors(exchange))


RELATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"similarity": similarity_preserving, "pkt": pkt}


class RkdTerm(LastFeatures):
    """Relational distillation."""

    def forward(self, exchange: Exchange) -> Tensor:
        """Weighted sum of distances and angles."""
        settings = self.settings
        assert isinstance(settings, RkdSettings)
        vectors = self.vectors(exchange)
        parts = [(settings.distance, rkd_distance), (settings.angle, rkd_angle)]
        found = [weight * function(*vectors) for weight, function in parts if weight]
        return sum(found[1:], start=found[0]) if found else vectors[0].sum() * 0


class CrdTerm(LastFeatures):
    """Contrastive representation distillation."""

    def __init__(self, name: str, settings: CrdSettings, site: Site) -> None:
        super().__init__(name, settings, site)
        own = site.student.shapes(self.student_points)[self.student_points[0]]
        theirs = site.teacher.shapes(self.teacher_points)[self.teacher_points[0]]
        self.bank = ContrastiveBank(
            site.examples,
            _width(own),
            _width(theirs),
            width=settings.width,
            negatives=min(settings.negatives, max(site.examples - 1, 1)),
            temperature=settings.temperature,
            momentum=settings.momentum,
            targets=site.classes,
            seed=derived_seed(site.seed, "crd"),
            gather=gather_rows,
        )

    def forward(self, exchange: Exchange) -> Tensor:
        """Contrast of the batch with its negatives; in training the bank learns the batch."""
        progress, indices = exchange.progress, exchange.indices
        draw = derived_seed(progress.seed, "crd", progress.step, int(indices[0]))  # others in each process
        loss: Tensor = self.bank(*self.vectors(exchange), indices, draw)
        return loss


def _width(shape: tuple[int, ...]) -> int:
    """Of the vector that `_vectors` makes."""
    return shape[-1] if len(shape) == 2 else int(torch.Size(shape).numel())


FEATURES: dict[str, Callable[[str, Any, Site], Term]] = {
    "hint": HintTerm,
    "attention_transfer": AttentionTransferTerm,
    "similarity": RelationTerm,
    "pkt": RelationTerm,
    "review": ReviewTerm,
    "crd": CrdTerm,
    "rkd": RkdTerm,
}
"""The table of feature and relation losses: a term's name in YAML -> its term."""
