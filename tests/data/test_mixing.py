from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from compress.data.augmentation import augment, mixed
from compress.data.dataset import ArraySplit, Data, Subset
from compress.data.mixing import Others
from compress.errors import UsageError

Array = npt.NDArray[Any]
COUNT = 4000
INDICES = np.arange(COUNT)
CODES = INDICES[:, None, None, None] / COUNT * np.ones((1, 1, 8, 10)) + 1
PAIRS = np.concatenate([CODES, CODES**2], axis=1)
"""Images that tell which they are: each pixel is a code, 1 + number / COUNT, and its square in the second channel."""


def others(images: Array = PAIRS) -> Others:
    return Others(len(images), lambda indices: images[indices])


def apply(*steps: dict[str, Any], images: Array = PAIRS, indices: Array = INDICES, epoch: int = 0) -> Array:
    return augment(images[indices], steps, 3, epoch, indices, others(images))


def shares_and_partners(images: Array, indices: Array = INDICES) -> tuple[Array, Array]:
    """Solved from what the channels hold: s c + (1 - s) d and s c² + (1 - s) d², of own code c, other d and share s."""
    own = PAIRS[indices, 0, 0, 0].astype(np.float64)
    first, second = images[:, 0, 0, 0] - own, images[:, 1, 0, 0] - own**2
    with np.errstate(divide="ignore", invalid="ignore"):
        other = second / first - own
        return 1 - first / (other - own), (other - 1) * COUNT


@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
def test_mixup_is_the_mean_weighted_by_beta(alpha: float) -> None:
    shares, partners = shares_and_partners(apply({"mixup": {"alpha": alpha}}))
    clear = (shares < 0.98) & (np.abs(partners - INDICES) > COUNT / 20)  # else rounding is told, too
    assert clear.mean() > 0.5
    assert np.abs(partners[clear] - np.rint(partners[clear])).max() < 1e-3
    assert stats.kstest(partners[clear] / COUNT, "uniform").statistic < 0.06
    folded = stats.beta(alpha, alpha)
    scale = folded.cdf(0.98) - folded.cdf(0.5)
    found = stats.kstest(shares[clear], lambda share: (folded.cdf(share) - folded.cdf(0.5)) / scale)
    assert found.pvalue > 1e-3


def test_cutmix_lays_a_rectangle_of_the_other_over() -> None:
    images = (INDICES + 1.0).reshape(-1, 1, 1, 1).astype(np.float32) * np.ones((1, 2, 32, 48), np.float32)
    result = apply({"cutmix": {}}, images=images)
    foreign = result != images
    assert (foreign[:, 0] == foreign[:, 1]).all()
    covered = foreign[:, 0].mean(axis=(1, 2))
    assert 0.4 < covered.max() <= 0.52
    for image, where in zip(result[:300, 0], foreign[:300, 0], strict=True):
        if where.any():
            rows, columns = where.any(axis=1), where.any(axis=0)
            assert (where == rows[:, None] & columns[None]).all()
            assert len(np.unique(image[where])) == 1
            for line in (rows, columns):
                assert line[line.argmax() : len(line) - line[::-1].argmax()].all()
    middle = foreign[:, 0, 16, 24].mean()  # a rectangle of share s covers the middle with probability s, anywhere
    assert abs(middle - 0.25) < 0.03
    inside = ~(foreign[:, 0, 0].any(1) | foreign[:, 0, -1].any(1) | foreign[:, 0, :, 0].any(1))
    whole = inside & ~foreign[:, 0, :, -1].any(1) & foreign[:, 0].any(axis=(1, 2))
    heights, widths = foreign[whole, 0].any(2).sum(1), foreign[whole, 0].any(1).sum(1)
    assert np.abs(heights / 32 - widths / 48).max() < 1 / 24


@pytest.mark.parametrize("step", ["mixup", "cutmix"])
def test_the_other_went_through_the_steps_above(step: str) -> None:
    """After a flip of half of all images both parts are flipped as each is where its own turn comes."""
    random = np.random.default_rng(0).normal(size=(50, 3, 8, 8)).astype(np.float32)
    numbers = np.arange(50)
    flipped = augment(random, [{"flip": {}}], 3, 0, numbers)
    steps: list[dict[str, Any]] = [{"flip": {}}, {step: {}}]
    seen = augment(random, steps, 3, 0, numbers, Others(50, lambda indices: random[indices]))
    basis = flipped.reshape(50, -1).astype(np.float64)
    for number in range(50):
        left = seen[number].reshape(-1) - basis[number]
        if step == "cutmix":
            at = left != 0
            fits = [bool(np.allclose(seen[number].reshape(-1)[at], row[at])) for row in basis]
        else:
            ways = basis - basis[number]
            with np.errstate(invalid="ignore", divide="ignore"):
                weights = (ways @ left) / (ways**2).sum(1)
            fits = [bool(np.allclose(left, weight * way, atol=1e-5)) for weight, way in zip(weights, ways, strict=True)]
        assert any(fits)


@pytest.mark.parametrize("step", ["mixup", "cutmix"])
def test_a_mixture_is_a_function_of_seed_epoch_and_example(step: str) -> None:
    settings = {step: {"probability": 0.5}}
    whole = apply(settings)
    chosen = np.array([50, 3, 17, 3])
    np.testing.assert_array_equal(apply(settings, indices=chosen), whole[chosen])
    assert not np.array_equal(apply(settings, epoch=1), whole)
    touched = (whole != PAIRS).any(axis=(1, 2, 3))
    found = mixed([settings], 3, 0, INDICES, COUNT)
    assert abs(found.mean() - 0.5) < 0.05
    assert not (touched & ~found).any()
    assert touched.sum() > 0.9 * found.sum()


def test_targets_of_mixtures_are_hidden() -> None:
    images = np.random.default_rng(0).normal(size=(40, 6, 6)).astype(np.float32)
    steps = ({"mixup": {"probability": 0.5, "alpha": 1.0}},)
    numbers = np.arange(40)
    chosen = mixed(steps, 5, 1, numbers, 40)
    assert 5 < chosen.sum() < 35
    for targets in (numbers % 4, images[:, None].copy(), np.stack([numbers, -numbers], axis=1).astype(np.float32)):
        split = ArraySplit(images, targets)
        data = Data(split, split, split, preprocessing=({"scale": {"factor": 1.0}},), augmentation=steps)
        batch = data.batch(split, numbers, (5, 1))
        unknown = batch.targets < 0 if batch.targets.ndim == 1 else np.isnan(batch.targets).reshape(40, -1).all(1)
        np.testing.assert_array_equal(unknown, chosen)
        np.testing.assert_array_equal(batch.targets[~chosen], split.targets(numbers[~chosen]))
        np.testing.assert_array_equal(batch.inputs[0][~chosen, 0], images[~chosen])
        np.testing.assert_array_equal(data.batch(split, numbers).targets, split.targets(numbers))
        assert data.mixes
        assert not data.unmixed().mixes
        with pytest.raises(UsageError, match="mixing takes two examples"):
            data.batch(Subset(split, np.zeros(1, np.int64)), [0], (5, 1))
