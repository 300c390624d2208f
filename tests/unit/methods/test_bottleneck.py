"""Bottleneck adapters on a tiny model of every family: the identity at the start, inside the residual branches, loadable, removable."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from short_training import distance, in_bfloat16, logits, token_ids, train, weights_hash
from torch import nn

from tiny_models import FAMILIES, tiny_model
from tunesmith.errors import ModelError
from tunesmith.methods import build_method
from tunesmith.methods.adapters import load_adapter, remove_adapter
from tunesmith.methods.bottleneck import Bottleneck
from tunesmith.methods.bottleneck_layers import PLACEMENTS, BottleneckLayer, adapter_layers
from tunesmith.models.structure import decoder_blocks

HOSTS = {
    "gemma2": ["post_attention_layernorm", "post_feedforward_layernorm"],
    "gemma3": ["post_attention_layernorm", "post_feedforward_layernorm"],
    "gpt2": ["attn", "mlp"],
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("placement", PLACEMENTS)
class TestEveryFamily:
    def test_starts_as_the_base_and_trains_adapters_only(self, placement: str, family: str) -> None:
        base = tiny_model(family)
        before, untouched = logits(base), weights_hash(base)
        method = Bottleneck(reduction_factor=4, placement=placement)
        model = method.apply(base)
        assert distance(logits(model), before) == 0
        hosts = HOSTS.get(family, ["self_attn", "mlp"])[0 if placement == "houlsby" else 1 :]
        parts = ("down.weight", "down.bias", "up.weight", "up.bias")
        expected = {f"{name}.{host}.bottleneck.{part}" for name, _ in decoder_blocks(model) for host in hosts for part in parts}
        assert set(method.trainable(model)) == expected
        assert {tuple(layer.down.weight.shape) for layer in adapter_layers(model).values()} == {(8, 32)}
        train(model, method)
        assert distance(logits(model), before) > 0.2
        assert weights_hash(remove_adapter(model)) == untouched
        assert distance(logits(base), before) == 0

    def test_reloads_the_same(self, placement: str, family: str, tmp_path: Path) -> None:
        base = tiny_model(family)
        method = Bottleneck(reduction_factor=4, placement=placement)
        model = train(method.apply(copy.deepcopy(base)), method)
        method.save(model, tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bottleneck_adapter.safetensors", "bottleneck_config.json"]
        reloaded = load_adapter(copy.deepcopy(base), tmp_path)
        assert distance(logits(reloaded), logits(model)) == 0
        assert not any(parameter.requires_grad for parameter in reloaded.parameters())
        assert set(method.trainable(load_adapter(base, tmp_path, trainable=True))) == set(method.trainable(model))

    def test_bfloat16_base_with_float32_adapters(self, placement: str, family: str, tmp_path: Path) -> None:
        base = in_bfloat16(tiny_model(family))
        method = Bottleneck(reduction_factor=4, placement=placement)
        model = method.apply(copy.deepcopy(base))
        assert distance(logits(model), logits(base)) == 0
        assert {parameter.dtype for parameter in method.trainable(model).values()} == {torch.float32}
        train(model, method)
        assert model(input_ids=token_ids()).logits.dtype == torch.bfloat16
        method.save(model, tmp_path)
        assert distance(logits(load_adapter(base, tmp_path)), logits(model)) == 0

    def test_generating_with_a_cache_is_generating_without(self, placement: str, family: str) -> None:
        method = Bottleneck(reduction_factor=4, placement=placement)
        model = train(method.apply(tiny_model(family)), method)
        cached, plain = (model.generate(token_ids(), max_new_tokens=8, do_sample=False, use_cache=use) for use in (True, False))
        assert torch.equal(cached, plain)

    def test_gradient_checkpointing_gives_the_same_gradients(self, placement: str, family: str) -> None:
        method = Bottleneck(reduction_factor=4, placement=placement)
        model = train(method.apply(tiny_model(family)), method, num_steps=1)
        plain = _gradients(model, method)
        for module in model.train().modules():  # checkpointing works in training only, where GPT-2 drops out
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        assert distance(_gradients(model, method), plain) == 0
        assert plain.abs().max() > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_the_adapter_sits_right_before_the_residual_addition(family: str) -> None:
    """With ``up`` answering a constant, a block's output moves by exactly that constant, whatever norms the branch ends with."""
    model = Bottleneck(placement="pfeiffer").apply(tiny_model(family))
    name, block = decoder_blocks(model)[-1]
    outputs: list[torch.Tensor] = []
    block.register_forward_hook(lambda _, __, output: outputs.append(output[0] if isinstance(output, tuple) else output))
    logits(model)
    layer = next(layer for key, layer in adapter_layers(model).items() if key.startswith(name))
    layer.up.bias.data.fill_(0.5)
    logits(model)
    torch.testing.assert_close(outputs[1], outputs[0] + 0.5)


