from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from compress.errors import UsageError
from compress.models import rest
from compress.models.factory import build, factory_for, load_initial_weights
from compress.models.need import TextNeed
from compress.models.settings import ModelSettings
from compress.models.transformers_text import HEADS
from tests.models.text_networks import CONFIGURATIONS, NETWORKS, TEXT, VOCABULARY, answer, inputs, made, need

TIED = [("bert", "masked-lm"), ("gpt2", "causal-lm"), ("t5", "sequence-to-sequence"), ("bart", "sequence-to-sequence")]


@pytest.mark.parametrize(("name", "task"), NETWORKS)
def test_a_configuration_is_filled_in_from_tokenizer_and_data(name: str, task: str) -> None:
    factory, module = made(name, task)
    config = factory.arguments["config"]
    assert config["vocab_size"] == VOCABULARY and config["pad_token_id"] == 0 and config["use_cache"] is False
    given = inputs(task, [7, 4])
    expected = (2, 3) if task == "text-classification" else (2, given[-1].shape[1], VOCABULARY)
    assert answer(module, given).shape == expected
    longest = inputs(task, [TEXT.max_length], decoded=TEXT.max_length)
    assert np.isfinite(answer(module, longest)).all()


@pytest.mark.parametrize(("name", "task"), NETWORKS)
def test_padding_does_not_change_an_answer(name: str, task: str) -> None:
    _, module = made(name, task)
    padded = inputs(task, [9, 3, 6])
    together = answer(module, padded)
    for row, length in enumerate([9, 3, 6]):
        ids, mask, *said = (array[row : row + 1] for array in padded)
        alone = answer(module, (ids[:, :length], mask[:, :length], *said))
        rows = together[row : row + 1]
        found = rows[:, :length] if task in ("masked-lm", "causal-lm") else rows
        np.testing.assert_allclose(found, alone, atol=1e-5)


@pytest.mark.parametrize(("name", "task"), NETWORKS)
def test_at_rest_and_back_it_is_bit_equal(name: str, task: str, tmp_path: Path) -> None:
    factory, module = made(name, task)
    rest.save(module, factory, tmp_path)
    back = rest.load(tmp_path)
    assert rest.state_digest(back) == rest.state_digest(module)
    given = inputs(task, [5, 8])
    np.testing.assert_array_equal(answer(back, given), answer(module, given))
    assert sum(p.numel() for p in back.parameters()) == sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("name", "task"), TIED)
def test_tied_embeddings_stay_tied_at_rest(name: str, task: str, tmp_path: Path) -> None:
    factory, module = made(name, task)
    rest.save(module, factory, tmp_path)
    network: Any = rest.load(tmp_path).network
    assert network.get_output_embeddings().weight is network.get_input_embeddings().weight


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_a_causal_network_does_not_see_what_comes(name: str) -> None:
    _, module = made(name, "causal-lm")
    given = inputs("causal-lm", [8])
    changed = given[0].copy()
    changed[0, 5:] = 3 + (changed[0, 5:] - 2) % (VOCABULARY - 3)
    before, after = answer(module, given), answer(module, (changed, given[1]))
    np.testing.assert_allclose(before[:, :5], after[:, :5], atol=1e-6)
    assert np.abs(before[:, 5:] - after[:, 5:]).max() > 1e-3


def test_training_and_evaluation_differ_by_dropout_and_gradients_reach_everything() -> None:
    _, module = made("bert", "text-classification")
    tensors = tuple(map(torch.from_numpy, inputs("text-classification", [6, 6])))
    assert torch.equal(module(*tensors), module(*tensors))
    module.train()
    assert not torch.equal(module(*tensors), module(*tensors))
    module(*tensors).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_segments_are_read_where_there_are_embeddings_for_two() -> None:
    ids, mask = (torch.from_numpy(array) for array in inputs("text-classification", [6]))
    types = torch.tensor([[0, 0, 0, 1, 1, 1]])
    for name, reads in (("bert", True), ("roberta", True), ("distilbert", False), ("gpt2", False)):
        wanted = need("text-classification")
        wanted = type(wanted)((), 3, wanted.task, (*wanted.input_names, "token_type_ids"), TEXT)
        module: Any = build(factory_for(ModelSettings(transformers=CONFIGURATIONS[name]), wanted), 1).eval()
        differs = not torch.equal(module(ids, mask, types), module(ids, mask, types * 0))
        assert differs is reads, name


