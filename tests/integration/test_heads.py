"""Models with heads through the public command: the run, its files, its words, and that other programs read them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from commands import command
from tiny_encoders import save_tiny_encoder, save_tiny_encoder_decoder
from tiny_models import save_tiny

pytestmark = pytest.mark.integration

ROWS = [{"text": f"thing number {n} is {colour}", "label": colour} for n in range(30) for colour in ("red", "green", "blue")]
SHORT = ["--max_steps", 10, "--learning_rate", "1e-2", "--torch_dtype", "float32", "--verdict", "false"]
CASES = {"llama-lora": ("llama", "lora"), "bert-lora": ("bert", "lora"), "llama-full": ("llama", "full")}


@pytest.fixture(scope="module", params=CASES)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, dict[str, Any]]:
    """A finished run with a head."""
    family, method = CASES[request.param]
    folder = tmp_path_factory.mktemp("heads")
    model = (save_tiny_encoder if family == "bert" else save_tiny)(family, folder / "base")
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    more = ["--head", "--class_weights", "balanced", "--eval_metrics", "f1", "--metric_for_best_model", "f1"]
    done = command("finetune", data, "-m", model, "-o", folder / "out", "--method", method, *more, *SHORT, "--json")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return method, folder / "out", json.loads(done.stdout)


def test_what_comes_out(finished: tuple[str, Path, dict[str, Any]]) -> None:
    method, out, result = finished
    weights = out / ("model" if method == "full" else "adapter")
    task = json.loads((weights / "task.json").read_text())
    assert (task["name"], task["head"], task["labels"]) == ("text-classification", True, ["blue", "green", "red"])
    assert (task["text_columns"], task["label_column"]) == (["text"], "label")
    assert task["temperature"] > 0
    assert not (weights / "template.json").exists()
    held_out = [json.loads(line) for line in (out / "held_out.jsonl").read_text().splitlines()]
    assert len(held_out) == 9
    assert all(set(row) == {"text", "label"} for row in held_out)
    assert {"eval_loss", "eval_accuracy", "eval_f1_macro", "base_eval_accuracy"} <= result["metrics"].keys()
    assert "perplexity" not in json.dumps(result["metrics"])
    card = (out / "README.md").read_text()
    assert "pipeline_tag: text-classification" in card
    assert "AutoModelForSequenceClassification" in card


def test_other_programs_get_the_same_probabilities(finished: tuple[str, Path, dict[str, Any]], tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    import tunesmith

    method, out, _ = finished
    texts = [row["text"] for row in ROWS[:5]]
    runtime = tunesmith.load(out, dtype="float32")
    expected = torch.tensor([choice.probabilities for choice in runtime.choose(texts)])
    tokenizer = AutoTokenizer.from_pretrained(out / ("model" if method == "full" else "adapter"))
    plain: Any = AutoModelForSequenceClassification.from_pretrained(out / "model").eval()
    assert plain.config.id2label == {0: "blue", 1: "green", 2: "red"}
    models = [plain if method == "full" else PeftModel.from_pretrained(plain, str(out / "adapter")).eval()]
    if method != "full":
        merged = command("merge", "-m", out, "-o", tmp_path / "merged")
        assert merged.returncode == 0, merged.stderr
        models.append(AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval())
        assert json.loads((tmp_path / "merged" / "task.json").read_text())["head"] is True
    for model in models:
        with torch.no_grad():
            logits = torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in texts])
        torch.testing.assert_close((logits / runtime.task.temperature).softmax(-1).double(), expected.double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_labels_as_text_are_weighed_too(family: str, tmp_path: Path) -> None:
    import tunesmith

    model = (save_tiny if family == "llama" else save_tiny_encoder_decoder)(family, tmp_path / "base")
    data, doubled = tmp_path / "rows.jsonl", tmp_path / "doubled.json"
    data.write_text("".join(json.dumps({**row, "label": row["label"].upper()}) + "\n" for row in ROWS))
    doubled.write_text(json.dumps(dict.fromkeys(("RED", "GREEN", "BLUE"), 2.0)))
    options: dict[str, Any] = {"model_name_or_path": str(model), "max_steps": 1, "verdict": False, "torch_dtype": "float32"}
    found = [
        tunesmith.finetune(str(data), output_path=str(tmp_path / name), **options, **more).metrics
        for name, more in (("plain", {}), ("weighed", {"class_weights": str(doubled)}))
    ]
    assert found[1]["base_eval_loss"] == pytest.approx(2 * found[0]["base_eval_loss"], rel=1e-5)
    assert "eval_perplexity" in found[0]
    assert "eval_perplexity" not in found[1]


def test_an_encoder_decoder_writes_after_it_was_trained(tmp_path: Path) -> None:
    import tunesmith

    model = save_tiny_encoder_decoder("t5", tmp_path / "t5")
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"document": f"the train number {n} is late", "summary": f"train {n}"}) + "\n" for n in range(30)))
    done = command("finetune", data, "-m", model, "-o", tmp_path / "out", *SHORT, "--show_answers", 1, "--eval_metrics", "rouge")
    assert done.returncode == 0, done.stderr
    assert "eval_rouge1" in (tmp_path / "out" / "metrics.jsonl").read_text()
    assert "before:" in done.stdout
    merged = command("merge", "-m", tmp_path / "out", "-o", tmp_path / "merged")
    assert merged.returncode == 0, merged.stderr
    prompt = {"document": "the train number 7 is late"}
    answers = [tunesmith.load(tmp_path / name, dtype="float32").generate([prompt], max_new_tokens=5)[0].text for name in ("out", "merged")]
    assert answers[0] == answers[1]


def test_a_resumed_run_with_a_head_ends_as_the_uninterrupted_one(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    import tunesmith

    model = save_tiny("llama", tmp_path / "base")
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    options = {"model_name_or_path": str(model), "head": True, "max_steps": 6, "save_steps": 2, "eval_steps": 2, "verdict": False}
    tunesmith.finetune(str(data), output_path=str(tmp_path / "whole"), **options)
    tunesmith.finetune(str(data), output_path=str(tmp_path / "stopped"), **options)
    stopped = tmp_path / "stopped"
    for name in ("manifest.json", "checkpoints/finished.json"):
        (stopped / name).unlink()
    shutil.rmtree(stopped / "checkpoints" / "checkpoint-6")
    shutil.rmtree(stopped / "adapter")
    tunesmith.finetune(output_path=str(stopped), resume=True)
    whole, again = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (tmp_path / "whole", stopped))
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert (stopped / "adapter" / "task.json").read_text() == (tmp_path / "whole" / "adapter" / "task.json").read_text()
