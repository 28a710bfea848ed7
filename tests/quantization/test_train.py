from __future__ import annotations

import torch
from torch import nn

from compress.quantization.calibrate import calibrate
from compress.quantization.fake_quantize import FakeQuantize
from compress.quantization.prepare import prepare
from compress.quantization.train import QuantizationAware
from compress.quantization.weighted import Weighted
from compress.training.method import Supervised, TorchBatch, TrainingProgress
from tests.quantization.networks import network


class SquaredError:
    class_axis = 1

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.mse_loss(outputs, targets)


def test_the_schedule_of_norms_and_ranges() -> None:
    module, x = network("residual")
    model = prepare(module, (x[:2],))
    calibrate(model, lambda: [(x,)])
    method = QuantizationAware(Supervised(SquaredError()))
    batch = TorchBatch((x,), torch.zeros(len(x), 5), torch.arange(len(x)))
    seen = []
    for step in range(10):
        progress = TrainingProgress(0, step, 10, 0)
        method.train_mode(model)
        method.before_step(model, progress)
        scales = [q.scale.item() for q in model.modules() if isinstance(q, FakeQuantize)]
        statistics = [w.norm.running_mean.clone() for w in model.modules() if isinstance(w, Weighted) and w.norm]
        method.loss(model, batch, progress).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is None:
                    continue
                parameter.sub_(0.01 * parameter.grad)
                parameter.grad = None
        method.after_step(progress)
        seen.append(
            (
                scales != [q.scale.item() for q in model.modules() if isinstance(q, FakeQuantize)],
                any(
                    not torch.equal(before, layer.norm.running_mean)
                    for before, layer in zip(
                        statistics, (w for w in model.modules() if isinstance(w, Weighted) and w.norm), strict=True
                    )
                    if layer.norm
                ),
                method.may_keep(progress),
            )
        )
    assert [moved for moved, _, _ in seen] == [True] * 8 + [False] * 2  # observed until 40 %, learned until 75 %
    assert [moved for _, moved, _ in seen] == [True] * 4 + [False] * 6  # 3 of 10 is under a third
    assert [kept for _, _, kept in seen] == [False] * 4 + [True] * 6
