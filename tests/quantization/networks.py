"""Networks with what quantization must get right, small enough for a test to take a second."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.bundle import Deployment, TensorSpec


class Shortcut(nn.Module):
    """Every second pixel, and channels of zeros (option A)."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))


class Residual(nn.Module):
    """Stem, one block that halves the image with a parameter-free shortcut, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.conv1, self.norm1 = nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
        self.conv2, self.norm2 = nn.Conv2d(16, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.shortcut, self.relu = Shortcut(), nn.ReLU()
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        result: Tensor = self.head(self.relu(y + self.shortcut(x)))
        return result


class EncoderDecoder(nn.Module):
    """Regression on images: pooling, a transposed convolution, a skip connection by concat."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU())
        self.down2 = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(inplace=True))
        self.up = nn.ConvTranspose2d(16, 16, 2, 2)
        self.out = nn.Sequential(nn.Conv2d(24, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        wide = self.down1(x)
        result: Tensor = self.out(torch.cat([wide, self.up(self.down2(wide))], 1))
        return result


class Mobile(nn.Module):
    """ReLU6 and a depthwise convolution between pointwise ones, with a residual sum without activation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.expand = nn.Sequential(nn.Conv2d(8, 24, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU6())
        self.depth = nn.Sequential(nn.Conv2d(24, 24, 3, 1, 1, groups=24, bias=False), nn.BatchNorm2d(24), nn.ReLU6())
        self.project = nn.Sequential(nn.Conv2d(24, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.project(self.depth(self.expand(x)))
        result: Tensor = self.head(functional.relu6(x).mean((2, 3)))
        return result


class PreActivation(nn.Module):
    """Batch norms that no convolution precedes (wide resnets)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm1, self.conv1 = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.conv1(functional.relu(self.norm1(x)))
        x = functional.relu(self.norm2(x))
        result: Tensor = self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))
        return result


class Signal(nn.Module):
    """Convolutions of a line, padded by numbers and by a word; a residual sum, pools, and a norm that stands alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(2, 8, 5, 2, 2, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2))
        self.conv1, self.norm1 = nn.Conv1d(8, 8, 3, padding="same", bias=False), nn.BatchNorm1d(8)
        self.conv2, self.norm2 = nn.Conv1d(8, 8, 3, padding=2, dilation=2), nn.BatchNorm1d(8)
        self.pool, self.norm3 = nn.AvgPool1d(2), nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = functional.relu(x + self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x))))))
        result: Tensor = self.head(functional.relu(self.norm3(self.pool(x))).mean(-1))
        return result


def perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Linear(12, 32),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(32, 32),
        nn.ReLU(),
        nn.Linear(32, 3),
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "residual": (Residual, (3, 12, 12)),
    "encoder-decoder": (EncoderDecoder, (1, 8, 8)),
    "mobile": (Mobile, (3, 12, 12)),
    "pre-activation": (PreActivation, (3, 8, 8)),
    "signal": (Signal, (2, 40)),
    "perceptron": (perceptron, (12,)),
}


def network(name: str, examples: int = 64) -> tuple[nn.Module, Tensor]:
    """A network in evaluation mode whose batch norms have seen data, and examples for it."""
    make, shape = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module, x = make(), torch.randn(examples, *shape)
    module.train()
    with torch.no_grad():
        for _ in range(20):
            module(x)
    return module.eval(), x


def deployment(x: Tensor, y: Tensor) -> Deployment:
    return Deployment(
        task={"name": "image-classification", "arguments": {}},
        inputs=(TensorSpec("input", "float32", ("batch", *x.shape[1:])),),
        outputs=(TensorSpec("output", "float32", ("batch", *y.shape[1:])),),
    )