@pytest.mark.parametrize(
    ("given", "task", "says"),
    [
        ({**CONFIGURATIONS["bert"], "vocab_size": 79}, "masked-lm", "knows 79 tokens and the tokenizer has 80"),
        (
            {**CONFIGURATIONS["bert"], "pad_token_id": 4},
            "masked-lm",
            "pads with token 4 and the tokenizer with token 0",
        ),
        ({**CONFIGURATIONS["gpt2"], "n_positions": 8}, "causal-lm", "has 8 positions and texts of 24 tokens need 24"),
        ({**CONFIGURATIONS["roberta"], "max_position_embeddings": 24}, "masked-lm", "need 25"),
        ({**CONFIGURATIONS["bert"], "num_labels": 9}, "text-classification", "num_labels is 9 and the data have 3"),
        (
            {**CONFIGURATIONS["bert"], "hiden_size": 16},
            "masked-lm",
            "unknown key of a bert network 'hiden_size'.*hidden",
        ),
        ({**CONFIGURATIONS["bert"], "hidden_size": "wide"}, "masked-lm", "transformers: bert"),
        ({**CONFIGURATIONS["bert"], "num_attention_heads": 3}, "masked-lm", "multiple of the number of attention"),
        ({"model_type": "bertt"}, "masked-lm", "did you mean 'bert'"),
        ({"hidden_size": 16}, "masked-lm", "needs its model_type"),
        (CONFIGURATIONS["gpt2"], "masked-lm", "gpt2.*Unrecognized configuration class"),
        (CONFIGURATIONS["bert"], "sequence-to-sequence", "bert.*Unrecognized configuration class"),
    ],
)
def test_configurations_that_do_not_fit_are_refused_in_words(given: dict[str, Any], task: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        build(factory_for(ModelSettings(transformers=given), need(task)))


def test_a_larger_vocabulary_and_more_positions_are_taken_as_they_are() -> None:
    factory, module = made("gpt2", "causal-lm", vocab_size=96, n_positions=64)
    assert answer(module, inputs("causal-lm", [5])).shape == (1, 5, 96)
    assert factory.arguments["config"]["n_positions"] == 64


def test_only_networks_for_texts_read_texts() -> None:
    for settings in (ModelSettings(zoo="resnet8"), ModelSettings(timm="resnet18"), ModelSettings(torchvision="vgg11")):
        with pytest.raises(UsageError, match="takes images, and the data are texts"):
            factory_for(settings, need("text-classification"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A network for masked texts as its authors publish it."""
    torch.manual_seed(5)
    more = {"vocab_size": VOCABULARY, "max_position_embeddings": 32, "pad_token_id": 0}
    config = transformers.AutoConfig.for_model(**{**CONFIGURATIONS["bert"], **more})
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path / "published")
    return tmp_path / "published"


def test_a_local_folder_gives_the_same_answers_as_transformers(folder: Path) -> None:
    settings = ModelSettings(transformers=str(folder))
    factory = factory_for(settings, need("masked-lm"))
    module = build(factory, 1).eval()
    load_initial_weights(module, settings, factory)
    assert str(folder.parent) not in str(factory)
    theirs = transformers.BertForMaskedLM.from_pretrained(folder).eval()
    ids, mask = (torch.from_numpy(array) for array in inputs("masked-lm", [7, 4]))
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=mask).logits
    np.testing.assert_array_equal(module(ids, mask).detach().numpy(), expected.numpy())


def test_a_new_head_on_a_trained_body(folder: Path) -> None:
    settings = ModelSettings(transformers=str(folder), head="new")
    factory = factory_for(settings, need("text-classification"))
    module = build(factory, 1)
    before = module.state_dict()["network.classifier.weight"].clone()
    load_initial_weights(module, settings, factory)
    published, own = transformers.BertForMaskedLM.from_pretrained(folder).state_dict(), module.state_dict()
    for key in [key for key in published if key.startswith("bert.")]:
        assert torch.equal(own[f"network.{key}"], published[key]), key
    assert torch.equal(own["network.classifier.weight"], before) and before.shape == (3, 16)
    kept = ModelSettings(transformers=str(folder), arguments={"num_labels": 3})
    with pytest.raises(UsageError, match=r"(?s)missing: .*classifier.*not in the network: cls.predictions"):
        load_initial_weights(build(factory_for(kept, need("text-classification"))), kept, factory)


def test_a_folder_with_another_tokenizers_vocabulary_is_refused(folder: Path) -> None:
    other = TextNeed(VOCABULARY + 1, 24, pad_id=0)
    with pytest.raises(UsageError, match="knows 80 tokens and the tokenizer has 81"):
        factory_for(ModelSettings(transformers=str(folder)), need("masked-lm", text=other))


def test_a_broken_folder_is_one_message(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "bert", "hidden_size": "wide", "architectures": 3}')
    with pytest.raises(UsageError, match="transformers: "):
        settings = ModelSettings(transformers=str(folder))
        factory = factory_for(settings, need("masked-lm"))
        load_initial_weights(build(factory), settings, factory)


def test_every_head_has_its_class() -> None:
    for name in HEADS.values():
        assert hasattr(transformers, name)
