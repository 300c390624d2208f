"""QLoRA on a tiny model of every family, on every grid: it learns, plain peft reads it, merging gives the same logits, the base stays."""

from __future__ import annotations

import importlib.util
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import cast

import peft
import pytest
import torch
from peft import PeftModel
from short_training import FLOAT32_BOUND, distance, logits, token_ids, train
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tiny_models import FAMILIES, save_tiny, tiny_model
from tunesmith import hardware
from tunesmith.errors import ModelError, UsageError
from tunesmith.methods import build_method
from tunesmith.methods.adapters import load_adapter
from tunesmith.methods.added_tokens import add_token_rows, train_token_rows
from tunesmith.methods.dequantized import count_parameters, dequantize_model
from tunesmith.methods.grid import quantize
from tunesmith.methods.grid_linear import GridLinear
from tunesmith.methods.qlora import QLora, _stored_dtype
from tunesmith.models import precision
from tunesmith.models.sources import resolve_model
from tunesmith.models.structure import linear_names

QUANT_TYPES = (
    "onnx-int4",
    "onnx-int8",
    pytest.param("nf4", marks=pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes")),
)


def qlora(quant_type: str = "onnx-int4", **options: object) -> QLora:
    return cast(QLora, build_method("qlora", lora_r=4, quant_type=quant_type, **options))  # type: ignore[arg-type]


def base_of(method: QLora, folder: Path, dtype: str = "float32") -> PreTrainedModel:
    return method.load_base(resolve_model(str(folder)), dtype=dtype, device="cpu", trust_remote_code=False)


@pytest.mark.parametrize("quant_type", QUANT_TYPES)
@pytest.mark.parametrize("family", FAMILIES)
class TestEveryFamily:
    def test_it_starts_as_its_base_and_learns_with_adapters_on_every_linear_layer(
        self, quant_type: str, family: str, tmp_path: Path
    ) -> None:
        method = qlora(quant_type)
        base = base_of(method, save_tiny(family, tmp_path))
        names, before = linear_names(base), logits(base)
        frozen = {name: parameter.detach().clone() for name, parameter in dequantize_model(base).named_parameters()}
        model = method.apply(base)
        assert distance(logits(model), before) == 0
        assert set(method.trainable(model)) == {f"base_model.model.{name}.lora_{part}.default.weight" for name in names for part in "AB"}
        assert {parameter.dtype for parameter in method.trainable(model).values()} == {torch.float32}
        ids = token_ids()
        loss = model(input_ids=ids, labels=ids).loss
        train(model, method, num_steps=10)
        assert model(input_ids=ids, labels=ids).loss < 0.7 * loss
        for name, parameter in dequantize_model(model).named_parameters():
            assert torch.equal(parameter, frozen[name]), name

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_plain_peft_on_the_plain_base_gives_the_same_logits(self, quant_type: str, family: str, dtype: str, tmp_path: Path) -> None:
        method = qlora(quant_type)
        model = train(method.apply(base_of(method, save_tiny(family, tmp_path / "source"), dtype)), method)
        method.save(model, tmp_path / "adapter")
        dequantize_model(model).save_pretrained(tmp_path / "model")

        def plain_base() -> PreTrainedModel:
            return AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=getattr(torch, dtype))

        bound = FLOAT32_BOUND if dtype == "float32" else 0.0
        assert distance(logits(load_adapter(plain_base(), tmp_path / "adapter")), logits(model)) <= bound
        plain = peft.PeftModel.from_pretrained(plain_base(), str(tmp_path / "adapter"))
        assert distance(logits(plain), logits(model)) <= bound

    def test_merged_gives_the_adapters_logits(self, quant_type: str, family: str, tmp_path: Path) -> None:
        method = qlora(quant_type)
        model = train(method.apply(base_of(method, save_tiny(family, tmp_path))), method)
        merged = method.merge(model)
        assert type(merged) is type(tiny_model(family))
        assert {parameter.dtype for parameter in merged.parameters()} == {torch.float32}
        assert not any(isinstance(module, GridLinear) for module in merged.modules())
        assert distance(logits(merged), logits(model)) < FLOAT32_BOUND


