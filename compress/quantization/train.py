"""Training a network as its int8 kernels will compute it."""

from __future__ import annotations

from torch import nn

from compress.quantization.fake_quantize import FakeQuantize
from compress.quantization.weighted import Weighted
from compress.training.around import Around
from compress.training.method import Method, TrainingProgress

NORMS_FROZEN_AFTER = 1 / 3
RANGES_FOLLOW_UNTIL = 0.4
SCALES_FIXED_AFTER = 0.75


class QuantizationAware(Around):
    """Another method's loss on a prepared model, on the schedule of int8 training.

    Batch norm uses each batch's statistics for the first third, then its running ones, folded into the weights
    (Krishnamoorthi 2018, section 3.2.2). Activation ranges follow the activations for the first 40 %; then their scales
    are learned (Esser et al. 2020) until three quarters, and stay, so that the weights settle on the grid that will be
    deployed; weight scales follow the weights throughout. Weights are kept only from epochs that end after 40 %.
    """

    def __init__(self, inner: Method, *, freeze_norms: bool = False) -> None:
        super().__init__(inner)
        self.freeze_norms = freeze_norms
        self._observing: list[FakeQuantize] = []
        self._learning: list[FakeQuantize] = []

    def before_step(self, model: nn.Module, progress: TrainingProgress) -> None:
        """Set what this step observes, learns and freezes: a function of the progress alone."""
        observing = progress.fraction < RANGES_FOLLOW_UNTIL
        learning = not observing and progress.fraction < SCALES_FIXED_AFTER
        frozen = self.freeze_norms or progress.fraction >= NORMS_FROZEN_AFTER
        quantizers = [module for module in model.modules() if isinstance(module, FakeQuantize)]
        for quantizer in quantizers:
            quantizer.observing, quantizer.learning = observing, learning
        self._observing = quantizers if observing else []
        self._learning = quantizers if learning else []
        for module in model.modules():
            if isinstance(module, Weighted):
                module.frozen = frozen
        self.inner.before_step(model, progress)

    def after_step(self, progress: TrainingProgress) -> None:
        """Scales from the ranges, which by now are those of all processes; learned ones stay within what folds."""
        for module in self._observing:
            module.update_scale()
        for module in self._learning:
            module.keep_foldable()
        self.inner.after_step(progress)

    def may_keep(self, progress: TrainingProgress) -> bool:
        """Once the ranges no longer follow the activations."""
        return progress.fraction >= RANGES_FOLLOW_UNTIL
