"""The settings of each loss, as YAML says them. Light at import.

Where a paper's results were had with one set of constants, these are the defaults; weights are not, because they
depend on what else is in the sum: each class says what its paper used.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from compress.distillation.weights import Ramp
from compress.settings import Settings

Globs = str | tuple[str, ...]


class Term(Settings):
    """What every loss has."""

    weight: Annotated[float, Field(ge=0)] | Ramp = 1.0
    """Factor of this term in the sum: a number, or `{first: 1, last: 0}` to change it while training goes on."""


class Response(Term):
    """A loss between the answers of student and teacher."""

    standardize: bool = False
    """Whether the logits of both are first brought to mean 0 and deviation 1 (Sun et al. 2024)."""
    positions: Literal["targets", "all"] = "targets"
    """Language: positions that have a target (masked ones, or those with a next token), or `all` but padding."""


class Softened(Response):
    """A response loss with a temperature."""

    temperature: float = Field(4.0, gt=0)
    """Divides the logits of both before the softmax."""


class KlSettings(Softened):
    """Divergence of the student's softened classes from the teacher's, times temperature squared."""


class CrossEntropySettings(Term):
    """The student's cross-entropy with the labels."""

    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of each label spread over all classes."""


class SoftCrossEntropySettings(Softened):
    """Cross-entropy of the student's softened classes with the teacher's; `kl` plus the teacher's entropy."""


class MseSettings(Response):
    """Mean squared difference between the student's and the teacher's outputs."""


class ReverseKlSettings(Softened):
    """Divergence of the teacher's classes from the student's: the student drops what it cannot cover."""

    temperature: float = Field(1.0, gt=0)
    """Divides the logits of both before the softmax."""


class JsdSettings(Softened):
    """Generalized Jensen-Shannon divergence (Agarwal et al. 2024), between `kl` and `reverse_kl`."""

    temperature: float = Field(1.0, gt=0)
    """Divides the logits of both before the softmax."""
    beta: float = Field(0.5, gt=0, lt=1)
    """Share of the teacher in the mixture that both are compared with."""


class DkdSettings(Softened):
    """Decoupled distillation: the target class and the others, weighed apart (Zhao et al. 2022)."""

    alpha: float = Field(1.0, ge=0)
    """Weight of the target class against all others."""
    beta: float = Field(8.0, ge=0)
    """Weight of the others among themselves."""


class DistSettings(Softened):
    """Correlation instead of equality, over classes and over examples (Huang et al. 2022)."""

    temperature: float = Field(1.0, gt=0)
    """Divides the logits of both before the softmax; the paper uses 1 on ImageNet and 4 on CIFAR."""
    beta: float = Field(1.0, ge=0)
    """Weight of the correlation over the classes of an example."""
    gamma: float = Field(1.0, ge=0)
    """Weight of the correlation over the examples of a class."""


class MlkdSettings(Response):
    """Alignment of examples, batch and classes at several temperatures (Jin et al. 2023)."""

    temperatures: tuple[Annotated[float, Field(gt=0)], ...] = Field((2.0, 3.0, 4.0, 5.0, 6.0), min_length=1)
    """Each gives one more set of predictions to align."""
    instance: float = Field(1.0, ge=0)
    """Weight of the answers themselves."""
    batch: float = Field(1.0, ge=0)
    """Weight of how examples relate; it grows with batch size over classes."""
    by_class: float = Field(1.0, ge=0)
    """Weight of how classes relate; it grows with the square of that: with 10 classes 0.01 is what 1 is with 100."""


class TaskLossSettings(Term):
    """The task's own loss between the student's outputs and the targets."""


class Features(Term):
    """A loss between what lies inside of student and teacher: modules' outputs, named by globs (`layer*`).

    Most pair the matched modules in order; left out, they are the last of each resolution in a convolution network and
    the layers of a transformer. `similarity`, `pkt`, `crd` and `rkd` compare one module of each; left out, it is the
    input of the last linear layer.
    """

    student: Globs | None = None
    """Modules of the student, by glob."""
    teacher: Globs | None = None
    """Modules of the teacher, by glob; as many as of the student."""


