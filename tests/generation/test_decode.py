from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compress.errors import UsageError
from compress.generation.decode import Decoding, Ids, continued, network_of
from compress.models.transformers_library import open_library
from tests.generation.helpers import GPT2, LLAMA, T5

CPU = torch.device("cpu")
PROMPTS = [[5, 6, 7], [8, 9], [10, 11, 12, 13]]


def network(config: dict[str, Any], seed: int = 0) -> Any:
    """With weights so large that no two tokens are nearly as likely."""
    library, values = open_library(), {k: v for k, v in config.items() if k != "model_type"}
    special = {"vocab_size": 24, "pad_token_id": 0, "eos_token_id": 3, "bos_token_id": 2}
    made = library.AutoConfig.for_model(config["model_type"], **values, **special, use_cache=False)
    kind = "Seq2Seq" if config["model_type"] == "t5" else "Causal"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        found = getattr(library, f"AutoModelFor{kind}LM").from_config(made).eval()
    for parameter in found.parameters():
        parameter.data *= 6
    return found


def one_by_one(found: Any, prompt: list[int], ids: Ids, longest: int) -> list[int]:
    """The likeliest token each time, by whole forward passes without padding and without kept keys and values."""
    said: list[int] = []
    while len(said) < longest and said[-1:] != [ids.end]:
        if ids.start is None:
            logits = found(torch.tensor([prompt + said])).logits
        else:
            logits = found(torch.tensor([prompt]), decoder_input_ids=torch.tensor([[ids.start, *said]])).logits
        said.append(int(np.argmax(logits[0, -1].detach().double().numpy())))
    return said


@pytest.mark.parametrize(("config", "start"), [(LLAMA, None), (GPT2, None), (T5, 2)])
def test_greedy_is_the_likeliest_token_each_time_whatever_else_is_in_the_batch(
    config: dict[str, Any], start: int | None
) -> None:
    ids, texts = Ids(0, 3, start), set()
    for seed in range(6):
        found = network(config, seed)
        said = continued(found, PROMPTS, ids, Decoding(max_new_tokens=9), seed=0, device=CPU)
        assert said == [one_by_one(found, prompt, ids, 9) for prompt in PROMPTS]
        texts |= {tuple(row) for row in said}
    assert len(texts) > 6


def test_a_text_stops_where_it_ends() -> None:
    found = network(LLAMA)
    free = continued(found, PROMPTS, Ids(0, 3), Decoding(max_new_tokens=9), seed=0, device=CPU)
    end = free[0][2]
    place = free[0].index(end)
    said = continued(found, PROMPTS, Ids(0, end), Decoding(max_new_tokens=9), seed=0, device=CPU)
    assert said[0] == free[0][: place + 1]


def test_a_beam_finds_texts_at_least_as_likely_as_greed() -> None:
    def log_probability(found: Any, prompt: list[int], said: list[int]) -> float:
        logits = found(torch.tensor([prompt + said])).logits[0].detach().double().numpy()
        chances = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        return float(sum(chances[len(prompt) - 1 + place, token] for place, token in enumerate(said)))

    better = 0
    for seed in range(6):
        found = network(GPT2, seed)
        for parameter in found.parameters():
            parameter.data /= 2
        how = {"max_new_tokens": 5}
        greedy, beam = (
            continued(found, [[5, 6]], Ids(0, 23), Decoding(decode, beams=8, **how), seed=0, device=CPU)[0]
            for decode in ("greedy", "beam")
        )
        if len(greedy) == len(beam) == 5:
            likely = [log_probability(found, [5, 6], said) for said in (greedy, beam)]
            assert likely[1] >= likely[0] - 1e-6
            better += likely[1] > likely[0] + 1e-6
    assert better


def test_samples_follow_the_seed_and_leave_other_randomness_alone() -> None:
    found, how = network(LLAMA), Decoding("sample", temperature=5.0, max_new_tokens=9)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    one, same, other = (continued(found, PROMPTS, Ids(0, 3), how, seed=seed, device=CPU) for seed in (1, 1, 2))
    assert one == same != other
    assert torch.equal(torch.get_rng_state(), state)


def test_sampled_tokens_have_the_networks_own_frequencies() -> None:
    found, prompt = network(LLAMA, 1), [5, 6]
    for parameter in found.parameters():
        parameter.data /= 4
    logits = found(torch.tensor([prompt])).logits[0, -1].detach().double().numpy() / 0.5
    expected = np.exp(logits) / np.exp(logits).sum()
    how = Decoding("sample", temperature=0.5, max_new_tokens=1)
    rows = continued(found, [prompt] * 4000, Ids(0, 3), how, seed=0, device=CPU)
    seen = np.bincount([row[0] for row in rows], minlength=24) / 4000
    assert np.abs(seen - expected).max() < 5 * np.sqrt(expected.max() / 4000)
    few = Decoding("sample", temperature=0.5, top_p=float(expected.max()) / 2, max_new_tokens=1)
    rows = continued(found, [prompt] * 20, Ids(0, 3), few, seed=0, device=CPU)
    assert {row[0] for row in rows} == {int(expected.argmax())}


def test_a_network_that_cannot_write_is_refused() -> None:
    with pytest.raises(UsageError, match="Linear cannot write texts"):
        network_of(nn.Linear(2, 2))
    found = network(T5)
    holder = nn.Module()
    holder.network = found
    assert network_of(holder) is found
