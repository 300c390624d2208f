"""What a path stands for, which template belongs to it, and that the loaded model answers as what was saved."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import save_file

from tiny_models import save_tiny, tiny_model, tiny_tokenizer
from tunesmith.artifact import Manifest, write_manifest
from tunesmith.data.templates import Template
from tunesmith.errors import ModelError, UsageError
from tunesmith.methods import build_method
from tunesmith.methods.protocol import Method
from tunesmith.models.save import place_model
from tunesmith.runtime.load import load
from tunesmith.runtime.low_rank import LowRankLinear
from tunesmith.runtime.places import find_places, grid_warning, stored_template
from tunesmith.runtime.torch_runtime import TorchRuntime
from tunesmith.runtime.untuned import untuned_template

TEMPLATE = Template(kind="text", text="Text: {text}\nLabel: {label}", answer_column="label", stop_tokens=("<|im_end|>",))
PROMPTS = ["The train leaves", "Could you?", "happy"]


def make_run(folder: Path, method_name: str = "lora", *, grid: dict[str, str] | None = None) -> tuple[Path, torch.nn.Module]:
    """Write a run's folder as training does; returns it and the trained model, whose adapter changes the logits clearly."""
    base = save_tiny("llama", folder / "base")
    model = tiny_model("llama")
    model.name_or_path = str(base)
    method: Method = build_method(method_name)
    trained = method.apply(model)
    with torch.no_grad():
        for index, parameter in enumerate(method.trainable(trained).values()):
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
    run = folder / "out"
    method.save(trained, run / ("adapter" if method.saves_adapter else "model"))
    tiny_tokenizer().save_pretrained(run / ("adapter" if method.saves_adapter else "model"))
    if method.saves_adapter:
        (run / "model").mkdir()
        place_model(base, run / "model")
        (run / "adapter" / "template.json").write_text(json.dumps(TEMPLATE.to_dict()))
    write_manifest(run, Manifest(kind="finetune", method=method_name, base=str(base), template=TEMPLATE.to_dict(), grid=grid))
    return run, trained


