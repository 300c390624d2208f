"""The model card: metadata that the hub's own reader takes, nothing of this machine, and code that fits the method."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from tunesmith.artifact import Manifest
from tunesmith.train.model_card import base_license, hub_base, model_card, with_verdict

TEMPLATE = {"kind": "text", "text": "Q: {question}\nLanguage: {language}\nA: {answer}", "answer_column": "answer"}
MANIFEST = Manifest(
    kind="finetune",
    task="text-generation",
    method="lora",
    base="sample:smollm2-135m",
    template=TEMPLATE,
    stop_tokens=("<|im_end|>",),
    versions={"tunesmith": "0.1.0", "torch": "2.13.0"},
    options={
        "data_name": {"value": "/home/someone/secret project/rows.jsonl", "source": "flag"},
        "learning_rate": {"value": 1e-3, "source": "chosen"},
        "text_template": {"value": "a|b\n`c`", "source": "flag"},
        "lora_r": {"value": 16, "source": "default"},
        "output_path": {"value": "/home/someone/out", "source": "flag"},
    },
    metrics={"base_eval_loss": 3.21987, "eval_loss": 0.5, "eval_token_accuracy": 0.9, "train_loss": 0.4},
)


def card(**changes: Any) -> tuple[dict[str, Any], str]:
    """The metadata as huggingface_hub reads it, and the whole text."""
    text = model_card(replace(MANIFEST, **changes), base_folder=None)
    return ModelCard(text).data.to_dict(), text


def test_metadata_of_a_lora_of_the_sample_model() -> None:
    metadata, _ = card()
    assert metadata == {
        "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "base_model_relation": "adapter",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["tunesmith", "lora", "text-generation"],
        "license": "apache-2.0",
    }


@pytest.mark.parametrize(
    ("method", "library", "relation"),
    [("full", "transformers", "finetune"), ("adapter", "tunesmith", "adapter"), ("dora", "peft", "adapter")],
)
def test_library_and_relation_by_method(method: str, library: str, relation: str) -> None:
    metadata, text = card(method=method)
    assert (metadata["library_name"], metadata["base_model_relation"]) == (library, relation)
    assert ("PeftModel" in text) == (library == "peft")
    assert ('AutoModelForCausalLM.from_pretrained("model")\n' in text) == (method == "full")


def test_a_local_base_or_data_file_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "base").mkdir(parents=True)
    for name in (str(tmp_path / "models/base"), "models/base", "./x/y", "sample:other", "gpt2.gguf", None):
        assert hub_base(name) is None
    assert hub_base("meta-llama/Llama-3.2-1B-Instruct") == "meta-llama/Llama-3.2-1B-Instruct"
    metadata, _ = card(base=str(tmp_path / "models/base"))
    assert not {"base_model", "license", "datasets"} & metadata.keys()


def test_a_data_set_of_the_hub_is_named() -> None:
    metadata, _ = card(options={"data_name": {"value": "nampdn-ai/tiny-codes", "source": "flag"}})
    assert metadata["datasets"] == ["nampdn-ai/tiny-codes"]


def test_nothing_of_this_machine_is_told() -> None:
    _, text = card(
        base="/home/someone/models/base",
        options={**MANIFEST.options, "data_files": {"value": ["/srv/a.json", "/srv/b.json"], "source": "flag"}},
    )
    assert "/home" not in text
    assert "/srv" not in text
    assert all(name in text for name in ("rows.jsonl", "a.json", "b.json", "base, fine-tuned (lora)"))


def test_the_licence_comes_from_the_card_of_the_base(tmp_path: Path) -> None:
    assert base_license("some/model", tmp_path) == {}
    (tmp_path / "README.md").write_text("---\nlicense: other\nlicense_name: llama3\nlicense_link: LICENSE\n---\n# Base\n")
    assert base_license("some/model", tmp_path) == {"license": "other", "license_name": "llama3", "license_link": "LICENSE"}
    assert ModelCard(model_card(replace(MANIFEST, base="some/model"), base_folder=tmp_path)).data.license == "other"


@pytest.mark.parametrize("broken", ["---\n[\n---\n", "---\njust text\n---\n", "---", "no metadata", "---\nlicense: [mit]\n---\n"])
def test_a_broken_card_of_the_base_names_no_licence(tmp_path: Path, broken: str) -> None:
    (tmp_path / "README.md").write_text(broken)
    assert base_license("some/model", tmp_path) == {}


def test_results_settings_and_prompt_are_told() -> None:
    _, text = card()
    assert "| loss | 3.22 | 0.5 |" in text
    assert "| token accuracy |  | 0.9 |" in text
    assert "| `learning_rate` | `0.001` | chosen |" in text
    assert "| `text_template` | `a\\|b 'c'` | flag |" in text
    assert "lora_r" not in text
    assert "Q: {question}\nLanguage: {language}\nA: {answer}\n```" in text
    assert "ends with `<|im_end|>`" in text
    assert 'runtime.generate([{"question": "…", "language": "…"}])' in text


def test_words_and_examples_are_told() -> None:
    text = model_card(MANIFEST, title="A title", words=["It went well."], examples=[("Say\nhi", "no", "hi")])
    assert "\n# A title\n" in text
    assert "\nIt went well.\n" in text
    assert "| `Say hi` | `no` | `hi` |" in text


def test_a_template_with_fences_stays_inside_its_fence() -> None:
    _, text = card(template={"kind": "chat", "chat_template": "```{{ messages }}```"})
    assert "````\n```{{ messages }}```\n````" in text


def test_a_bare_manifest_has_a_card() -> None:
    metadata = ModelCard(model_card(Manifest(kind="finetune", method="full"))).data.to_dict()
    assert metadata["library_name"] == "transformers"


def test_the_verdict_comes_first_and_leaves_the_rest_as_it_is() -> None:
    plain = model_card(MANIFEST, words=["Learnt well.", "It took a minute."], examples=[("a", "b", "c")])
    card = with_verdict(plain, ["Gain: exact answers 10.0% to 90.0%.", "What costs nothing reaches 33.0%."])
    headings = [line for line in card.splitlines() if line.startswith("## ")]
    assert headings[:4] == ["## Verdict", "## Results", "## Training", "## Examples"]
    assert card.replace("## Verdict\n\nGain: exact answers 10.0% to 90.0%.\n\nWhat costs nothing reaches 33.0%.\n\n", "") == plain
    assert ModelCard(card).data.to_dict() == ModelCard(plain).data.to_dict()
