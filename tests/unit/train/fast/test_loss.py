"""The supervised loss is the cross-entropy of the model's own logits at supervised positions, whatever its head does."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tiny_models import FAMILIES, tiny_model, tiny_tokenizer
from tunesmith.methods.grid_model import put_on_grid
from tunesmith.methods.lora import Lora
from tunesmith.train.fast import accelerate_model, loss, supervised_loss

FEW = {"vocab_size": 384, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def batch() -> tuple[Tensor, Tensor]:
    input_ids = torch.randint(4, 380, (3, 11), generator=torch.Generator().manual_seed(4))
    labels = input_ids.clone()
    labels[:, :4] = -100
    labels[0, 7:] = -100
    labels[1, 5] = -100
    return input_ids, labels


def plain(model: nn.Module, input_ids: Tensor, labels: Tensor, mask: Tensor | None = None) -> tuple[Tensor, int, int]:
    logits = model(input_ids=input_ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
    targets = labels[:, 1:]
    supervised = targets != -100
    right = (logits.argmax(-1) == targets)[supervised].sum()
    return nn.functional.cross_entropy(logits[supervised], targets[supervised], reduction="sum"), int(supervised.sum()), int(right)


def check(model: nn.Module, mask: Tensor | None = None) -> None:
    """Loss, counts and gradients against the plain computation."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    expected, num_supervised, num_correct = plain(model, *batch(), mask)
    wanted = torch.autograd.grad(expected, trained, allow_unused=True)
    result = supervised_loss(model, *batch(), mask, chunk_tokens=4)
    torch.testing.assert_close(result.loss_sum, expected, rtol=1e-5, atol=1e-4)
    assert (result.num_supervised, result.num_correct) == (num_supervised, num_correct)
    assert result.loss_sum.dtype == torch.float32
    for found, gradient in zip(torch.autograd.grad(result.loss_sum, trained, allow_unused=True), wanted, strict=True):
        assert (found is None) == (gradient is None)
        if found is not None:
            torch.testing.assert_close(found, gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_with_all_weights_trained(family: str) -> None:
    check(tiny_model(family))


@pytest.mark.parametrize(
    ("model_type", "options"),
    [("granite", {"logits_scaling": 4.0}), ("cohere", {"logit_scale": 0.25}), ("gemma2", {"final_logit_softcapping": 3.0, "head_dim": 8})],
)
def test_heads_that_scale_or_cap_their_logits(model_type: str, options: dict[str, float]) -> None:
    config = CONFIG_MAPPING[model_type](**FEW, num_key_value_heads=2, pad_token_id=0, initializer_range=0.2, **options)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    check(model)
    assert loss._head_of(model) is not None


def test_a_head_of_another_kind_computes_its_own_logits() -> None:
    model = tiny_model("llama")
    own = type(model).forward

    def doubled(self: nn.Module, **inputs: object) -> object:
        output = own(self, **inputs)  # type: ignore[arg-type]
        output.logits = output.logits * 2
        return output

    model.forward = doubled.__get__(model)  # type: ignore[method-assign]
    check(model)
    assert loss._head_of(model) is None


def test_an_adapter_on_the_head_is_part_of_it() -> None:
    model = get_peft_model(tiny_model("llama"), LoraConfig(r=4, target_modules=["q_proj", "lm_head"], init_lora_weights=False)).eval()
    check(model)
    assert loss._head_of(model) is None


@pytest.mark.parametrize("family", ["llama", "smollm", "gpt2"])
def test_a_head_trained_whole_gets_its_gradient(family: str) -> None:
    model = Lora(rank=4, modules_to_save=("lm_head",)).apply(tiny_model(family)).eval()
    check(model)
    accelerate_model(model)
    check(model)
    assert any("lm_head" in name and parameter.requires_grad for name, parameter in model.named_parameters()) or family != "llama"


@pytest.mark.parametrize("family", ["llama", "smollm", "gpt2"])
def test_a_head_on_the_int4_grid_makes_few_logits_too(family: str) -> None:
    base = tiny_model(family)
    put_on_grid(base, torch.float32)
    model = Lora(rank=4).apply(base).eval()
    check(model)
    accelerate_model(model)
    check(model)
    assert loss._head_of(model) is not None


@pytest.mark.parametrize("accelerated", [False, True])
def test_padding_on_the_left_is_masked(accelerated: bool) -> None:
    model = tiny_model("llama")
    mask = torch.ones(3, 11, dtype=torch.long)
    mask[2, :3] = 0
    if accelerated:
        accelerate_model(model)
    check(model, mask)


def test_validation_computes_the_same_numbers_without_gradients() -> None:
    model = tiny_model("qwen2")
    accelerate_model(model)
    trained = supervised_loss(model, *batch())
    with torch.no_grad():
        found = supervised_loss(model, *batch())
    torch.testing.assert_close(found.loss_sum, trained.loss_sum.detach())
    assert not found.loss_sum.requires_grad
    assert found.num_correct == trained.num_correct


def test_nothing_supervised_is_no_loss() -> None:
    model = tiny_model("llama")
    accelerate_model(model)
    input_ids, labels = batch()
    result = supervised_loss(model, input_ids, torch.full_like(labels, -100))
    assert (float(result.loss_sum.detach()), result.num_supervised, result.num_correct) == (0.0, 0, 0)


def test_parts_of_a_batch_add_up_to_it() -> None:
    model = tiny_model("smollm")
    accelerate_model(model)
    input_ids, labels = batch()
    whole = supervised_loss(model, input_ids, labels)
    parts = [supervised_loss(model, input_ids[row : row + 1], labels[row : row + 1]) for row in range(3)]
    torch.testing.assert_close(sum(part.loss_sum for part in parts), whole.loss_sum, rtol=1e-5, atol=1e-4)
    assert sum(part.num_supervised for part in parts) == whole.num_supervised


def test_real_text_of_different_lengths() -> None:
    tokenizer = tiny_tokenizer()
    rows = [tokenizer(text).input_ids for text in ("Label: happy.", "What is the tone of this message?", "Thank you!")]
    input_ids = torch.full((3, max(map(len, rows))), tokenizer.pad_token_id)
    labels = torch.full_like(input_ids, -100)
    for index, row in enumerate(rows):
        input_ids[index, : len(row)] = torch.tensor(row)
        labels[index, 1 : len(row)] = torch.tensor(row[1:])
    model = tiny_model("mistral")
    expected, count, _ = plain(model, input_ids, labels)
    accelerate_model(model)
    result = supervised_loss(model, input_ids, labels)
    torch.testing.assert_close(result.loss_sum, expected, rtol=1e-5, atol=1e-4)
    assert result.num_supervised == count
