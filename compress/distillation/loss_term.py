"""One item of `losses:`. Light at import."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from compress.distillation import loss_settings as of
from compress.settings import Settings
from compress.suggest import unknown


class LossTerm(Settings):
    """One item of `losses:`: a loss's name and its settings, such as `{kl: {temperature: 4, weight: 0.9}}`."""

    kl: of.KlSettings | None = None
    """Softened classes of the teacher (Hinton et al. 2015)."""
    soft_cross_entropy: of.SoftCrossEntropySettings | None = None
    """Cross-entropy with the teacher's softened classes."""
    mse: of.MseSettings | None = None
    """Outputs of the teacher (on logits: Ba and Caruana 2014)."""
    reverse_kl: of.ReverseKlSettings | None = None
    """The divergence the other way round (Gu et al. 2024)."""
    jsd: of.JsdSettings | None = None
    """Generalized Jensen-Shannon divergence (Agarwal et al. 2024)."""
    dkd: of.DkdSettings | None = None
    """Target class and other classes apart (Zhao et al. 2022)."""
    dist: of.DistSettings | None = None
    """Correlations (Huang et al. 2022)."""
    mlkd: of.MlkdSettings | None = None
    """Examples, batch and classes at several temperatures (Jin et al. 2023)."""
    cross_entropy: of.CrossEntropySettings | None = None
    """Labels."""
    task: of.TaskLossSettings | None = None
    """The task's own loss."""
    hint: of.HintSettings | None = None
    """Features, through a projector (Romero et al. 2015)."""
    attention_transfer: of.AttentionTransferSettings | None = None
    """Where convolution networks look (Zagoruyko and Komodakis 2017)."""
    similarity: of.SimilaritySettings | None = None
    """Which examples are alike (Tung and Mori 2019)."""
    pkt: of.PktSettings | None = None
    """Probabilities of being neighbours (Passalis and Tefas 2018)."""
    review: of.ReviewSettings | None = None
    """Features of several stages, fused (Chen et al. 2021)."""
    crd: of.CrdSettings | None = None
    """Contrast with a bank (Tian et al. 2020)."""
    rkd: of.RkdSettings | None = None
    """Distances and angles between examples (Park et al. 2019)."""
    hidden: of.HiddenSettings | None = None
    """Hidden states of transformers."""
    tinybert: of.TinyBertSettings | None = None
    """Embeddings, hidden states and attention, layer by layer (Jiao et al. 2020)."""
    minilm: of.MiniLmSettings | None = None
    """Self-attention and value relations of one layer (Wang et al. 2020)."""
    minilm_v2: of.MiniLmV2Settings | None = None
    """Query, key and value relations of one layer (Wang et al. 2021)."""
    mobilebert: of.MobileBertSettings | None = None
    """One layer after the other (Sun et al. 2020)."""

    @model_validator(mode="before")
    @classmethod
    def _read_short_forms(cls, value: Any) -> Any:
        """`kl` and `{kl: }` mean `{kl: {}}`."""
        if isinstance(value, str):
            if value not in cls.model_fields:
                raise ValueError(unknown("loss", value, cls.model_fields))
            return {value: {}}
        if isinstance(value, dict) and len(value) == 1:
            return {name: {} if settings is None else settings for name, settings in value.items()}
        names = cls.model_fields.keys()
        # All names together are a term written out by `model_dump`; some are list items without their dashes.
        if isinstance(value, dict) and 1 < len(value) < len(names) and value.keys() <= names:
            raise ValueError(f"names exactly one loss, and here are {', '.join(value)}: give each a dash of its own")
        return value

    @model_validator(mode="after")
    def _check_exactly_one(self) -> LossTerm:
        if len(self._named()) != 1:
            raise ValueError(f"names exactly one loss: {', '.join(type(self).model_fields)}")
        return self

    def _named(self) -> list[str]:
        return [name for name in type(self).model_fields if getattr(self, name) is not None]

    @property
    def name(self) -> str:
        """The loss that this term names."""
        return self._named()[0]

    @property
    def settings(self) -> of.Term:
        """The settings of that loss."""
        found: of.Term = getattr(self, self.name)
        return found
