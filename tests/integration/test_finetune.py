"""The main job through the public command: what comes out, for every method, and that the field's other tools read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from commands import command

pytestmark = pytest.mark.integration

METHODS = {
    "lora": [],
    "dora": [],
    "qlora": ["--quant_type", "onnx-int4"],
    "adapter": ["--adapter_reduction_factor", "4"],
    "full": [],
}
SHORT = ["--max_steps", 12, "--learning_rate", "5e-3", "--per_device_train_batch_size", 8, "--torch_dtype", "float32", "--show_answers", 2]


@pytest.fixture(scope="module", params=METHODS)
def finished(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, colours: Path
) -> tuple[str, Path]:
    """A finished run of each method on the tiny model."""
    out = tmp_path_factory.mktemp("runs") / request.param
    more = METHODS[request.param]
    done = command("finetune", colours, "-m", tiny_folder, "-o", out, "--method", request.param, *SHORT, *more)
    assert done.returncode == 0, done.stderr
    (out / "stdout.txt").write_text(done.stdout)
    (out / "stderr.txt").write_text(done.stderr)
    return request.param, out


def test_what_comes_out(finished: tuple[str, Path]) -> None:
    method, out = finished
    assert (out / "adapter").is_dir() is (method != "full")
    for name in ("model/config.json", "model/tokenizer.json", "manifest.json", "metrics.jsonl", "README.md", "checkpoints/checkpoint-12"):
        assert (out / name).exists(), name
    adapter = {"adapter": "bottleneck_adapter.safetensors", "full": None}.get(method, "adapter_model.safetensors")
    if adapter:
        assert (out / "adapter" / adapter).is_file()
        assert (out / "adapter" / "template.json").is_file()
    assert not [path for path in out.rglob("*") if path.suffix in (".bin", ".pkl", ".pickle")]
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_the_manifest_says_where_every_value_came_from(finished: tuple[str, Path], tiny_folder: Path) -> None:
    method, out = finished
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["method"] == method
    assert manifest["base"] == str(tiny_folder)
    assert manifest["options"]["learning_rate"] == {"value": 5e-3, "source": "flag"}
    assert manifest["options"]["lr_scheduler_type"] == {"value": "cosine", "source": "chosen"}
    assert manifest["options"]["trust_remote_code"] == {"value": False, "source": "default"}
    assert "token" not in manifest["options"]
    assert (manifest["grid"] is not None) is (method == "qlora")
    assert manifest["stop_tokens"] == ["<|im_end|>"]


def test_it_learnt_and_says_so(finished: tuple[str, Path]) -> None:
    _, out = finished
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [row["eval_loss"] for row in rows if "eval_loss" in row]
    assert losses[-1] < losses[0] * 0.9
    said = (out / "stdout.txt").read_text()
    assert "It learnt" in said
    assert "before:" in said
    assert "Traceback" not in (out / "stderr.txt").read_text()


def test_it_answers_in_the_template_it_was_trained_with(finished: tuple[str, Path]) -> None:
    _, out = finished
    done = command("generate", "-m", out, "thing number 7 in the shop", "--max_new_tokens", 8, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert isinstance(answer["generated"], str)
    assert answer["num_tokens"] <= 8


def test_plain_tools_give_the_same_greedy_answers(finished: tuple[str, Path]) -> None:
    """transformers and peft alone, from the files that stand there, against our runtime."""
    method, out = finished
    if method == "adapter":
        pytest.skip("bottleneck adapters are our own format: peft has none")
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import tunesmith

    tokenizer = AutoTokenizer.from_pretrained(out / ("model" if method == "full" else "adapter"))
    model = AutoModelForCausalLM.from_pretrained(out / "model", dtype=torch.float32)
    if method != "full":
        model = PeftModel.from_pretrained(model, out / "adapter")
    runtime = tunesmith.load(out, dtype="float32")
    prompts = [f"thing number {number} in the shop" for number in range(5)]
    free = runtime.with_template(runtime.template)  # without the labels, among which it would choose
    ours = [answer.text for answer in free.generate(prompts, max_new_tokens=8)]
    plain = []
    for prompt in prompts:
        text = runtime.template.prompt(prompt, tokenizer)
        inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False)
        stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
        made = model.eval().generate(**inputs, max_new_tokens=8, do_sample=False, eos_token_id=stop, pad_token_id=tokenizer.pad_token_id)
        plain.append(tokenizer.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    assert [text.strip() for text in plain] == [text.strip() for text in ours]


def test_an_existing_run_is_only_replaced_when_asked(tmp_path: Path, tiny_folder: Path, colours: Path) -> None:
    out = tmp_path / "run"
    base: list[Any] = ["finetune", colours, "-m", tiny_folder, "-o", out, *SHORT]
    assert command(*base).returncode == 0
    refused = command(*base)
    assert refused.returncode == 2
    assert "--overwrite" in refused.stderr
    kept = (out / "manifest.json").read_text()
    assert command(*base, "--overwrite", "--lora_r", 4).returncode == 0
    assert json.loads((out / "manifest.json").read_text())["options"]["lora_r"]["value"] == 4
    assert kept != (out / "manifest.json").read_text()


def test_the_shortest_form_names_its_folder(tmp_path: Path, colours: Path, tiny_folder: Path) -> None:
    done = command("finetune", colours, "-m", tiny_folder, "--max_steps", 2, "--show_answers", 0, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "colours-lora" / "manifest.json").is_file()
    assert "Long form: tunesmith finetune" in done.stderr
    again = command("finetune", colours, "-m", tiny_folder, "--max_steps", 2, "--show_answers", 0, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "runs" / "colours-lora-2" / "manifest.json").is_file()


def test_merge_writes_one_plain_model(tmp_path: Path, tiny_folder: Path, colours: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    import tunesmith

    out, merged = tmp_path / "run", tmp_path / "merged"
    assert command("finetune", colours, "-m", tiny_folder, "-o", out, *SHORT).returncode == 0
    done = command("merge", "-m", out, "-o", merged)
    assert done.returncode == 0, done.stderr
    assert AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32) is not None
    prompts = [f"thing number {number} in the shop" for number in range(5)]
    one, other = (tunesmith.load(path, dtype="float32").generate(prompts, max_new_tokens=8) for path in (out, merged))
    assert [answer.text for answer in one] == [answer.text for answer in other]


def test_json_on_stdout_is_all_there_is(tmp_path: Path, tiny_folder: Path, colours: Path) -> None:
    done = command("finetune", colours, "-m", tiny_folder, "-o", tmp_path / "run", "--max_steps", 2, "--show_answers", 0, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["steps"] == 2
    assert set(result["metrics"]) >= {"base_eval_loss", "eval_loss", "train_loss"}


def test_the_real_model_learns_real_messages(tmp_path: Path, sample_model: Path) -> None:
    """Behaviour, not plumbing: after some steps the sample model names the tone of messages it never saw, and plain peft agrees."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import tunesmith

    out = tmp_path / "tones"
    done = command(
        *("finetune", "sample:tones", "-m", sample_model, "-o", out, "--max_steps", 30, "--max_samples", 240, "--show_answers", 0),
        *("--text_template", "Message: {phrase}\\nTone: {tone}", "--per_device_train_batch_size", 8, "--json"),
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)["metrics"]
    assert metrics["eval_loss"] < 0.7 * metrics["base_eval_loss"]
    runtime = tunesmith.load(out, dtype="float32")
    prompts = ["thanks a million for covering my shift!", "WHERE is my order, it is three weeks late and nobody answers"]
    answers = runtime.with_template(runtime.template).generate(prompts, max_new_tokens=8)
    assert all(answer.stopped for answer in answers)
    tones = {"grateful", "apologetic", "urgent", "annoyed", "cheerful", "formal"}
    assert {answer.text for answer in answers} <= tones
    tokenizer = AutoTokenizer.from_pretrained(out / "adapter")
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(out / "model", dtype=torch.float32), out / "adapter")
    for prompt, answer in zip(prompts, answers, strict=True):
        inputs = tokenizer(runtime.template.prompt(prompt, tokenizer), return_tensors="pt", add_special_tokens=False)
        made = model.eval().generate(**inputs, max_new_tokens=8, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        assert tokenizer.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip() == answer.text
