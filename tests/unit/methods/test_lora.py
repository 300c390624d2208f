"""LoRA and DoRA on a tiny model of every family: what trains, what is saved, what plain peft reads, what is merged."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import peft
import pytest
import torch
from short_training import FLOAT32_BOUND, distance, in_bfloat16, logits, token_ids, train, weights_hash
from transformers import AutoModelForCausalLM

from tiny_models import FAMILIES, tiny_model
from tunesmith.errors import ModelError
from tunesmith.methods import build_method
from tunesmith.methods.adapters import load_adapter
from tunesmith.methods.lora import Lora
from tunesmith.models.structure import linear_names

METHODS = ("lora", "dora")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", METHODS)
class TestEveryFamily:
    def test_starts_as_the_base_and_trains_adapters_only(self, name: str, family: str) -> None:
        base = tiny_model(family)
        before, untouched = logits(base), weights_hash(base)
        names = linear_names(base)
        method = build_method(name, lora_r=4)
        model = method.apply(base)
        assert distance(logits(model), before) == 0
        assert not any(module.training for module in model.modules())  # no dropout appears in a model that is only evaluated
        parts = ("lora_A.default.weight", "lora_B.default.weight") + ("lora_magnitude_vector.default.weight",) * (name == "dora")
        assert set(method.trainable(model)) == {f"base_model.model.{full}.{part}" for full in names for part in parts}
        train(model, method)
        assert distance(logits(model), before) > 0.5
        assert weights_hash(model.unload()) == untouched

    def test_reloads_the_same_here_and_in_plain_peft(self, name: str, family: str, tmp_path: Path) -> None:
        base = tiny_model(family)
        method = build_method(name, lora_r=4, use_rslora=True)
        model = train(method.apply(copy.deepcopy(base)), method)
        method.save(model, tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
        assert distance(logits(load_adapter(copy.deepcopy(base), tmp_path)), logits(model)) == 0
        plain = peft.PeftModel.from_pretrained(copy.deepcopy(base), str(tmp_path))
        assert distance(logits(plain), logits(model)) == 0

    def test_merged_gives_the_adapters_logits(self, name: str, family: str, tmp_path: Path) -> None:
        method = build_method(name, lora_r=4)
        model = train(method.apply(tiny_model(family)), method)
        expected = logits(model)
        merged = method.merge(model)
        assert distance(logits(merged), expected) < FLOAT32_BOUND
        merged.save_pretrained(tmp_path)
        reloaded = AutoModelForCausalLM.from_pretrained(tmp_path)
        assert type(reloaded) is type(tiny_model(family))
        assert distance(logits(reloaded), logits(merged)) == 0

    def test_bfloat16_base_with_float32_adapters(self, name: str, family: str, tmp_path: Path) -> None:
        base = in_bfloat16(tiny_model(family))
        method = build_method(name, lora_r=4)
        model = method.apply(copy.deepcopy(base))
        assert distance(logits(model), logits(base)) == 0
        assert {parameter.dtype for parameter in method.trainable(model).values()} == {torch.float32}
        train(model, method)
        assert model(input_ids=token_ids()).logits.dtype == torch.bfloat16
        method.save(model, tmp_path)
        assert distance(logits(load_adapter(copy.deepcopy(base), tmp_path)), logits(model)) == 0
        merged = method.merge(load_adapter(copy.deepcopy(base), tmp_path))
        assert {parameter.dtype for parameter in merged.parameters()} == {torch.float32}
        # Float32 against a forward pass in bfloat16, whose every product is rounded to 8 bits.
        assert distance(logits(merged), logits(model)) < 0.05 * logits(model).abs().max()


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_4", "olora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_that_moved_base_weights_is_saved_for_the_untouched_base(init: str, family: str, tmp_path: Path) -> None:
    base = tiny_model(family)
    method = build_method("lora", lora_r=4, init_lora_weights=init, use_rslora=True)
    if family == "gpt2" and init == "olora":
        with pytest.raises(ModelError, match="stores them as"):
            method.apply(base)
        return
    # OLoRA takes out a product of the size of the weight itself, scaled by 16 here, and the difference is rounded.
    bound = 10 * FLOAT32_BOUND if init == "olora" else FLOAT32_BOUND
    model = method.apply(copy.deepcopy(base))
    assert distance(logits(model), logits(base)) < bound
    train(model, method)
    assert distance(logits(model), logits(base)) > 0.5
    method.save(model, tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 8
    plain = peft.PeftModel.from_pretrained(copy.deepcopy(base), str(tmp_path))
    assert distance(logits(plain), logits(model)) < bound
    assert distance(logits(method.merge(plain)), logits(model)) < bound


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_what_pissa_takes_out_of_a_bfloat16_base_is_not_rounded(family: str) -> None:
    base = in_bfloat16(tiny_model(family))
    whole = {name: parameter.detach().float() for name, parameter in base.named_parameters()}
    model = build_method("lora", lora_r=4, init_lora_weights="pissa").apply(base)
    for name, layer in model.named_modules():
        if isinstance(layer, peft.tuners.lora.LoraLayer):
            rest = layer.get_base_layer().weight.float()
            error = (rest + layer.get_delta_weight("default") - whole[f"{name.removeprefix('base_model.model.')}.weight"]).abs()
            assert (error <= rest.abs() / 2**8 + 1e-6).all()  # half a unit in the last place of what stays in the base, and no more


@pytest.mark.parametrize("init", ["gaussian", "orthogonal", True])
def test_other_starts_leave_the_base_alone(init: str | bool) -> None:
    base = tiny_model("llama")
    before = weights_hash(base)
    model = build_method("lora", lora_r=4, init_lora_weights=init).apply(base)
    assert weights_hash(model.unload()) == before


@pytest.mark.parametrize("name", METHODS)
def test_only_the_named_modules_and_layers_train(name: str) -> None:
    method = build_method(name, target_modules="q_proj,mlp.up_proj", layers_to_transform="1")
    trainable = method.trainable(method.apply(tiny_model("llama")))
    assert {key.split(".lora_")[0] for key in trainable} == {
        "base_model.model.model.layers.1.self_attn.q_proj",
        "base_model.model.model.layers.1.mlp.up_proj",
    }


def test_layers_are_kept_by_plain_peft(tmp_path: Path) -> None:
    base = tiny_model("gpt2")
    method = build_method("lora", lora_r=4, layers_to_transform=0)
    model = train(method.apply(copy.deepcopy(base)), method)
    method.save(model, tmp_path)
    plain = peft.PeftModel.from_pretrained(copy.deepcopy(base), str(tmp_path))
    assert distance(logits(plain), logits(model)) == 0
    assert not any("h.1" in key for key in method.trainable(model))


def test_rank_alpha_and_dropout_reach_the_layers() -> None:
    def layer(**options: float | bool) -> peft.tuners.lora.LoraLayer:
        model = build_method("lora", **options).apply(tiny_model("llama"))  # type: ignore[arg-type]
        return next(module for module in model.modules() if isinstance(module, peft.tuners.lora.LoraLayer))

    assert layer().scaling["default"] == 32 / 16
    scaled = layer(lora_r=4, lora_alpha=6, lora_dropout=0.25, use_rslora=True)
    assert scaled.scaling["default"] == 6 / 4**0.5
    assert scaled.lora_A["default"].weight.shape[0] == 4
    assert scaled.lora_dropout["default"].p == 0.25


def test_the_saved_configuration_is_short_and_for_inference(tmp_path: Path) -> None:
    base = tiny_model("llama")
    base.name_or_path = "someone/some-model"
    method = build_method("lora")
    method.save(method.apply(base), tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert sorted(config["target_modules"]) == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert config["base_model_name_or_path"] == "someone/some-model"
    assert config["inference_mode"] is True
    assert config["task_type"] == "CAUSAL_LM"


@pytest.mark.parametrize("family", ["smollm", "gemma3", "gpt2"])
@pytest.mark.parametrize("name", METHODS)
def test_gradient_checkpointing_gives_the_same_gradients(name: str, family: str) -> None:
    method = build_method(name, lora_r=4)
    model = method.apply(tiny_model(family)).eval()
    plain = _gradients(model, method)
    for module in model.train().modules():  # checkpointing works in training only, where GPT-2 drops out
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert distance(_gradients(model, method), plain) == 0


def test_merging_leaves_files_alone(tmp_path: Path) -> None:
    base = tiny_model("llama")
    base.save_pretrained(tmp_path / "base")
    before = (tmp_path / "base" / "model.safetensors").read_bytes()
    method = Lora(rank=4)
    method.merge(train(method.apply(AutoModelForCausalLM.from_pretrained(tmp_path / "base")), method))
    assert (tmp_path / "base" / "model.safetensors").read_bytes() == before


def test_merging_refuses_weights_that_are_not_numbers() -> None:
    method = Lora(rank=4)
    model = method.apply(tiny_model("llama"))
    next(iter(method.trainable(model).values())).data.fill_(float("nan"))
    with pytest.raises(ModelError, match="can't be merged: NaNs"):
        method.merge(model)


def test_greedy_answers_are_those_of_plain_peft(tmp_path: Path) -> None:
    base = tiny_model("smollm")
    method = build_method("lora", lora_r=4)
    method.save(train(method.apply(copy.deepcopy(base)), method), tmp_path)
    ours = load_adapter(copy.deepcopy(base), tmp_path)
    plain = peft.PeftModel.from_pretrained(copy.deepcopy(base), str(tmp_path))
    answers = [model.generate(token_ids(), max_new_tokens=12, do_sample=False) for model in (ours, plain, base)]
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])


def _gradients(model: torch.nn.Module, method: Lora) -> torch.Tensor:
    model.zero_grad()
    model(input_ids=token_ids(), labels=token_ids()).loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in method.trainable(model).values()])