@pytest.mark.parametrize("quant_type", QUANT_TYPES)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_adapter_says_nothing_of_the_quantization(quant_type: str, family: str, tmp_path: Path) -> None:
    method = qlora(quant_type)
    method.save(method.apply(base_of(method, save_tiny(family, tmp_path / "source"))), tmp_path / "adapter")
    as_lora = build_method("lora", lora_r=4)
    as_lora.save(as_lora.apply(tiny_model(family)), tmp_path / "lora")
    written, expected = (json.loads((tmp_path / name / "adapter_config.json").read_text()) for name in ("adapter", "lora"))
    for config in (written, expected):
        config.pop("base_model_name_or_path")
        config["target_modules"].sort()
    assert written == expected


@pytest.mark.parametrize("quant_type", QUANT_TYPES)
@pytest.mark.parametrize("module", ["lm_head", "embed_tokens"])
def test_modules_trained_whole_are_not_quantized(module: str, quant_type: str, tmp_path: Path) -> None:
    method = qlora(quant_type, modules_to_save=module)
    base = base_of(method, save_tiny("smollm", tmp_path / "source"))
    assert isinstance(base.get_output_embeddings(), nn.Linear)
    assert torch.equal(base.get_output_embeddings().weight, tiny_model("smollm").get_output_embeddings().weight)
    model = train(method.apply(base), method)
    assert any("embed_tokens" in name for name in method.trainable(model))
    method.save(model, tmp_path / "adapter")
    plain = load_adapter(dequantize_model(model), tmp_path / "adapter")
    assert distance(logits(plain), logits(model)) < FLOAT32_BOUND
    assert distance(logits(method.merge(model)), logits(model)) < FLOAT32_BOUND


def test_an_adapter_on_a_tied_output_layer_is_merged_untied(tmp_path: Path) -> None:
    method = qlora(target_modules="q_proj,lm_head")
    model = train(method.apply(base_of(method, save_tiny("smollm", tmp_path))), method)
    merged = method.merge(model)
    assert distance(logits(merged), logits(model)) < FLOAT32_BOUND
    assert merged.lm_head.weight is not merged.get_input_embeddings().weight


def test_merging_a_base_without_adapter_dequantizes_it(tmp_path: Path) -> None:
    method = qlora()
    base = base_of(method, save_tiny("llama", tmp_path))
    assert distance(logits(method.merge(base)), logits(base)) < FLOAT32_BOUND


@pytest.mark.parametrize("quant_type", QUANT_TYPES)
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(use_reentrant: bool, quant_type: str, tmp_path: Path) -> None:
    method = qlora(quant_type)
    model = cast(PeftModel, method.apply(base_of(method, save_tiny("smollm", tmp_path))))
    model.train()
    found = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})
            model.enable_input_require_grads()
        model(input_ids=token_ids(), labels=token_ids()).loss.backward()
        found.append({name: parameter.grad.clone() for name, parameter in method.trainable(model).items() if parameter.grad is not None})
        model.zero_grad()
    assert found[0].keys() == found[1].keys() == method.trainable(model).keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-5, atol=1e-6)


