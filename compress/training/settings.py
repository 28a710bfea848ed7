"""How long and how fast to train: the YAML keys that every training stage shares."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from compress.settings import Settings

LEARNING_RATES = {"sgd": 0.05, "adamw": 0.003}
WEIGHT_DECAYS = {"sgd": 5e-4, "adamw": 0.01}


class Recipe(Settings):
    """One training run. The defaults suit small convolution networks from random weights."""

    epochs: int = Field(20, ge=1)
    """Passes over the training examples."""
    batch_size: int = Field(64, ge=1)
    """Examples per step over all processes together; an epoch is cut into steps of equal size, at most this."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """`sgd` (with Nesterov momentum) or `adamw`."""
    learning_rate: float | None = Field(None, gt=0)
    """Its peak, after the warm-up. Unset: 0.003 for adamw, 0.05 for sgd."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Of sgd; adamw takes it as its first beta."""
    weight_decay: float | None = Field(None, ge=0)
    """Unset: 0.01 for adamw (decoupled), 5e-4 for sgd."""
    decay_norm_and_bias: bool = False
    """Whether weight decay also pulls on biases and the scales of norms (every parameter with one axis)."""
    schedule: Literal["cosine", "linear", "step", "constant"] = "cosine"
    """Of the learning rate after the warm-up: `cosine` and `linear` fall to 0, `step` is cut at `milestones`."""
    warmup_epochs: float | None = Field(None, ge=0)
    """Epochs (fractions count) in which the learning rate rises from 0. Unset: 1, but at most a tenth of all epochs."""
    milestones: tuple[int, ...] = ()
    """Epochs after which `schedule: step` multiplies the learning rate by `gamma`."""
    gamma: float = Field(0.1, gt=0, le=1)
    """The factor of each milestone."""
    gradient_clip: float | None = Field(None, gt=0)
    """Longest gradient (L2 norm over all parameters) of a step; unset: gradients are not clipped."""
    early_stopping: int | None = Field(None, ge=1)
    """Stop after so many epochs without a better validation result; unset: train all epochs."""
    keep: Literal["best", "last"] = "best"
    """Which epoch's weights to keep: `best` by validation (`compress.training.selection` says how), or the `last`."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of the forward pass: `auto` is bf16 on a GPU that has it, else fp32. Weights and their updates stay fp32."""
    compile: bool = False
    """Let torch.compile fuse the network's training steps: slow to start (minutes on a CPU), then faster."""
    freeze_batch_norm: bool = False
    """Use and keep the running statistics of batch norms instead of each batch's own."""

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate after the warm-up."""
        return LEARNING_RATES[self.optimizer] if self.learning_rate is None else self.learning_rate

    @property
    def decay(self) -> float:
        """The weight decay in force."""
        return WEIGHT_DECAYS[self.optimizer] if self.weight_decay is None else self.weight_decay

    @property
    def warmup(self) -> float:
        """The warm-up in force, in epochs."""
        return min(1.0, self.epochs / 10) if self.warmup_epochs is None else self.warmup_epochs

    def recipe_faults(self) -> list[tuple[str, str]]:
        """(key, message) for each combination that makes no sense."""
        found = []
        if self.schedule == "step" and not self.milestones:
            found.append(("milestones", "`schedule: step` needs milestones, such as [10, 15]"))
        if self.milestones and self.schedule != "step":
            found.append(("milestones", f"has no effect with `schedule: {self.schedule}`; set `schedule: step`"))
        if list(self.milestones) != sorted(set(self.milestones)):
            found.append(("milestones", "must rise from one to the next"))
        late = [m for m in self.milestones if not 0 < m < self.epochs]
        if late:
            found.append(("milestones", f"{late} lie outside of the {self.epochs} epochs"))
        if self.warmup_epochs and self.warmup_epochs >= self.epochs > 0:
            found.append(("warmup_epochs", f"{self.warmup_epochs:g} is not shorter than all {self.epochs} epochs"))
        return found
