from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from compress.errors import UsageError
from compress.models.factory import Factory, build, factory_for, load_initial_weights
from compress.models.need import Need
from compress.models.settings import ModelSettings

TINY = {
    "model_type": "vit",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "patch_size": 4,
}
SHAPES = ((3, 16, 16),)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A trained network as its authors publish it: three classes, safetensors."""
    torch.manual_seed(5)
    config = transformers.ViTConfig(**{**TINY, "image_size": 16, "num_labels": 3})
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "published")
    return tmp_path / "published"


def _filled(settings: ModelSettings, classes: int) -> tuple[Factory, torch.nn.Module]:
    factory = factory_for(settings, Need(SHAPES, classes))
    module = build(factory, 1)
    load_initial_weights(module, settings, factory)
    return factory, module.eval()


def test_a_configuration_is_filled_in_from_the_data() -> None:
    factory = factory_for(ModelSettings(transformers=TINY), Need(((1, 8, 16),), 7))
    config = factory.arguments["config"]
    assert (config["num_channels"], config["image_size"], len(config["id2label"])) == (1, (8, 16), 7)
    assert build(factory).eval()(torch.zeros(2, 1, 8, 16)).shape == (2, 7)


@pytest.mark.parametrize(
    "given",
    [
        {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
        {"model_type": "mobilenet_v2", "depth_multiplier": 0.35, "finegrained_output": False},
        {"model_type": "convnext", "hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
    ],
    ids=lambda given: given["model_type"],
)
def test_other_architectures_are_made(given: dict[str, Any]) -> None:
    factory = factory_for(ModelSettings(transformers=given), Need(((3, 32, 32),), 5))
    assert build(factory).eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


def test_a_local_folder_gives_the_same_answers_as_transformers(folder: Path) -> None:
    _, module = _filled(ModelSettings(transformers=str(folder)), 3)
    x = torch.randn(2, 3, 16, 16)
    theirs = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        assert torch.equal(module(x), theirs(x).logits)


def test_no_path_is_in_the_factory(folder: Path) -> None:
    factory, _ = _filled(ModelSettings(transformers=str(folder)), 3)
    assert str(folder.parent) not in str(factory)


def test_another_number_of_classes_needs_a_new_head(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"tells 3 classes apart and the data have 5; write `head: new`"):
        _filled(ModelSettings(transformers=str(folder)), 5)
    _, module = _filled(ModelSettings(transformers=str(folder), head="new"), 5)
    published = transformers.AutoModelForImageClassification.from_pretrained(folder)
    own = module.state_dict()
    for key, value in published.state_dict().items():
        if key.startswith("vit."):
            assert torch.equal(own[f"network.{key}"], value)
    assert own["network.classifier.weight"].shape == (5, 16)


def test_weights_that_do_not_fit_are_listed(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    del state["vit.layernorm.bias"]
    state["vit.layernorm.weight"] = torch.zeros(17)
    state["vit.spare"] = torch.zeros(1)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UsageError) as caught:
        _filled(ModelSettings(transformers=str(folder), head="new"), 5)
    for line in (
        "missing: vit.layernorm.bias",
        "of another shape: vit.layernorm.weight",
        "not in the network: vit.spare",
    ):
        assert line in str(caught.value)


def test_a_file_of_weights_may_have_the_librarys_own_names(folder: Path) -> None:
    settings = ModelSettings(transformers={**TINY, "image_size": 16}, weights=str(folder / "model.safetensors"))
    _, module = _filled(settings, 3)
    published = transformers.AutoModelForImageClassification.from_pretrained(folder)
    assert torch.equal(module.state_dict()["network.classifier.weight"], published.state_dict()["classifier.weight"])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"hidden_size": 16}, "needs its model_type"),
        ({"model_type": "vitt"}, "did you mean 'vit'"),
        ({**TINY, "num_labels": 9}, "num_labels is 9 and the data have 3 classes"),
        ({**TINY, "num_channels": 1}, "images of 1 channels and the data give 3"),
        ({"model_type": "bert"}, "Unrecognized configuration class"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        build(factory_for(ModelSettings(transformers=given), Need(SHAPES, 3)))


def test_a_folder_without_a_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a folder with a network nor a name on the hub"):
        factory_for(ModelSettings(transformers=str(tmp_path)), Need(SHAPES, 3))


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="the weights cannot be read"):
        _filled(ModelSettings(transformers=str(folder)), 3)


def test_a_hub_that_cannot_be_reached_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="'nobody/nothing' is neither a folder"):
        factory_for(ModelSettings(transformers="nobody/nothing"), Need(SHAPES, 3))
