"""Training a network as its int8 kernels will compute it."""

from __future__ import annotations

from torch import nn

from compress.quantization.fake_quantize import FakeQuantize
from compress.quantization.weighted import Weighted
from compress.training.around import Around
from compress.training.method import Method, TrainingProgress

NORMS_FROZEN_AFTER = 1 / 3
RANGES_FIXED_AFTER = 0.4


class QuantizationAware(Around):
    """Another method's loss on a prepared model, on the schedule of int8 training.

    Batch norm uses each batch's statistics for the first third, then its running ones, folded into the weights
    (Krishnamoorthi 2018, section 3.2.2). Activation ranges follow the activations for the first 40 %, then stay, so
    that the weights settle on the grid that will be deployed; weight scales follow the weights throughout. Weights
    are kept only from epochs that end after that.
    """

    def __init__(self, inner: Method, *, freeze_norms: bool = False) -> None:
        super().__init__(inner)
        self.freeze_norms = freeze_norms
        self._observing: list[FakeQuantize] = []

    def before_step(self, model: nn.Module, progress: TrainingProgress) -> None:
        """Set what this step observes and freezes: a function of the progress alone."""
        observing = progress.fraction < RANGES_FIXED_AFTER
        frozen = self.freeze_norms or progress.fraction >= NORMS_FROZEN_AFTER
        self._observing = []
        for module in model.modules():
            if isinstance(module, FakeQuantize):
                module.observing = observing
                self._observing += [module] if observing else []
            elif isinstance(module, Weighted):
                module.frozen = frozen
        self.inner.before_step(model, progress)

    def after_step(self, progress: TrainingProgress) -> None:
        """Scales from the ranges, which by now are those of all processes."""
        for module in self._observing:
            module.update_scale()
        self.inner.after_step(progress)

    def may_keep(self, progress: TrainingProgress) -> bool:
        """Once the ranges are fixed."""
        return progress.fraction >= RANGES_FIXED_AFTER
