"""Light LoRA layers compute what peft's do."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from tiny_models import FAMILIES, tiny_model
from tunesmith.models.structure import linear_names
from tunesmith.runtime.low_rank import lighten_lora

IDS = torch.randint(4, 384, (2, 16), generator=torch.Generator().manual_seed(0))


def with_lora(family: str, **settings: object) -> PeftModel:
    """A tiny model with a LoRA adapter that changes its logits clearly."""
    model = tiny_model(family)
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": linear_names(model), "fan_in_fan_out": family == "gpt2", **settings})
    with torch.random.fork_rng():
        torch.manual_seed(1)
        peft_model = get_peft_model(model, config)
        for name, parameter in peft_model.named_parameters():
            if name.endswith("bias"):
                parameter.data += 0.3 * torch.randn_like(parameter)
            if "lora_" in name:
                parameter.data += 0.05 * torch.randn_like(parameter) if "magnitude" not in name else 0.3 * torch.rand_like(parameter)
    return peft_model.eval()


@torch.inference_mode()
def logits(model: torch.nn.Module) -> torch.Tensor:
    result: torch.Tensor = model(input_ids=IDS.clone()).logits.float()
    return result


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("settings", [{}, {"use_dora": True}, {"use_rslora": True}], ids=["lora", "dora", "rslora"])
def test_every_family_keeps_its_logits(family: str, settings: dict[str, object]) -> None:
    model = with_lora(family, **settings)
    with model.disable_adapter():
        base = logits(model)
    before = logits(model)
    assert lighten_lora(model.get_base_model()) == len(linear_names(tiny_model(family)))
    assert (before - base).abs().max() > 0.05
    torch.testing.assert_close(logits(model), before, atol=2e-5, rtol=0)


@pytest.mark.parametrize("use_dora", [False, True])
def test_in_bfloat16_it_is_about_as_exact_as_merging(use_dora: bool) -> None:
    model = with_lora("llama", use_dora=use_dora)
    truth = logits(model)
    merged, light = copy.deepcopy(model).merge_and_unload().bfloat16(), copy.deepcopy(model)
    light.get_base_model().bfloat16()
    assert lighten_lora(light.get_base_model()) == len(linear_names(tiny_model("llama")))
    assert (logits(light) - truth).std() < 2 * (logits(merged) - truth).std()


@pytest.mark.filterwarnings("ignore:`lora_bias=True`")
def test_what_is_special_stays_with_peft() -> None:
    model = with_lora("llama", modules_to_save=["lm_head"], lora_bias=True)
    before = logits(model)
    assert lighten_lora(model.get_base_model()) == 0
    two = with_lora("llama")
    two.add_adapter("other", LoraConfig(r=2, target_modules=["q_proj"]))
    two.base_model.set_adapter(["default", "other"])
    num_with_two = sum(name.endswith("q_proj") for name in linear_names(tiny_model("llama")))
    assert lighten_lora(two.get_base_model()) == len(linear_names(tiny_model("llama"))) - num_with_two
    torch.testing.assert_close(logits(model), before)
