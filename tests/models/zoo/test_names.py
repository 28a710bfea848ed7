from __future__ import annotations

import pytest

from compress.models.zoo.names import FAMILIES, match


@pytest.mark.parametrize(
    ("name", "family", "numbers"),
    [
        ("resnet8", "resnet", (8,)),
        ("resnet1202", "resnet", (1202,)),
        ("resnet32x4", "resnet_x4", (32,)),
        ("wrn_28_10", "wide_resnet", (28, 10)),
        ("vgg19", "vgg", (19,)),
        ("mobilenet_v2", "mobilenet_v2", ()),
    ],
)
def test_names_are_taken_apart(name: str, family: str, numbers: tuple[int, ...]) -> None:
    found, found_numbers = match(name)
    assert (found.key, found_numbers) == (family, numbers)


def test_every_example_is_a_name_of_its_family() -> None:
    for family in FAMILIES:
        for example in family.examples:
            assert match(example)[0] is family


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resnt20", "did you mean 'resnet20'"),
        ("resnet18", "did you mean 'resnet14'"),
        ("resnet2", "did you mean 'resnet8'"),
        ("wrn_29_10", "did you mean 'wrn_28_10'"),
        ("wrn_28_0", "widening factor"),
        ("mobilenetv2", "did you mean 'mobilenet_v2'"),
        ("zebra", "vgg8, vgg11"),
    ],
)
def test_unknown_names_are_refused_with_advice(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        match(name)