def test_tokens_added_to_the_tokenizer_train_with_nf4_and_are_refused_on_the_grid(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes (extra 'qlora')")
    folder = save_tiny("smollm", tmp_path)
    with pytest.raises(ModelError, match="can't get rows for new tokens"):
        add_token_rows(base_of(qlora(), folder), 390)
    method = qlora("nf4")
    base = base_of(method, folder)
    method = cast(QLora, train_token_rows(method, add_token_rows(base, 390)))
    model = train(method.apply(base), method)
    assert distance(logits(method.merge(model)), logits(model)) < FLOAT32_BOUND


def test_auto_is_nf4_on_cuda_and_the_grid_that_ships_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for device, expected in (("cpu", "onnx-int4"), ("mps", "onnx-int4"), ("cuda:1", "nf4")):
        monkeypatch.setattr(precision, "choose_device", lambda asked, chosen=device: (chosen, None))
        assert qlora("auto").quant_type_on("auto") == expected
        assert qlora("nf4").quant_type_on("auto") == "nf4"


def test_the_manifest_gets_the_grid_of_the_base_that_was_loaded(tmp_path: Path) -> None:
    method = qlora("auto")
    base_of(method, save_tiny("llama", tmp_path))
    assert method.grid() == {
        "quant_type": "onnx-int4",
        "operator": "MatMulNBits",
        "bits": 4,
        "block_size": 32,
        "symmetric": True,
        "zero_point": 8,
        "rounding": "rtn",
        "scales": "float32",
        "layers": 15,
        "excluded": ["model.embed_tokens"],
    }
    assert json.loads(json.dumps(method.grid())) == method.grid()
    assert "layers" not in cast(dict[str, object], qlora().grid())
    eight = cast(dict[str, object], qlora("onnx-int8").grid())
    assert (eight["quant_type"], eight["bits"], eight["zero_point"]) == ("onnx-int8", 8, 128)


def test_the_size_is_said_and_what_is_used_instead_of_a_dtype(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="tunesmith")
    base_of(qlora(), save_tiny("smollm", tmp_path), dtype="float16")
    assert "Asked for float16, which CPUs do not train in" in caplog.text
    assert "The frozen base is on the int4 grid of ONNX (symmetric, blocks of 32): 15 layers, 0 MB instead of 0." in caplog.text


def test_a_checkpoint_is_quantized_as_it_is_stored(tmp_path: Path) -> None:
    stored = tiny_model("llama").bfloat16()
    stored.save_pretrained(tmp_path)
    loaded = base_of(qlora(), tmp_path).model.layers[0].mlp.up_proj
    packed, scales = quantize(stored.model.layers[0].mlp.up_proj.weight)
    assert torch.equal(loaded.weight, packed)
    assert torch.equal(loaded.scales, scales)


@pytest.mark.parametrize(("bf16", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_a_bfloat16_checkpoint_is_not_blown_up_where_that_is_a_good_format(
    bf16: bool, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = hardware.detect()
    monkeypatch.setattr(hardware, "detect", lambda: replace(here, bf16=bf16))
    tiny_model("llama").bfloat16().save_pretrained(tmp_path)
    assert _stored_dtype(resolve_model(str(tmp_path))) == expected
    save_tiny("llama", tmp_path / "floats")
    assert _stored_dtype(resolve_model(str(tmp_path / "floats"))) == "float32"


def test_a_dtype_that_rounds_does_not_move_the_grid(tmp_path: Path) -> None:
    folder = save_tiny("gpt2", tmp_path)
    in_float, in_half = (dequantize_model(base_of(qlora(), folder, dtype)) for dtype in ("float32", "bfloat16"))
    for (name, ours), (_, theirs) in zip(in_half.named_parameters(), in_float.named_parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    assert any(isinstance(module, Conv1D) for module in in_half.modules())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quant_type": "onnx_int4"}, "known: auto, nf4, onnx-int4, onnx-int8, gguf-q4_0. Did you mean 'onnx-int4'?"),
        ({"init_lora_weights": "pissa"}, "changes the frozen weights, which are quantized with --method qlora"),
        ({"init_lora_weights": "olora"}, "changes the frozen weights"),
        ({"lora_r": 0}, "--lora_r must be 1 or more"),
    ],
)
def test_values_that_cannot_be_right_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        build_method("qlora", **options)  # type: ignore[arg-type]
    assert message in str(raised.value)


@pytest.mark.parametrize("quant_type", QUANT_TYPES)
@pytest.mark.parametrize("family", ["smollm", "llama", "gpt2"])
def test_packed_weights_are_counted_one_by_one(quant_type: str, family: str, tmp_path: Path) -> None:
    method, original = qlora(quant_type), tiny_model(family)
    base = base_of(method, save_tiny(family, tmp_path))
    num_parameters = sum(parameter.numel() for parameter in original.parameters())
    assert count_parameters(base) == count_parameters(original) == num_parameters
    model = method.apply(base)
    assert count_parameters(model) == num_parameters + sum(parameter.numel() for parameter in method.trainable(model).values())


def test_quant_type_has_no_effect_with_lora() -> None:
    with pytest.raises(UsageError, match="--quant_type has no effect with --method lora"):
        build_method("lora", quant_type="nf4")


def test_an_unknown_module_to_save_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no module is named lm_heat"):
        base_of(qlora(modules_to_save="lm_heat"), save_tiny("llama", tmp_path))
