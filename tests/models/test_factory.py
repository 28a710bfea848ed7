from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.errors import UsageError
from compress.models.factory import BUILDERS, FACTORIES, Factory, build, factory_for, load_initial_weights
from compress.models.need import Need
from compress.models.settings import SOURCES, ModelSettings, read_model_settings

IMAGE = ((1, 8, 8),)


def test_the_tables_have_every_source() -> None:
    assert {*FACTORIES, "origin"} == {*BUILDERS, "origin"} == set(SOURCES)


def test_a_zoo_network_is_told_what_the_data_need() -> None:
    factory = factory_for(ModelSettings(zoo="resnet8", width=2), Need(IMAGE, 10))
    assert factory == Factory("zoo", "resnet8", {"num_classes": 10, "in_channels": 1, "width": 2.0, "shortcut": "A"})
    assert build(factory).eval()(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


@pytest.mark.parametrize(
    ("name", "shapes", "size", "says"),
    [
        ("vgg8", ((3, 8, 8),), 10, "at least 16x16 pixels; the data give 8x8"),
        ("resnet8", ((10,),), 10, "takes one image"),
        ("resnet8", ((1, 8, 8), (1, 8, 8)), 10, "takes one image"),
        ("resnet8", IMAGE, (1, 8, 8), "targets have shape"),
    ],
)
def test_data_that_no_zoo_network_fits_are_refused(name: str, shapes: Any, size: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        factory_for(ModelSettings(zoo=name), Need(shapes, size))


def test_weights_depend_on_the_seed_alone_and_global_generators_go_on() -> None:
    factory = factory_for(ModelSettings(zoo="resnet8"), Need(IMAGE, 10))

    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = [drawn(), drawn()]
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    first = drawn()
    one, same, other = build(factory, 7), build(factory, 7), build(factory, 8)
    assert [first, drawn()] == expected
    weights = [next(iter(module.parameters())) for module in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


NET = """
import random
import numpy
from torch import nn

def make(size, num_classes, in_channels=3):
    layer = nn.Linear(in_channels * size, num_classes)
    layer.noise = (random.random(), float(numpy.random.rand()))
    return layer

def any_arguments(**given):
    return nn.Identity() if not given else None

def broken():
    return undefined_name

def no_network():
    return 3
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


def _own(folder: Path, function: str, **arguments: Any) -> ModelSettings:
    return read_model_settings({"python": f"net.py:{function}", "arguments": arguments}, folder)


def test_a_users_function_is_told_classes_and_channels_where_it_asks(own: Path) -> None:
    factory = factory_for(_own(own, "make", size=4), Need(((2, 4, 4),), 5))
    assert factory.arguments == {"size": 4, "num_classes": 5, "in_channels": 2}
    assert factory_for(_own(own, "make", size=4, in_channels=9), Need(((2, 4, 4),), 5)).arguments["in_channels"] == 9
    assert factory_for(_own(own, "any_arguments"), Need(((2, 4, 4),), 5)).arguments == {}


def test_a_users_function_draws_seeded_numbers(own: Path) -> None:
    factory = factory_for(_own(own, "make", size=4), Need(((2, 4, 4),), 5))
    assert build(factory, 3).noise == build(factory, 3).noise
    assert build(factory, 3).noise != build(factory, 4).noise


@pytest.mark.parametrize(
    ("function", "arguments", "says"),
    [
        ("make", {"width": 3}, "unexpected keyword argument 'width'"),
        ("broken", {}, "undefined_name.*line 15"),
        ("no_network", {}, r"must return a torch.nn.Module, not int"),
        ("missing", {}, "'missing' does not exist"),
    ],
)
def test_faults_of_a_users_function_are_said(own: Path, function: str, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=f"(?s){says}"):
        build(factory_for(_own(own, function, **arguments), Need(((2, 4, 4),), 5)))


def test_a_module_beside_the_pipeline_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "module_beside_the_pipeline.py").write_text(NET)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    settings = read_model_settings({"python": "module_beside_the_pipeline:any_arguments"}, tmp_path)
    assert isinstance(build(factory_for(settings, Need(IMAGE, 2))), torch.nn.Identity)
    assert settings.fingerprint()


def test_weights_from_a_file_fill_the_network(tmp_path: Path) -> None:
    settings = ModelSettings(zoo="resnet8", weights=str(tmp_path / "w.pt"))
    factory = factory_for(settings, Need(IMAGE, 10))
    source, target = build(factory, 1), build(factory, 2)
    torch.save({"state_dict": source.state_dict()}, tmp_path / "w.pt")
    load_initial_weights(target, settings, factory)
    for one, two in zip(source.parameters(), target.parameters(), strict=True):
        assert torch.equal(one, two)
