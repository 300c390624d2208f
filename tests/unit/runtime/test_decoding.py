"""Logits of a padded batch with kept keys and values are those of each row alone, computed from scratch."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import OpenAIGPTConfig, OpenAIGPTLMHeadModel, PreTrainedModel

from tiny_models import FAMILIES, tiny_model
from tunesmith.runtime.decoding import BatchDecoder, common_prefix_length

#: Largest difference between float32 logits computed in another order; logits here reach 4.
BOUND = 2e-5


def some_prompts(*lengths: int) -> list[list[int]]:
    source = random.Random(0)
    return [[source.randrange(4, 380) for _ in range(length)] for length in lengths]


def alone(model: PreTrainedModel, tokens: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([tokens])).logits[0, -1]


def check_steps(model: PreTrainedModel, decoder: BatchDecoder, logits: torch.Tensor) -> None:
    """Go on for some steps, on the way losing a row, and compare each row with itself alone."""
    source = random.Random(1)
    for step in range(6):
        for row, tokens in enumerate(decoder.tokens):
            torch.testing.assert_close(logits[row], alone(model, tokens), atol=BOUND, rtol=0)
        if step == 3:
            decoder.keep(list(range(1, len(decoder.tokens))))
        logits = decoder.advance([source.randrange(4, 380) for _ in decoder.tokens])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lengths", [(3, 21, 9, 14), (9, 9, 9)], ids=["padded", "like lengths"])
def test_a_batch_computes_what_each_row_computes_alone(family: str, lengths: tuple[int, ...]) -> None:
    model = tiny_model(family)
    decoder = BatchDecoder(model)
    check_steps(model, decoder, decoder.prefill(some_prompts(*lengths)))


@pytest.mark.parametrize("family", [family for family in FAMILIES if not family.startswith("gemma")])
@pytest.mark.parametrize("lengths", [(3, 21, 9, 14), (9, 9, 9)], ids=["padded", "like lengths"])
def test_a_common_beginning_computed_once_changes_nothing(family: str, lengths: tuple[int, ...]) -> None:
    model = tiny_model(family)
    beginning = some_prompts(12)[0]
    prefix = BatchDecoder(model).prefix([*beginning, 5, 6])
    for _ in range(2):  # it can be used again
        decoder = BatchDecoder(model)
        assert decoder.can_share_prefixes()
        prompts = [[*beginning, *prompt] for prompt in some_prompts(*lengths)]
        assert prefix.common_length(prompts) == 12
        check_steps(model, decoder, decoder.prefill(prompts, prefix))


@pytest.mark.parametrize("family", ["gemma2", "gemma3"])
def test_layers_with_a_sliding_window_share_nothing(family: str) -> None:
    assert not BatchDecoder(tiny_model(family)).can_share_prefixes()


def test_a_model_without_keys_and_values_is_given_whole_rows() -> None:
    config = OpenAIGPTConfig(vocab_size=384, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.15)
    model = OpenAIGPTLMHeadModel(config).eval()
    decoder = BatchDecoder(model)
    assert not decoder.can_share_prefixes()
    check_steps(model, decoder, decoder.prefill(some_prompts(9, 9, 9)))


def test_a_finished_answer_is_the_beginning_of_the_next_prompt() -> None:
    model = tiny_model("llama")
    decoder = BatchDecoder(model)
    prompt = some_prompts(8)[0]
    decoder.prefill([prompt])
    decoder.advance([7])
    decoder.advance([8])
    prefix = decoder.as_prefix()
    assert prefix is not None
    assert prefix.tokens == [*prompt, 7, 8]
    following = [*prompt, 7, 9, 10]
    assert prefix.common_length([following]) == 9
    torch.testing.assert_close(BatchDecoder(model).prefill([following], prefix)[0], alone(model, following), atol=BOUND, rtol=0)


def test_common_prefix() -> None:
    assert common_prefix_length([[1, 2, 3], [1, 2], [1, 2, 4, 5]]) == 2
    assert common_prefix_length([[1, 2]]) == 2
    assert common_prefix_length([[1], []]) == 0
