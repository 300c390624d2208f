"""Loading: every family, every precision, mapped weights, and refusals in words."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel, PreTrainedModel

from tiny_models import FAMILIES, save_tiny, tiny_model, tiny_tokenizer
from tunesmith.errors import ModelError, UsageError
from tunesmith.models.load import load_model, load_tokenizer
from tunesmith.models.sources import ModelSource, resolve_model

INPUT = torch.arange(5, 25).view(2, 10)


@pytest.fixture
def folder(llama_folder: Path, tmp_path: Path) -> Path:
    """A copy of a whole model, to be broken."""
    return shutil.copytree(llama_folder, tmp_path / "model")


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(INPUT).logits


def change_config(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


def refused(folder: Path, **options: bool) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(resolve_model(folder), dtype="float32", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_loaded_model_computes_what_the_saved_one_did(family: str, tmp_path: Path) -> None:
    loaded = load_model(resolve_model(save_tiny(family, tmp_path)), dtype="float32", device="cpu")
    assert torch.equal(logits(loaded), logits(tiny_model(family)))
    assert not loaded.training


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_requested_dtype(folder: Path, dtype: str) -> None:
    model = load_model(resolve_model(folder), dtype=dtype, device="cpu")
    assert {weight.dtype for weight in model.parameters()} == {getattr(torch, dtype)}


def test_impossible_wishes_are_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_model(resolve_model(folder), dtype="float16", device="cpu")
    assert "Asked for float16, which CPUs do not train in" in caplog.text


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_missing_gpu_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load_model(resolve_model(folder), device="cuda").device.type != "cuda"
    assert "this machine has 0 CUDA devices" in caplog.text


def test_unknown_dtype_and_device(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown dtype 'bfloat61'.*Did you mean 'bfloat16'"):
        load_model(resolve_model(folder), dtype="bfloat61")
    with pytest.raises(UsageError, match=r"unknown device 'cudaa'.*Did you mean 'cuda'"):
        load_model(resolve_model(folder), device="cudaa")


@pytest.mark.skipif(not psutil.LINUX, reason="/proc is on Linux only")
def test_weights_are_mapped_from_the_file(folder: Path) -> None:
    model = load_model(resolve_model(folder), dtype="float32", device="cpu")
    address = next(model.parameters()).data_ptr()
    maps = [line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines()]
    holding = [line for line in maps if int(line[0].split("-")[0], 16) <= address < int(line[0].split("-")[1], 16)]
    assert holding[0][5].endswith("model.safetensors")


def test_pickled_weights_are_read_and_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tunesmith")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert torch.equal(logits(load_model(resolve_model(folder), dtype="float32")), logits(tiny_model("llama")))
    assert "only tensors are read from them, no code" in caplog.text


class Evil:
    """Runs code when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("evil"),)