@pytest.fixture(scope="module")
def lora_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run and its answers."""
    run, model = make_run(tmp_path_factory.mktemp("lora"))
    return run, texts(TorchRuntime(model, tiny_tokenizer(), TEMPLATE))


def texts(runtime: object) -> list[str]:
    assert isinstance(runtime, TorchRuntime)
    return [answer.text for answer in runtime.generate(PROMPTS, max_new_tokens=12)]


def load32(path: Path, **options: object) -> TorchRuntime:
    runtime = load(path, dtype="float32", device="cpu", **options)  # type: ignore[arg-type]
    assert isinstance(runtime, TorchRuntime)
    return runtime


class TestRun:
    def test_every_way_to_name_a_run_answers_alike(self, lora_run: tuple[Path, list[str]]) -> None:
        run, expected = lora_run
        for runtime in (
            load32(run),
            load32(run / "model", adapter_path=run / "adapter"),
            load32(run / "model", adapter_path=run),
            load32(run / "adapter"),
            load32(run.parent / "base", adapter_path=run / "adapter"),
        ):
            assert runtime.template == TEMPLATE
            assert texts(runtime) == expected

    def test_the_base_alone_answers_otherwise_but_by_the_same_template(self, lora_run: tuple[Path, list[str]]) -> None:
        run, expected = lora_run
        runtime = load32(run / "model")
        assert runtime.template == TEMPLATE
        assert texts(runtime) != expected

    def test_an_adapter_folder_moved_away_is_enough(self, lora_run: tuple[Path, list[str]], tmp_path: Path) -> None:
        run, expected = lora_run
        shutil.copytree(run / "adapter", tmp_path / "mine")
        runtime = load32(tmp_path / "mine")
        assert runtime.template == TEMPLATE
        assert texts(runtime) == expected

    def test_a_run_moved_away_uses_the_base_beside_it(self, lora_run: tuple[Path, list[str]], tmp_path: Path) -> None:
        run, expected = lora_run
        shutil.copytree(run, tmp_path / "moved")
        config = tmp_path / "moved" / "adapter" / "adapter_config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": "/nowhere/base"}))
        assert texts(load32(tmp_path / "moved" / "adapter")) == texts(load32(tmp_path / "moved")) == expected

    def test_in_float32_lora_is_merged_in_bfloat16_it_stays_and_is_light(self, lora_run: tuple[Path, list[str]]) -> None:
        run, _ = lora_run
        merged = load32(run).model
        assert not isinstance(merged, PeftModel)
        assert not any(isinstance(module, LowRankLinear) for module in merged.modules())
        runtime = load(run, dtype="bfloat16", device="cpu")
        assert isinstance(runtime, TorchRuntime)
        assert isinstance(runtime.model, PeftModel)
        light = [module for module in runtime.model.modules() if isinstance(module, LowRankLinear)]
        assert len(light) == 14
        assert all(module.lora_a.dtype == torch.bfloat16 for module in light)
        assert len(texts(runtime)) == 3

    @pytest.mark.parametrize("method", ["dora", "full", "adapter"])
    def test_other_methods(self, tmp_path: Path, method: str) -> None:
        run, model = make_run(tmp_path, method)
        assert texts(load32(run)) == texts(TorchRuntime(model, tiny_tokenizer(), TEMPLATE))

    def test_a_checkpoint_answers_with_its_own_weights(self, lora_run: tuple[Path, list[str]], tmp_path: Path) -> None:
        run = tmp_path / "run"
        shutil.copytree(lora_run[0], run)
        _, model = make_run(tmp_path / "other")
        earlier = {name: parameter * 0.5 for name, parameter in model.named_parameters() if "lora_" in name}
        checkpoint = run / "checkpoints" / "checkpoint-7"
        checkpoint.mkdir(parents=True)
        save_file(earlier, checkpoint / "trainable.safetensors")
        with torch.no_grad():
            for name, tensor in earlier.items():
                model.get_parameter(name).copy_(tensor)
        runtime = load32(checkpoint)
        assert runtime.template == TEMPLATE
        assert texts(runtime) == texts(TorchRuntime(model, tiny_tokenizer(), TEMPLATE)) != lora_run[1]
        with pytest.raises(UsageError, match="no adapter fits on it"):
            load32(checkpoint, adapter_path=run / "adapter")
        save_file({name: tensor[:1] for name, tensor in earlier.items()}, checkpoint / "trainable.safetensors")
        with pytest.raises(ModelError, match="doesn't fit the run's model"):
            load32(checkpoint)
        (run / "manifest.json").unlink()
        with pytest.raises(ModelError, match=r"not finished.*--resume"):
            load32(checkpoint)


class TestPlaces:
    def test_an_adapter_that_names_no_base(self, lora_run: tuple[Path, list[str]], tmp_path: Path) -> None:
        shutil.copytree(lora_run[0] / "adapter", tmp_path / "mine")
        config = tmp_path / "mine" / "adapter_config.json"
        content = json.loads(config.read_text())
        for named, message in ((None, "does not say which model"), (str(tmp_path / "gone"), "trained on .*gone, which can't be used")):
            config.write_text(json.dumps({**content, "base_model_name_or_path": named}))
            with pytest.raises(ModelError, match=message) as error:
                find_places(tmp_path / "mine")
            assert "adapter_path" in str(error.value)
        config.write_text("{")
        with pytest.raises(ModelError, match="can't be read"):
            find_places(tmp_path / "mine")

    def test_adapters_that_are_none_or_two(self, lora_run: tuple[Path, list[str]], tmp_path: Path) -> None:
        run, _ = lora_run
        with pytest.raises(ModelError, match="does not exist"):
            find_places(run / "model", adapter_path=tmp_path / "gone")
        with pytest.raises(ModelError, match=r"has neither adapter_config.json nor"):
            find_places(run / "model", adapter_path=tmp_path)
        with pytest.raises(UsageError, match="two adapters"):
            find_places(run / "adapter", adapter_path=run / "adapter")

    def test_an_adapter_of_a_grid_on_another_base_is_warned_of(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        run, _ = make_run(tmp_path, grid={"quant_type": "onnx-int4"})
        for path, adapter in ((run, None), (run / "model", run / "adapter"), (run / "adapter", None)):
            assert grid_warning(find_places(path, adapter_path=adapter)) is None
        with caplog.at_level(logging.WARNING):
            load32(run.parent / "base", adapter_path=run / "adapter")
        assert "trained on the onnx-int4 grid" in caplog.text
        assert str(run / "model") in caplog.text


class TestTemplate:
    def test_beside_the_weights_comes_before_the_manifest(self, lora_run: tuple[Path, list[str]], tmp_path: Path) -> None:
        run = tmp_path / "run"
        shutil.copytree(lora_run[0], run)
        other = replace(TEMPLATE, text="{text} {label}")
        (run / "adapter" / "template.json").write_text(json.dumps(other.to_dict()))
        assert stored_template(find_places(run)) == other
        (run / "adapter" / "template.json").unlink()
        assert stored_template(find_places(run)) == TEMPLATE
        (run / "adapter" / "template.json").write_text("[]")
        with pytest.raises(ModelError, match=r"template\.json can't be read"):
            stored_template(find_places(run))

    def test_an_untuned_chat_model_has_its_own(self, tmp_path: Path) -> None:
        runtime = load32(save_tiny("llama", tmp_path / "base"))
        assert runtime.template.kind == "chat"
        assert runtime.template.stop_tokens == ("<|im_end|>",)

    def test_stop_tokens_of_the_generation_settings_count(self) -> None:
        model, tokenizer = tiny_model("llama"), tiny_tokenizer()
        model.generation_config.eos_token_id = [tokenizer.convert_tokens_to_ids(name) for name in ("<|endoftext|>", "<|im_end|>")]
        assert untuned_template(tokenizer, model).stop_tokens == ("<|im_end|>", "<|endoftext|>")

    def test_a_model_without_any_continues_plain_text_and_that_is_said(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        folder = save_tiny("gpt2", tmp_path / "base")
        tiny_tokenizer(chat_template=None).save_pretrained(folder)
        (folder / "chat_template.jinja").unlink(missing_ok=True)
        with caplog.at_level(logging.INFO):
            runtime = load32(folder)
        assert "continued as plain text" in caplog.text
        assert runtime.template.prompt("The train", runtime.tokenizer) == "The train"