class HintSettings(Features):
    """FitNets: the student's features, through a learned projector, are the teacher's (Romero et al. 2015)."""


class AttentionTransferSettings(Features):
    """Where both look: maps of mean squared activation (Zagoruyko and Komodakis 2017, who weigh it by 1000)."""

    power: float = Field(2.0, ge=1)
    """Power of the activations; a larger one leaves the strongest alone."""


class SimilaritySettings(Features):
    """Which examples are alike, in the last features (Tung and Mori 2019, who weigh it by 3000)."""


class PktSettings(Features):
    """Probabilities of being neighbours, in the last features (Passalis and Tefas 2018)."""


class ReviewSettings(Features):
    """Early features of the teacher are reviewed by the student's later ones (Chen et al. 2021, ReviewKD)."""

    channels: int | None = Field(None, ge=1)
    """Width of the fusion; unset: that of the student's widest features."""


class CrdSettings(Features):
    """Contrast with many other examples from a bank (Tian et al. 2020, who weigh it by 0.8)."""

    width: int = Field(128, ge=1)
    """Length of the embeddings that are contrasted."""
    negatives: int = Field(4096, ge=1)
    """Other examples to contrast with, at most all; the paper takes 16384."""
    temperature: float = Field(0.07, gt=0)
    """Divides the similarities."""
    momentum: float = Field(0.5, ge=0, lt=1)
    """Of the bank's entries."""


class RkdSettings(Features):
    """Distances and angles between examples (Park et al. 2019), in the last features."""

    distance: float = Field(25.0, ge=0)
    """Weight of distances."""
    angle: float = Field(50.0, ge=0)
    """Weight of angles."""


class HiddenSettings(Features):
    """Hidden states of transformers, through a learned projector where widths differ."""

    distance: Literal["mse", "cosine"] = "mse"
    """Mean squared difference (TinyBERT, eq. 8), or 1 - cosine (DistilBERT, section 2)."""
    layers: Literal["uniform", "last", "all"] = "uniform"
    """Which teacher layer each student layer learns from: spread evenly, the `last` alone, or one to one (`all`)."""
    embeddings: bool = False
    """Whether the outputs of the embedding layers count as well (TinyBERT, eq. 9)."""

    @model_validator(mode="after")
    def _embeddings_count(self) -> Self:
        if self.embeddings and self.layers == "last":
            raise ValueError("`embeddings` has no effect with `layers: last`")
        if self.embeddings and (self.student is not None or self.teacher is not None):
            raise ValueError("`embeddings` has no effect where modules are named: name those of the embeddings as well")
        return self


class TinyBertSettings(Term):
    """TinyBERT's layer maps: embeddings, hidden states and attention scores (Jiao et al. 2020, eq. 7 to 9).

    Its two phases are two weights that change: this one's `{first: 1, last: 0, begin: 0.5, end: 0.5, shape: step}`.
    """


class MiniLmSettings(Term):
    """Attention and value relations of the last layer (Wang et al. 2020)."""

    layer: int = -1
    """The teacher's layer to learn from, counted from the end."""


class MiniLmV2Settings(Term):
    """Relations among queries, keys and values of one layer, whatever the numbers of heads (Wang et al. 2021)."""

    layer: int = -1
    """The teacher's layer to learn from, counted from the end: the last for small teachers, an earlier for large."""
    relation_heads: int = Field(12, ge=1)
    """Parts in which queries, keys and values of both are cut; must divide both widths."""


class MobileBertSettings(Term):
    """Layer by layer, each in its turn: feature maps and attention (Sun et al. 2020)."""

    until: float = Field(0.8, gt=0, le=1)
    """Share of training in which the layers are taught, each for an equal part of it."""
