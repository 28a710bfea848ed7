"""Small networks of the shapes that pruning must handle, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

SIZE = (2, 3, 16, 16)


class EncoderDecoder(nn.Module):
    """Skips by concatenation, a transposed convolution, an output of the input's size."""

    def __init__(self, norm: Callable[[int], nn.Module], width: int = 16) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), norm(width), nn.SiLU())
        self.middle = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(width, 2 * width, 3, padding=1), norm(2 * width))
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.decoder = nn.Sequential(nn.Conv2d(2 * width, width, 3, padding=1), norm(width), nn.ReLU())
        self.head = nn.Conv2d(width, 3, 1)

    def forward(self, x: Tensor) -> Any:
        fine = self.encoder(x)
        return self.head(self.decoder(torch.cat([self.up(torch.relu(self.middle(fine))), fine], dim=1)))


class Tied(nn.Module):
    """Depthwise and grouped convolutions, a gate over channels, a flattened map, in-place activation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(32)
        self.depthwise = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.act = nn.PReLU(32)
        self.grouped = nn.Conv2d(32, 64, 3, padding=1, groups=4)
        self.squeeze, self.excite = nn.Conv2d(64, 16, 1), nn.Conv2d(16, 64, 1)
        self.last = nn.Conv2d(64, 16, 1)
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(4), nn.Flatten()
        self.hidden, self.head = nn.Linear(256, 64), nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Any:
        x = self.act(self.depthwise(torch.relu_(self.norm(self.stem(x)))))
        x = torch.relu(self.grouped(x))
        x = x * torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.head(torch.relu(self.hidden(self.flatten(self.pool(torch.relu(self.last(x)))))))


class Attention(nn.Module):
    """Queries, keys and values as three layers; sizes kept in attributes, as `transformers` does."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.num_attention_heads, self.all_head_size = heads, hidden
        self.attention_head_size = hidden // heads
        self.query, self.key, self.value = (nn.Linear(hidden, hidden) for _ in range(3))
        self.output = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Any:
        def split(y: Tensor) -> Tensor:
            return y.view(*y.shape[:2], self.num_attention_heads, self.attention_head_size).transpose(1, 2)

        query, key, value = split(self.query(x)), split(self.key(x)), split(self.value(x))
        y = nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        return self.output(y.reshape(*y.shape[:2], self.all_head_size))


class Transformer(nn.Module):
    """A ViT of two layers with a class token and learned positions."""

    def __init__(self, hidden: int = 64, heads: int = 8) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, hidden, 4, stride=4)
        self.token, self.places = nn.Parameter(torch.randn(1, 1, hidden)), nn.Parameter(torch.randn(1, 17, hidden))
        self.attention = nn.ModuleList(Attention(hidden, heads) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(4))
        self.up = nn.ModuleList(nn.Linear(hidden, 2 * hidden) for _ in range(2))
        self.down = nn.ModuleList(nn.Linear(2 * hidden, hidden) for _ in range(2))
        self.head = nn.Linear(hidden, 5)

    def forward(self, x: Tensor) -> Any:
        y = self.patches(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.token.expand(len(x), -1, -1), y], dim=1) + self.places
        for layer in range(2):
            y = y + self.attention[layer](self.norms[2 * layer](y))
            y = y + self.down[layer](nn.functional.gelu(self.up[layer](self.norms[2 * layer + 1](y))))
        return self.head(y[:, 0])


class Untraceable(nn.Module):
    """Channels that are halved, which can be followed, and shuffled or averaged by code that fixes their number."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(3, 16, 3, padding=1)
        self.halved = nn.Conv2d(16, 32, 1)
        self.shuffled = nn.Conv2d(16, 16, 1)
        self.averaged = nn.Conv2d(16, 16, 1)
        self.head = nn.Conv2d(17, 4, 1)

    def forward(self, x: Tensor) -> Any:
        one, other = self.halved(torch.relu(self.plain(x))).chunk(2, dim=1)
        y = self.shuffled(one * other)
        y = y.view(len(x), 4, 4, *x.shape[2:]).transpose(1, 2).reshape(len(x), 16, *x.shape[2:])
        y = torch.relu(self.averaged(y))
        return self.head(torch.cat([y, y.mean(1, keepdim=True)], dim=1))


def _resnet(option: str) -> nn.Module:
    from compress.models.zoo.resnet_cifar import resnet

    return resnet(14, width=1, shortcut=option, num_classes=5, in_channels=3)  # type: ignore[arg-type]


def _mobilenet() -> nn.Module:
    from compress.models.zoo.mobilenet_v2 import mobilenet_v2

    return mobilenet_v2(width=0.25, num_classes=5, in_channels=3)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "encoder_decoder": lambda: EncoderDecoder(nn.BatchNorm2d),
    "group_norm": lambda: EncoderDecoder(lambda channels: nn.GroupNorm(4, channels)),
    "instance_norm": lambda: EncoderDecoder(nn.InstanceNorm2d),
    "tied": Tied,
    "transformer": Transformer,
    "untraceable": Untraceable,
    "resnet_a": lambda: _resnet("A"),
    "resnet_b": lambda: _resnet("B"),
    "mobilenet": _mobilenet,
}


@pytest.fixture(autouse=True)
def one_thread_and_seed() -> Iterator[None]:
    """Such small networks only lose time to a second thread; what a test draws is the same each time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_num_threads(before)


@pytest.fixture
def network() -> Callable[[str], nn.Module]:
    """Makes the network of a name, with seeded weights and running statistics that are not the initial ones."""

    def make(name: str) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = NETWORKS[name]()
            with torch.no_grad():
                for _ in range(3):
                    module.train()(torch.randn(8, *SIZE[1:]))
        return module.eval()

    return make


@pytest.fixture
def example() -> Tensor:
    """Two images."""
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(1))