def test_pickled_code_does_not_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    torch.save({"lm_head.weight": Evil()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "are damaged, or hold more than tensors" in refused(folder)
    assert not Path("evil").exists()


def test_missing_weights_are_not_made_up(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert "1 weights of" in (text := refused(folder))
    assert "are missing: model.layers.1.mlp.up_proj.weight" in text


def test_weights_of_another_shape(folder: Path) -> None:
    change_config(folder, intermediate_size=96)
    text = refused(folder)
    assert "6 weights of" in text
    assert "have another shape than config.json says: model.layers.0.mlp.down_proj.weight" in text


def test_weights_of_another_model(folder: Path) -> None:
    change_config(folder, model_type="gpt2", architectures=["GPT2LMHeadModel"])
    assert "are missing: transformer.h.0." in refused(folder)


def test_unknown_architecture(folder: Path) -> None:
    change_config(folder, model_type="llama9")
    assert "llama9" in refused(folder)


def test_encoder_decoder(folder: Path) -> None:
    change_config(folder, model_type="t5", architectures=["T5ForConditionalGeneration"])
    assert "can't be loaded: Unrecognized configuration class" in refused(folder)


def test_code_of_the_model_runs_only_when_trusted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    change_config(folder, model_type="own", auto_map={"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"})
    (folder / "own.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    text = refused(folder)
    assert "which would run on this machine with all your rights" in text
    assert "add --trust_remote_code" in text
    model = load_model(resolve_model(folder), dtype="float32", trust_remote_code=True)
    assert type(model).__name__ == "OwnModel"
    assert torch.equal(logits(model), logits(tiny_model("llama")))
    assert "Running the Python code that comes with" in caplog.text


def test_code_of_the_tokenizer_runs_only_when_trusted(folder: Path) -> None:
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"auto_map": {"AutoTokenizer": [None, "own.OwnTokenizer"]}, "tokenizer_class": "OwnTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "own.py").write_text(
        "from transformers import PreTrainedTokenizerFast\nclass OwnTokenizer(PreTrainedTokenizerFast):\n    pass\n"
    )
    change_config(folder, model_type="own", auto_map={"AutoConfig": "config.OwnConfig"})
    (folder / "config.py").write_text("from transformers import LlamaConfig\nclass OwnConfig(LlamaConfig):\n    model_type = 'own'\n")
    with pytest.raises(ModelError, match="add --trust_remote_code"):
        load_tokenizer(resolve_model(folder))
    assert type(load_tokenizer(resolve_model(folder), trust_remote_code=True)).__name__ == "OwnTokenizer"


def test_encoder(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(vocab_size=100, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    BertForMaskedLM(config).save_pretrained(tmp_path)
    text = refused(tmp_path)
    assert "is an encoder (bert)" in text
    assert "Give a decoder" in text


def test_classification_head_is_new_and_its_body_is_not(folder: Path) -> None:
    model = load_model(resolve_model(folder), dtype="float32", task="text-classification")
    assert type(model).__name__ == "LlamaForSequenceClassification"
    assert torch.equal(model.model.embed_tokens.weight, tiny_model("llama").model.embed_tokens.weight)


def test_run_gives_its_base_model(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "run" / "model")
    source = ModelSource("run", "run", tmp_path / "run")
    assert torch.equal(logits(load_model(source, dtype="float32")), logits(tiny_model("llama")))
    assert len(load_tokenizer(source)) == 384


def test_nothing_of_transformers_reaches_the_user(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_model(resolve_model(folder), dtype="bfloat16", task="text-classification")
    load_tokenizer(resolve_model(folder))
    assert capfd.readouterr() == ("", "")


def test_pad_token_of_its_own_is_kept(folder: Path) -> None:
    assert load_tokenizer(resolve_model(folder)).pad_token == "<|endoftext|>"


def test_end_of_text_stands_in_for_a_missing_pad_token(folder: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    loaded = load_tokenizer(resolve_model(folder))
    assert loaded.pad_token == loaded.eos_token == "<|im_end|>"


def test_saved_tokenizer_has_no_arguments_of_the_call(folder: Path, tmp_path: Path) -> None:
    load_tokenizer(resolve_model(folder)).save_pretrained(tmp_path / "saved")
    assert not {"is_local", "local_files_only"} & set(json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text()))


def test_missing_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer of .* (can't be loaded|is empty)"):
        load_tokenizer(resolve_model(folder))


def test_broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"the tokenizer of .* can't be loaded"):
        load_tokenizer(resolve_model(folder))


def test_gguf_weights_are_dense_and_trainable(tmp_path: Path) -> None:
    file = write_gpt2_gguf(tmp_path / "tiny.gguf")
    model = load_model(resolve_model(file), dtype="float32")
    assert isinstance(model, GPT2LMHeadModel)
    assert not model.is_quantized  # transformers neither trains nor saves what it takes for quantized
    assert getattr(model.config, "quantization_config", None) is None
    assert getattr(model, "hf_quantizer", None) is None
    model.save_pretrained(tmp_path / "saved")
    assert torch.allclose(logits(model), logits(tiny_model("gpt2", n_positions=1024)), atol=1e-5)


def write_gpt2_gguf(file: Path) -> Path:
    """Write the tiny GPT-2 as llama.cpp's converter does, in float32."""
    import gguf

    # 1,024 positions: transformers' reader of GGUF files ignores the number for GPT-2 and takes its default
    model, tokenizer = tiny_model("gpt2", n_positions=1024), tiny_tokenizer()
    writer, config = gguf.GGUFWriter(file, "gpt2"), model.config
    writer.add_block_count(config.n_layer)
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokenizer.convert_ids_to_tokens(range(config.vocab_size)))
    writer.add_token_merges([])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, config.n_layer)
    for name, weight in model.state_dict().items():
        if name != "lm_head.weight":
            transposed = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
            values = (weight.T if transposed else weight).contiguous().numpy()
            writer.add_tensor(names.get_name(name, (".weight", ".bias")), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