def test_the_layer_is_the_formula() -> None:
    torch.manual_seed(0)
    layer = BottleneckLayer(32, 16, "houlsby")
    hidden = torch.randn(2, 5, 32)
    assert torch.equal(layer(hidden), hidden)
    nn.init.normal_(layer.up.weight)
    nn.init.normal_(layer.down.bias)
    by_hand = hidden + nn.functional.silu(hidden @ layer.down.weight.T + layer.down.bias) @ layer.up.weight.T
    torch.testing.assert_close(layer(hidden), by_hand)
    assert BottleneckLayer(32, 64, "pfeiffer").down.weight.shape == (1, 32)


def test_a_copy_of_the_model_is_a_model_of_its_own() -> None:
    method = Bottleneck(reduction_factor=4)
    model = train(method.apply(tiny_model("llama")), method)
    expected = logits(model)
    twin = copy.deepcopy(model)
    assert distance(logits(twin), expected) == 0
    remove_adapter(twin)
    assert distance(logits(twin), logits(tiny_model("llama"))) == 0
    assert distance(logits(model), expected) == 0


def test_merging_is_refused_with_the_reason() -> None:
    method = Bottleneck()
    with pytest.raises(ModelError, match="can't be merged: it has a nonlinearity"):
        method.merge(method.apply(tiny_model("llama")))


def test_a_second_adapter_is_refused(tmp_path: Path) -> None:
    method = Bottleneck()
    model = method.apply(tiny_model("llama"))
    method.save(model, tmp_path)
    with pytest.raises(ModelError, match="carries a bottleneck adapter already"):
        load_adapter(model, tmp_path)


def test_an_adapter_of_another_model_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    method = Bottleneck(reduction_factor=4)
    method.save(method.apply(tiny_model("llama", num_hidden_layers=3)), tmp_path)
    model = tiny_model("llama")
    before = weights_hash(model)
    with pytest.raises(ModelError, match=r"doesn't fit this model: 8 weights differ, the first is model\.layers\.2"):
        load_adapter(model, tmp_path)
    assert weights_hash(model) == before


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("bottleneck_config.json", "{"),
        ("bottleneck_config.json", '{"placement": "houlsby"}'),
        ("bottleneck_config.json", '{"placement": "everywhere", "reduction_factor": 4}'),
        ("bottleneck_config.json", '{"placement": "houlsby", "reduction_factor": "many"}'),
        ("bottleneck_adapter.safetensors", "broken"),
        ("bottleneck_adapter.safetensors", None),
    ],
)
def test_a_broken_folder_is_one_error(file: str, content: str | None, tmp_path: Path) -> None:
    method = Bottleneck()
    method.save(method.apply(tiny_model("llama")), tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content)
    with pytest.raises(ModelError, match="can't be read"):
        load_adapter(tiny_model("llama"), tmp_path)


def test_the_saved_configuration_says_what_it_is(tmp_path: Path) -> None:
    model = tiny_model("llama")
    model.name_or_path = "someone/some-model"
    method = build_method("adapter", adapter_reduction_factor=8, adapter_placement="pfeiffer")
    method.save(method.apply(model), tmp_path)
    config = json.loads((tmp_path / "bottleneck_config.json").read_text())
    assert config == {"reduction_factor": 8, "placement": "pfeiffer", "base_model_name_or_path": "someone/some-model"}


def _gradients(model: nn.Module, method: Bottleneck) -> torch.Tensor:
    model.zero_grad()
    model(input_ids=token_ids(), labels=token_ids()).loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in method.trainable(model).values()])
