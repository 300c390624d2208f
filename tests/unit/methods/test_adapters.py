"""Loading, merging and removing adapters of any kind, and what is said when that can't be."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import peft
import pytest
from short_training import FLOAT32_BOUND, distance, logits, train, weights_hash

from tiny_models import tiny_model
from tunesmith.errors import ModelError
from tunesmith.methods import build_method
from tunesmith.methods.adapters import load_adapter, merge_adapter, remove_adapter


def save_lora(folder: Path, family: str = "llama", **changes: int) -> Path:
    method = build_method("lora", lora_r=4)
    method.save(train(method.apply(tiny_model(family, **changes)), method), folder)
    return folder


def test_frozen_unless_it_is_to_be_trained(tmp_path: Path) -> None:
    save_lora(tmp_path)
    frozen = load_adapter(tiny_model("llama").train(), tmp_path)
    assert not frozen.training
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    trainable = load_adapter(tiny_model("llama"), tmp_path, trainable=True)
    assert {name for name, parameter in trainable.named_parameters() if parameter.requires_grad} == {
        name for name, _ in trainable.named_parameters() if ".lora_" in name
    }


@pytest.mark.parametrize("name", ["lora", "dora", "adapter"])
def test_removing_gives_the_base_back_bit_by_bit(name: str, tmp_path: Path) -> None:
    base = tiny_model("smollm")
    before, expected = weights_hash(base), logits(base)
    method = build_method(name)
    method.save(train(method.apply(copy.deepcopy(base)), method), tmp_path)
    adapted = load_adapter(base, tmp_path)
    assert distance(logits(adapted), expected) > 0.1
    plain = remove_adapter(adapted)
    assert weights_hash(plain) == before
    assert distance(logits(plain), expected) == 0


def test_loading_says_nothing(tmp_path: Path) -> None:
    save_lora(tmp_path, "gpt2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_adapter(tiny_model("gpt2"), tmp_path)


def test_adapters_made_by_others_load_and_merge(tmp_path: Path) -> None:
    base = tiny_model("llama")
    other = peft.get_peft_model(
        copy.deepcopy(base), peft.IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj", "v_proj"], feedforward_modules=[])
    )
    for name, parameter in other.named_parameters():
        if "ia3_l" in name:
            parameter.data.fill_(1.5)
    other.save_pretrained(tmp_path)
    ours = load_adapter(base, tmp_path)
    expected = logits(other.eval())
    assert distance(logits(ours), expected) == 0
    assert distance(logits(merge_adapter(ours)), expected) < FLOAT32_BOUND


def test_prompt_tuning_loads_but_has_nothing_to_merge(tmp_path: Path) -> None:
    base = tiny_model("llama")
    expected = logits(base)
    peft.get_peft_model(copy.deepcopy(base), peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)).save_pretrained(tmp_path)
    model = load_adapter(base, tmp_path)
    with pytest.raises(ModelError, match="PROMPT_TUNING can't be merged"):
        merge_adapter(model)
    assert distance(logits(remove_adapter(model)), expected) == 0


def test_a_plain_model_merges_into_itself() -> None:
    model = tiny_model("llama")
    assert merge_adapter(model) is model


def test_no_adapter_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no adapter in .*nowhere.*no such folder"):
        load_adapter(tiny_model("llama"), tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ModelError, match=r"found: notes.txt"):
        load_adapter(tiny_model("llama"), tmp_path)


def test_weights_missing_or_broken(tmp_path: Path) -> None:
    weights = save_lora(tmp_path) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match="can't be put on this model"):
        load_adapter(tiny_model("llama"), tmp_path)
    weights.unlink()
    with pytest.raises(ModelError, match=r"but no weights: adapter_model.safetensors is missing"):
        load_adapter(tiny_model("llama"), tmp_path)


@pytest.mark.parametrize(
    ("trained_on", "changes", "words"),
    [
        ("gpt2", {}, "can't be put on this model: Target modules"),
        ("llama", {"hidden_size": 64}, "can't be put on this model: Error.* size mismatch"),
        ("llama", {"num_hidden_layers": 3}, r"and this model differ in base_model\.model\.model\.layers\.2"),
        ("llama", {"num_hidden_layers": 1}, r"and this model differ in base_model\.model\.model\.layers\.1"),
    ],
)
def test_an_adapter_of_another_model(trained_on: str, changes: dict[str, int], words: str, tmp_path: Path) -> None:
    save_lora(tmp_path, trained_on, **changes)
    with pytest.raises(ModelError, match=words) as error:
        load_adapter(tiny_model("llama"), tmp_path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
